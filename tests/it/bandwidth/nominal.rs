//! The nominal path: control connections wait for a cap, datagrams are dropped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

use super::{BURST, ENOUGH, WINDOW};
use crate::support::{
    Metrics, loopback,
    meter::{MBIT, Meter, all_reach, near, pour, rates},
    nominal::{Peer, Place, SOON, client},
    peer::{self, say},
};

/// Counts what comes and gives without end, both at once.
async fn both_ways(mut stream: TcpStream, meter: Meter) {
    let (mut from, mut to) = stream.split();
    tokio::join!(meter.drink(&mut from, ENOUGH), pour(&mut to, ENOUGH));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_connections_go_at_the_pace_of_a_cap_each_way() {
    let (got, heard, mut tasks) = (Meter::default(), Meter::default(), JoinSet::new());
    let count = got.clone();
    let node = peer::Peer::of(TcpListener::bind(loopback(0)).await.unwrap(), move |mut stream| {
        let count = count.clone();
        async move {
            say(&mut stream, b"SSH-2.0-n\r\n").await;
            both_ways(stream, count).await;
        }
    });
    let top = "bandwidth: {per_node: {upload: 10Mbit/s}, per_session: {download: 5Mbit/s}}";
    let place = Place::before(&[(node.address.port(), 9)], "127.0.0.1:0", "", top).await;
    let stream = place.control("127.0.0.2").await.0;
    tasks.spawn(both_ways(stream, heard.clone()));
    let meters = [got, heard];
    all_reach(&meters, BURST).await;
    let found = rates(&meters, WINDOW).await;
    near(found[0], 10.0 * MBIT, 5.0);
    near(found[1], 5.0 * MBIT, 5.0);
    place.reload(|text| text.replace("10Mbit/s", "30Mbit/s")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    near(rates(&meters, WINDOW).await[0], 30.0 * MBIT, 5.0);
}

/// Sends datagrams of 1000 bytes, some at once, at 40 Mbit/s for so long; says how many.
async fn blast(socket: &UdpSocket, time: Duration) -> u64 {
    let (begin, mut sent) = (Instant::now(), 0);
    let datagram = [3; 1000];
    while begin.elapsed() < time {
        while (sent as f64) < begin.elapsed().as_secs_f64() * 5000.0 {
            socket.send(&datagram).await.unwrap();
            sent += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_over_a_cap_are_dropped_one_by_one_and_counted() {
    let case = |direction: &'static str| async move {
        let node = Peer::start("n").await;
        let top = format!("bandwidth: {{per_session: {{{direction}: 10Mbit/s}}}}");
        let place = Place::start(&[&node], "", &top).await;
        let (_control, _) = place.control("127.0.0.2").await;
        let socket = Arc::new(client("127.0.0.2", place.address("data").await).await);
        let heard = Meter::default();
        let (count, ear) = (heard.clone(), socket.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut bytes = [0; 2000];
            while let Ok(n) = ear.recv(&mut bytes).await {
                count.add(n);
            }
        });
        let measured = async {
            heard.reach(BURST).await;
            heard.rate(Duration::from_secs(2)).await
        };
        let (sent, found) = tokio::join!(blast(&socket, Duration::from_millis(2500)), measured);
        near(found, 10.0 * MBIT, 5.0);
        let sent = sent as f64;
        let told = |m: &Metrics| {
            let relayed = m.sum("udp_datagrams_total", &[("direction", direction)]);
            (relayed, m.sum("udp_datagrams_dropped_total", &[("reason", "bandwidth")]))
        };
        let begin = Instant::now();
        let (relayed, dropped) = loop {
            let (relayed, dropped) = told(&place.metrics().await);
            if relayed + dropped >= sent * 0.99 || begin.elapsed() > SOON {
                break (relayed, dropped);
            }
        };
        assert!((sent * 0.99..=sent).contains(&(relayed + dropped)), "{relayed} and {dropped} of {sent}");
        assert!(dropped > sent / 2.0, "{dropped} of {sent}");
    };
    tokio::join!(case("upload"), case("download"));
}
