//! Uploads that nobody takes: what they cost the gateway is bounded, however much their clients would send.

use std::sync::Arc;

use fallgate::node::NodeOptions;
use tokio::{sync::Semaphore, task::JoinSet};

use super::{config, node, session};
use crate::support::{
    TOKEN, Wire,
    process::Process,
    uuid,
    wire::{head, start, start_body},
};

const UPLOADS: usize = 1000;
/// What each client would send, in bytes.
const SIZE: usize = 8 << 20;
/// What each may cost, in bytes.
const EACH: u64 = 512 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_uploads_that_a_node_does_not_take_are_held_in_bounded_memory() {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap();
    assert!(files >= 4000, "this test needs 4000 open files and may have {files}: raise the hard limit");
    let (node, _dir) = node(NodeOptions { record: false, ..NodeOptions::default() }).await;
    let top = "access_log: {path: access.log}\nlimits: {max_connections_per_client: off, max_sessions_per_client: off, max_sessions: off, session_starts_per_client: off, requests_per_client: off}";
    let process = Process::start(&config(("127.0.0.1", node.address().port()), "", top)).await;
    let host = process.address("plain").await;
    session(host).await;
    node.set_faults(vec!["put=stall@10".parse().unwrap()]);
    let before = process.memory();
    let mut clients = JoinSet::new();
    // Some begin at a time, or those that wait are told to on a busy host.
    let (may_begin, begun) = (Arc::new(Semaphore::new(50)), Arc::new(Semaphore::new(0)));
    for _ in 0..UPLOADS {
        let (may_begin, begun) = (may_begin.clone(), begun.clone());
        clients.spawn(async move {
            let id = uuid();
            let begin = start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]));
            let turn = may_begin.acquire().await.unwrap();
            assert_eq!(Wire::plain(host).await.ask(&begin).await.status, 200);
            drop(turn);
            begun.add_permits(1);
            let mut wire = Wire::plain(host).await;
            wire.send(&head("PUT", host, &id, "file/f", &format!("Content-Length: {SIZE}\r\n"))).await;
            wire.pour(SIZE).await;
            // What is between here and the node may hold all of it.
            std::future::pending::<()>().await;
        });
    }
    tokio::select! {
        all = begun.acquire_many(UPLOADS as u32) => drop(all.unwrap()),
        ended = clients.join_next() => panic!("an upload ended: {ended:?}"),
    }
    process.until("sessions_active", &[], UPLOADS as f64).await;
    // Until all that is between client and node is full.
    let mut moved = 0.0;
    loop {
        let now = process.metrics().await.sum("bytes_total", &[("direction", "upload")]);
        if now == moved && now > (UPLOADS * 64 * 1024) as f64 {
            break;
        }
        moved = now;
    }
    let each = process.memory().saturating_sub(before) / UPLOADS as u64;
    assert!(each <= EACH, "{each} bytes for each upload");
    assert_eq!(process.metrics().await.sum("sessions_active", &[]), UPLOADS as f64);
    clients.shutdown().await;
    node.close().await;
    process.until("connections_active", &[], 0.0).await;
}
