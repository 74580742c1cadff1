//! Reload and drain: what changes, what must not, and what the operator's door says meanwhile.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, certificate, eventually, get,
    peer::DeadPort,
    uuid,
    wire::{Reply, end, put, start, start_body},
};
use tokio_util::sync::CancellationToken;

async fn begin(wire: &mut Wire, host: SocketAddr) -> (String, Reply) {
    let id = uuid();
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    (id, reply)
}

async fn admin(sandbox: &Sandbox, path: &str) -> (u16, String) {
    get(sandbox.gateway.admin_address().unwrap(), path).await
}

/// The certificate that the listener `tls` shows.
async fn shown(address: SocketAddr) -> Vec<u8> {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(crate::support::tls());
    let name = rustls::pki_types::ServerName::from(address.ip());
    let tls = connector.connect(name, tcp).await.unwrap();
    tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_cannot_run_changes_nothing() {
    let sandbox = Plan::new().start().await;
    let before = (sandbox.gateway.addresses().await, shown(sandbox.address("tls").await).await);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let blocker = std::net::TcpListener::bind(taken).ok();
    for change in [
        Box::new(|y: String| y.replace("tls.key", "missing.key")) as Box<dyn Fn(String) -> String>,
        Box::new(|y: String| y.replace("key_file: tls.key", "key_file: tls.crt")),
        Box::new(move |y: String| y.replacen("127.0.0.1:0", &taken.to_string(), 1)),
    ] {
        let config = sandbox
            .config(|y| change(y).replace("nodes: [", "nodes: [{name: new, host: 127.0.0.1, ports: {http: 9}}, "));
        let error = sandbox.gateway.reload(config).await.unwrap_err();
        assert!(error.to_string().starts_with("listener tls: "), "{error}");
        assert_eq!(sandbox.gateway.addresses().await, before.0);
        assert_eq!(shown(sandbox.address("tls").await).await, before.1);
        let metrics = sandbox.metrics().await;
        assert_eq!(metrics.sum("config_generation", &[]), 1.0);
        assert_eq!(metrics.sum("config_last_reload_success", &[]), 0.0);
    }
    drop(blocker);
    let host = sandbox.address("plain").await;
    for _ in 0..4 {
        assert_eq!(begin(&mut Wire::plain(host).await, host).await.1.status, 200);
    }
    assert_eq!((sandbox.seen(1).len(), sandbox.seen(2).len()), (2, 2), "the new node takes no part");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_exported_once_it_is_served() {
    const FAMILY: &str = "tls_certificate_not_after_timestamp_seconds";
    let sandbox = Plan::new().start().await;
    let before = sandbox.metrics().await.sum(FAMILY, &[("listener", "tls")]);
    assert!(before > 0.0);
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(sandbox.dir.path().join("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(sandbox.dir.path().join("tls.key"), key.serialize_pem()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("name: plain, protocol: http, address: '{}'", taken.local_addr().unwrap());
    let config = sandbox.config(|y| y.replace("name: plain, protocol: http, address: '127.0.0.1:0'", &busy));
    sandbox.gateway.reload(config).await.unwrap_err();
    assert_eq!(sandbox.metrics().await.sum(FAMILY, &[("listener", "tls")]), before, "the old one is served");
    sandbox.gateway.reload(sandbox.config(|y| y)).await.unwrap();
    assert_eq!(sandbox.metrics().await.sum(FAMILY, &[("listener", "tls")]), 1_893_456_000.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_replaced_on_disk_is_served_without_dropping_a_connection() {
    let sandbox = Plan::new().start().await;
    let address = sandbox.address("tls").await;
    let mut wire = Wire::tls(address, crate::support::tls()).await;
    let (id, reply) = begin(&mut wire, address).await;
    assert_eq!(reply.status, 200);
    let before = shown(address).await;
    certificate(sandbox.dir.path(), "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(shown(address).await, before, "not before the reload");
    sandbox.gateway.reload(sandbox.config(|y| y)).await.unwrap();
    assert_ne!(shown(address).await, before);
    assert_eq!(sandbox.address("tls").await, address);
    assert_eq!(wire.ask(&put(address, &id, "a", b"x")).await.status, 201);
    assert_eq!(wire.ask(&end(address, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.metrics().await.sum("config_generation", &[]), 2.0);
}

async fn is_closed(address: SocketAddr) {
    let begin = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{address} is still open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_comes_with_one_reload_and_goes_with_the_next() {
    let sandbox = Plan::new().start().await;
    let added = "  - {name: extra, protocol: http, address: '127.0.0.1:0', upstream: u}\nupstreams:";
    sandbox.gateway.reload(sandbox.config(|y| y.replace("upstreams:", added))).await.unwrap();
    let extra = sandbox.address("extra").await;
    let mut wire = Wire::plain(extra).await;
    assert_eq!(begin(&mut wire, extra).await.1.status, 200);
    let (running, reply) = begin(&mut Wire::plain(extra).await, extra).await;
    assert_eq!(reply.status, 200);
    sandbox.gateway.reload(sandbox.config(|y| y)).await.unwrap();
    assert_eq!(sandbox.gateway.addresses().await.len(), 2);
    // Its session goes on over new connections, a new one is refused.
    assert_eq!(Wire::plain(extra).await.ask(&put(extra, &running, "a", b"x")).await.status, 201);
    let refused = begin(&mut Wire::plain(extra).await, extra).await.1;
    assert_eq!((refused.status, refused.word()), (503, "draining"));
    drop(wire);
    assert_eq!(Wire::plain(extra).await.ask(&end(extra, &running, "DONE")).await.status, 200);
    let first = sandbox.seen(1).into_iter().chain(sandbox.seen(2)).find(|s| s.session != running).unwrap().session;
    assert_eq!(Wire::plain(extra).await.ask(&end(extra, &first, "DONE")).await.status, 200);
    is_closed(extra).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_moves_leaves_its_old_place_though_the_new_one_is_busy() {
    let sandbox = Plan::new().start().await;
    let old = sandbox.address("plain").await;
    let running = begin(&mut Wire::plain(old).await, old).await.0;
    let moved = sandbox.config(|y| y.replacen("127.0.0.1:0', upstream: u}", "127.0.0.2:0', upstream: u}", 1));
    sandbox.gateway.reload(moved).await.unwrap();
    let new = sandbox.address("plain").await;
    assert_ne!(old, new);
    assert_eq!(begin(&mut Wire::plain(new).await, new).await.1.status, 200);
    assert_eq!(begin(&mut Wire::plain(old).await, old).await.1.word(), "draining");
    assert_eq!(Wire::plain(old).await.ask(&end(old, &running, "DONE")).await.status, 200);
    is_closed(old).await;
    assert_eq!(sandbox.gateway.sessions(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_its_node_through_a_reload_that_drops_the_node() {
    let sandbox = Plan::new().start().await;
    let host = sandbox.address("plain").await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(begin(&mut Wire::plain(host).await, host).await.0);
    }
    assert_eq!((sandbox.seen(1).len(), sandbox.seen(2).len()), (1, 1));
    let port = sandbox.nodes[0].address().port();
    let without =
        sandbox.config(|y| y.replace(&format!("{{name: n1, host: 127.0.0.1, ports: {{http: {port}}}}}, "), ""));
    assert_eq!(without.upstreams[0].nodes.len(), 1);
    sandbox.gateway.reload(without).await.unwrap();
    for id in &ids {
        for _ in 0..5 {
            assert_eq!(Wire::plain(host).await.ask(&put(host, id, "a", b"x")).await.status, 201);
        }
    }
    assert_eq!((sandbox.seen(1).len(), sandbox.seen(2).len()), (6, 6));
    for _ in 0..4 {
        begin(&mut Wire::plain(host).await, host).await;
    }
    assert_eq!((sandbox.seen(1).len(), sandbox.seen(2).len()), (6, 10), "new sessions go elsewhere");
    assert_eq!(Wire::plain(host).await.ask(&end(host, &ids[0], "DONE")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_door_tells_life_readiness_and_metrics() {
    let sandbox = Plan::new().start().await;
    eventually("ready", || {
        let ready =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(admin(&sandbox, "/readyz")));
        (ready.0 == 200).then_some(())
    })
    .await;
    assert_eq!(admin(&sandbox, "/livez").await, (200, "ok\n".into()));
    assert_eq!(admin(&sandbox, "/nothing").await.0, 404);
    assert_eq!(admin(&sandbox, "/metricsx").await.0, 404);
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("node_up", &[("upstream", "u")]), 2.0);
    assert_eq!(metrics.sum("build_info", &[]), 1.0);
    let mut wire = Wire::plain(sandbox.gateway.admin_address().unwrap()).await;
    assert_eq!(wire.ask(b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await.status, 405);
}

/// Until the gateway refuses new sessions.
async fn until_refused(host: SocketAddr) -> Reply {
    let begun = Instant::now();
    loop {
        let (slipped_in, reply) = begin(&mut Wire::plain(host).await, host).await;
        if reply.status != 200 {
            return reply;
        }
        Wire::plain(host).await.ask(&end(host, &slipped_in, "DONE")).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "new sessions are still taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_refuses_new_sessions_lets_running_ones_finish_over_new_connections_and_returns() {
    let plan = Plan::new().node(NodeOptions::default()).upstream("balance: hash").top("timeouts: {pre_drain: 300ms}");
    let sandbox = plan.start().await;
    let (host, door) = (sandbox.address("plain").await, sandbox.gateway.admin_address().unwrap());
    let mut idle = Wire::plain(host).await;
    let (id, reply) = begin(&mut idle, host).await;
    assert_eq!(reply.status, 200);
    let gateway = sandbox.gateway;
    let drained = tokio::spawn(gateway.drain(CancellationToken::new()));
    while get(door, "/readyz").await.0 != 503 {}
    assert_eq!(get(door, "/readyz").await.1, "draining\n");
    let refused = until_refused(host).await;
    assert_eq!((refused.status, refused.word()), (503, "draining"));
    assert_eq!(refused.field("x-real-mgmt-error"), Some("39"));
    assert_eq!(idle.rest().await, b"", "a connection outside of a session is closed");
    for i in 0..5 {
        let reply = Wire::plain(host).await.ask(&put(host, &id, &format!("f{i}"), b"x")).await;
        assert_eq!(reply.status, 201);
    }
    assert_eq!(get(door, "/livez").await.0, 200);
    assert!(!drained.is_finished());
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain ends").unwrap();
    assert!(tokio::net::TcpStream::connect(host).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_after_a_reload_is_heard_by_connections_from_before_it() {
    let sandbox = Plan::new().start().await;
    let host = sandbox.address("plain").await;
    // One has had an answer, one has said nothing yet, one runs a session.
    let mut answered = Wire::plain(host).await;
    assert_eq!(answered.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.status, 404);
    let mut silent = Wire::plain(host).await;
    let mut running = Wire::plain(host).await;
    let (id, reply) = begin(&mut running, host).await;
    assert_eq!(reply.status, 200);
    eventually("three connections", || {
        let open = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(sandbox.metrics()));
        (open.sum("connections_active", &[("listener", "plain")]) == 3.0).then_some(())
    })
    .await;
    sandbox.gateway.reload(sandbox.config(|y| y)).await.unwrap();
    let drained = tokio::spawn(sandbox.gateway.drain(CancellationToken::new()));
    until_refused(host).await;
    let late = begin(&mut silent, host).await.1;
    assert_eq!((late.status, late.word()), (503, "draining"), "an old connection is no way in");
    assert_eq!(answered.rest().await, b"");
    let reply = Wire::plain(host).await.ask(&end(host, &id, "DONE")).await;
    assert_eq!(reply.status, 200);
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("the drain ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_of_a_drain_what_is_left_is_recorded_as_drained() {
    let plan = Plan::new().listener("persistent_connection: force").top("timeouts: {drain: 300ms}");
    let sandbox = plan.start().await;
    let host = sandbox.address("plain").await;
    let mut wire = Wire::plain(host).await;
    begin(&mut wire, host).await;
    let begun = Instant::now();
    sandbox.gateway.drain(CancellationToken::new()).await;
    assert!((300..5_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    let log = std::fs::read_to_string(sandbox.dir.path().join("access.log")).unwrap();
    assert!(log.contains(r#""outcome":"drained""#) && log.lines().count() == 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hurries_a_drain_does_not_wait() {
    let sandbox = Plan::new().start().await;
    let host = sandbox.address("plain").await;
    begin(&mut Wire::plain(host).await, host).await;
    tokio::time::timeout(Duration::from_secs(5), sandbox.gateway.drain(hurried())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_leases_of_nodes_that_stay_go_through_a_reload() {
    let dead = DeadPort::new();
    let sandbox = Plan::new()
        .node(NodeOptions::default())
        .peer(dead.address)
        .upstream("health_check: {interval: 50ms}")
        .start()
        .await;
    while sandbox.metrics().await.sum("node_up", &[]) != 1.0 {}
    let host = sandbox.address("plain").await;
    begin(&mut Wire::plain(host).await, host).await;
    sandbox.gateway.reload(sandbox.config(|y| y.replace("50ms", "1h"))).await.unwrap();
    let metrics = sandbox.metrics().await;
    assert_eq!((metrics.sum("node_up", &[]), metrics.sum("node_sessions", &[("node", "n1")])), (1.0, 1.0));
    assert_eq!(admin(&sandbox, "/readyz").await.0, 200);
}

/// A drain that is told to hurry before it began.
fn hurried() -> CancellationToken {
    let token = CancellationToken::new();
    token.cancel();
    token
}
