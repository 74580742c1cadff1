//! Each path against the house's own node and gateway, and against peers that go wrong in one way.

use fallgate::doctor::{Path, Verdict, Works, json, lines};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Seat, has_cures, words};
use crate::support::{
    Plan, TOKEN,
    nominal::ssh,
    peer::{Full, Peer, read_head},
};

/// A peer that answers each request with these bytes.
pub(super) async fn answers(bytes: &'static str) -> Peer {
    Peer::start(move |mut stream: TcpStream| async move {
        while !read_head(&mut stream).await.0.is_empty() {
            let _ = stream.write_all(bytes.as_bytes()).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_known_and_its_sessions_are_ended() {
    let sandbox = Plan::new().start().await;
    let (tls, plain) = (sandbox.address("tls").await, sandbox.address("plain").await);
    let report = Seat::new().await.https(tls).http(plain).token(TOKEN).examine().await;
    has_cures(&report);
    assert_eq!(words(&report, Path::Http), ["fallback_ok", "token_ok", "body_uncapped"]);
    let https = words(&report, Path::Https);
    assert_eq!(https[0], "tls_ok");
    assert!(https[1].starts_with("certificate_") && https.ends_with(&["fallback_ok", "token_ok", "body_uncapped"]));
    assert_eq!(report.verdict, Verdict::Some);
    assert_eq!((report.advice[0].path, report.advice[0].works), ("https", Works::Yes));
    let flags = report.advice[0].flags.join(" ");
    assert_eq!(flags, format!("-y F -t {} -I CLIENT.crt -Y CLIENT.key --host=127.0.0.1", tls.port()));
    assert_eq!(json(&report)["verdict"], "some");
    assert!(lines(&report).contains("fallback_ok: a fallgate, 403 token_missing"));
    assert!(!lines(&report).contains(TOKEN) && !json(&report).to_string().contains(TOKEN));
    sandbox.until("nothing is left", |m| m.sum("sessions_active", &[]) == 0.0).await;
    let seen = sandbox.all_seen();
    let operations: Vec<_> = seen.iter().map(|seen| seen.operation.as_str()).collect();
    assert_eq!(operations.iter().filter(|o| **o == "session_start").count(), 2);
    assert!(operations.iter().all(|o| o.starts_with("session_")), "{operations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_node_takes_sessions_without_a_token() {
    let sandbox = Plan::new().start().await;
    let seat = Seat::new().await.http(sandbox.nodes[0].address());
    assert_eq!(seat.words(Path::Http).await, ["token_unneeded", "body_uncapped"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_port_is_told_by_what_it_shows() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let node = tokio::spawn(ssh("node", listener));
    let silent = Peer::start(|mut stream: TcpStream| async move {
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    let closing = Peer::start(|stream: TcpStream| async move { drop(stream) }).await;
    let web = Peer::start(|mut stream: TcpStream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    let full = Full::new();
    let cases = [
        (address, "ssh_ok"),
        (silent.address, "ssh_silent"),
        (closing.address, "ssh_closed"),
        (web.address, "not_ssh"),
        (full.address, "no_answer"),
    ];
    for (address, word) in cases {
        assert_eq!(Seat::new().await.ssh(address).words(Path::Ssh).await, [word]);
    }
    let nobody = Seat::new().await.examine().await;
    assert_eq!((words(&nobody, Path::Ssh), nobody.verdict), (vec!["refused"], Verdict::None));
    node.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_start_is_told_by_who_gives_it() {
    let cases = [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "fallback_likely"),
        ("HTTP/1.1 403 Forbidden\r\nx-real-mgmt-error: 19\r\nContent-Length: 0\r\n\r\n", "fallback_ok"),
        ("HTTP/1.1 200 OK\r\nx-real-mgmt-error: 19\r\nContent-Length: 0\r\n\r\n", "fallback_ok"),
        ("HTTP/1.1 403 Forbidden\r\nx-real-mgmt-error: no\r\nContent-Length: 0\r\n\r\n", "fallback_likely"),
        ("HTTP/1.1 408 Late\r\nx-fallgate-error: head_timeout\r\nContent-Length: 0\r\n\r\n", "request_changed"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "not_fallback"),
        ("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "not_fallback"),
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "not_fallback"),
        ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", "server_error"),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "gateway_error"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "bad_answer"),
        ("HTTP/1.1 403 Forbidden\nServer: x\n\n", "bad_answer"),
        ("HTTP/2 403\r\nServer: x\r\n\r\n", "bad_answer"),
    ];
    for (bytes, word) in cases {
        let peer = answers(bytes).await;
        assert_eq!(Seat::new().await.http(peer.address).words(Path::Http).await[0], word, "{bytes}");
    }
    let refusing = answers("HTTP/1.1 403 Forbidden\r\nServer: x\r\nContent-Length: 0\r\n\r\n").await;
    let words = Seat::new().await.http(refusing.address).token("Bearer t").words(Path::Http).await;
    assert_eq!(words, ["fallback_likely", "token_refused", "body_uncapped"]);
}

/// It may have come through all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_not_answered_is_ended_too() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let closing = Peer::start(move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let head = String::from_utf8_lossy(&read_head(&mut stream).await.0).into_owned();
            if head.contains("/session_") {
                let _ = told.send(head);
            }
        }
    })
    .await;
    assert_eq!(Seat::new().await.http(closing.address).words(Path::Http).await, ["answer_closed"]);
    let session = |head: String, of: &str| Some(head.split_once(of)?.0.rsplit_once('/')?.1.to_owned());
    let started = session(heard.recv().await.unwrap(), "/session_start/").unwrap();
    assert_eq!(session(heard.recv().await.unwrap(), "/session_end/"), Some(started));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_and_one_without_an_ipv4_address_are_told_apart() {
    for (host, word) in [("no-such-name.invalid", "no_address"), ("::1", "no_ipv4")] {
        let mut seat = Seat::new().await;
        seat.question.host = host.to_owned();
        for path in [Path::Ssh, Path::Udp, Path::Https, Path::Http] {
            assert_eq!(seat.words(path).await, [word]);
        }
    }
}
