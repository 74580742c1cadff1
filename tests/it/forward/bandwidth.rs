//! Caps on bandwidth: tunnels and requests of a forward proxy keep to them each way, and waiting is not idleness.

use tokio::task::JoinSet;

use super::*;
use crate::support::meter::{MBIT, Meter, all_reach, near, pour, rates};

const WINDOW: Duration = Duration::from_millis(1500);
const BURST: u64 = 150_000;
const ENOUGH: usize = 512 << 20;
const TOP: &str = "bandwidth: {per_session: {upload: 10Mbit/s, download: 5Mbit/s}}";

/// A server that counts what it hears, and speaks without end; `first` comes before.
async fn source(got: &Meter, first: &'static [u8]) -> Peer {
    let got = got.clone();
    Peer::start(move |mut stream| {
        let got = got.clone();
        async move {
            let (mut from, mut to) = stream.split();
            let speaking = async {
                let _ = to.write_all(first).await;
                pour(&mut to, ENOUGH).await;
            };
            tokio::join!(got.drink(&mut from, ENOUGH), speaking);
        }
    })
    .await
}

/// Both ways at once: what the origin gets and what the client hears keep to [`TOP`].
async fn keeps_to_caps(stream: TcpStream, got: Meter, egress: &Egress) {
    let (heard, mut tasks) = (Meter::default(), JoinSet::new());
    let count = heard.clone();
    let (mut from, mut to) = stream.into_split();
    tasks.spawn(async move { count.drink(&mut from, ENOUGH).await });
    tasks.spawn(async move { pour(&mut to, ENOUGH).await });
    let meters = [got, heard];
    all_reach(&meters, BURST).await;
    let found = rates(&meters, WINDOW).await;
    near(found[0], 10.0 * MBIT, 5.0);
    near(found[1], 5.0 * MBIT, 5.0);
    let waited = egress.metrics().await.sum("throttled_seconds_total", &[("scope", "session")]);
    assert!(waited > 2.0, "{waited} s");
    egress.gateway.as_ref().unwrap().reload(egress.without_caps()).await.unwrap();
    for found in rates(&meters, Duration::from_millis(500)).await {
        assert!(found > 100.0 * MBIT, "{found} bytes a second without a cap");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_goes_at_the_pace_of_a_cap_each_way_until_it_is_off() {
    let (egress, got) = (Setup::new(OPEN).top(TOP).start().await, Meter::default());
    let origin = source(&got, b"").await;
    let mut stream = TcpStream::connect(egress.address).await.unwrap();
    stream.write_all(&connect_to(origin.address)).await.unwrap();
    keeps_to_caps(stream, got, &egress).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_answer_go_at_the_pace_of_a_cap_each_way_until_it_is_off() {
    let (egress, got) = (Setup::new(OPEN).top(TOP).start().await, Meter::default());
    let origin = source(&got, b"HTTP/1.1 200 OK\r\nContent-Length: 536870912\r\n\r\n").await;
    let mut stream = TcpStream::connect(egress.address).await.unwrap();
    stream.write_all(&absolute("POST", origin.address, "/a", "Content-Length: 536870912\r\n")).await.unwrap();
    keeps_to_caps(stream, got, &egress).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_client_to_one_target_share_the_cap_of_a_session() {
    let egress = Setup::new(OPEN).top("bandwidth: {per_session: {download: 10Mbit/s}}").start().await;
    let body = vec![b'x'; 100_000];
    let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"[..], &body].concat();
    let origin = Origin::start(move |_| answer.clone()).await;
    let begin = std::time::Instant::now();
    for _ in 0..15 {
        let mut wire = egress.wire().await;
        assert_eq!(wire.ask(&get_of(origin.address())).await.status, 200);
        wire.body(100_000).await;
    }
    let took = begin.elapsed().as_secs_f64();
    assert!((1.1..1.6).contains(&took), "{took} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_cap_is_not_idle() {
    let top = "timeouts: {tunnel_idle: 300ms}\nbandwidth: {total: 8kbit/s}";
    let (egress, got) = (Setup::new(OPEN).top(top).start().await, Meter::default());
    let (tunnelled, asked) = (source(&got, b"").await, source(&got, b"HTTP/1.1 200 OK\r\n\r\n").await);
    let mut tasks = JoinSet::new();
    for first in [connect_to(tunnelled.address), absolute("POST", asked.address, "/a", "Content-Length: 99999999\r\n")]
    {
        let mut stream = TcpStream::connect(egress.address).await.unwrap();
        stream.write_all(&first).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        tasks.spawn(async move { Meter::default().drink(&mut from, ENOUGH).await });
        tasks.spawn(async move { pour(&mut to, 1_000_000).await });
    }
    got.reach(4096).await;
    let before = got.bytes();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(got.bytes() > before);
    assert_eq!(egress.metrics().await.sum("connections_active", &[("listener", "egress")]), 2.0);
    assert_eq!(egress.lines(), 0);
}

/// Takes long, and a machine that is not busy: only with FALLGATE_LONG set.
#[tokio::test(flavor = "multi_thread")]
async fn a_gigabit_is_a_gigabit() {
    if std::env::var_os("FALLGATE_LONG").is_none() {
        return;
    }
    let (egress, got) = (Setup::new(OPEN).top("bandwidth: {total: 1Gbit/s}").start().await, Meter::default());
    let origin = source(&got, b"").await;
    let mut stream = TcpStream::connect(egress.address).await.unwrap();
    stream.write_all(&connect_to(origin.address)).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let (heard, mut tasks) = (Meter::default(), JoinSet::new());
    let count = heard.clone();
    tasks.spawn(async move { count.drink(&mut from, usize::MAX).await });
    heard.reach(20_000_000).await;
    near(heard.rate(Duration::from_secs(2)).await, 1000.0 * MBIT, 5.0);
    tasks.spawn(async move { pour(&mut to, ENOUGH).await });
    got.reach(20_000_000).await;
    near(got.rate(Duration::from_secs(2)).await, 1000.0 * MBIT, 5.0);
}
