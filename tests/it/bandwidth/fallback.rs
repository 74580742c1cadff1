//! The fallback: the bodies of requests and answers.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, task::JoinSet};

use super::{BURST, ENOUGH, WINDOW};
use crate::{
    streaming::begin,
    support::{
        Plan, Sandbox, Wire,
        meter::{MBIT, Meter, all_reach, near, pour, rates},
        noise,
        peer::{Peer, read_head, say},
        wire::{end, get, head, put},
    },
};

const PUT: &str = "Content-Length: 536870912\r\nConnection: keep-alive\r\n";

/// A node that counts what it gets, and gives without end.
async fn node(got: &Meter) -> Peer {
    let got = got.clone();
    Peer::start(move |stream| serve(stream, got.clone())).await
}

async fn serve(mut stream: TcpStream, got: Meter) {
    loop {
        let (head, body) = read_head(&mut stream).await;
        let length = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let length = length.lines().find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        let left = length.unwrap_or(0) - body.len();
        match head.get(..4) {
            Some(b"POST") => {
                Meter::default().drink(&mut stream, left).await;
                say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
            Some(b"PUT ") => {
                got.add(body.len());
                got.drink(&mut stream, left).await;
                say(&mut stream, b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").await;
            }
            Some(_) => {
                say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 536870912\r\n\r\n").await;
                pour(&mut stream, ENOUGH).await;
            }
            None => return,
        }
    }
}

/// A gateway with these caps before this node; `listener` are keys of its listeners.
async fn before(node: &Peer, listener: &str, top: &str) -> (Sandbox, SocketAddr) {
    let plan = Plan::new().peer(node.address).upstream("health_check: {interval: 1h}").top(top);
    let sandbox = plan.listener(&format!("persistent_connection: force{listener}")).start().await;
    let host = sandbox.address("plain").await;
    (sandbox, host)
}

/// Begins an upload that does not end.
async fn upload(host: SocketAddr, tasks: &mut JoinSet<()>) {
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host, "put").await;
    tasks.spawn(async move {
        wire.send(&head("PUT", host, &id, "file/a", PUT)).await;
        wire.pour(ENOUGH).await;
    });
}

/// Begins a download that does not end; what comes of it is counted.
async fn download(host: SocketAddr, tasks: &mut JoinSet<()>) -> Meter {
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host, "get").await;
    assert_eq!(wire.ask(&get(host, &id, "f", "")).await.status, 200);
    let meter = Meter::default();
    let count = meter.clone();
    tasks.spawn(async move { wire.drink(&count).await });
    meter
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_at_the_pace_of_a_cap_whatever_it_is_for_and_each_direction_has_its_own() {
    let both = "{upload: 10Mbit/s, download: 5Mbit/s}";
    let mut cases = JoinSet::new();
    for scope in ["total", "per_client", "per_session", "per_node", "listener"] {
        cases.spawn(async move {
            let (got, mut tasks) = (Meter::default(), JoinSet::new());
            let peer = node(&got).await;
            let (listener, top) = match scope {
                "listener" => (format!(", limits: {{bandwidth: {{total: {both}}}}}"), String::new()),
                _ => (String::new(), format!("bandwidth: {{{scope}: {both}}}")),
            };
            let (sandbox, host) = before(&peer, &listener, &top).await;
            upload(host, &mut tasks).await;
            let heard = download(host, &mut tasks).await;
            let meters = [got, heard];
            all_reach(&meters, BURST).await;
            let found = rates(&meters, WINDOW).await;
            let word = scope.strip_prefix("per_").unwrap_or("total");
            let metrics = sandbox.metrics().await;
            let waited = |of: &[(&str, &str)]| metrics.sum("throttled_seconds_total", of);
            for direction in ["upload", "download"] {
                let waited = waited(&[("scope", word), ("direction", direction)]);
                assert!(waited > 1.0, "{scope} {direction}: {waited} s");
            }
            assert_eq!(waited(&[]), waited(&[("scope", word)]), "{scope}");
            (scope, found)
        });
    }
    for (scope, found) in cases.join_all().await {
        assert_eq!(found.len(), 2, "{scope}");
        near(found[0], 10.0 * MBIT, 5.0);
        near(found[1], 5.0 * MBIT, 5.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_under_one_cap_get_equal_shares_of_it() {
    let share = |count: usize| async move {
        let (peer, mut tasks, mut meters) = (node(&Meter::default()).await, JoinSet::new(), Vec::new());
        let (_sandbox, host) = before(&peer, "", "bandwidth: {total: {download: 20Mbit/s}}").await;
        for _ in 0..count {
            meters.push(download(host, &mut tasks).await);
        }
        all_reach(&meters, BURST).await;
        let found = rates(&meters, Duration::from_secs(4)).await;
        near(found.iter().sum(), 20.0 * MBIT, 5.0);
        found.into_iter().for_each(|found| near(found, 20.0 * MBIT / count as f64, 10.0));
    };
    tokio::join!(share(2), share(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_of_each_session_holds_inside_that_of_all() {
    let share = |count: usize, each: f64| async move {
        let (peer, mut tasks, mut meters) = (node(&Meter::default()).await, JoinSet::new(), Vec::new());
        let (_sandbox, host) = before(&peer, "", "bandwidth: {total: 16Mbit/s, per_session: 6Mbit/s}").await;
        for _ in 0..count {
            meters.push(download(host, &mut tasks).await);
        }
        all_reach(&meters, BURST).await;
        let found = rates(&meters, Duration::from_secs(3)).await;
        found.into_iter().for_each(|found| near(found, each * MBIT, 10.0));
    };
    tokio::join!(share(2, 6.0), share(4, 4.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_pace_of_what_is_running_at_once() {
    let (got, mut tasks) = (Meter::default(), JoinSet::new());
    let peer = node(&got).await;
    let (sandbox, host) = before(&peer, "", "bandwidth: {total: 4Mbit/s}").await;
    upload(host, &mut tasks).await;
    let heard = download(host, &mut tasks).await;
    let meters = [got, heard];
    all_reach(&meters, BURST).await;
    for mbit in [4, 40, 2, 10] {
        let config = sandbox.config(|text| text.replace("total: 4Mbit/s", &format!("total: {mbit}Mbit/s")));
        sandbox.gateway.reload(config).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for found in rates(&meters, Duration::from_millis(900)).await {
            near(found, f64::from(mbit) * MBIT, 10.0);
        }
    }
    let config = sandbox.config(|text| text.replace("total: 4Mbit/s", "total: off"));
    sandbox.gateway.reload(config).await.unwrap();
    for found in rates(&meters, Duration::from_millis(500)).await {
        assert!(found > 100.0 * MBIT, "{found} bytes a second without a cap");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_of_a_session_share_its_cap_and_its_files_arrive_whole() {
    let top = "bandwidth: {per_session: {upload: 10Mbit/s, download: 20Mbit/s}}";
    let sandbox = Plan::new().listener("persistent_connection: off").top(top).start().await;
    let tree = sandbox.dir.path().join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    for i in 0..25 {
        std::fs::write(tree.join(format!("f{i}")), noise(100_000, i)).unwrap();
    }
    for (listener, seconds) in [("tls", 1.95), ("plain", 1.95)] {
        let begin = Instant::now();
        let report = sandbox.client(listener).await.upload(std::slice::from_ref(&tree), "/").await.unwrap();
        assert!(report.is_ok() && report.connections > 25, "{report:?}");
        let took = begin.elapsed().as_secs_f64();
        assert!((seconds * 0.95..seconds * 1.3).contains(&took), "{listener}: {took} s");
        let node = (1..=2).find(|i| sandbox.seen(*i).iter().any(|s| s.session == report.session)).unwrap();
        for i in 0..25 {
            let there = sandbox.dir.path().join(format!("n{node}/up/tree/f{i}"));
            assert!(std::fs::read(there).unwrap() == noise(100_000, i), "{listener} f{i}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_cap_is_not_idle() {
    let (got, mut tasks) = (Meter::default(), JoinSet::new());
    let peer = node(&got).await;
    let top = "timeouts: {body_idle: 300ms}\nbandwidth: {total: 8kbit/s}";
    let (sandbox, host) = before(&peer, "", top).await;
    // Half of the bandwidth is each one's, so that each waits for a second at a time.
    for _ in 0..2 {
        upload(host, &mut tasks).await;
        download(host, &mut tasks).await;
    }
    got.reach(4096).await;
    let before = got.bytes();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(got.bytes() > before);
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("refusals_total", &[]), 0.0);
    assert_eq!(metrics.sum("connections_active", &[("listener", "plain")]), 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_sent_all_hears_of_it_while_its_bytes_wait_for_a_cap() {
    let peer = node(&Meter::default()).await;
    let keys = ", slow_node_notice: 300ms";
    let (_sandbox, host) = before(&peer, keys, "bandwidth: {per_session: {upload: 800kbit/s}}").await;
    let mut wire = Wire::plain(host).await;
    let id = begin(&mut wire, host, "put").await;
    // All of it goes into the buffers of the sockets.
    wire.send(&put(host, &id, "a", &noise(200_000, 1))).await;
    let (begin, mut notices) = (Instant::now(), 0);
    let reply = loop {
        let reply = wire.head().await;
        if reply.status != 102 {
            break reply;
        }
        notices += 1;
    };
    assert_eq!(reply.status, 201);
    assert!(begin.elapsed() > Duration::from_millis(1700), "{:?}", begin.elapsed());
    assert!((3..=8).contains(&notices), "{notices} notices");
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200, "the connection is in step");
}

/// Takes long, and a machine that is not busy: only with FALLGATE_LONG set.
#[tokio::test(flavor = "multi_thread")]
async fn a_gigabit_is_a_gigabit() {
    if std::env::var_os("FALLGATE_LONG").is_none() {
        return;
    }
    let (got, mut tasks) = (Meter::default(), JoinSet::new());
    let peer = node(&got).await;
    let (_sandbox, host) = before(&peer, "", "bandwidth: {total: 1Gbit/s}").await;
    upload(host, &mut tasks).await;
    got.reach(20_000_000).await;
    near(got.rate(Duration::from_secs(2)).await, 1000.0 * MBIT, 5.0);
    tasks.shutdown().await;
    let heard = download(host, &mut tasks).await;
    heard.reach(20_000_000).await;
    near(heard.rate(Duration::from_secs(2)).await, 1000.0 * MBIT, 5.0);
}
