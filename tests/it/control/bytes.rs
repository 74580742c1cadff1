//! What goes through, and what is told of it.

use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{CONTROL, Ssh, banner, connect, hears, met, plan, port};
use crate::support::{noise, peer::Peer};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_untouched_and_are_counted_in_metrics_and_in_one_record() {
    let node = Ssh::start("n1").await;
    let sandbox = plan(&[node.port()]).start().await;
    let mut stream = TcpStream::connect(sandbox.address("control").await).await.unwrap();
    let client = stream.local_addr().unwrap();
    let sent = noise(5 * MIB + 7, 1);
    let (mut read, mut write) = stream.split();
    let talk = async {
        write.write_all(&sent).await.unwrap();
        // Its end goes through, and what the node still has to say comes back.
        write.shutdown().await.unwrap();
    };
    let mut heard = Vec::new();
    let (_, all) = tokio::join!(talk, read.read_to_end(&mut heard));
    all.unwrap();
    assert!(heard == [banner("n1"), sent.clone()].concat(), "{} bytes came back", heard.len());
    let records = sandbox.records(1).await;
    assert_eq!(records.len(), 1);
    let record = &records[0];
    let (up, down) = (sent.len() as u64, heard.len() as u64);
    for (field, wanted) in [
        ("kind", "control"),
        ("listener", "control"),
        ("client", "127.0.0.1"),
        ("upstream", "u"),
        ("node", "n1"),
        ("outcome", "closed"),
    ] {
        assert_eq!(record[field], wanted, "{record}");
    }
    assert_eq!(record["client_port"], client.port());
    assert_eq!((&record["bytes_uploaded"], &record["bytes_downloaded"]), (&up.into(), &down.into()));
    assert!(record["reason"].is_null() && record["seconds"].as_f64().is_some(), "{record}");
    let metrics = sandbox.metrics().await;
    let of = |direction| metrics.sum("bytes_total", &[("listener", "control"), ("direction", direction)]);
    assert_eq!((of("upload"), of("download")), (up as f64, down as f64));
    assert_eq!(metrics.sum("control_connections_finished_total", &[("outcome", "closed")]), 1.0);
    assert_eq!(metrics.sum("connections_total", &[("listener", "control")]), 1.0);
    assert_eq!(metrics.sum("connections_active", &[("listener", "control")]), 0.0);
    assert_eq!(metrics.sum("node_sessions", &[]), 0.0, "the lease is given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_said_all_may_still_be_told_more() {
    let (node, heard) = {
        let heard = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let into = heard.clone();
        let node = Peer::start(move |mut stream| {
            let into = into.clone();
            async move {
                stream.write_all(b"SSH-2.0-n1\r\n").await.unwrap();
                stream.shutdown().await.unwrap();
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                into.lock().unwrap().extend(all);
            }
        });
        (node.await, heard)
    };
    let sandbox = plan(&[port(node.address)]).start().await;
    let mut wire = connect(&sandbox).await;
    assert_eq!(wire.rest().await, banner("n1"), "the node's end is passed on");
    let sent = noise(MIB, 2);
    wire.send(&sent).await;
    wire.finish().await;
    assert_eq!(sandbox.records(1).await[0]["outcome"], "closed");
    assert!(*heard.lock().unwrap() == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_before_the_banner_reaches_the_node() {
    let (node, heard) = hears("n1").await;
    let sandbox = plan(&[port(node.address)]).start().await;
    let mut wire = connect(&sandbox).await;
    wire.send(b"SSH-2.0-client\r\n").await;
    assert_eq!(wire.body(12).await, banner("n1"));
    wire.finish().await;
    wire.rest().await;
    assert_eq!(*heard.lock().unwrap(), b"SSH-2.0-client\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_breaks_is_told_from_one_that_closes() {
    let node = Ssh::start("n1").await;
    let sandbox = plan(&[node.port()]).start().await;
    let mut stream = TcpStream::connect(sandbox.address("control").await).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(sandbox.records(1).await[0]["outcome"], "client_lost");
    let broken = Peer::start(|mut stream| async move {
        stream.write_all(b"SSH-2.0-n1\r\n").await.unwrap();
        stream.read_exact(&mut [0; 2]).await.unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let broken = broken.await;
    let sandbox = plan(&[port(broken.address)]).start().await;
    let (mut wire, _) = met(&sandbox, [127, 0, 0, 1]).await;
    wire.send(b"go").await;
    wire.rest().await;
    assert_eq!(sandbox.records(1).await[0]["outcome"], "node_lost");
    assert_eq!(sandbox.metrics().await.sum("control_connections_finished_total", &[("outcome", "node_lost")]), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_which_nothing_moves_is_closed_after_idle_and_one_that_speaks_is_not() {
    let node = Ssh::start("n1").await;
    let control = CONTROL.replace("upstream: u", "upstream: u, idle: 600ms");
    let plan = crate::support::Plan::new().listeners(&control).ports(&node.port());
    let sandbox = plan.start().await;
    let begin = Instant::now();
    let (mut wire, _) = met(&sandbox, [127, 0, 0, 1]).await;
    for _ in 0..6 {
        wire.send(b"x").await;
        assert_eq!(wire.body(1).await, b"x");
        assert!(wire.is_quiet(Duration::from_millis(200)).await, "it speaks");
    }
    wire.rest().await;
    assert!((1_500..6_000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert_eq!(sandbox.records(1).await[0]["outcome"], "idle");
    assert_eq!(sandbox.metrics().await.sum("control_connections_finished_total", &[("outcome", "idle")]), 1.0);
}

/// The kernel's table of TCP sockets: whether the socket from `local` to `remote` has its keepalive timer running.
fn has_keepalive(local: u16, remote: u16) -> Option<bool> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.rsplit(':').next()?, 16).ok();
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = port(fields.get(1)?) == Some(local) && port(fields.get(2)?) == Some(remote);
        // 2 is the keepalive timer; with bytes on the way another one runs.
        is_it.then(|| fields.get(5).is_some_and(|timer| timer.starts_with("02:")))
    })
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_system_watches_both_sides_of_a_connection() {
    let from = std::sync::Arc::<std::sync::Mutex<Option<u16>>>::default();
    let into = from.clone();
    let node = Peer::start(move |mut stream| {
        *into.lock().unwrap() = Some(stream.peer_addr().unwrap().port());
        async move {
            stream.write_all(b"SSH-2.0-n1\r\n").await.unwrap();
            crate::support::peer::keep(stream).await;
        }
    });
    let node = node.await;
    // One check at the start, which is over before the connection.
    let sandbox = super::checked(plan(&[port(node.address)]), 1).await;
    let door = sandbox.address("control").await.port();
    let mut stream = TcpStream::connect(sandbox.address("control").await).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    let client = stream.local_addr().unwrap().port();
    let near = from.lock().unwrap().unwrap();
    for (local, remote) in [(door, client), (near, node.address.port())] {
        crate::support::eventually("a keepalive timer", || has_keepalive(local, remote)?.then_some(())).await;
    }
    assert_eq!(has_keepalive(client, door), Some(false), "the test can tell");
}
