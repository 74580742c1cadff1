//! One record a session, and no secret in anything that is written.

use fallgate::node::NodeOptions;

use crate::support::{
    Plan, TOKEN, Wire, noise,
    peer::DeadPort,
    sweep, uuid,
    wire::{end, get, put, start, start_body},
};

#[tokio::test(flavor = "multi_thread")]
async fn each_session_has_one_record_with_its_outcome() {
    let plan = Plan::new().node(NodeOptions::default()).top("timeouts: {session_idle: 1s}");
    let sandbox = plan.listener("persistent_connection: force").start().await;
    let host = sandbox.address("plain").await;
    let begin = async |token: &str| {
        let (id, mut wire) = (uuid(), Wire::plain(host).await);
        wire.ask(&start(host, &id, &start_body(&id, "put", token.as_bytes(), &[]))).await;
        (id, wire)
    };
    let (id, mut wire) = begin(TOKEN).await;
    assert_eq!(wire.ask(&put(host, &id, "a", &noise(1000, 1))).await.status, 201);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.word(), "unknown_session");
    let (id, mut wire) = begin(TOKEN).await;
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    let (id, mut wire) = begin("nonsense").await;
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    let (_, wire) = begin(TOKEN).await;
    drop(wire);
    sandbox.records(4).await;
    sandbox.nodes[0].set_faults(vec!["start:1=403,x-real-mgmt-error: 19".parse().unwrap()]);
    let (id, mut wire) = begin(TOKEN).await;
    assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
    let (_, quiet) = begin(TOKEN).await;
    let records = sandbox.records(6).await;
    drop(quiet);
    assert_eq!(sandbox.gateway.sessions(), 0);
    let told: Vec<_> = records.iter().map(|r| r["outcome"].as_str().unwrap()).collect();
    assert_eq!(told, ["done", "error", "refused", "lost", "refused", "idle"]);
    assert_eq!((&records[2]["reason"], &records[4]["reason"]), (&"token_shape".into(), &serde_json::Value::Null));
    assert_eq!((&records[0]["files"], &records[0]["bytes_uploaded"]), (&1.into(), &1000.into()));
    assert_eq!((&records[0]["user"], &records[0]["node"]), (&"xfer".into(), &"n1".into()));
    let labels: std::collections::HashSet<_> = records.iter().map(|r| r["id"].to_string()).collect();
    assert_eq!(labels.len(), 6, "each by a label of its own");
    assert_eq!(sandbox.metrics().await.sum("sessions_finished_total", &[]), 6.0);
    // The gauges follow when the connections are gone.
    let begun = std::time::Instant::now();
    for gauge in ["sessions_active", "node_sessions"] {
        while sandbox.metrics().await.sum(gauge, &[]) != 0.0 {
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{gauge} stays");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_refused_unread_has_one_record_too() {
    let sandbox = Plan::new().top("timeouts: {body_idle: 300ms}").start().await;
    let host = sandbox.address("plain").await;
    let whole = |id: &str| start(host, id, &start_body(id, "put", TOKEN.as_bytes(), &[]));
    let other = |from: &str, to: &str| {
        let id = uuid();
        let text = String::from_utf8(whole(&id)).unwrap().replace(from, to).into_bytes();
        (id, text)
    };
    let cut = uuid();
    let cases = [
        (other("<token>", "<tokem>"), "bad_start", "refused"),
        (other("Keep-Alive: 300", "Keep-Alive: \x01\x01\x01"), "bad_name", "refused"),
        (other("Content-Length", "Content-Lentgh"), "bad_request", "refused"),
        ((cut.clone(), whole(&cut)[..400].to_vec()), "stalled", "lost"),
    ];
    for (n, ((id, request), reason, outcome)) in cases.into_iter().enumerate() {
        let reply = Wire::plain(host).await.ask(&request).await;
        assert_eq!(reply.word(), reason);
        assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "ERROR")).await.status, 200, "{reason}");
        let records = sandbox.records(n + 1).await;
        assert_eq!(records.len(), n + 1, "{reason}");
        let told = [&records[n]["reason"], &records[n]["outcome"], &records[n]["client"], &records[n]["direction"]];
        assert_eq!(told, [&reason.into(), &outcome.into(), &"127.0.0.1".into(), &serde_json::Value::Null]);
    }
    assert_eq!(sandbox.metrics().await.sum("sessions_finished_total", &[]), 4.0);
    assert_eq!(sandbox.gateway.sessions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_and_no_session_id_is_in_records_metrics_or_logs() {
    let dead = DeadPort::new();
    let plan = Plan::new().node(NodeOptions::default()).peer(dead.address);
    let sandbox =
        plan.upstream("balance: round_robin, when_all_down: try_all, health_check: {interval: 1h}").start().await;
    let host = sandbox.address("plain").await;
    let ids: Vec<_> = (0..8).map(|_| uuid()).collect();
    let secret = format!("{TOKEN}<");
    for (i, id) in ids.iter().enumerate() {
        let fault = ["put=rst@10", "start=raw:what\\r\\n\\r\\n", "start=403", "get=stall@1:0.1", "put=raw:x"][i % 5];
        sandbox.nodes[0].set_faults(vec![fault.parse().unwrap()]);
        let token = if i == 6 { &secret } else { TOKEN };
        let mut wire = Wire::plain(host).await;
        wire.ask(&start(host, id, &start_body(id, "get", token.as_bytes(), &["/f"]))).await;
        Wire::plain(host).await.ask(&start(host, id, &start_body(id, "get", token.as_bytes(), &["/f"]))).await;
        for request in [put(host, id, "a", &noise(100, 1)), get(host, id, "f", ""), get(host, id, "../f", "")] {
            let mut wire = Wire::plain(host).await;
            wire.try_send(&request).await;
            wire.try_head().await;
        }
        let mut broken = start(host, id, &start_body(id, "get", token.as_bytes(), &["/f"]));
        broken.truncate(broken.len() - 9);
        Wire::plain(host).await.try_send(&broken).await;
        let mut wire = Wire::plain(host).await;
        wire.try_send(&[&b"PUT "[..], id.as_bytes(), b" x\r\n\r\n"].concat()).await;
        wire.try_head().await;
        Wire::plain(host).await.ask(&end(host, id, "ERROR")).await;
    }
    sandbox.records(8).await;
    let written = [
        std::fs::read_to_string(sandbox.dir.path().join("access.log")).unwrap(),
        sandbox.metrics().await.0,
        sweep::logged(),
    ];
    assert!(written[2].contains("A request failed."), "the log is captured: {}", written[2]);
    for text in &written {
        let hits = ids.iter().map(String::as_str).chain([TOKEN]).find(|secret| text.contains(secret));
        assert_eq!(hits, None, "{text}");
        // Nor in the other spelling, nor in parts.
        for id in &ids {
            assert!(!text.contains(&id.replace('-', "")) && !text.contains(&id[..18]), "{text}");
        }
        assert!(!text.contains(&TOKEN[..24]), "{text}");
        for id in &ids {
            let whole = uuid::Uuid::parse_str(id).unwrap().as_u128();
            let key = (whole >> 64) as u64 ^ (whole as u64).rotate_left(32);
            assert!(!text.contains(&key.to_string()) && !text.contains(&format!("{key:x}")), "{text}");
        }
    }
}
