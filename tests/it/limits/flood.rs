//! Ten times as many strangers as there is room for, and those who were there before.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
};

use super::{A, B, begin, limited};
use crate::support::{Wire, noise, peer::pause, wire::put};

const STRANGERS: u64 = 500;
const FLOOD: Duration = Duration::from_secs(3);
const RECOVERY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_through_a_flood_of_connections_and_all_is_well_soon_after() {
    let plan = limited("max_connections: 50, max_connections_per_client: off");
    let other = "{name: kept, protocol: http, address: '127.0.0.1:0', upstream: u, persistent_connection: force}";
    let sandbox = plan.listeners(other).listener("persistent_connection: off").start().await;
    let (host, kept) = (sandbox.address("plain").await, sandbox.address("kept").await);
    let (mut persistent, mut single) = (begin(A, kept).await, begin(B, host).await);
    assert_eq!((persistent.0.status, single.0.status), (200, 200));

    let (over, tried) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let mut strangers = JoinSet::new();
    for n in 0..STRANGERS {
        let (over, tried, from) = (over.clone(), tried.clone(), [127, 0, 1, (n % 200) as u8 + 1]);
        strangers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind((from, 0).into()).unwrap();
                if let Ok(mut stream) = socket.connect(host).await {
                    tried.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(b"POST /asp").await;
                    let hold = async {
                        let _ = stream.read(&mut [0; 1]).await;
                    };
                    let _ = tokio::time::timeout(Duration::from_millis(500), hold).await;
                }
                pause(Duration::from_millis(100)).await;
            }
        });
    }
    let refused = |m: &crate::support::Metrics| m.sum("refusals_total", &[("reason", "too_many_connections")]) > 100.0;
    sandbox.until("the flood is there", refused).await;
    let (begin_at, mut rounds, body) = (Instant::now(), 0, noise(100_000, 1));
    while begin_at.elapsed() < FLOOD {
        let session = &mut persistent.1;
        assert_eq!(session.wire.ask(&put(kept, &session.id, "a", &body)).await.status, 201, "round {rounds}");
        let session = &mut single.1;
        session.wire = Wire::from(B, host).await;
        assert_eq!(session.wire.ask(&put(host, &session.id, "b", &body)).await.status, 201, "round {rounds}");
        rounds += 1;
        let open = sandbox.metrics().await.sum("connections_active", &[]);
        assert!(open <= 50.0, "{open} connections");
    }
    assert!(rounds > 3 && tried.load(Ordering::Relaxed) > STRANGERS, "{rounds} rounds");
    over.store(true, Ordering::Relaxed);
    strangers.join_all().await;

    let after = Instant::now();
    loop {
        let mut wire = Wire::from([127, 0, 0, 9], host).await;
        wire.try_send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        if wire.try_head().await.is_some_and(|reply| reply.status == 404) {
            break;
        }
        assert!(after.elapsed() < RECOVERY, "still full");
    }
    let (reply, mut fresh) = begin([127, 0, 0, 9], host).await;
    assert_eq!((reply.status, fresh.put().await, fresh.end().await), (200, 201, 200));
    assert_eq!(persistent.1.end().await, 200);
    single.1.wire = Wire::from(B, host).await;
    assert_eq!(single.1.end().await, 200);
    assert!(after.elapsed() < RECOVERY);
}
