//! Whose request it is: what nodes are told of the client, and whom fronts may name.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use fallgate::node::{NodeOptions, Seen};
use tokio::{io::AsyncWriteExt, net::TcpSocket, net::TcpStream};

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, uuid,
    wire::{end, head, put, start_body},
};

async fn one_node(keys: &str, top: &str) -> Sandbox {
    let keys = format!("persistent_connection: force{keys}");
    Plan::new().node(NodeOptions::default()).listener(&keys).top(top).start().await
}

/// A session with these fields in each request; the log of the node tells what became of them.
async fn session(wire: &mut Wire, host: SocketAddr, fields: &str) {
    let id = uuid();
    let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
    let lines = format!("Content-Length: {}\r\n{fields}", body.len());
    let reply = wire.ask(&[head("POST", host, &id, "session_start/OOB", &lines), body].concat()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let lines = format!("Content-Length: 1\r\n{fields}");
    wire.send(&[&head("PUT", host, &id, "file/a", &lines), &b"x"[..]].concat()).await;
    assert_eq!(wire.head().await.status, 201);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
}

/// All values of a field in a request.
fn values(seen: &Seen, name: &str) -> Vec<String> {
    let text = String::from_utf8_lossy(&seen.head).into_owned();
    let value = |line: &str| {
        line.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
    };
    text.lines().filter_map(value).collect()
}

async fn client(sandbox: &Sandbox, n: usize) -> String {
    sandbox.records(n).await[n - 1]["client"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_the_clients_address_and_nothing_that_a_stranger_claims() {
    let sandbox = one_node("", "").await;
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nForwarded: for=6.6.6.6\r\nFORWARDED: for=8.8.8.8;host=x\r\n";
    for (n, (listener, fields)) in [("plain", ""), ("plain", spoofed), ("tls", spoofed)].into_iter().enumerate() {
        let host = sandbox.address(listener).await;
        let from = |to| async move {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 3], 0).into()).unwrap();
            socket.connect(to).await.unwrap()
        };
        let mut wire = over(from(host).await, listener == "tls").await;
        session(&mut wire, host, fields).await;
        let proto = if listener == "tls" { "https" } else { "http" };
        for seen in &sandbox.seen(1)[n * 3..] {
            assert_eq!(values(seen, "x-forwarded-for"), ["127.0.0.3"], "{listener}");
            assert_eq!(values(seen, "forwarded"), [format!("for=127.0.0.3;proto={proto}")], "{listener}");
        }
        assert_eq!(client(&sandbox, n + 1).await, "127.0.0.3");
    }
    assert_eq!(sandbox.seen(1).len(), 9);
}

