//! Who gets a session: tokens, ids, start bodies, and what a refusal looks like from both sides.

use std::{io::Write, net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use fallgate::node::NodeOptions;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, eventually, noise, uuid,
    wire::{Reply, end, get, head, put, start, start_body},
};

const KEY: &str = "diDeuFLcpG9IYdsvxj0SCq4mOohNJTKvp5Q2nRWjDgIA";

async fn plan(admission: &str) -> (Sandbox, SocketAddr) {
    let sandbox =
        Plan::new().node(NodeOptions::default()).listener(&format!("admission: {{{admission}}}")).start().await;
    let host = sandbox.address("plain").await;
    (sandbox, host)
}

async fn try_token(host: SocketAddr, token: &[u8]) -> (String, Reply) {
    let id = uuid();
    let reply = Wire::plain(host).await.ask(&start(host, &id, &start_body(&id, "put", token, &[]))).await;
    (id, reply)
}

fn bearer(claims: &str) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(format!("{claims}\n==SIGNATURE==\nAAAA\n").as_bytes()).unwrap();
    format!("Bearer {}", STANDARD.encode(encoder.finish().unwrap())).into_bytes()
}

fn basic(plain: &str) -> Vec<u8> {
    format!("Basic {}", STANDARD.encode(plain)).into_bytes()
}

