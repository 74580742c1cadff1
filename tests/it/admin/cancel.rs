//! What a cancel must not do, and what must come of it whenever it comes.

use std::time::{Duration, Instant};

use fallgate::node::NodeOptions;
use serde_json::Value;

use super::Operator;
use crate::support::{
    Plan, Sandbox, TOKEN, Wire,
    peer::Peer,
    uuid,
    wire::{Reply, end, head, put, start, start_body},
};

async fn begin(sandbox: &Sandbox, wire: &mut Wire, user: &str) -> (String, Reply) {
    let (host, id) = (sandbox.address("plain").await, uuid());
    let body = String::from_utf8(start_body(&id, "put", TOKEN.as_bytes(), &["f"])).unwrap().replace("xfer", user);
    let reply = wire.ask(&start(host, &id, body.as_bytes())).await;
    (id, reply)
}

async fn cancel(operator: Operator, user: &str) {
    let shown = operator.until("", |session| session["user"] == user).await;
    let path = format!("/api/v1/sessions/{}/cancel", shown["id"].as_str().unwrap());
    assert_eq!(operator.post(&path, "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_sessions_on_one_connection_the_other_goes_on() {
    let plan = Plan::new().admin("token_file: token").listener("persistent_connection: force");
    let sandbox = plan.start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let mut wire = Wire::plain(host).await;
    let (_, first) = begin(&sandbox, &mut wire, "ann").await;
    let (id, second) = begin(&sandbox, &mut wire, "bob").await;
    assert_eq!((first.status, second.status), (200, 200));
    cancel(operator, "ann").await;
    assert_eq!(sandbox.records(1).await[0]["outcome"], "cancelled");
    sandbox.until("one is open", |m| m.sum("sessions_active", &[]) == 1.0).await;
    assert_eq!(wire.ask(&put(host, &id, "f", b"x")).await.status, 201);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(sandbox.records(2).await[1]["outcome"], "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stands_still_is_answered_soon_and_its_record_has_all_that_moved() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let (id, _) = begin(&sandbox, &mut Wire::plain(host).await, "ann").await;
    let mut wire = Wire::plain(host).await;
    wire.send(&head("PUT", host, &id, "file/f", "Content-Length: 1000\r\n")).await;
    wire.send(&[7; 10]).await;
    operator.until("", |session| session["bytes_uploaded"] == 10).await;
    let begin = Instant::now();
    cancel(operator, "ann").await;
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.word()), (403, "cancelled"));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    let record = &sandbox.records(1).await[0];
    assert_eq!((&record["bytes_uploaded"], &record["files_failed"]), (&10.into(), &1.into()));
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("bytes_total", &[("direction", "upload")]), 10.0);
    assert_eq!((metrics.sum("sessions_active", &[]), metrics.sum("node_sessions", &[])), (0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_starts_does_not_bring_a_cancelled_session_back() {
    let limits = "limits: {session_starts_per_client: off, requests_per_client: off}";
    let plan = Plan::new().admin("token_file: token").listener("admission: {unknown_session: route}").top(limits);
    let sandbox = plan.start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let (id, _) = begin(&sandbox, &mut Wire::plain(host).await, "ann").await;
    cancel(operator, "ann").await;
    let mut wire = Wire::plain(host).await;
    for _ in 0..4200 {
        let other = uuid();
        let reply = wire.ask(&start(host, &other, &start_body(&other, "put", b"of-no-known-shape", &["f"]))).await;
        assert_eq!(reply.word(), "token_shape");
    }
    let reply = Wire::plain(host).await.ask(&put(host, &id, "f", b"x")).await;
    assert_eq!((reply.status, reply.word()), (403, "cancelled"));
    assert!(!sandbox.all_seen().iter().any(|seen| seen.operation == "file"), "no node hears of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_may_begin_again_and_is_a_session_like_any_other() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let (id, _) = begin(&sandbox, &mut Wire::plain(host).await, "ann").await;
    cancel(operator, "ann").await;
    // It is over once what was under way of it is.
    sandbox.records(1).await;
    let body = start_body(&id, "put", TOKEN.as_bytes(), &["f"]);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    let reply = Wire::plain(host).await.ask(&put(host, &id, "f", b"x")).await;
    assert_eq!(reply.word(), "unknown_session");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_while_they_are_cancelled_leave_nothing_behind() {
    let plan = Plan::new().node(NodeOptions::default()).admin("token_file: token");
    let sandbox = plan.top("limits: {max_sessions: 4}").start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        clients.spawn(async move {
            for _ in 0..25 {
                let (mut wire, id) = (Wire::plain(host).await, uuid());
                wire.try_send(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &["f"]))).await;
                if wire.try_head().await.is_some_and(|reply| reply.status == 200) {
                    let mut wire = Wire::plain(host).await;
                    wire.try_send(&put(host, &id, "f", &[7; 3000])).await;
                    wire.try_head().await;
                }
                let mut wire = Wire::plain(host).await;
                wire.try_send(&end(host, &id, "DONE")).await;
                wire.try_head().await;
            }
        });
    }
    while !clients.is_empty() {
        for session in operator.sessions("").await {
            operator.post(&format!("/api/v1/sessions/{}/cancel", session["id"].as_str().unwrap()), "").await;
        }
        while clients.try_join_next().is_some() {}
    }
    let gauges = ["sessions_active", "node_sessions", "waiting"];
    sandbox.until("all is over", |m| gauges.iter().all(|gauge| m.sum(gauge, &[]) == 0.0)).await;
    assert_eq!((sandbox.gateway.sessions(), operator.sessions("").await), (0, Vec::<Value>::new()));
    let finished = sandbox.metrics().await.sum("sessions_finished_total", &[]);
    assert_eq!((finished, sandbox.records(200).await.len()), (200.0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_through_the_forward_proxy_is_cancelled_before_its_answer_and_told_so() {
    let peer = Peer::start(async |stream: tokio::net::TcpStream| {
        // It never answers.
        let _ = stream.readable().await;
        std::future::pending::<()>().await;
    })
    .await;
    let policy = "policies: [{name: p, allow: [{hosts: ['127.0.0.1']}], allow_private_addresses: [127.0.0.0/8]}]";
    let plan = Plan::new().admin("token_file: token").top(policy);
    let plan = plan.listeners("{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}");
    let sandbox = plan.start().await;
    let operator = Operator::of(&sandbox);
    let mut wire = Wire::from([127, 0, 0, 50], sandbox.address("egress").await).await;
    let target = peer.address;
    wire.send(format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await;
    let shown = operator.until("?kind=request", |_| true).await;
    let id = shown["id"].as_str().unwrap();
    assert_eq!(operator.post(&format!("/api/v1/sessions/{id}/cancel"), "").await.status, 200);
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.word()), (403, "cancelled"));
    let record = &sandbox.records(1).await[0];
    assert_eq!(
        (&record["outcome"], &record["reason"], &record["id"]),
        (&"cancelled".into(), &"cancelled".into(), &id.into())
    );
}
