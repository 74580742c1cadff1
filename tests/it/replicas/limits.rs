//! How many sessions at once and how often, over several gateways that share a Redis.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fallgate::node::{Node, NodeOptions};
use tokio::{net::TcpStream, task::JoinSet};

use crate::support::{
    Plan, Sandbox, TOKEN, Wire,
    ascp::{self, Ascp},
    loopback, noise,
    peer::{Peer, pause, read_request, say},
    redis::Redis,
    uuid,
    wire::{Reply, end, put, start, start_body},
};

/// A place for a client of its own.
const A: [u8; 4] = [127, 0, 0, 2];

/// Three gateways before this node, with these limits, once they know each other; none without a Redis.
pub(super) async fn three(node: SocketAddr, listener: &str, top: &str) -> Option<(Redis, Vec<Sandbox>)> {
    if !Redis::is_here() {
        return None;
    }
    let redis = Redis::start().await;
    let mut gateways = Vec::new();
    for _ in 0..3 {
        let plan = Plan::new().peer(node).upstream("health_check: {interval: 1h}");
        let plan = if listener.is_empty() { plan } else { plan.listener(listener) };
        gateways.push(plan.top(&format!("state: {{redis: '{}'}}\n{top}", redis.url())).start().await);
    }
    for gateway in &gateways {
        gateway.until("three replicas", |m| m.sum("replicas", &[]) == 3.0).await;
    }
    Some((redis, gateways))
}

