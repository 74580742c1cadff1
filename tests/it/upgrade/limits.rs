//! What holds for both processes together: maxima, balance, and who waits.

use fallgate::node::NodeOptions;

use super::{Client, Place, Plan};
use crate::support::{
    Wire, get, uuid,
    wire::{end, put},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_in_the_old_process_gets_in_when_a_session_ends_in_the_new_one() {
    let plan = Plan { nodes: vec![NodeOptions::default()], top: "limits: {max_sessions: 1}", ..Plan::default() };
    let place = Place::start(&plan).await;
    let first = Client::begin(place.host).await;
    let second = Client { host: place.host, id: uuid() };
    let mut wire = Wire::plain(place.host).await;
    wire.send(&second.start()).await;
    place.gateway.until("waiting", &[], 1.0).await;
    let new = place.gateway.upgrade().await;
    assert_eq!(first.put("a", b"x").await, 201);
    // The session is in the new process now, and takes its place in the old one all the same.
    assert!(wire.is_quiet(std::time::Duration::from_millis(600)).await);
    assert_eq!(first.end().await, 200);
    assert_eq!(wire.head().await.status, 200);
    place.gateway.until("node_sessions", &[], 1.0).await;
    drop(wire);
    place.gateway.only(&[new]).await;
    assert_eq!((second.put("b", b"x").await, second.end().await), (201, 200));
    let records = place.gateway.records(2).await;
    assert!(records[1]["waited_seconds"].as_f64().unwrap() > 0.5, "{records:?}");
    place.gateway.until("node_sessions", &[], 0.0).await;
    assert_eq!(Client::begin(place.host).await.end().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_in_the_new_process_for_the_end_of_a_session_in_the_old_one() {
    let plan = Plan {
        nodes: vec![NodeOptions::default()],
        listener: ", persistent_connection: force",
        top: "limits: {max_sessions: 1}",
        ..Plan::default()
    };
    let place = Place::start(&plan).await;
    let (first, second) = (Client { host: place.host, id: uuid() }, Client { host: place.host, id: uuid() });
    let mut wire = Wire::plain(place.host).await;
    assert_eq!(wire.ask(&first.start()).await.status, 200);
    place.gateway.upgrade().await;
    let mut waits = Wire::plain(place.host).await;
    waits.send(&second.start()).await;
    place.gateway.until("waiting", &[], 1.0).await;
    assert_eq!(wire.ask(&put(place.host, &first.id, "a", b"x")).await.status, 201);
    assert_eq!(wire.ask(&end(place.host, &first.id, "DONE")).await.status, 200);
    assert_eq!(waits.head().await.status, 200);
    assert_eq!(waits.ask(&end(place.host, &second.id, "DONE")).await.status, 200);
    place.gateway.until("node_sessions", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_the_old_process_weigh_on_their_node_in_the_new_one() {
    let plan = Plan {
        nodes: vec![NodeOptions::default(), NodeOptions::default()],
        listener: ", persistent_connection: force",
        upstream: ", balance: least_sessions",
        ..Plan::default()
    };
    let place = Place::start(&plan).await;
    let mut kept = Vec::new();
    // Two on each node; then those of the second end.
    for _ in 0..4 {
        let (client, mut wire) = (Client { host: place.host, id: uuid() }, Wire::plain(place.host).await);
        assert_eq!(wire.ask(&client.start()).await.status, 200);
        let on_first = place.nodes[0].log().iter().any(|seen| seen.session == client.id);
        kept.push((client, wire, on_first));
    }
    assert_eq!(kept.iter().filter(|(.., on_first)| *on_first).count(), 2);
    place.gateway.upgrade().await;
    for (client, wire, _) in kept.iter_mut().filter(|(.., on_first)| !on_first) {
        assert_eq!(wire.ask(&end(place.host, &client.id, "DONE")).await.status, 200);
    }
    place.gateway.until("node_sessions", &[], 2.0).await;
    for _ in 0..2 {
        let (client, mut wire) = (Client { host: place.host, id: uuid() }, Wire::plain(place.host).await);
        assert_eq!(wire.ask(&client.start()).await.status, 200);
        assert!(place.nodes[1].log().iter().any(|seen| seen.session == client.id));
        kept.push((client, wire, false));
    }
    let (status, body) = get(place.gateway.admin(), "/api/v1/nodes").await;
    let nodes: serde_json::Value = serde_json::from_str(&body).unwrap();
    let sessions: Vec<_> = nodes["nodes"].as_array().unwrap().iter().map(|node| node["sessions"].as_u64()).collect();
    assert_eq!((status, sessions), (200, vec![Some(2), Some(2)]), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_leave_nothing_behind_in_either_process() {
    let place = Place::plain().await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(Client::begin(place.host).await);
    }
    let new = place.gateway.upgrade().await;
    place.gateway.only(&[new]).await;
    for client in &clients {
        assert_eq!((client.put("a", b"x").await, client.end().await), (201, 200));
    }
    assert_eq!(place.gateway.records(40).await.len(), 40);
    for gauge in ["sessions_active", "node_sessions"] {
        place.gateway.until(gauge, &[], 0.0).await;
    }
    let used = || place.gateway.metrics();
    let sessions = used().await.sum("limit_used", &[("limit", "max_sessions")]);
    assert_eq!(sessions, 0.0);
    assert!(place.shown().await.is_empty());
}