/// Every refusal: 403 with a number, a word, the same word in the metrics, and nothing at a node.
async fn refused(sandbox: &Sandbox, host: SocketAddr, token: &[u8], word: &str, number: &str) {
    let count = |m: crate::support::Metrics| m.sum("refusals_total", &[("listener", "plain"), ("reason", word)]);
    let (before, seen) = (count(sandbox.metrics().await), sandbox.all_seen().len());
    let (id, reply) = try_token(host, token).await;
    let token = token.escape_ascii();
    assert_eq!((reply.status, reply.word()), (403, word), "{token}");
    assert_eq!(reply.field("x-real-mgmt-error"), Some(number), "{token}");
    assert_eq!(reply.field("content-length"), Some("0"));
    assert_eq!(count(sandbox.metrics().await) - before, 1.0, "{token}");
    let reply = Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await;
    assert_eq!((reply.status, reply.word()), (200, ""), "the end of a refused session is heard");
    assert_eq!(sandbox.all_seen().len(), seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_off_anything_passes_even_nothing() {
    let (sandbox, host) = plan("token: off").await;
    for token in [&b""[..], b"nonsense", b"\xff<>&", TOKEN.as_bytes()] {
        assert_eq!(try_token(host, token).await.1.status, 200);
    }
    assert_eq!(sandbox.all_seen().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_shape_each_kind_passes_and_each_flaw_has_its_word() {
    let (sandbox, host) = plan("token: shape").await;
    for token in [TOKEN.as_bytes(), &basic("key:rosebud"), &bearer("{}"), b"Bearer abcd.efgh.ijkl"] {
        assert_eq!(try_token(host, token).await.1.status, 200, "{}", token.escape_ascii());
    }
    refused(&sandbox, host, b"", "token_missing", "19").await;
    for token in [
        &b"ATM3_short_3MTA"[..],
        b"nonsense",
        b"Basic ",
        b"Bearer !",
        b"bearer abcd.efgh.ijkl",
        b"ATM3_ACsGh7NRzGA2-ANT6j6mT3O4_3MTB",
        b"ATM3_ACsGh7NRzGA2 ANT6j6mT3O4_3MTA",
    ] {
        refused(&sandbox, host, token, "token_shape", "37").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_listed_is_refused() {
    let (sandbox, host) = plan("kinds: [basic]").await;
    assert_eq!(try_token(host, &basic("key:rosebud")).await.1.status, 200);
    refused(&sandbox, host, TOKEN.as_bytes(), "token_kind", "37").await;
    refused(&sandbox, host, &bearer("{}"), "token_kind", "37").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_decode_keys_dates_and_contents_are_looked_at() {
    let (sandbox, host) = plan(&format!("token: decode, access_keys: [{KEY}]")).await;
    let claims = |key: &str, year: u32| {
        bearer(&format!(r#"{{"scope":"node.{key}:admin:all","expires_at":"{year}-01-01T00:00:00Z"}}"#))
    };
    for token in [basic(&format!("{KEY}:rosebud")), claims(KEY, 2999)] {
        assert_eq!(try_token(host, &token).await.1.status, 200);
    }
    refused(&sandbox, host, &basic("other:rosebud"), "access_key", "37").await;
    refused(&sandbox, host, &basic("no colon here"), "token_shape", "37").await;
    refused(&sandbox, host, &claims("other", 2999), "access_key", "37").await;
    refused(&sandbox, host, &claims(KEY, 2001), "token_expired", "37").await;
    refused(&sandbox, host, &bearer("not json"), "token_shape", "37").await;
    refused(&sandbox, host, b"Bearer eJxxxxxxxxxxxxxxxxxxxxxx", "token_shape", "37").await;
    assert_eq!(try_token(host, TOKEN.as_bytes()).await.1.status, 200, "a transfer token shows no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_other_than_the_path_or_a_live_one_is_refused() {
    let (sandbox, host) = plan("token: off").await;
    let (id, other) = (uuid(), uuid());
    let mut wire = Wire::plain(host).await;
    let reply = wire.ask(&start(host, &id, &start_body(&other, "put", b"", &[]))).await;
    assert_eq!((reply.status, reply.word()), (403, "session_mismatch"));
    let reply = wire.ask(&start(host, &id, &start_body(&id.to_uppercase(), "put", b"", &[]))).await;
    assert_eq!((reply.status, reply.word()), (403, "session_mismatch"));
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", b"", &[]))).await.status, 200);
    let reply = Wire::plain(host).await.ask(&start(host, &id, &start_body(&id, "put", b"", &[]))).await;
    assert_eq!((reply.status, reply.word()), (403, "session_live"));
    assert_eq!(reply.field("x-real-mgmt-error"), Some("5"));
    assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201, "the live one is not harmed");
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.all_seen().len(), 3);
    assert_eq!(wire.ask(&start(host, &id, &start_body(&id, "put", b"", &[]))).await.status, 200, "it may come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_body_that_is_none_is_refused_and_its_end_is_heard() {
    let (sandbox, host) = plan("token: off").await;
    let id = uuid();
    for body in [
        b"".to_vec(),
        b"hello".to_vec(),
        b"<session><id></id></session>".to_vec(),
        start_body(&id, "delete", b"", &[]),
        format!("<session><operation>put</operation><id>{id}</id><token></token>").into_bytes(),
        [&start_body(&id, "put", &noise(45_000, 1), &[])[..45_000], b""].concat(),
    ] {
        let reply = Wire::plain(host).await.ask(&start(host, &id, &body)).await;
        assert_eq!((reply.status, reply.word()), (400, "bad_start"), "{}", body[..body.len().min(90)].escape_ascii());
    }
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await.status, 200);
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_comes_byte_by_byte_is_the_same_to_the_node() {
    let (sandbox, host) = plan("token: shape").await;
    let id = uuid();
    let body = start_body(&id, "put", TOKEN.as_bytes(), &["/a", "/b"]);
    let request = start(host, &id, &body);
    let tcp = tokio::net::TcpStream::connect(host).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let mut wire = Wire::over(tcp);
    for byte in &request {
        wire.send(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(wire.head().await.status, 200);
    assert_eq!(sandbox.seen(1)[0].body, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn start_bodies_of_all_sizes_reach_the_node_whole() {
    let (sandbox, host) = plan("token: shape").await;
    let long = [b"Basic ", STANDARD.encode(noise(24_000, 3)).as_bytes()].concat();
    assert!(long.len() >= 32_000);
    let mut bodies: Vec<(String, Vec<u8>)> = Vec::new();
    for (token, size) in [
        (&long[..], 0),
        (TOKEN.as_bytes(), 310_613),
        (&long, 310_613),
        (TOKEN.as_bytes(), 3_000_000),
        (&long, 3_000_000),
    ] {
        let id = uuid();
        let source = "/some/short/name".repeat(size / 16 + 1);
        let body = start_body(&id, "put", token, &[&source]);
        assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200, "{size}");
        bodies.push((id, body));
    }
    for (seen, (id, body)) in sandbox.seen(1).iter().zip(&bodies) {
        assert_eq!(&seen.session, id);
        assert!(seen.body == *body, "{} bytes arrived otherwise", body.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_start_of_some_megabytes_is_drained_so_that_the_answer_is_heard() {
    let (sandbox, host) = plan("token: shape").await;
    let id = uuid();
    let body = start_body(&id, "put", b"nonsense", &[&"x".repeat(4 << 20)]);
    let mut wire = Wire::plain(host).await;
    let reply = wire.ask(&start(host, &id, &body)).await;
    assert_eq!((reply.status, reply.word()), (403, "token_shape"));
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200, "the connection is in step");
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_was_never_started_is_refused_in_every_operation() {
    let (sandbox, host) = plan("token: off").await;
    let id = uuid();
    let mut wire = Wire::plain(host).await;
    for request in [
        put(host, &id, "a", &noise(200_000, 1)),
        get(host, &id, "a", ""),
        head("PUT", host, &id, "create_dir/a", "Content-Length: 0\r\n"),
        head("PUT", host, &id, "mgmt_msg/", "Content-Length: 0\r\n"),
        end(host, &id, "DONE"),
    ] {
        let reply = wire.ask(&request).await;
        assert_eq!((reply.status, reply.word()), (403, "unknown_session"));
        assert_eq!(reply.field("x-real-mgmt-error"), None);
    }
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_session_that_may_be_routed_goes_to_one_node_whatever_the_connection() {
    let sandbox = Plan::new().listener("admission: {unknown_session: route}").start().await;
    let host = sandbox.address("plain").await;
    let ids: Vec<_> = (0..16).map(|_| uuid()).collect();
    for round in 0..4 {
        for id in &ids {
            let reply = Wire::plain(host).await.ask(&put(host, id, &format!("f{round}"), b"x")).await;
            assert_eq!((reply.status, reply.word()), (404, ""), "the node's own word");
        }
    }
    let (one, two) = (sandbox.seen(1), sandbox.seen(2));
    assert_eq!(one.len() + two.len(), 64);
    for id in &ids {
        let on = |seen: &[fallgate::node::Seen]| seen.iter().filter(|s| s.session == *id).count();
        assert!(matches!((on(&one), on(&two)), (4, 0) | (0, 4)));
    }
    assert!(!one.is_empty() && !two.is_empty(), "sixteen sessions do not all hash to one node");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_session_is_refused_to_another_address_and_goes_on_for_its_own() {
    let (sandbox, host) = plan("bind_client: ip").await;
    let id = uuid();
    let mut own = Wire::from([127, 0, 0, 2], host).await;
    assert_eq!(own.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await.status, 200);
    let reply = Wire::from([127, 0, 0, 3], host).await.ask(&put(host, &id, "a", b"x")).await;
    assert_eq!((reply.status, reply.word()), (403, "client_mismatch"));
    let reply = Wire::from([127, 0, 0, 3], host).await.ask(&end(host, &id, "DONE")).await;
    assert_eq!((reply.status, reply.word()), (403, "client_mismatch"));
    assert_eq!(Wire::from([127, 0, 0, 2], host).await.ask(&put(host, &id, "a", b"x")).await.status, 201);
    assert_eq!(sandbox.all_seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_body_that_stops_coming_is_given_up_as_stalled_and_its_end_is_heard() {
    let sandbox = Plan::new().top("timeouts: {body_idle: 300ms}").start().await;
    let host = sandbox.address("plain").await;
    let id = uuid();
    let request = start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]));
    let mut wire = Wire::plain(host).await;
    wire.send(&request[..request.len() - 10]).await;
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.word()), (504, "stalled"));
    assert_eq!(wire.rest().await, b"");
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await.status, 200);
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_start_that_the_client_broke_off_is_heard() {
    let (sandbox, host) = plan("token: shape").await;
    let id = uuid();
    let request = start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]));
    let mut wire = Wire::plain(host).await;
    wire.send(&request[..request.len() - 10]).await;
    drop(wire);
    let heard = async || Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await.status == 200;
    let begin = std::time::Instant::now();
    while !heard().await {
        assert!(begin.elapsed() < Duration::from_secs(10), "never heard");
    }
    assert_eq!(sandbox.all_seen(), []);
    eventually("no session is left", || (sandbox.gateway.sessions() == 0).then_some(())).await;
}
