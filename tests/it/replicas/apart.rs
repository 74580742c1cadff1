//! One of several gateways is cut off from the Redis for a while, or misses what it tells.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{Client, Cluster, Plan, tried};
use crate::support::{ADMIN_TOKEN, Wire, loopback, noise, peer::pause, process::Process, redis::Redis, wire::put};

/// Between a gateway and the Redis; while it is cut nothing goes through, and nobody hears that.
struct Way {
    address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Way {
    async fn to(redis: SocketAddr) -> Way {
        let listener = TcpListener::bind(loopback(0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, seen) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(carry(from, redis, seen.clone()));
            }
        });
        Way { address, cut }
    }
}

async fn carry(mut from: TcpStream, redis: SocketAddr, mut seen: watch::Receiver<bool>) {
    let _ = seen.wait_for(|cut| !*cut).await;
    let Ok(mut to) = TcpStream::connect(redis).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut from, &mut to) => return,
        _ = seen.wait_for(|cut| *cut) => {}
    }
    // Neither side hears of it until the way is there again.
    let _ = seen.wait_for(|cut| !*cut).await;
}

/// One more gateway, whose way to the Redis is this.
async fn one_more(cluster: &Cluster, redis: &str) -> Process {
    let token = |dir: &Path| std::fs::write(dir.join("token"), ADMIN_TOKEN).unwrap();
    Process::with(&cluster.config().replace(&cluster.redis.url(), redis), token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_goes_on_at_a_gateway_that_the_others_took_to_be_gone() {
    let plan = Plan { gateways: 2, top: "timeouts: {session_idle: 3s}", ..Plan::default() };
    let Some(cluster) = Cluster::start(&plan).await else { return };
    let way = Way::to(cluster.redis.address()).await;
    let gateway = one_more(&cluster, &format!("redis://{}", way.address)).await;
    cluster.agree(3).await;
    let client = Client::new(&[gateway.address("plain").await]);
    assert_eq!(client.start().await.status, 200);
    for other in &cluster.gateways {
        other.until("node_sessions", &[], 1.0).await;
    }
    way.cut.send_replace(true);
    let (begun, mut many) = (Instant::now(), 0);
    // Longer than the others wait for it, and for a session to be idle.
    while begun.elapsed() < Duration::from_secs(16) {
        assert_eq!(client.put(&format!("a{many}"), &noise(1000, 1)).await.status, 201);
        many += 1;
        pause(Duration::from_millis(250)).await;
    }
    for other in &cluster.gateways {
        other.until("node_sessions", &[], 0.0).await;
    }
    way.cut.send_replace(false);
    gateway.until("shared_state_up", &[], 1.0).await;
    for i in 0..4 {
        assert_eq!(client.put(&format!("b{i}"), &noise(1000, 1)).await.status, 201);
    }
    // It is known to all again.
    for other in &cluster.gateways {
        other.until("node_sessions", &[], 1.0).await;
    }
    let client = Client { hosts: cluster.hosts.clone(), ..client };
    assert_eq!((client.put("c", &noise(1000, 1)).await.status, client.end().await.status), (201, 200));
    for it in cluster.gateways.iter().chain([&gateway]) {
        it.until("node_sessions", &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_busy_elsewhere_is_not_idle_at_a_home_that_has_lost_its_connection() {
    let plan = Plan { top: "timeouts: {session_idle: 2s, body_idle: 20s}", ..Plan::default() };
    let Some(cluster) = Cluster::start(&plan).await else { return };
    let client = cluster.begin().await;
    let mut wire = Wire::plain(cluster.hosts[1]).await;
    let request = put(cluster.hosts[1], &client.id, "slow", &noise(100_000, 1));
    wire.send(&request[..50_000]).await;
    // The home of the session connected first of all.
    let failures = cluster.metrics(0).await.sum("shared_state_errors_total", &[]);
    let clients = cluster.redis.ask("CLIENT LIST");
    let first = clients.split("id=").find_map(|line| line.split(' ').next()?.parse::<u64>().ok()).unwrap();
    assert!(cluster.redis.ask(&format!("CLIENT KILL ID {first}")).contains(":1"), "{clients}");
    cluster.gateways[0].until("shared_state_errors_total", &[], failures + 1.0).await;
    cluster.state(true).await;
    pause(Duration::from_secs(6)).await;
    wire.send(&request[50_000..]).await;
    assert_eq!(wire.head().await.status, 201);
    assert_eq!((client.put("b", b"x").await.status, client.end().await.status), (201, 200));
    let records = cluster.records(1).await;
    assert_eq!((records.len(), &records[0]["outcome"]), (1, &"done".into()), "{records:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_missed_the_end_of_a_session_hears_of_it_from_its_home() {
    let Some(cluster) = Cluster::start(&Plan { gateways: 1, ..Plan::default() }).await else { return };
    let client = cluster.begin().await;
    let key = client.id.replace('-', "");
    let told = cluster.redis.ask(&format!("HGET {{fallgate}}:session:{key} state"));
    let told: serde_json::Value = serde_json::from_str(told.lines().nth(1).unwrap()).unwrap();
    assert_eq!(client.end().await.status, 200);
    let late = one_more(&cluster, &cluster.redis.url()).await;
    cluster.agree(2).await;
    let session = serde_json::json!({"state": told[0], "home": told[1], "parts": []});
    let message = serde_json::json!({
        "from": "0102030405060708",
        "news": [{"session": {"session": session, "busy": false, "new": false}}],
    });
    assert!(cluster.redis.ask(&format!("PUBLISH {{fallgate}}:news '{message}'")).contains(":2"));
    late.until("node_sessions", &[], 0.0).await;
    // It was there, and is no more.
    let reply = Client::new(&[late.address("plain").await]);
    let reply = Client { id: client.id, ..reply }.put("a", b"x").await;
    assert_eq!((reply.status, reply.word()), (403, "unknown_session"));
    pause(Duration::from_secs(1)).await;
    late.until("node_sessions", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_has_ended_at_one_gateway_may_begin_anew_at_another() {
    let Some(cluster) = Cluster::start(&Plan { nodes: 1, ..Plan::default() }).await else { return };
    for turn in 0..3 {
        let client = Client { id: "6f7cb3a4-1111-4222-8333-444455556666".to_owned(), ..Client::new(&cluster.hosts) };
        client.turn.store(turn, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(client.start().await.status, 200);
        for i in 0..4 {
            assert_eq!(client.put(&format!("a{turn}{i}"), b"x").await.status, 201, "{turn} {i}");
        }
        assert_eq!(client.end().await.status, 200);
        for gateway in &cluster.gateways {
            gateway.until("node_sessions", &[], 0.0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_nothing_is_told_by_check_and_is_no_hindrance_where_gateways_go_on_without() {
    if !Redis::is_here() {
        return;
    }
    for options in [["--replicaof", "127.0.0.1", "1"].as_slice(), &["--maxmemory", "1"]] {
        let redis = Redis::with(|_| options.iter().map(|option| (*option).to_owned()).collect()).await;
        let (ok, said) = tried("check", &format!("{{redis: '{}', on_unavailable: refuse}}", redis.url()));
        assert!(!ok && said.contains("state.redis: redis://127.0.0.1:"), "{options:?}: {said}");
        let (ok, said) = tried("check", &format!("{{redis: '{}'}}", redis.url()));
        assert!(ok && said.contains("warning: state.redis: "), "{options:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_found_though_the_node_that_is_named_first_answers_nobody() {
    if !Redis::is_here() {
        return;
    }
    let redis = Redis::with(|_| vec!["--cluster-enabled".into(), "yes".into()]).await;
    redis.ask("CLUSTER ADDSLOTSRANGE 0 16383");
    let is_whole = || redis.ask("CLUSTER INFO").contains("cluster_state:ok").then_some(());
    crate::support::eventually("a whole cluster", is_whole).await;
    let silent = std::net::TcpListener::bind(loopback(0)).unwrap();
    let silent = silent.local_addr().unwrap();
    let (ok, said) =
        tried("check", &format!("{{redis: ['redis://{silent}', '{}'], on_unavailable: refuse}}", redis.url()));
    assert!(ok, "{said}");
}
