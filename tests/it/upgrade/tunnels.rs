//! Forward proxies and the admin door: what is open goes on, what comes meets the new process.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{io::copy, net::TcpStream, sync::Notify, time::timeout};

use crate::support::{
    Wire, get,
    peer::{Peer, read_head, say},
    process::Process,
};

const CONFIG: &str = "version: 1\nlisteners:\n  - {name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p}\npolicies:\n  - {name: p, allow: [{hosts: ['*']}], allow_private_addresses: [127.0.0.0/8]}\naccess_log: {path: access.log}\nadmin: {address: '127.0.0.1:0'}\n";

async fn echo() -> Peer {
    let script = |mut stream: TcpStream| async move {
        let (mut read, mut write) = stream.split();
        let _ = copy(&mut read, &mut write).await;
    };
    Peer::start(script).await
}

async fn tunnel(proxy: SocketAddr, target: SocketAddr) -> Wire {
    let mut wire = Wire::plain(proxy).await;
    let reply = wire.ask(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    wire
}

async fn echoes(wire: &mut Wire) {
    wire.send(b"still there").await;
    assert_eq!(wire.body(11).await, b"still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_go_on_in_the_process_that_has_them_and_new_ones_go_to_the_new_one() {
    let (gateway, target) = (Process::start(CONFIG).await, echo().await);
    let proxy = gateway.address("egress").await;
    let mut first = tunnel(proxy, target.address).await;
    let (old, new) = (gateway.first(), gateway.upgrade().await);
    let mut second = tunnel(proxy, target.address).await;
    for _ in 0..2 {
        echoes(&mut first).await;
        echoes(&mut second).await;
    }
    gateway.until("tunnels_active", &[], 1.0).await;
    assert_eq!(gateway.alive(), [old, new]);
    drop(first);
    gateway.only(&[new]).await;
    echoes(&mut second).await;
    drop(second);
    gateway.until("tunnels_active", &[], 0.0).await;
    assert_eq!(gateway.records(2).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_with_a_slow_origin_ends_well() {
    let go = Arc::new(Notify::new());
    let gate = go.clone();
    let origin = Peer::start(move |mut stream: TcpStream| {
        let go = gate.clone();
        async move {
            read_head(&mut stream).await;
            go.notified().await;
            say(&mut stream, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow").await;
        }
    })
    .await;
    let gateway = Process::start(CONFIG).await;
    let proxy = gateway.address("egress").await;
    let mut wire = Wire::plain(proxy).await;
    let at = origin.address;
    wire.send(format!("GET http://{at}/a HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).await;
    gateway.until("connections_active", &[("listener", "egress")], 1.0).await;
    let new = gateway.upgrade().await;
    go.notify_one();
    assert_eq!(wire.head().await.status, 200);
    assert_eq!(wire.body(4).await, b"slow");
    drop(wire);
    gateway.only(&[new]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_door_answers_all_the_time() {
    let gateway = Process::start(CONFIG).await;
    let (admin, over) = (gateway.admin(), Arc::new(AtomicBool::new(false)));
    let asking = tokio::spawn({
        let over = over.clone();
        async move {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(get(admin, "/livez").await.0, 200, "after {asked}");
                asked += 1;
            }
            asked
        }
    });
    let mut newest = 0;
    for _ in 0..5 {
        newest = gateway.upgrade().await;
    }
    gateway.only(&[newest]).await;
    over.store(true, Ordering::Relaxed);
    let asked = asking.await.unwrap();
    assert!(asked > 10, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_open_does_not_hold_the_old_process() {
    let gateway = Process::start(CONFIG).await;
    let mut events = Wire::plain(gateway.admin()).await;
    let reply = events.ask(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let idle = TcpStream::connect(gateway.admin()).await.unwrap();
    let new = gateway.upgrade().await;
    gateway.only(&[new]).await;
    timeout(Duration::from_secs(5), events.rest()).await.expect("the stream of events ends, and a browser asks anew");
    drop(idle);
}
