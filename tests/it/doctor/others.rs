//! Proxies and servers of others on the way: what the doctor says of each is what it is.

use std::net::SocketAddr;

use fallgate::doctor::Path;
use tokio::{
    io::{AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

use super::{
    Seat,
    run::{free, haproxy, nginx, squid, tinyproxy},
    words,
};
use crate::support::{
    Plan, Sandbox, loopback,
    peer::{DeadPort, Peer, read_head},
    process::Process,
    programs::is_here,
};

async fn plain(sandbox: &Sandbox) -> SocketAddr {
    sandbox.address("plain").await
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_told_by_its_size_limit_and_its_http_1_0_and_when_tuned_all_is_well() {
    if !is_here("nginx", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (dir, far) = (tempfile::tempdir().unwrap(), plain(&sandbox).await);
    let [stock, old, tuned, web] = [free(), free(), free(), free()];
    let node = sandbox.nodes[0].address();
    let servers = format!(
        "server {{ listen {stock}; location / {{ proxy_pass http://{node}; }} }}\nserver {{ listen {old}; location / {{ proxy_pass http://{far}; }} }}\nserver {{ listen {tuned}; location / {{ client_max_body_size 0; proxy_request_buffering off; proxy_buffering off; proxy_http_version 1.1; proxy_pass http://{far}; }} }}\nserver {{ listen {web}; root /var/empty; }}"
    );
    let _nginx = nginx(dir.path(), &servers, web.port()).await;
    for (at, expected) in [
        (stock, &["token_unneeded", "body_capped"][..]),
        (old, &["request_changed", "intermediary", "body_capped"]),
        (tuned, &["fallback_ok", "intermediary", "body_uncapped"]),
        (web, &["not_fallback"]),
    ] {
        assert_eq!(Seat::new().await.http(at).words(Path::Http).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_passes_what_comes_and_without_a_server_it_is_a_gateway_in_error() {
    if !is_here("haproxy", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (dir, far, dead) = (tempfile::tempdir().unwrap(), plain(&sandbox).await, DeadPort::new());
    let [good, lost] = [free(), free()];
    let sections =
        format!("listen good\n bind {good}\n server s {far}\nlisten lost\n bind {lost}\n server s {}\n", dead.address);
    let _haproxy = haproxy(dir.path(), &sections, good.port()).await;
    assert_eq!(Seat::new().await.http(good).words(Path::Http).await, ["fallback_ok", "body_uncapped"]);
    assert_eq!(Seat::new().await.http(lost).words(Path::Http).await, ["gateway_error"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tinyproxy_shows_itself_and_allows_connect_where_its_ports_say_so() {
    if !is_here("tinyproxy", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
    for (allowed, expected) in [(443, "proxy_denied"), (https.port(), "connect_ok")] {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
        let _proxy = tinyproxy(dir.path(), port, allowed).await;
        let report = Seat::new().await.http(http).https(https).proxy(loopback(port)).examine().await;
        assert_eq!(words(&report, Path::HttpProxy), ["fallback_ok", "intermediary", "body_uncapped"]);
        assert_eq!(words(&report, Path::HttpsProxy)[0], expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn squid_is_told_from_the_server_when_it_forbids_and_when_it_asks_for_a_password() {
    if !is_here("squid", &["-v"]) {
        return;
    }
    let sandbox = Plan::new().start().await;
    let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
    for (access, by_http, by_https) in
        [("allow", "fallback_ok", "connect_ok"), ("deny", "proxy_denied", "proxy_denied")]
    {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
        let _proxy = squid(dir.path(), port, access).await;
        let report = Seat::new().await.http(http).https(https).proxy(loopback(port)).examine().await;
        assert_eq!(words(&report, Path::HttpProxy)[0], by_http, "{report:?}");
        assert_eq!(words(&report, Path::HttpsProxy)[0], by_https, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallgate_that_is_the_proxy_is_not_taken_for_the_server() {
    let sandbox = Plan::new().start().await;
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "anna:$2y$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW\n").unwrap();
    let listener =
        |name: &str| format!("{{name: {name}, protocol: forward_proxy, address: '127.0.0.1:0', policy: {name}}}");
    let allow = "allow: [{hosts: ['*']}]";
    let config = format!(
        "version: 1\nlisteners: [{}, {}, {}]\npolicies: [{{name: denies, allow: [{{hosts: [other.test]}}]}}, {{name: asks, auth: {{users_file: '{}'}}, {allow}}}, {{name: private, {allow}}}]\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n",
        listener("denies"),
        listener("asks"),
        listener("private"),
        users.path().display()
    );
    let proxies = Process::start(&config).await;
    for (name, expected) in [("denies", "proxy_denied"), ("asks", "proxy_auth"), ("private", "proxy_denied")] {
        let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
        let seat = Seat::new().await.http(http).https(https).proxy(proxies.address(name).await);
        let report = seat.examine().await;
        for path in [Path::HttpProxy, Path::HttpsProxy] {
            assert_eq!(words(&report, path), [expected], "{name}: {report:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_asks_for_a_password_or_says_nothing_or_is_none_is_named() {
    let sandbox = Plan::new().start().await;
    let seat = async || {
        let (http, https) = (plain(&sandbox).await, sandbox.address("tls").await);
        Seat::new().await.http(http).https(https)
    };
    let asking = Peer::start(|mut stream: TcpStream| async move {
        let _ = read_head(&mut stream).await;
        let head = b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(head).await;
    })
    .await;
    let report = seat().await.proxy(asking.address).examine().await;
    for path in [Path::HttpProxy, Path::HttpsProxy] {
        assert_eq!(words(&report, path), ["proxy_auth"]);
    }
    let seen = &report.findings.iter().find(|finding| finding.path == Path::HttpsProxy).unwrap().seen;
    assert_eq!(seen, "407, Negotiate, Basic");
    let silent =
        Peer::start(|mut stream: TcpStream| async move { while !read_head(&mut stream).await.0.is_empty() {} }).await;
    assert_eq!(seat().await.proxy(silent.address).words(Path::HttpsProxy).await, ["proxy_silent"]);
    let shell = Peer::start(|mut stream: TcpStream| async move {
        let _ = stream.write_all(b"SSH-2.0-x\r\n").await;
        while !read_head(&mut stream).await.0.is_empty() {}
    })
    .await;
    assert_eq!(seat().await.proxy(shell.address).words(Path::HttpsProxy).await, ["not_proxy"]);
}

/// What such a box does to answers is told where the server is reached directly too.
#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_strips_fields_of_answers_is_found_by_comparing_with_the_direct_way() {
    let sandbox = Plan::new().start().await;
    let far = plain(&sandbox).await;
    let through = async |stripping: bool| {
        let between = Peer::start(move |mut near: TcpStream| async move {
            let mut server = TcpStream::connect(far).await.unwrap();
            if !stripping {
                let _ = copy_bidirectional(&mut near, &mut server).await;
                return;
            }
            let (mut up, mut down) = near.split();
            let (mut from, mut to) = server.split();
            let asking = tokio::io::copy(&mut up, &mut to);
            let answering = async {
                let mut bytes = Vec::with_capacity(4096);
                while tokio::io::AsyncReadExt::read_buf(&mut from, &mut bytes).await.is_ok_and(|n| n > 0) {
                    let text = String::from_utf8_lossy(&bytes).replace("x-real-mgmt-error", "x-renamed");
                    let _ = down.write_all(text.as_bytes()).await;
                    bytes.clear();
                }
            };
            let _ = tokio::join!(asking, answering);
        })
        .await;
        let report = Seat::new().await.http(far).proxy(between.address).examine().await;
        words(&report, Path::HttpProxy).contains(&"fields_changed")
    };
    assert!(through(true).await && !through(false).await);
}

/// Such as Envoy's x-envoy-upstream-service-time, or the number of a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_differs_from_answer_to_answer_is_no_change_on_the_way() {
    let server = Peer::start(|mut stream: TcpStream| async move {
        let _ = read_head(&mut stream).await;
        let number = stream.peer_addr().unwrap().port();
        let head =
            format!("HTTP/1.1 403 F\r\nx-real-mgmt-error: 5\r\nx-request: {number}\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
    })
    .await;
    let report = Seat::new().await.http(server.address).proxy(server.address).examine().await;
    assert_eq!(words(&report, Path::HttpProxy)[0], "fallback_ok");
    assert!(!words(&report, Path::HttpProxy).contains(&"fields_changed"), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_does_not_reach_the_server_is_told_from_one_that_forbids() {
    if !is_here("squid", &["-v"]) {
        return;
    }
    let (dir, port) = (tempfile::tempdir().unwrap(), free().port());
    let _proxy = squid(dir.path(), port, "allow").await;
    let dead = DeadPort::new();
    let mut seat = Seat::new().await.http(dead.address).https(dead.address).proxy(loopback(port));
    // Squid tries for a while.
    seat.question.timeout = std::time::Duration::from_secs(20);
    let report = seat.examine().await;
    for path in [Path::HttpProxy, Path::HttpsProxy] {
        assert_eq!(words(&report, path)[0], "proxy_failed", "{report:?}");
    }
}
