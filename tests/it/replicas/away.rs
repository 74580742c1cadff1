//! The Redis is killed, frozen, or comes back empty.

use std::time::{Duration, Instant};

use super::{Client, Cluster, Plan, redis_of, tried};
use crate::support::{get, noise, redis::Redis, secrets, uuid};

/// A name that no other file has.
fn noise_name() -> String {
    uuid().replace('-', "").chars().rev().collect()
}

/// Whole sessions of a few files, one after the other; how many there were.
async fn load(hosts: Vec<std::net::SocketAddr>, stop: tokio_util::sync::CancellationToken) -> usize {
    let mut many = 0;
    while !stop.is_cancelled() {
        let client = Client::new(&hosts);
        let mut statuses = vec![client.start().await];
        for _ in 0..3 {
            statuses.push(client.put(&format!("f{}", noise_name()), &noise(2000, 1)).await);
        }
        statuses.push(client.end().await);
        let told: Vec<_> = statuses.iter().map(|reply| (reply.status, reply.word().to_owned())).collect();
        assert!(told.iter().all(|(status, _)| (200..300).contains(status)), "{told:?}");
        many += 1;
    }
    many
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_fails_while_the_redis_goes_and_comes_back_empty() {
    let Some(mut cluster) = Cluster::plain().await else { return };
    let stop = tokio_util::sync::CancellationToken::new();
    let loads: Vec<_> = (0..4).map(|_| tokio::spawn(load(cluster.hosts.clone(), stop.clone()))).collect();
    for _ in 0..3 {
        crate::support::peer::pause(Duration::from_millis(500)).await;
        cluster.redis.stop();
        cluster.state(false).await;
        crate::support::peer::pause(Duration::from_millis(500)).await;
        cluster.redis.again().await;
        cluster.state(true).await;
    }
    stop.cancel();
    let mut many = 0;
    for load in loads {
        many += load.await.unwrap();
    }
    assert!(many > 12, "{many}");
    // Each of them has ended, wherever that was seen.
    for gateway in &cluster.gateways {
        for gauge in ["sessions_active", "node_sessions"] {
            gateway.until(gauge, &[], 0.0).await;
        }
    }
    let records = cluster.records(many).await;
    assert_eq!(records.len(), many);
    assert!(records.iter().all(|record| record["outcome"] == "done"));
    assert!(cluster.sum("unverified_requests_total").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_transfer_fails_while_the_redis_is_full_and_takes_nothing() {
    let Some(cluster) = Cluster::plain().await else { return };
    let stop = tokio_util::sync::CancellationToken::new();
    let loads: Vec<_> = (0..4).map(|_| tokio::spawn(load(cluster.hosts.clone(), stop.clone()))).collect();
    for _ in 0..3 {
        crate::support::peer::pause(Duration::from_millis(500)).await;
        cluster.redis.ask("CONFIG SET maxmemory 1");
        cluster.state(false).await;
        crate::support::peer::pause(Duration::from_millis(500)).await;
        cluster.redis.ask("CONFIG SET maxmemory 0");
        cluster.state(true).await;
    }
    stop.cancel();
    for load in loads {
        assert!(load.await.unwrap() > 0);
    }
    for gateway in &cluster.gateways {
        for gauge in ["sessions_active", "node_sessions"] {
            gateway.until(gauge, &[], 0.0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_refuse_nobody_is_let_through_unknown_when_the_redis_takes_nothing() {
    let plan = Plan { state: ", on_unavailable: refuse", ..Plan::default() };
    let Some(cluster) = Cluster::start(&plan).await else { return };
    cluster.redis.ask("CONFIG SET maxmemory 1");
    for _ in 0..20 {
        let unknown = Client::new(&cluster.hosts).put("a", b"x").await;
        assert!(matches!((unknown.status, unknown.word()), (503, "state_unavailable")), "{unknown:?}");
        let refused = Client::new(&cluster.hosts).start().await;
        assert_eq!((refused.status, refused.word()), (503, "state_unavailable"));
    }
    assert_eq!(cluster.sum("unverified_requests_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_without_the_redis_and_are_written_again_when_it_is_back() {
    let Some(mut cluster) = Cluster::plain().await else { return };
    let (before, ended) = (cluster.begin().await, cluster.begin().await);
    for gateway in &cluster.gateways {
        gateway.until("node_sessions", &[], 2.0).await;
    }
    cluster.redis.stop();
    cluster.state(false).await;
    let (_, said) = get(cluster.gateways[0].admin(), "/readyz").await;
    assert!(said.contains("degraded: state"), "{said}");
    for i in 0..6 {
        assert_eq!(before.put(&format!("a{i}"), b"x").await.status, 201);
    }
    let unseen = cluster.begin().await;
    for i in 0..6 {
        assert_eq!(unseen.put(&format!("b{i}"), b"x").await.status, 201);
    }
    assert_eq!(ended.end().await.status, 200);
    let unseen_end = cluster.begin().await;
    assert_eq!(unseen_end.end().await.status, 200);
    cluster.redis.again().await;
    cluster.state(true).await;
    // The one that ended meanwhile is not brought back, and the other two are known to all.
    for gateway in &cluster.gateways {
        gateway.until("node_sessions", &[], 2.0).await;
    }
    assert_eq!(cluster.sum("sessions_active").await, 2.0);
    for i in 0..3 {
        assert_eq!(before.put(&format!("c{i}"), b"x").await.status, 201);
        assert_eq!(unseen.put(&format!("c{i}"), b"x").await.status, 201);
    }
    assert_eq!((before.end().await.status, unseen.end().await.status), (200, 200));
    let records = cluster.records(4).await;
    assert_eq!(records.len(), 4, "{records:#?}");
    assert!(records.iter().all(|record| record["outcome"] == "done"), "{records:#?}");
    let first = records.iter().find(|record| record["files"] == 9).unwrap_or_else(|| panic!("{records:#?}"));
    assert_eq!(first["requests"], 11, "{first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_refuse_nothing_new_begins_without_the_redis_and_what_is_known_goes_on() {
    let Some(mut cluster) = Cluster::start(&Plan { state: ", on_unavailable: refuse", ..Plan::default() }).await else {
        return;
    };
    let client = cluster.begin().await;
    for gateway in &cluster.gateways {
        gateway.until("node_sessions", &[], 1.0).await;
    }
    cluster.redis.stop();
    cluster.state(false).await;
    assert_eq!(client.put("a", b"x").await.status, 201);
    let refused = Client::new(&cluster.hosts).start().await;
    assert_eq!((refused.status, refused.word()), (503, "state_unavailable"));
    let unknown = Client::new(&cluster.hosts).put("a", b"x").await;
    assert_eq!((unknown.status, unknown.word()), (503, "state_unavailable"));
    assert!(cluster.metrics(0).await.sum("refusals_total", &[("reason", "state_unavailable")]) > 0.0);
    cluster.redis.again().await;
    cluster.state(true).await;
    assert_eq!((client.put("b", b"x").await.status, client.end().await.status), (201, 200));
    cluster.begin().await.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_answers_nobody_holds_nobody_up_for_long() {
    let Some(cluster) = Cluster::plain().await else { return };
    let client = cluster.begin().await;
    for gateway in &cluster.gateways {
        gateway.until("node_sessions", &[], 1.0).await;
    }
    cluster.redis.freeze();
    let begun = Instant::now();
    let other = Client::new(&cluster.hosts);
    assert_eq!(other.start().await.status, 200);
    for i in 0..6 {
        assert_eq!(client.put(&format!("a{i}"), b"x").await.status, 201);
        assert_eq!(other.put(&format!("b{i}"), b"x").await.status, 201);
    }
    assert_eq!((client.end().await.status, other.end().await.status), (200, 200));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    cluster.state(false).await;
    cluster.redis.thaw();
    cluster.state(true).await;
    cluster.begin().await.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_by_check_and_keeps_a_gateway_from_starting() {
    if !Redis::is_here() {
        return;
    }
    ["r1ght-password", "wr0ng-password"].iter().for_each(|password| secrets::keep(password.as_bytes()));
    let redis = Redis::with(|_| vec!["--requirepass".into(), "r1ght-password".into()]).await;
    let said = |command: &str, password: &str| {
        tried(command, &format!("{{redis: 'redis://:{password}@{}'}}", redis.address()))
    };
    let (ok, text) = said("check", "r1ght-password");
    assert!(ok, "{text}");
    for command in ["check", "run"] {
        let (ok, text) = said(command, "wr0ng-password");
        assert!(!ok && text.contains("state.redis: redis://:***@127.0.0.1:"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_redis_a_gateway_begins_on_its_own_and_shares_once_it_is_there() {
    let Some(mut redis) = redis_of().await else { return };
    redis.stop();
    let cluster = Cluster::late(redis).await;
    cluster.begin().await.end().await;
    let mut cluster = cluster;
    cluster.redis.again().await;
    cluster.agree(3).await;
    let client = cluster.begin().await;
    for i in 0..3 {
        assert_eq!(client.put(&format!("a{i}"), b"x").await.status, 201);
    }
    assert_eq!(client.end().await.status, 200);
}
