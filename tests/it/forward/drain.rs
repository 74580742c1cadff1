//! Reload and drain: what runs goes on, what belongs to a running session may follow, and a stranger waits.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::get;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const THERE: [u8; 4] = [127, 0, 0, 2];

impl Egress {
    /// Begins to drain, and comes back when its doors have heard of it. The token hurries it.
    async fn drains(&mut self) -> (JoinHandle<()>, CancellationToken) {
        let (gateway, hurry) = (self.gateway.take().unwrap(), CancellationToken::new());
        let drained = tokio::spawn(gateway.drain(hurry.clone()));
        while get(self.admin, "/readyz").await.0 != 503 {}
        let begin = Instant::now();
        // The doors may hear of it a moment later; a stranger asks for what is of no use.
        loop {
            let mut wire = Wire::from([127, 0, 0, 99], self.address).await;
            if wire.ask(&connect_to("127.0.0.1:1")).await.word() == "draining" {
                return (drained, hurry);
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "strangers are still served");
        }
    }

    /// The access log, when nobody writes to it any more.
    fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_keeps_running_tunnels_and_lets_their_clients_go_on() {
    let mut egress = Egress::open().await;
    let (server, origin) = (echo().await, Origin::says(OK).await);
    let file = absolute("GET", origin.address(), "/aspera/http/a/file/b/c.ashttp", "");
    let mut running = egress.tunnel(server.address).await;
    // A session through a proxy is one request after the other: this one has just ended.
    let (mut one, mut idle) = (egress.wire().await, egress.wire().await);
    assert_eq!(one.ask(&file).await.status, 200);
    assert_eq!(idle.ask(&get_of(origin.address())).await.status, 200);
    let (drained, hurry) = egress.drains().await;
    echoes(&mut running).await;
    let mut next = egress.tunnel(server.address).await;
    echoes(&mut next).await;
    assert_eq!(one.ask(&file).await.status, 200, "a session goes on where it was");
    assert_eq!(egress.ask(&file).await.status, 200, "and on a new connection");
    assert!(idle.rest().await.is_empty(), "what is no session is closed");
    running.finish().await;
    assert_eq!(running.rest().await, b"");
    next.finish().await;
    assert_eq!(next.rest().await, b"");
    echoes(&mut egress.tunnel(server.address).await).await;
    assert!(!drained.is_finished());
    hurry.cancel();
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("no waiting").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_told_to_come_again() {
    let mut egress = Egress::open().await;
    let (server, other) = (echo().await, Origin::says(OK).await);
    let mut running = egress.tunnel(server.address).await;
    let (drained, hurry) = egress.drains().await;
    let (to_server, to_other) = (connect_to(server.address), get_of(other.address()));
    for (source, request) in [([127, 0, 0, 1], &to_other), (THERE, &to_server), (THERE, &to_other)] {
        let mut wire = Wire::from(source, egress.address).await;
        let reply = wire.ask(request).await;
        says(&reply, 503, "draining");
        assert_eq!((reply.field("retry-after"), reply.field("connection")), (Some("5"), Some("close")));
        assert_eq!(wire.rest().await, b"");
    }
    assert_eq!(other.connections(), 0);
    echoes(&mut running).await;
    hurry.cancel();
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("no waiting").unwrap();
    let draining = egress.log().iter().filter(|record| record["reason"] == "draining").count();
    assert!(draining >= 3, "{:?}", egress.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_some_time_after_the_last_tunnel_and_at_once_where_there_was_none() {
    let mut egress = Egress::open().await;
    let gateway = egress.gateway.take().unwrap();
    let begin = Instant::now();
    gateway.drain(CancellationToken::new()).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let (mut egress, server) = (Egress::open().await, echo().await);
    let mut wire = egress.tunnel(server.address).await;
    let (drained, _hurry) = egress.drains().await;
    echoes(&mut wire).await;
    assert!(!drained.is_finished());
    wire.finish().await;
    assert_eq!(wire.rest().await, b"");
    tokio::time::timeout(Duration::from_secs(20), drained).await.expect("the drain ends").unwrap();
    assert!(TcpStream::connect(egress.address).await.is_err());
    assert!(egress.log().iter().any(|r| r["outcome"] == "closed" && r["bytes_uploaded"] == 11), "{:?}", egress.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_client_of_no_session_does_not_hold_up_a_drain() {
    let mut egress = Setup::new(&format!("{OPEN}, deny: [{{hosts: [old.test]}}]")).start().await;
    let mut idle = egress.wire().await;
    says(&idle.ask(&connect_to("old.test:1")).await, 403, "policy_denied");
    let begin = Instant::now();
    egress.gateway.take().unwrap().drain(CancellationToken::new()).await;
    assert_eq!(idle.rest().await, b"");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hurries_a_drain_cuts_what_runs_and_has_it_recorded() {
    let (mut egress, server) = (Egress::open().await, echo().await);
    let slow = Peer::start(crate::support::peer::keep).await;
    let mut tunnel = egress.tunnel(server.address).await;
    echoes(&mut tunnel).await;
    let mut request = egress.wire().await;
    request.send(&get_of(slow.address)).await;
    egress.until("connections_active", &[("listener", "egress")], 2.0).await;
    let (drained, hurry) = egress.drains().await;
    hurry.cancel();
    tokio::time::timeout(Duration::from_secs(5), drained).await.expect("no waiting").unwrap();
    assert_eq!(tunnel.rest().await, b"");
    if let Some(reply) = request.try_head().await {
        says(&reply, 503, "draining");
    }
    let log = egress.log();
    assert!(log.iter().any(|r| r["kind"] == "tunnel" && r["outcome"] == "drained"), "{log:?}");
    let cut = log.iter().filter(|r| r["target"] == slow.address.to_string() && r["reason"] == "draining");
    assert_eq!(cut.count(), 1, "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_a_drain_cuts_what_is_left() {
    let mut egress = Setup::new(OPEN).top("timeouts: {drain: 400ms}").start().await;
    let server = echo().await;
    let mut tunnel = egress.tunnel(server.address).await;
    let begin = Instant::now();
    egress.gateway.take().unwrap().drain(CancellationToken::new()).await;
    assert!((400..3_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert_eq!(tunnel.rest().await, b"");
    assert_eq!(egress.log().last().unwrap()["outcome"], "drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_holds_for_new_tunnels_and_running_ones_go_on() {
    let (egress, server) = (Egress::open().await, echo().await);
    let mut running = egress.tunnel(server.address).await;
    assert!(egress.reload(&format!("{OPEN}, deny: [{{hosts: ['*']}}]")).await);
    says(&egress.ask(&connect_to(server.address)).await, 403, "policy_denied");
    echoes(&mut running).await;
    assert!(egress.reload(OPEN).await);
    echoes(&mut egress.tunnel(server.address).await).await;
    echoes(&mut running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_holds_for_the_next_request_on_an_old_connection() {
    let (egress, origin) = (Egress::open().await, Origin::says(OK).await);
    let [mut busy, mut asked, mut fresh] = [egress.wire().await, egress.wire().await, egress.wire().await];
    assert_eq!(busy.ask(&get_of(origin.address())).await.status, 200);
    says(&asked.ask(&get_of("nowhere.example:1")).await, 502, "dns_failed");
    // Accepted before, as connections are taken in turn.
    assert_eq!(fresh.ask(&get_of(origin.address())).await.status, 200);
    assert!(egress.reload(&format!("{OPEN}, deny: [{{hosts: ['*']}}]")).await);
    says(&busy.ask(&get_of(origin.address())).await, 403, "policy_denied");
    says(&asked.ask(&connect_to(origin.address())).await, 403, "policy_denied");
    says(&fresh.ask(&connect_to(origin.address())).await, 403, "policy_denied");
    assert_eq!(origin.heard().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_tunnels_after_a_reload_end_none_and_let_no_more_in() {
    let (egress, server) = (Egress::open().await, echo().await);
    let mut running = [egress.tunnel(server.address).await, egress.tunnel(server.address).await];
    let text = egress.setup.yaml(OPEN, egress.dns.address) + "limits: {max_tunnels: 1}\n";
    let config = Config::from_yaml(&text, egress.dir.path()).unwrap();
    egress.gateway.as_ref().unwrap().reload(config).await.unwrap();
    says(&egress.ask(&connect_to(server.address)).await, 503, "too_many_tunnels");
    for wire in &mut running {
        echoes(wire).await;
    }
}