async fn over(tcp: TcpStream, tls: bool) -> Wire {
    if !tls {
        return Wire::over(tcp);
    }
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    Wire::over(tokio_rustls::TlsConnector::from(crate::support::tls()).connect(name, tcp).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_front_is_believed_as_far_as_the_first_stranger() {
    let sandbox = one_node(", trusted_proxies: ['127.0.0.1', '10.0.0.0/8']", "").await;
    let host = sandbox.address("plain").await;
    for (n, (fields, named, told)) in [
        ("X-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7", "192.0.2.7, 127.0.0.1"),
        ("X-Forwarded-For: 6.6.6.6, 192.0.2.7, 10.1.1.1\r\n", "192.0.2.7", "192.0.2.7, 10.1.1.1, 127.0.0.1"),
        ("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\n", "192.0.2.7", "192.0.2.7, 127.0.0.1"),
        (
            "Forwarded: for=\"192.0.2.7:81\";proto=https\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.7\r\n",
            "192.0.2.7",
            "192.0.2.7, 127.0.0.1",
        ),
        // One of the two is the client's own, which the front passed on.
        ("Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.7\r\n", "127.0.0.1", "127.0.0.1"),
        ("Forwarded: for=\"[2001:db8::1]\"\r\n", "2001:db8::1", "2001:db8::1, 127.0.0.1"),
        ("X-Forwarded-For: 192.0.2.7, garbage\r\n", "127.0.0.1", "127.0.0.1"),
        ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", "192.0.2.7", "192.0.2.7, 127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        session(&mut Wire::plain(host).await, host, fields).await;
        assert_eq!(client(&sandbox, n + 1).await, named, "{fields}");
        let seen = sandbox.seen(1);
        assert_eq!(values(&seen[n * 3], "x-forwarded-for"), [told], "{fields}");
        assert_eq!(values(&seen[n * 3 + 1], "forwarded").len(), 1, "{fields}");
    }
    // The same claim from elsewhere.
    session(&mut Wire::from([127, 0, 0, 2], host).await, host, "X-Forwarded-For: 192.0.2.7\r\n").await;
    assert_eq!(client(&sandbox, 9).await, "127.0.0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_bound_to_its_address_is_bound_to_the_one_that_a_front_names() {
    let sandbox = one_node(", trusted_proxies: ['127.0.0.1'], admission: {bind_client: ip}", "").await;
    let host = sandbox.address("plain").await;
    let (id, mut wire) = (uuid(), Wire::plain(host).await);
    let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
    let lines = format!("Content-Length: {}\r\nX-Forwarded-For: 192.0.2.7\r\n", body.len());
    let opened = wire.ask(&[head("POST", host, &id, "session_start/OOB", &lines), body].concat()).await;
    assert_eq!(opened.status, 200);
    for (other, status) in [("192.0.2.7", 201), ("192.0.2.8", 403)] {
        let lines = format!("Content-Length: 1\r\nX-Forwarded-For: {other}\r\n");
        wire.send(&[&head("PUT", host, &id, "file/a", &lines), &b"x"[..]].concat()).await;
        assert_eq!(wire.head().await.status, status, "{other}");
    }
    let reply = wire.ask(&put(host, &id, "a", b"x")).await;
    assert_eq!(reply.word(), "client_mismatch");
}

fn version2(source: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    bytes.extend([0, 15]);
    bytes.extend(source);
    bytes.extend([127, 0, 0, 1, 0x12, 0x34, 0x20, 0xfb]);
    // An extension of three bytes that nobody knows.
    bytes.extend([0xe0, 0, 0]);
    bytes
}

const ACCEPT: &str = ", trusted_proxies: ['127.0.0.1'], proxy_protocol: accept";

#[tokio::test(flavor = "multi_thread")]
async fn a_front_names_its_client_by_either_version_of_the_proxy_protocol() {
    let sandbox = one_node(ACCEPT, "").await;
    let mut n = 0;
    for listener in ["plain", "tls"] {
        let host = sandbox.address(listener).await;
        for (header, named) in [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n".to_vec(), "192.0.2.7"),
            (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n".to_vec(), "2001:db8::7"),
            (b"PROXY TCP6 ::ffff:192.0.2.9 ::1 4711 443\r\n".to_vec(), "192.0.2.9"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
            (version2([192, 0, 2, 8]), "192.0.2.8"),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec(), "127.0.0.1"),
        ] {
            for in_bytes in [false, true] {
                let mut tcp = TcpStream::connect(host).await.unwrap();
                tcp.set_nodelay(true).unwrap();
                for piece in header.chunks(if in_bytes { 1 } else { 200 }) {
                    tcp.write_all(piece).await.unwrap();
                }
                let mut wire = over(tcp, listener == "tls").await;
                // Whom the front names is a stranger, whose own claims do not count.
                let fields = if named == "127.0.0.1" { "" } else { "X-Forwarded-For: 6.6.6.6\r\n" };
                session(&mut wire, host, fields).await;
                n += 1;
                assert_eq!(client(&sandbox, n).await, named, "{listener} {}", header.escape_ascii());
                let seen = sandbox.seen(1);
                assert_eq!(values(seen.last().unwrap(), "x-forwarded-for"), [named], "{listener}");
            }
        }
    }
}

async fn refused(sandbox: &Sandbox, reason: &str, n: f64) {
    let begin = Instant::now();
    while sandbox.metrics().await.sum("refusals_total", &[("reason", reason)]) != n {
        assert!(begin.elapsed() < Duration::from_secs(10), "{reason} was never counted {n} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_front_without_the_header_is_refused_in_time_and_counted() {
    let sandbox = one_node(ACCEPT, "timeouts: {request_head: 500ms}").await;
    let mut n = 0.0;
    for listener in ["plain", "tls"] {
        let host = sandbox.address(listener).await;
        for bytes in [
            [&head("GET", host, &uuid(), "file/a", "")[..], b""].concat(),
            b"PROXY TCP4 nonsense\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 127.0.0.1 4711".to_vec(),
            [&b"PROXY TCP4 "[..], &[b'1'; 300]].concat(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0".to_vec(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c123".to_vec(),
            Vec::new(),
            b"P".to_vec(),
        ] {
            let begin = Instant::now();
            let mut wire = Wire::plain(host).await;
            wire.try_send(&bytes).await;
            assert_eq!(wire.rest().await, b"", "{listener} {}", bytes.escape_ascii());
            assert!(begin.elapsed() < Duration::from_secs(2), "{listener} {}", bytes.escape_ascii());
            n += 1.0;
            refused(&sandbox, "proxy_protocol", n).await;
        }
    }
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_header_is_just_a_bad_head() {
    for keys in [ACCEPT, ""] {
        let sandbox = one_node(keys, "").await;
        let host = sandbox.address("plain").await;
        let source = if keys.is_empty() { [127, 0, 0, 1] } else { [127, 0, 0, 2] };
        for (n, header) in
            [b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n".to_vec(), version2([192, 0, 2, 8])].iter().enumerate()
        {
            let mut wire = Wire::from(source, host).await;
            let request = [&header[..], &put(host, &uuid(), "a", b"")].concat();
            let reply = wire.ask(&request).await;
            assert_eq!((reply.status, reply.word()), (400, "bad_head"), "{}", header.escape_ascii());
            assert_eq!(wire.rest().await, b"");
            refused(&sandbox, "bad_head", n as f64 + 1.0).await;
        }
        // Without it a stranger is served as himself.
        session(&mut Wire::from(source, host).await, host, "").await;
        assert_eq!(client(&sandbox, 1).await, std::net::Ipv4Addr::from(source).to_string());
        let tls = sandbox.address("tls").await;
        let mut wire = Wire::from(source, tls).await;
        wire.try_send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\n").await;
        wire.rest().await;
        refused(&sandbox, "tls_handshake", 1.0).await;
    }
}
