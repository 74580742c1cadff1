//! What passes to a node, byte for byte, and what never does.

use std::net::SocketAddr;

use fallgate::node::NodeOptions;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, noise,
    peer::pause,
    uuid,
    wire::{end, get, head, put, start, start_body},
};

async fn opened(sandbox: &Sandbox, wire: &mut Wire, host: SocketAddr, operation: &str) -> String {
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, operation, TOKEN.as_bytes(), &["/f"]))).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(sandbox.all_seen().len(), 1);
    id
}

async fn one_node() -> (Sandbox, SocketAddr, Wire) {
    let sandbox = Plan::new().node(NodeOptions::default()).top("timeouts: {request_head: 500ms}").start().await;
    std::fs::write(sandbox.dir.path().join("n1/f"), b"12345").unwrap();
    let host = sandbox.address("plain").await;
    let wire = Wire::plain(host).await;
    (sandbox, host, wire)
}

/// The head without the two fields that the gateway adds at its end.
fn without_addition(head: &[u8]) -> Vec<u8> {
    let added = b"X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1;proto=http\r\n\r\n";
    [head.strip_suffix(added).unwrap_or_else(|| panic!("{}", head.escape_ascii())), b"\r\n"].concat()
}

/// Sends each and compares it with what the node got; gives the statuses.
async fn pass(sandbox: &Sandbox, wire: &mut Wire, requests: &[(Vec<u8>, &[u8])]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (head, body) in requests {
        let before = sandbox.all_seen().len();
        wire.send(head).await;
        wire.send(body).await;
        let reply = wire.head().await;
        if head.starts_with(b"GET") {
            wire.body(reply.field("content-length").unwrap().parse().unwrap()).await;
        }
        let seen = sandbox.all_seen();
        assert_eq!(seen.len(), before + 1, "{} -> {reply:?}", head.escape_ascii());
        let got = without_addition(&seen[before].head);
        assert_eq!(got.escape_ascii().to_string(), head.escape_ascii().to_string());
        statuses.push(reply.status);
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_an_upload_reaches_the_node_byte_for_byte() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = uuid();
    let body = start_body(&id, "put", TOKEN.as_bytes(), &["/f"]);
    let lines = format!(
        "Content-Length: {}\r\nKeep-Alive: 300\r\nConnection: keep-alive\r\nx-session-protocol-version: 1\r\nx-next-wire-file: n\u{e9}xt\r\nx-next-wire-file-time: 1\r\nx-next-wire-file-size: 4\r\n",
        body.len()
    );
    let file = "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: 4\r\nConnection: keep-alive\r\nx-file-access-permissions: 33188\r\nDate: Sun, 22 Nov 2026 07:59:17 GMT\r\nx-next-wire-file: second\r\nx-next-wire-file-time: 1795334357\r\nx-next-wire-file-size: 17\r\nx-File-accessible: 1\r\nx-resume-context: YWJj\r\n";
    let part = "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: 4\r\nConnection: keep-alive\r\nx-Content-range: bytes 0-3/*\r\nx-file-access-permissions: 33188\r\nx-File-accessible: 1\r\n";
    let skipped = "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: 0\r\nConnection: keep-alive\r\nx-Content-range: 0-0\r\nx-next-wire-file: last\r\nx-skip-file: 1\r\n";
    let empty =
        "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: 0\r\nConnection: keep-alive\r\n";
    let text = end(host, &id, "DONE");
    let at = text.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let statuses = pass(
        &sandbox,
        &mut wire,
        &[
            (head("POST", host, &id, "session_start/OOB", &lines), &body),
            (head("PUT", host, &id, "file/d/sp%20ace%c3%a9", file), b"1234"),
            (head("PUT", host, &id, "file/d/SP%C3%A9~._-", part), b"1234"),
            (head("PUT", host, &id, "file/tab%09", skipped), b""),
            (head("PUT", host, &id, "create_dir/a/b", empty), b""),
            (head("PUT", host, &id, "mgmt_msg/", &empty.replace(": 0", ": 5")), b"hello"),
            (text[..at].to_vec(), &text[at..]),
        ],
    )
    .await;
    assert_eq!(statuses, [200, 201, 201, 201, 201, 201, 200]);
    assert!(String::from_utf8_lossy(&sandbox.seen(1)[5].head).contains("/mgmt_msg//"));
    assert_eq!(sandbox.seen(1)[5].body, b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_a_download_reaches_the_node_byte_for_byte() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "get").await;
    let statuses = pass(
        &sandbox,
        &mut wire,
        &[
            (get(host, &id, "f", "x-client-supports: ;start-override;\r\n"), b""),
            (get(host, &id, "f", "x-Content-range: bytes 2-*/*\r\nx-client-supports: ;start-override;\r\n"), b""),
            (get(host, &id, "f", "x-Content-range: bytes 0-0/*\r\nx-skip-file: 1\r\n"), b""),
        ],
    )
    .await;
    assert_eq!(statuses, [200, 200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_bytes_odd_case_duplicates_and_trailing_blanks_of_fields_reach_the_node() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "put").await;
    let fields: [&[u8]; 7] = [
        b"x-next-wire-file: caf\xe9 \xff\xfe\r\n",
        b"x-next-wire-file: trailing \r\n",
        b"x-before: 1\r\nx-next-wire-file: two  \r\nx-after: 2\r\n",
        b"x-next-wire-file: first \r\nX-next-Wire-file: second\t\r\nx-next-wire-file: third\r\nx-other: y\r\n",
        b"x-next-wire-file: \xc3\xa9\xff \r\n",
        b"X-ODD-cAsE: a\r\nx-odd-CASE: b\r\nx-odd-case: c\r\n",
        b"X-Next-Wire-FILE: odd and blank \r\nx-z: 1\r\n",
    ];
    for field in fields {
        let mut head = head("PUT", host, &id, "file/a", "Content-Length: 1\r\n");
        head.truncate(head.len() - 2);
        head.extend_from_slice(field);
        head.extend_from_slice(b"\r\n");
        assert_eq!(pass(&sandbox, &mut wire, &[(head, b"x")]).await, [201]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_line_of_ten_kilobytes_passes() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "put").await;
    let name = format!("file/{}", vec!["%c3".repeat(40); 80].join("/"));
    assert!(name.len() > 9_511);
    let request = head("PUT", host, &id, &name, "Content-Length: 0\r\nx-skip-file: 1\r\n");
    assert_eq!(pass(&sandbox, &mut wire, &[(request, b"")]).await, [201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_origin_form_of_a_proxy_in_between_passes() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "put").await;
    let request = String::from_utf8(head("PUT", host, &id, "file/a", "Content-Length: 1\r\n")).unwrap();
    let request = request.replacen(&format!("http://{host}/"), "/", 1).into_bytes();
    assert_eq!(pass(&sandbox, &mut wire, &[(request, b"x")]).await, [201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fallback_request_is_answered_here_and_the_connection_stays_in_step() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "put").await;
    let at = |method: &str, path: &str| format!("{method} http://{host}{path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let request = uuid();
    for (text, status, word) in [
        (at("GET", "/"), 404, "not_found"),
        (at("GET", "/favicon.ico"), 404, "not_found"),
        (at("OPTIONS", "/aspera/http/"), 404, "not_found"),
        (at("GET", &format!("/aspera/http/{id}/file//{request}.ashttp")), 404, "not_found"),
        (at("GET", &format!("/aspera/http/{id}/files/a/{request}.ashttp")), 404, "not_found"),
        (at("GET", &format!("/aspera/https/{id}/file/a/{request}.ashttp")), 404, "not_found"),
        (at("GET", &format!("/aspera/http/{id}/file/a/{request}")), 404, "not_found"),
        (at("GET", &format!("/Aspera/http/{id}/file/a/{request}.ashttp")), 404, "not_found"),
        (at("GET", &format!("//aspera/http/{id}/file/a/{request}.ashttp")), 404, "not_found"),
        (at("DELETE", &format!("/aspera/http/{id}/file/a/{request}.ashttp")), 405, "method_not_allowed"),
        (at("HEAD", &format!("/aspera/http/{id}/file/a/{request}.ashttp")), 405, "method_not_allowed"),
        (at("GET", &format!("/aspera/http/{id}/session_start/OOB/{request}.ashttp")), 405, "method_not_allowed"),
        (at("PUT", &format!("/aspera/http/{id}/file/a/{request}.ashttp")), 400, "bad_request"),
        (at("GET", &format!("/aspera/http/{id}/file/a%zz/{request}.ashttp")), 400, "bad_request"),
        (at("GET", &format!("/aspera/http/{id}/file/./a/{request}.ashttp")), 400, "bad_name"),
    ] {
        let reply = wire.ask(text.as_bytes()).await;
        assert_eq!((reply.status, reply.word()), (status, word), "{text}");
        assert_eq!(reply.field("content-length"), Some("0"), "{text}");
        assert_eq!(reply.field("x-real-mgmt-error"), None, "{text}");
    }
    assert_eq!(sandbox.all_seen().len(), 1);
    assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201);
    let refused = sandbox.metrics().await.sum("refusals_total", &[("listener", "plain")]);
    assert_eq!(refused as u64, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_smuggling_corpus_reaches_a_node_and_every_file_of_it_is_answered() {
    let (sandbox, host, mut wire) = one_node().await;
    // The corpus speaks of a session that is live, so that no mere lookup protects the node.
    let id = "26dddaf7-5742-448f-951e-8c3882329a83";
    let reply = wire.ask(&start(host, id, &start_body(id, "put", TOKEN.as_bytes(), &[]))).await;
    assert_eq!(reply.status, 200);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/corpus");
    // These are sound requests of the live session, dressed up: they may pass, as one request each.
    let sound = ["upgrade", "two_requests_in_one"];
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        if sound.contains(&name.as_str()) {
            continue;
        }
        files += 1;
        let mut wire = Wire::plain(host).await;
        wire.try_send(&bytes).await;
        let reply = wire.try_head().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert!(matches!(reply.status, 400..=499), "{name}: {reply:?}");
        assert!(!reply.word().is_empty(), "{name}: {reply:?}");
        assert_eq!(reply.field("content-length"), Some("0"), "{name}");
        wire.finish().await;
        let rest = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(!rest.contains("HTTP/1.1 2"), "{name}: {rest}");
        let seen = sandbox.all_seen();
        assert_eq!(seen.len(), 1, "{name} reached a node: {}", seen.last().unwrap().head.escape_ascii());
    }
    assert!(files > 45, "{files}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_requests_in_one_write_are_two_requests_for_the_node() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "put").await;
    let both = [put(host, &id, "a", &noise(20_000, 1)), put(host, &id, "b", b"2"), end(host, &id, "DONE")].concat();
    wire.send(&both).await;
    let statuses = [wire.head().await.status, wire.head().await.status, wire.head().await.status];
    assert_eq!(statuses, [201, 201, 200]);
    assert_eq!(sandbox.all_seen().len(), 4);
    assert_eq!(std::fs::read(sandbox.dir.path().join("n1/up/a")).unwrap(), noise(20_000, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_makes_no_tunnel() {
    let (sandbox, host, mut wire) = one_node().await;
    let id = opened(&sandbox, &mut wire, host, "get").await;
    sandbox.nodes[0].set_faults(vec![
        r"get=raw:HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nSECRET"
            .parse()
            .unwrap(),
    ]);
    wire.send(&get(host, &id, "f", "Connection: Upgrade\r\nUpgrade: websocket\r\n")).await;
    wire.send(b"GET / HTTP/1.1\r\nHost: inner\r\n\r\n").await;
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.word()), (502, "node_bad_answer"), "{reply:?}");
    assert_eq!(wire.head().await.word(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_dribbles_or_never_comes_is_given_up_after_request_head() {
    let (sandbox, host, _) = one_node().await;
    let request = head("PUT", host, &uuid(), "file/a", "Content-Length: 0\r\n");
    for bytes in [&request[..request.len() - 2], b""] {
        let begin = std::time::Instant::now();
        let mut wire = Wire::plain(host).await;
        for byte in bytes.iter().take(40) {
            wire.try_send(&[*byte]).await;
            pause(std::time::Duration::from_millis(5)).await;
        }
        let reply = wire.head().await;
        assert_eq!((reply.status, reply.word()), (408, "head_timeout"));
        wire.finish().await;
        assert_eq!(wire.rest().await, b"");
        assert!(begin.elapsed() < std::time::Duration::from_secs(5));
    }
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_maximum_are_dropped_and_counted_and_a_freed_place_is_used() {
    // The last place of three is for who has a session.
    let sandbox = Plan::new().top("limits: {max_connections: 3}").start().await;
    let host = sandbox.address("plain").await;
    let (mut one, mut two) = (Wire::plain(host).await, Wire::plain(host).await);
    for wire in [&mut one, &mut two] {
        assert_eq!(wire.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.status, 404);
    }
    assert_eq!(Wire::plain(host).await.rest().await, b"");
    assert_eq!(sandbox.metrics().await.sum("refusals_total", &[("reason", "too_many_connections")]), 1.0);
    drop(one);
    let begin = std::time::Instant::now();
    loop {
        let mut wire = Wire::plain(host).await;
        wire.try_send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        if wire.try_head().await.is_some_and(|r| r.status == 404) {
            break;
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "the place is never free");
    }
}
