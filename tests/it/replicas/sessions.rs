//! Sessions whose requests come to any replica.

use std::time::Duration;

use super::{Client, Cluster, Plan};
use crate::support::{ADMIN_TOKEN, Wire, eventually, noise, process::kill, wire::put};

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_a_session_come_to_any_replica_and_one_record_has_all_of_it() {
    let Some(cluster) = Cluster::plain().await else { return };
    for round in 0..10_u64 {
        let client = cluster.begin().await;
        for (i, size) in [1000, 2000, 3000, 4000].into_iter().enumerate() {
            let reply = client.put(&format!("f{round}_{i}"), &noise(size, round)).await;
            assert_eq!(reply.status, 201, "{reply:?}");
        }
        assert_eq!(client.end().await.status, 200);
        cluster.node_of(&client.id);
    }
    let records = cluster.records(10).await;
    assert_eq!(records.len(), 10, "{records:#?}");
    for record in &records {
        assert_eq!(record["outcome"], "done", "{record}");
        for (key, value) in [("files", 4), ("bytes_uploaded", 10_000), ("requests", 6), ("files_failed", 0)] {
            assert_eq!(record[key], value, "{key}: {record}");
        }
    }
    for gateway in &cluster.gateways {
        for gauge in ["sessions_active", "node_sessions"] {
            gateway.until(gauge, &[], 0.0).await;
        }
    }
    let of_session = cluster.redis.ask("KEYS {fallgate}:session:*");
    assert_eq!(of_session, "*0\r\n", "nothing is left of what is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_shown_once_and_counts_as_load_everywhere() {
    let Some(cluster) = Cluster::plain().await else { return };
    let client = cluster.begin().await;
    assert_eq!(client.put("a", b"x").await.status, 201);
    for gateway in &cluster.gateways {
        gateway.until("node_sessions", &[], 1.0).await;
    }
    assert_eq!(cluster.sum("sessions_active").await, 1.0);
    let shown = [cluster.shown(0).await.len(), cluster.shown(1).await.len(), cluster.shown(2).await.len()];
    assert_eq!(shown, [1, 0, 0], "at its home");
    client.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_ends_a_session_at_another_replica() {
    let Some(cluster) = Cluster::plain().await else { return };
    let client = cluster.begin().await;
    let label = cluster.shown(0).await[0]["id"].as_str().unwrap().to_owned();
    // Under way at the second, cancelled at the third.
    let mut wire = Wire::plain(cluster.hosts[1]).await;
    let request = put(cluster.hosts[1], &client.id, "slow", &noise(100_000, 1));
    wire.send(&request[..50_000]).await;
    cluster.gateways[0].until("node_sessions", &[], 1.0).await;
    let path = format!("/api/v1/sessions/{label}/cancel");
    let (status, said) = post(cluster.gateways[2].admin(), &path).await;
    assert_eq!(status, 200, "{said}");
    let reply = wire.head().await;
    assert_eq!((reply.status, reply.word()), (403, "cancelled"));
    let late = client.put("late", b"x").await;
    assert_eq!((late.status, late.word()), (403, "cancelled"));
    let records = cluster.records(1).await;
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"cancelled".into()), "{records:#?}");
}

