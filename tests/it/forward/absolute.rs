//! Requests in absolute form: what the origin hears, what the client hears, and what is for one hop alone.

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const FALLBACK: &str = "/aspera/http/6b1e1a0e-0000-4000-8000-000000000001/file/a%20b//x.ashttp";

/// The head of the answer as the client gets it, without the line that says whether the connection stays.
fn passed(answer: &str) -> String {
    answer.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_reaches_the_origin_in_the_form_that_servers_know() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let at = origin.address();
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "ODD-Method!"] {
        let reply = egress.ask(&absolute(method, at, "/a/b?c=%20d//..", "X-Mine: 1\r\n")).await;
        assert_eq!(reply.status, 200, "{method}");
        let heard = origin.last();
        assert_eq!(heard.lines(), [&format!("{method} /a/b?c=%20d//.. HTTP/1.1"), &format!("Host: {at}"), "X-Mine: 1"]);
    }
    for (path, told) in [("", "/"), ("?q", "/?q"), ("/", "/"), ("//", "//")] {
        egress.ask(&absolute("GET", at, path, "")).await;
        assert_eq!(origin.last().lines()[0], format!("GET {told} HTTP/1.1"));
    }
    egress.ask(&absolute("OPTIONS", at, "", "")).await;
    assert_eq!(origin.last().lines()[0], "OPTIONS * HTTP/1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_one_hop_goes_no_further() {
    let origin = Origin::says(
        "HTTP/1.1 200 OK\r\nX-Kept: 1\r\nKeep-Alive: timeout=5\r\nConnection: x-named, keep-alive\r\nX-Named: 1\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let (egress, at) = (Egress::open().await, origin.address());
    let lines = "X-One: 1\r\nConnection: X-Mine, keep-alive, Content-Length, Host\r\nx-mine: 2\r\nKeep-Alive: 300\r\n\
                 Proxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: websocket\r\nHTTP2-Settings: x\r\n\
                 Content-Length: 0\r\nX-Two: 2\r\n";
    let mut wire = egress.wire().await;
    wire.send(&absolute("POST", at, "/", lines)).await;
    let told = latin1(&wire.raw_head().await);
    assert_eq!(told, "HTTP/1.1 200 OK\r\nX-Kept: 1\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
    let heard = origin.last();
    let expected = ["POST / HTTP/1.1", &format!("Host: {at}"), "X-One: 1", "Content-Length: 0", "X-Two: 2"];
    assert_eq!(heard.lines(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_keep_their_case_their_order_and_every_byte() {
    let answer = "HTTP/1.1 299 so-so \u{e9}\u{ff}\r\nx-LOWER: 1\r\nX-Twice: a\r\nX-Between: \u{fc}\u{80} \t \r\nx-twice: b\r\nX-Empty: \r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::start(move |_| answer.chars().map(|c| c as u8).collect()).await;
    let (egress, at) = (Egress::open().await, origin.address());
    let request = format!(
        "GET http://{at}/\u{e4} HTTP/1.1\r\nx-FIRST: 1\r\nHOST: {at}\r\nX-Twice: a\r\nX-Blanks: name with blanks  \t\r\n\
         x-twice: b\r\nX-Raw: \u{80}\u{ff}\u{e4}\r\nX-Empty: \r\n\r\n"
    )
    .replace("/\u{e4} ", "/ ");
    let mut wire = egress.wire().await;
    wire.send(&request.chars().map(|c| c as u8).collect::<Vec<_>>()).await;
    assert_eq!(latin1(&wire.raw_head().await), passed(answer));
    assert_eq!(origin.last().head, request.replace(&format!("http://{at}"), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_the_fallback_keeps_its_target_and_all_its_fields() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let at = format!("N1.Test:{}", origin.address().port());
    let fields = "Keep-Alive: 300\r\nConnection: keep-alive\r\nx-next-wire-file: b \r\nX-File-Accessible: 1\r\n";
    let request = absolute("GET", &at, FALLBACK, fields);
    let proxied = absolute("GET", &at, FALLBACK, &format!("{fields}Proxy-Connection: keep-alive\r\n"));
    assert_eq!(egress.ask(&proxied).await.status, 200);
    assert_eq!(origin.last().head, latin1(&request));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_that_an_origin_hears_is_that_of_the_target() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let (at, port) = (origin.address(), origin.address().port());
    for (target, host, told) in [
        (at.to_string(), Some("evil.test".to_owned()), at.to_string()),
        (at.to_string(), Some(String::new()), at.to_string()),
        (format!("N1.Test:{port}"), Some(format!("n1.test:{port}")), format!("n1.test:{port}")),
        (format!("n1.test:{port}"), Some("n1.test".to_owned()), format!("n1.test:{port}")),
        (at.to_string(), None, at.to_string()),
    ] {
        let version = if host.is_some() { "1.1" } else { "1.0" };
        let line = host.map(|host| format!("Host: {host}\r\n")).unwrap_or_default();
        egress.ask(format!("GET http://{target}/ HTTP/{version}\r\n{line}\r\n").as_bytes()).await;
        let heard = origin.last();
        let hosts: Vec<_> = heard.lines().into_iter().filter(|line| line.starts_with("Host")).collect();
        assert_eq!(hosts, [&format!("Host: {told}")], "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_pass_where_a_client_can_bear_them() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nX-A: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
    let origin = Origin::start(move |_| format!("{interim}{OK}").into_bytes()).await;
    let (egress, at) = (Egress::open().await, origin.address());
    for (request, told) in [
        (absolute("GET", at, "/", ""), interim.to_owned()),
        (absolute("GET", at, FALLBACK, ""), interim.split("HTTP/1.1 103").next().unwrap().to_owned()),
        (format!("GET http://{at}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").into_bytes(), String::new()),
    ] {
        let mut wire = egress.wire().await;
        wire.send(&request).await;
        let mut all = String::new();
        while !all.contains("HTTP/1.1 200 ") {
            all += &latin1(&wire.raw_head().await);
        }
        assert_eq!(all, told + &passed(OK), "{}", request.escape_ascii());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let origin = Peer::start(|mut stream| async move {
        let (head, rest) = crate::support::peer::read_head(&mut stream).await;
        assert!(latin1(&head).contains("Expect: 100-continue\r\n") && rest.is_empty());
        say(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n").await;
        let mut body = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await.unwrap();
        say(&mut stream, &[b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\n", &body[..]].concat()).await;
    })
    .await;
    let egress = Egress::open().await;
    let mut wire = egress.wire().await;
    let request = absolute("PUT", origin.address, "/", "Content-Length: 5\r\nExpect: 100-continue\r\n");
    assert_eq!(wire.ask(&request).await.status, 100);
    wire.send(b"hello").await;
    assert_eq!((wire.head().await.status, wire.body(5).await), (201, b"hello".to_vec()));
    let refused = absolute("PUT", "127.0.0.1:0", "/", "Content-Length: 5\r\nExpect: 100-continue\r\n");
    let mut wire = egress.wire().await;
    let reply = wire.ask(&refused).await;
    says(&reply, 400, "bad_target");
    assert_eq!((reply.field("connection"), wire.rest().await.len()), (Some("close"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_changes_the_protocol_is_not_believed() {
    let (egress, origin) = (
        Egress::open().await,
        Origin::says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n").await,
    );
    egress.refuses(1, &absolute("GET", origin.address(), "/", "Upgrade: x\r\n"), 502, "node_bad_answer").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_no_http_is_refused_in_words() {
    let egress = Egress::open().await;
    let targets = [
        "/",
        "/a",
        "*",
        "n1.test",
        "n1.test:80",
        "https://n1.test/",
        "ftp://n1.test/",
        "http:/n1.test/",
        "http://",
        "http:///a",
        "http://::1/",
        "http://[::1/",
        "http://a@n1.test/",
        "http://a:b@n1.test/",
        "http://n1.test:0/",
        "http://n1.test:/",
        "http://n1.test:65536/",
        "http://n1..test/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://n1.test/#a",
        "http://n1.test\\@evil.test/",
        "http://n1.test%00/",
    ];
    for (target, n) in targets.into_iter().zip(1..) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: n1.test\r\n\r\n");
        egress.refuses(n, request.as_bytes(), 400, "bad_target").await;
    }
    assert_eq!(egress.dns.queries(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_with_a_control_is_refused() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    egress.refuses(1, &absolute("GET", origin.address(), "/", "X-A: a\x01b\r\n"), 400, "bad_name").await;
    egress.refuses(2, &absolute("GET", origin.address(), "/", "X-A: a\x7fb\r\n"), 400, "bad_name").await;
    assert_eq!(origin.heard(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_of_a_refused_session_start_is_given_a_reason_to_read() {
    let egress = Setup::new("allow: [{hosts: [n1.test]}]").start().await;
    let start = |host: &str| {
        let path = "/aspera/http/6b1e1a0e-0000-4000-8000-000000000001/session_start/OOB/x.ashttp";
        [absolute("POST", host, path, "Content-Length: 5\r\n"), b"token".to_vec()].concat()
    };
    for (host, status, word, number) in
        [("n2.test", 403, "policy_denied", Some("37")), ("n1.test", 403, "private_address", Some("37"))]
    {
        let mut wire = egress.wire().await;
        for _ in 0..2 {
            let reply = wire.ask(&start(host)).await;
            says(&reply, status, word);
            assert_eq!((reply.field("x-real-mgmt-error"), reply.field("connection")), (number, Some("keep-alive")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_recorded_without_its_path() {
    let (egress, origin) =
        (Egress::open().await, Origin::says("HTTP/1.1 404 Gone\r\nContent-Length: 3\r\n\r\nwho").await);
    let request = [absolute("PUT", origin.address(), FALLBACK, "Content-Length: 5\r\n"), b"hello".to_vec()].concat();
    assert_eq!(egress.ask(&request).await.status, 404);
    let record = egress.record(1).await;
    for (key, value) in [("kind", "request"), ("target", &origin.address().to_string()), ("outcome", "closed")] {
        assert_eq!(record[key], value, "{record}");
    }
    for (key, value) in [("status", 404), ("bytes_uploaded", 5), ("bytes_downloaded", 3)] {
        assert_eq!(record[key], value, "{record}");
    }
    assert!(!record.to_string().contains("6b1e1a0e"), "{record}");
    let metrics = egress.metrics().await;
    assert_eq!(metrics.sum("bytes_total", &[("direction", "upload")]), 5.0);
    assert_eq!(metrics.sum("requests_total", &[("operation", "absolute")]), 1.0);
}
