//! Many upgrades, one after the other.

use fallgate::node::NodeOptions;

use super::{Client, Place, Plan};
use crate::support::{
    Wire, uuid,
    wire::{end, put},
};

async fn persistent() -> Place {
    let plan = Plan {
        nodes: vec![NodeOptions::default()],
        listener: ", persistent_connection: force",
        top: "limits: {max_sessions: 2}",
        ..Plan::default()
    };
    Place::start(&plan).await
}

/// A session with an upload under way: its connection, and the rest of the body.
async fn under_way(place: &Place) -> (Client, Wire, Vec<u8>) {
    let client = Client::begin(place.host).await;
    let mut first = put(place.host, &client.id, "slow", b"0123456789");
    let rest = first.split_off(first.len() - 5);
    let mut wire = Wire::plain(place.host).await;
    wire.send(&first).await;
    place.has_moved().await;
    (client, wire, rest)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_of_five_answers_for_sessions_of_the_first_and_all_but_it_exit_when_those_are_done() {
    let place = Place::plain().await;
    let (client, mut wire, rest) = under_way(&place).await;
    let mut all = vec![place.gateway.first()];
    for _ in 0..5 {
        all.push(place.gateway.upgrade().await);
        // It is held in the first one, and known in all.
        place.gateway.until("node_sessions", &[], 1.0).await;
    }
    all.sort_unstable();
    assert_eq!(place.gateway.alive(), all);
    let other = Client::begin(place.host).await;
    assert_eq!((other.put("a", b"x").await, other.end().await), (201, 200));
    wire.send(&rest).await;
    assert_eq!(wire.head().await.status, 201);
    assert_eq!(client.put("b", b"x").await, 201);
    drop(wire);
    let newest = place.gateway.newest();
    place.gateway.only(&[newest]).await;
    assert_eq!(client.end().await, 200);
    let records = place.gateway.records(2).await;
    assert_eq!((records.len(), &records[1]["files"], &records[1]["bytes_uploaded"]), (2, &2.into(), &11.into()));
    place.gateway.until("node_sessions", &[], 0.0).await;
    assert_eq!(place.seen(&client.id).len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_the_first_process_has_its_place_in_the_last_until_it_ends() {
    let place = persistent().await;
    let client = Client { host: place.host, id: uuid() };
    let mut wire = Wire::plain(place.host).await;
    assert_eq!(wire.ask(&client.start()).await.status, 200);
    for _ in 0..3 {
        place.gateway.upgrade().await;
    }
    let second = Client { host: place.host, id: uuid() };
    let mut other = Wire::plain(place.host).await;
    assert_eq!(other.ask(&second.start()).await.status, 200);
    place.gateway.until("node_sessions", &[], 2.0).await;
    let third = Client { host: place.host, id: uuid() };
    let mut waits = Wire::plain(place.host).await;
    waits.send(&third.start()).await;
    place.gateway.until("waiting", &[], 1.0).await;
    assert_eq!(wire.ask(&end(place.host, &client.id, "DONE")).await.status, 200);
    drop(wire);
    assert_eq!(waits.head().await.status, 200);
    for (wire, client) in [(&mut other, second), (&mut waits, third)] {
        assert_eq!(wire.ask(&end(place.host, &client.id, "DONE")).await.status, 200);
    }
    place.gateway.until("node_sessions", &[], 0.0).await;
    let newest = place.gateway.newest();
    place.gateway.only(&[newest]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_ends_on_demand_only_when_the_sessions_of_the_oldest_are_over() {
    let place = Place::plain().await;
    let (client, mut wire, rest) = under_way(&place).await;
    for _ in 0..2 {
        place.gateway.upgrade().await;
    }
    place.gateway.until("node_sessions", &[], 1.0).await;
    place.gateway.signal("TERM");
    // It drains, and takes in what belongs to sessions all the same.
    assert_eq!(client.until_draining().await, 503);
    wire.send(&rest).await;
    assert_eq!(wire.head().await.status, 201);
    assert_eq!((client.put("b", b"x").await, client.end().await), (201, 200));
    drop(wire);
    place.gateway.only(&[]).await;
    let records = place.gateway.records(2).await;
    let whole = records.iter().filter(|record| record["outcome"] == "done" && record["files"] == 2).count();
    assert_eq!(whole, 1, "{records:?}");
}

impl Client {
    /// Asks for sessions until none is let in any more; what that was answered with.
    async fn until_draining(&self) -> u16 {
        loop {
            let other = Client { host: self.host, id: uuid() };
            let reply = other.ask(&other.start()).await;
            if reply.word() == "draining" {
                return reply.status;
            }
            assert_eq!(other.end().await, 200);
        }
    }
}