/// How many sessions a node has, and the most it had at once.
#[derive(Debug, Default)]
struct Had {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A node that counts its sessions: from their start to their end.
async fn counting(had: &Arc<Had>) -> Peer {
    let had = had.clone();
    Peer::start(move |stream| count(stream, had.clone())).await
}

async fn count(mut stream: TcpStream, had: Arc<Had>) {
    while let Some((head, _)) = read_request(&mut stream).await {
        let head = String::from_utf8_lossy(&head).into_owned();
        if head.contains("/session_start/") {
            let now = had.now.fetch_add(1, Ordering::SeqCst) + 1;
            had.most.fetch_max(now, Ordering::SeqCst);
        } else if head.contains("/session_end/") {
            had.now.fetch_sub(1, Ordering::SeqCst);
        }
        let status = if head.starts_with("PUT") { "201 Created" } else { "200 OK" };
        say(&mut stream, format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
    }
}

/// A session that has begun, or was to begin, and the last answer to its start.
async fn begin(from: [u8; 4], host: SocketAddr) -> (Reply, Wire, String) {
    let (mut wire, id) = (Wire::from(from, host).await, uuid());
    wire.send(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    loop {
        let reply = wire.head().await;
        if reply.status != 102 {
            return (reply, wire, id);
        }
    }
}

/// Waits until each of them counts so many sessions.
async fn all_count(gateways: &[Sandbox], sessions: u32) {
    for gateway in gateways {
        let used = [("limit", "max_sessions")];
        gateway.until(&format!("{sessions} sessions"), |m| m.sum("limit_used", &used) == f64::from(sessions)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_starts_at_once_over_three_gateways_share_room_for_five_and_all_are_served() {
    let had = Arc::<Had>::default();
    let node = counting(&had).await;
    let Some((_redis, gateways)) = three(node.address, "", "limits: {max_sessions: 5}").await else { return };
    let mut hosts = Vec::new();
    for gateway in &gateways {
        hosts.push(gateway.address("plain").await);
    }
    let mut all = JoinSet::new();
    for n in 0..30_u8 {
        let host = hosts[usize::from(n) % 3];
        all.spawn(async move {
            let (reply, mut wire, id) = begin([127, 0, 1, n + 1], host).await;
            assert_eq!(reply.status, 200, "start {n}: {reply:?}");
            assert_eq!(wire.ask(&put(host, &id, "a", b"x")).await.status, 201, "put {n}");
            pause(Duration::from_millis(50)).await;
            assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200, "end {n}");
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    let most = had.most.load(Ordering::SeqCst);
    assert!((3..=5).contains(&most), "{most} at once");
    all_count(&gateways, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_clients_wait_for_places_at_other_gateways_and_all_are_served() {
    if !ascp::is_here() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = NodeOptions { root: dir.path().join("n"), ..NodeOptions::default() };
    std::fs::create_dir_all(&options.root).unwrap();
    let node = Node::start(loopback(0), options).await.unwrap();
    let Some((_redis, gateways)) = three(node.address(), "", "limits: {max_sessions: 2}").await else { return };
    let (content, mut all) = (noise(500_000, 3), JoinSet::new());
    for n in 0..9 {
        let file = dir.path().join(format!("file{n}"));
        std::fs::write(&file, &content).unwrap();
        let client = Ascp::put(&gateways[n % 3], "plain", &[&file]).await.options(&["-l", "25m"]);
        all.spawn(async move { (n, client.run().await) });
    }
    while let Some(run) = all.join_next().await {
        let (n, report) = run.unwrap();
        report.must_be_ok(&format!("client {n}"));
    }
    for n in 0..9 {
        assert!(std::fs::read(dir.path().join(format!("n/up/file{n}"))).unwrap() == content, "file{n}");
    }
    all_count(&gateways, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_starts_no_more_often_over_three_gateways_than_at_one() {
    let had = Arc::<Had>::default();
    let node = counting(&had).await;
    let limits = "limits: {when_full: refuse, session_starts_per_client: {rate: 1/h, burst: 4}}";
    let Some((_redis, gateways)) = three(node.address, "", limits).await else { return };
    let mut said = Vec::new();
    for n in 0..9 {
        let (reply, ..) = begin(A, gateways[n % 3].address("plain").await).await;
        said.push(if reply.status == 200 { "let in".to_owned() } else { reply.word().to_owned() });
    }
    assert_eq!(said[..4], ["let in"; 4], "{said:?}");
    assert_eq!(said[4..], ["start_rate"; 5], "{said:?}");
    let (reply, ..) = begin([127, 0, 0, 3], gateways[0].address("plain").await).await;
    assert_eq!(reply.status, 200, "another client is not held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_asks_of_one_gateway_counts_at_the_next_a_moment_later() {
    let had = Arc::<Had>::default();
    let node = counting(&had).await;
    let limits = "limits: {requests_per_client: {rate: 1/h, burst: 8}}";
    let Some((_redis, gateways)) = three(node.address, "", limits).await else { return };
    let nothing = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut wire = Wire::from(A, gateways[0].address("plain").await).await;
    for _ in 0..8 {
        assert_eq!(wire.ask(nothing).await.status, 404);
    }
    let mut wire = Wire::from(A, gateways[1].address("plain").await).await;
    let mut passed = 0;
    while wire.ask(nothing).await.status == 404 {
        passed += 1;
        assert!(passed < 8, "it has asked as often here as if it had asked nowhere else");
        pause(Duration::from_millis(400)).await;
    }
    assert_eq!(Wire::from([127, 0, 0, 3], gateways[1].address("plain").await).await.ask(nothing).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_answer_starts_go_on_and_afterwards_all_sessions_count_again() {
    let had = Arc::<Had>::default();
    let node = counting(&had).await;
    let limits = "limits: {when_full: refuse, max_sessions: 5}";
    let Some((mut redis, gateways)) = three(node.address, "", limits).await else { return };
    let mut hosts = Vec::new();
    for gateway in &gateways {
        hosts.push(gateway.address("plain").await);
    }
    let mut open = vec![begin([127, 0, 1, 1], hosts[0]).await];
    redis.freeze();
    open.push(begin([127, 0, 1, 2], hosts[1]).await);
    open.push(begin([127, 0, 1, 3], hosts[2]).await);
    redis.thaw();
    all_count(&gateways, 3).await;
    redis.stop();
    open.push(begin([127, 0, 1, 4], hosts[0]).await);
    redis.again().await;
    all_count(&gateways, 4).await;
    open.push(begin([127, 0, 1, 5], hosts[1]).await);
    for (reply, ..) in &open {
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    let (reply, ..) = begin([127, 0, 1, 6], hosts[2]).await;
    assert_eq!(reply.word(), "too_many_sessions");
    let (_, wire, id) = &mut open[0];
    assert_eq!(wire.ask(&end(hosts[0], id, "DONE")).await.status, 200);
    all_count(&gateways, 4).await;
    assert_eq!(begin([127, 0, 1, 7], hosts[2]).await.0.status, 200);
}