/// Asks the admin door for something.
pub(super) async fn post(admin: std::net::SocketAddr, path: &str) -> (u16, String) {
    let mut wire = Wire::plain(admin).await;
    let text = format!(
        "POST {path} HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    wire.send(text.as_bytes()).await;
    let said = String::from_utf8_lossy(&wire.rest().await).into_owned();
    (said.split(' ').nth(1).unwrap().parse().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_counted_over_all_replicas_and_who_waits_is_served_when_one_ends_elsewhere() {
    let plan = Plan { top: "limits: {max_sessions: 2, when_full: wait, max_wait: 15s}", ..Plan::default() };
    let Some(cluster) = Cluster::start(&plan).await else { return };
    let (first, second) = (cluster.begin().await, cluster.begin().await);
    for gateway in &cluster.gateways {
        gateway.until("node_sessions", &[], 2.0).await;
    }
    let third = Client::new(&cluster.hosts[2..]);
    let waits = tokio::spawn(async move { (third.start().await.status, third) });
    cluster.gateways[2].until("waiting", &[], 1.0).await;
    assert_eq!(first.end().await.status, 200);
    let (status, third) = waits.await.unwrap();
    assert_eq!(status, 200);
    assert_eq!((second.end().await.status, third.end().await.status), (200, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_badly_goes_on_at_its_node_through_another_replica() {
    let Some(cluster) = Cluster::plain().await else { return };
    for round in 0..6 {
        let client = Client::new(&cluster.hosts[..1]);
        assert_eq!(client.start().await.status, 200);
        let host = cluster.hosts[0];
        Wire::plain(host).await.ask(&crate::support::wire::end(host, &client.id, "ERROR")).await;
        let node = cluster.node_of(&client.id);
        cluster.records(2 * round + 1).await;
        // As soon as the record is written the pin is on its way.
        eventually("the pin", || cluster.redis.ask("HLEN {fallgate}:pins").starts_with(":1").then_some(())).await;
        let again = Client::new(&cluster.hosts[1 + round % 2..2 + round % 2]);
        assert_eq!(again.start().await.status, 200);
        assert_eq!(cluster.node_of(&again.id), node, "round {round}");
        assert_eq!(again.end().await.status, 200);
        cluster.records(2 * round + 2).await;
        eventually("no pin", || cluster.redis.ask("HLEN {fallgate}:pins").starts_with(":0").then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_replica_that_is_killed_go_on_at_the_others_and_are_shown_by_one() {
    let Some(cluster) = Cluster::plain().await else { return };
    let client = cluster.begin().await;
    assert_eq!(client.put("a", &noise(1000, 1)).await.status, 201);
    kill(cluster.gateways[0].first(), "KILL");
    let client = Client { hosts: cluster.hosts[1..].to_vec(), ..client };
    assert_eq!(client.put("b", &noise(2000, 1)).await.status, 201);
    for gateway in &cluster.gateways[1..] {
        gateway.until("replicas", &[], 2.0).await;
    }
    let shown = cluster.shown(1).await.len() + cluster.shown(2).await.len();
    assert_eq!(shown, 1);
    assert_eq!((client.put("c", &noise(3000, 1)).await.status, client.end().await.status), (201, 200));
    let records = cluster.records(1).await;
    assert_eq!(records.len(), 1, "{records:#?}");
    for (key, value) in [("files", 3), ("bytes_uploaded", 6000), ("requests", 5)] {
        assert_eq!(records[0][key], value, "{key}: {records:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_busy_at_one_replica_is_idle_at_none() {
    let plan = Plan { top: "timeouts: {session_idle: 1s, body_idle: 10s}", ..Plan::default() };
    let Some(cluster) = Cluster::start(&plan).await else { return };
    let client = cluster.begin().await;
    let mut wire = Wire::plain(cluster.hosts[1]).await;
    let request = put(cluster.hosts[1], &client.id, "slow", &noise(100_000, 1));
    wire.send(&request[..50_000]).await;
    crate::support::peer::pause(Duration::from_secs(3)).await;
    wire.send(&request[50_000..]).await;
    assert_eq!(wire.head().await.status, 201);
    // Then it is, and its home says so.
    let records = cluster.records(1).await;
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"idle".into()), "{records:#?}");
    assert_eq!(records[0]["bytes_uploaded"], 100_000, "{records:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_from_itself_tells_nothing_twice() {
    let Some(cluster) = Cluster::plain().await else { return };
    let client = cluster.begin().await;
    assert_eq!(client.put("a", &noise(1000, 1)).await.status, 201);
    let new = cluster.gateways[0].upgrade().await;
    assert_eq!(client.put("b", &noise(2000, 1)).await.status, 201);
    cluster.gateways[0].only(&[new]).await;
    for i in 0..4 {
        assert_eq!(client.put(&format!("c{i}"), &noise(1000, 1)).await.status, 201);
    }
    assert_eq!(client.end().await.status, 200);
    let records = cluster.records(1).await;
    assert_eq!(records.len(), 1, "{records:#?}");
    for (key, value) in [("files", 6), ("bytes_uploaded", 7000), ("requests", 8)] {
        assert_eq!(records[0][key], value, "{key}: {records:#?}");
    }
    for gateway in &cluster.gateways {
        for gauge in ["sessions_active", "node_sessions"] {
            gateway.until(gauge, &[], 0.0).await;
        }
    }
}
