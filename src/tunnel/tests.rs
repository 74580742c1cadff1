//! Time and size of tunnels, where sockets would only be in the way.

use std::{
    mem::size_of_val,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    net::TcpListener,
    task::JoinHandle,
    time::Instant,
};

use super::*;

const IDLE: Duration = Duration::from_secs(600);

/// A client and a node with a tunnel between them.
fn tunnel(terms: Terms) -> (DuplexStream, DuplexStream, JoinHandle<End>) {
    let (client, near) = duplex(64 * 1024);
    let (far, node) = duplex(64 * 1024);
    (client, node, tokio::spawn(join_copying(near, far, terms)))
}

async fn pass(from: &mut DuplexStream, to: &mut DuplexStream) {
    from.write_all(b"x").await.unwrap();
    assert_eq!(to.read_u8().await.unwrap(), b'x');
}

#[tokio::test(start_paused = true)]
async fn a_quiet_tunnel_ends_a_whole_idle_time_after_its_last_byte() {
    let (mut client, mut node, end) = tunnel(Terms::new(IDLE));
    for _ in 0..3 {
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        pass(&mut client, &mut node).await;
        tokio::time::advance(IDLE - Duration::from_secs(1)).await;
        pass(&mut node, &mut client).await;
    }
    let last = Instant::now();
    assert_eq!(end.await.unwrap(), End { upload: 3, download: 3, why: Why::Idle });
    assert!(last.elapsed() >= IDLE && last.elapsed() < IDLE + Duration::from_millis(10), "{:?}", last.elapsed());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(node.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_moves_elsewhere_keeps_a_quiet_tunnel() {
    let last = Arc::new(Mutex::new(None));
    let seen = last.clone();
    let mut terms = Terms::new(IDLE);
    terms.elsewhere = Some(Arc::new(move || *seen.lock().unwrap()));
    let (mut client, mut node, end) = tunnel(terms);
    for _ in 0..20 {
        tokio::time::advance(IDLE / 2).await;
        *last.lock().unwrap() = Some(Instant::now());
    }
    pass(&mut client, &mut node).await;
    let began = Instant::now();
    assert_eq!(end.await.unwrap().why, Why::Idle);
    assert!(began.elapsed() >= IDLE && began.elapsed() < IDLE + Duration::from_millis(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_idle_time_is_too_long() {
    let (mut client, mut node, end) = tunnel(Terms::new(Duration::MAX));
    pass(&mut client, &mut node).await;
    drop((client, node));
    assert_eq!(end.await.unwrap().why, Why::Closed);
}

#[tokio::test(start_paused = true)]
async fn streams_of_any_kind_are_joined_with_what_was_read_before() {
    let mut terms = Terms::new(IDLE);
    terms.first_to_node = Bytes::from_static(b"hello ");
    terms.first_to_client = Bytes::from_static(b"welcome ");
    let (mut client, mut node, end) = tunnel(terms);
    let (mut up, mut down) = (String::new(), String::new());
    client.write_all(b"node").await.unwrap();
    client.shutdown().await.unwrap();
    node.read_to_string(&mut up).await.unwrap();
    node.write_all(b"client").await.unwrap();
    node.shutdown().await.unwrap();
    client.read_to_string(&mut down).await.unwrap();
    assert_eq!((up.as_str(), down.as_str()), ("hello node", "welcome client"));
    assert_eq!(end.await.unwrap(), End { upload: 10, download: 14, why: Why::Closed });
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_tunnel_ends() {
    let terms = Terms::new(IDLE);
    let cancel = terms.cancel.clone();
    let (mut client, _node, end) = tunnel(terms);
    cancel.cancel();
    assert_eq!(end.await.unwrap().why, Why::Cancelled);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_tunnel_is_small() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let node = listener.accept().await.unwrap().0;
    let size = size_of_val(&join(client, node, Terms::new(IDLE)));
    assert!(size <= 4 * 1024, "{size} bytes");
}
