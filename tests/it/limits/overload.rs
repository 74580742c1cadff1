//! Ten times as many strangers as there is room for, against a process of its own: what those who were there before keep.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fallgate::node::{Node, NodeOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
};

use super::{A, begin};
use crate::support::{
    TOKEN, Wire, loopback,
    meter::{MBIT, Meter, all_reach, rates},
    peer::pause,
    process::Process,
    uuid,
    wire::{get, start, start_body},
};

const ROOM: usize = 100;
const STRANGERS: usize = 10 * ROOM;
const SESSIONS: usize = 4;
/// A second of everything above what it took before.
const MORE: u64 = 64 << 20;

/// Four downloads at their pace while the strangers come; a minute of it with FALLGATE_LONG set.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_keep_their_pace_and_the_gateway_its_size_while_ten_times_too_many_come() {
    let long = std::env::var_os("FALLGATE_LONG").is_some();
    let flood = Duration::from_secs(if long { 60 } else { 4 });
    let options = NodeOptions { sink: true, record: false, persistent: Some("1".to_owned()), ..NodeOptions::default() };
    let node = Node::start(loopback(0), options).await.unwrap();
    let process = Process::start(&format!(
        "version: 1\nlisteners:\n  - {{name: plain, protocol: http, address: '127.0.0.1:0', upstream: u}}\nupstreams:\n  - {{name: u, nodes: [{{name: n1, host: 127.0.0.1, ports: {{http: {}}}}}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\nlimits: {{max_connections: {ROOM}, max_connections_per_client: off}}\nbandwidth: {{per_session: 16Mbit/s}}\n",
        node.address().port()
    ))
    .await;
    let host = process.address("plain").await;
    let mut downloads = JoinSet::new();
    let mut meters = Vec::new();
    for _ in 0..SESSIONS {
        let mut wire = Wire::from(A, host).await;
        let id = uuid();
        let body = start_body(&id, "get", TOKEN.as_bytes(), &["/zeros.1000000000b"]);
        assert_eq!(wire.ask(&start(host, &id, &body)).await.status, 200);
        assert_eq!(wire.ask(&get(host, &id, "zeros.1000000000b", "")).await.status, 200);
        let meter = Meter::default();
        let count = meter.clone();
        meters.push(meter);
        downloads.spawn(async move { wire.drink(&count).await });
    }
    all_reach(&meters, 200_000).await;
    let before = rates(&meters, Duration::from_secs(2)).await;
    let size = process.memory();

    let over = Arc::<AtomicBool>::default();
    let mut strangers = JoinSet::new();
    for n in 0..STRANGERS {
        let (over, from) = (over.clone(), [127, 0, 1, (n % 200) as u8 + 1]);
        strangers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((from, 0).into()).unwrap();
                if let Ok(mut stream) = socket.connect(host).await {
                    let _ = stream.write_all(b"POST /asp").await;
                    let _ = tokio::time::timeout(Duration::from_millis(900), stream.read(&mut [0; 1])).await;
                }
                pause(Duration::from_millis(700)).await;
            }
        });
    }
    let refused = [("reason", "too_many_connections")];
    while process.metrics().await.sum("refusals_total", &refused) < 200.0 {
        tokio::task::yield_now().await;
    }
    let during = rates(&meters, flood).await;
    let grown = process.memory().saturating_sub(size);
    over.store(true, Ordering::Relaxed);
    strangers.join_all().await;
    let after = Instant::now();
    loop {
        let (reply, mut fresh) = begin([127, 0, 0, 9], host).await;
        if reply.status == 200 {
            assert_eq!(fresh.end().await, 200);
            break;
        }
    }
    assert!(after.elapsed() < Duration::from_secs(5), "{:?}", after.elapsed());
    for (before, during) in before.iter().zip(&during) {
        assert!(during / before >= 0.9, "{:.2} of {:.1} Mbit/s", during / before, before / MBIT);
    }
    assert!(grown < MORE, "{grown} bytes more");
    if long {
        // Past the test runner, which would swallow it.
        use std::io::Write as _;
        let kept: Vec<_> = before.iter().zip(&during).map(|(b, d)| format!("{:.3}", d / b)).collect();
        let _ = writeln!(std::io::stderr(), "kept {} of their pace, {} KiB more memory", kept.join(" "), grown / 1024);
    }
}
