//! Fallback sessions, on many connections and on one.

use fallgate::node::NodeOptions;

use super::{Client, Place, Plan};
use crate::support::{
    Wire, noise,
    process::kill,
    wire::{Reply, end, head, put},
};

/// A place whose node commits these faults.
async fn faulty(faults: &[&str], listener: &'static str) -> Place {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    Place::start(&Plan { nodes: vec![NodeOptions { faults, ..NodeOptions::default() }], listener, ..Plan::default() })
        .await
}

async fn final_answer(wire: &mut Wire) -> Reply {
    loop {
        let reply = wire.head().await;
        if reply.status != 102 {
            return reply;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_began_before_goes_on_in_the_new_process_and_has_one_record_with_all_counts() {
    let place = Place::plain().await;
    let client = Client::begin(place.host).await;
    assert_eq!(client.put("a", &noise(1000, 1)).await, 201);
    let label = place.shown().await[0]["id"].clone();
    let new = place.gateway.upgrade().await;
    assert_eq!(client.put("b", &noise(2000, 2)).await, 201);
    assert_eq!(place.shown().await[0]["id"], label, "it is called the same");
    assert_eq!(place.gateway.metrics().await.sum("sessions_active", &[]), 1.0);
    place.gateway.only(&[new]).await;
    assert_eq!((client.put("c", b"").await, client.end().await), (201, 200));
    let records = place.gateway.records(1).await;
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((&record["id"], &record["outcome"]), (&label, &"done".into()), "{record}");
    for (key, value) in [("files", 3), ("bytes_uploaded", 3000), ("requests", 5)] {
        assert_eq!(record[key], value, "{key}: {record}");
    }
    assert_eq!(place.seen(&client.id).len(), 5);
    for gauge in ["sessions_active", "node_sessions"] {
        place.gateway.until(gauge, &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_under_way_ends_well_and_the_next_request_finds_its_session_in_the_new_process() {
    let place = Place::plain().await;
    let client = Client::begin(place.host).await;
    let content = noise(200_000, 3);
    let mut wire = Wire::plain(place.host).await;
    let request = put(place.host, &client.id, "slow", &content);
    let (first, second) = request.split_at(100_000);
    wire.send(first).await;
    place.has_moved().await;
    let new = place.gateway.upgrade().await;
    // It is known here as well, and held there.
    place.gateway.until("node_sessions", &[], 1.0).await;
    assert_eq!(place.gateway.alive().len(), 2);
    wire.send(second).await;
    assert_eq!(wire.head().await.status, 201);
    assert_eq!(client.put("next", b"x").await, 201);
    drop(wire);
    place.gateway.only(&[new]).await;
    assert_eq!(client.end().await, 200);
    let records = place.gateway.records(1).await;
    assert_eq!((records.len(), &records[0]["files"]), (1, &2.into()), "{records:?}");
    assert_eq!((&records[0]["bytes_uploaded"], &records[0]["requests"]), (&200_001.into(), &4.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_a_slow_node_is_told_to_wait_by_the_process_it_has_asked() {
    let place = faulty(&["put:1=102:6"], "").await;
    let client = Client::begin(place.host).await;
    let mut wire = Wire::plain(place.host).await;
    wire.send(&put(place.host, &client.id, "a", b"x")).await;
    assert_eq!(wire.head().await.status, 102);
    place.gateway.upgrade().await;
    assert_eq!(final_answer(&mut wire).await.status, 201);
    assert_eq!(client.end().await, 200);
    assert_eq!(place.gateway.records(1).await[0]["files"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_slowly_on_an_old_connection_is_in_the_record() {
    let place = Place::plain().await;
    let client = Client::begin(place.host).await;
    let mut wire = Wire::plain(place.host).await;
    let request = end(place.host, &client.id, "DONE");
    let (first, second) = request.split_at(request.len() - 20);
    wire.send(first).await;
    place.gateway.until("connections_active", &[("listener", "plain")], 1.0).await;
    let new = place.gateway.upgrade().await;
    // Longer than the old process keeps what nothing holds there.
    let other = Client::begin(place.host).await;
    assert_eq!((other.put("a", b"x").await, other.end().await), (201, 200));
    assert!(wire.is_quiet(std::time::Duration::from_millis(600)).await);
    wire.send(second).await;
    assert_eq!(wire.head().await.status, 200);
    drop(wire);
    place.gateway.only(&[new]).await;
    let records = place.gateway.records(2).await;
    assert_eq!((records.len(), &records[1]["requests"]), (2, &2.into()), "{records:?}");
    assert_eq!((&records[1]["outcome"], &records[1]["code"]), (&"done".into(), &0.into()), "{records:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_on_one_connection_stays_in_the_old_process_counts_in_the_new_one_and_ends_there() {
    let place = faulty(&[], ", persistent_connection: force").await;
    let client = Client { host: place.host, id: crate::support::uuid() };
    let mut wire = Wire::plain(place.host).await;
    assert_eq!(wire.ask(&client.start()).await.status, 200);
    let (old, new) = (place.gateway.first(), place.gateway.upgrade().await);
    let again = Wire::plain(place.host).await.ask(&client.start()).await;
    assert_eq!((again.status, again.word()), (403, "session_live"), "its id is taken in the new one as well");
    for body in [b"x".as_slice(), b"yy"] {
        assert_eq!(wire.ask(&put(place.host, &client.id, "a", body)).await.status, 201);
        place.gateway.until("node_sessions", &[], 1.0).await;
        assert_eq!(place.gateway.alive(), [old, new]);
    }
    assert_eq!(wire.ask(&end(place.host, &client.id, "DONE")).await.status, 200);
    place.gateway.until("node_sessions", &[], 0.0).await;
    drop(wire);
    place.gateway.only(&[new]).await;
    let records = place.gateway.records(1).await;
    assert_eq!((records.len(), &records[0]["files"], &records[0]["outcome"]), (1, &2.into(), &"done".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_between_two_requests_go_on_in_the_new_process_when_the_old_one_is_killed() {
    let place = Place::plain().await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::begin(place.host).await);
    }
    // It would hold the old process.
    let mut wire = Wire::plain(place.host).await;
    wire.send(&head("PUT", place.host, &clients[0].id, "file/half", "Content-Length: 10\r\n")).await;
    wire.send(b"half").await;
    place.has_moved().await;
    let old = place.gateway.first();
    let new = place.gateway.upgrade().await;
    kill(old, "KILL");
    place.gateway.only(&[new]).await;
    for client in &clients[1..] {
        assert_eq!((client.put("a", b"x").await, client.end().await), (201, 200));
    }
    // Of the one that was in a request there the upload is lost, and its end is heard.
    assert_eq!(clients[0].end().await, 200);
    assert_eq!(place.gateway.records(20).await.len(), 20);
    place.gateway.until("node_sessions", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_start_that_was_refused_before_is_heard_and_strangers_stay_strangers() {
    let place = Place::plain().await;
    let refused = Client { host: place.host, id: crate::support::uuid() };
    let body = crate::support::wire::start_body(&refused.id, "put", b"nonsense", &[]);
    assert_eq!(refused.ask(&crate::support::wire::start(place.host, &refused.id, &body)).await.status, 403);
    place.gateway.upgrade().await;
    assert_eq!(refused.end().await, 200);
    let stranger = Client { host: place.host, id: crate::support::uuid() };
    let reply = stranger.ask(&put(place.host, &stranger.id, "a", b"x")).await;
    assert_eq!(reply.word(), "unknown_session");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_have_all_counts_when_the_old_process_ends_just_as_its_last_requests_do() {
    let place = Place::plain().await;
    for round in 1..=5 {
        let mut halves = Vec::new();
        for _ in 0..8 {
            let (client, mut wire) = (Client::begin(place.host).await, Wire::plain(place.host).await);
            let request = put(place.host, &client.id, &client.id, &noise(1000, 1));
            let (first, second) = request.split_at(request.len() - 10);
            wire.send(first).await;
            halves.push((client, wire, second.to_vec()));
        }
        let new = place.gateway.upgrade().await;
        let mut ends = tokio::task::JoinSet::new();
        for (client, mut wire, second) in halves {
            ends.spawn(async move {
                wire.send(&second).await;
                let reply = wire.head().await;
                assert_eq!(reply.status, 201, "{reply:?}");
                drop(wire);
                let reply = client.ask(&end(client.host, &client.id, "DONE")).await;
                assert_eq!(reply.status, 200, "{reply:?}");
            });
        }
        while let Some(ended) = ends.join_next().await {
            assert!(ended.is_ok(), "{}", place.gateway.log());
        }
        place.gateway.only(&[new]).await;
        let records = place.gateway.records(8 * round).await;
        let whole = |record: &&serde_json::Value| record["files"] == 1 && record["bytes_uploaded"] == 1000;
        assert_eq!(records.iter().filter(whole).count(), 8 * round, "{records:#?}");
    }
    place.gateway.until("node_sessions", &[], 0.0).await;
}
