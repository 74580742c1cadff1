//! The real client, whose connections a balancer sprays over all replicas.

use std::{path::PathBuf, time::Duration};

use super::{Cluster, Plan};
use crate::support::{
    ascp::{self, Ascp},
    noise,
};

/// Some files of different sizes.
fn files(cluster: &Cluster, name: &str, many: usize) -> Vec<PathBuf> {
    let dir = cluster.files.path().join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let file = |i: usize| {
        let path = dir.join(format!("{name}{i}"));
        std::fs::write(&path, noise(i * 7_000, i as u64)).unwrap();
        path
    };
    (0..many).map(file).collect()
}

async fn up_and_down(listener: &'static str) {
    if !ascp::is_here() {
        return;
    }
    let Some(cluster) = Cluster::start(&Plan { nodes: 1, listener, ..Plan::default() }).await else { return };
    let port = cluster.balancer.address.port();
    let sources = files(&cluster, "many", 40);
    let of: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
    Ascp::send(port, false, &of).run().await.must_be_ok("up");
    let there = tempfile::tempdir().unwrap();
    let names: Vec<_> =
        sources.iter().map(|path| format!("/up/{}", path.file_name().unwrap().to_str().unwrap())).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    Ascp::receive(port, false, &names, there.path()).run().await.must_be_ok("down");
    for source in &sources {
        let name = source.file_name().unwrap();
        let sent = std::fs::read(source).unwrap();
        assert_eq!(std::fs::read(cluster.files.path().join("n1/up").join(name)).unwrap(), sent);
        assert_eq!(std::fs::read(there.path().join(name)).unwrap(), sent);
    }
    let records = cluster.records(2).await;
    assert_eq!(records.len(), 2, "{records:#?}");
    let bytes: u64 = (0..40).map(|i| i * 7_000).sum();
    for (record, key) in records.iter().zip(["bytes_uploaded", "bytes_downloaded"]) {
        assert_eq!((&record["outcome"], &record["files"]), (&"done".into(), &40.into()), "{record}");
        assert_eq!((&record[key], &record["lengths_differ"]), (&bytes.into(), &0.into()), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_go_up_and_come_down_request_by_request() {
    up_and_down(", persistent_connection: off").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_files_go_up_and_come_down_on_one_connection() {
    up_and_down(", persistent_connection: force").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_fails_while_the_redis_is_killed_and_comes_back() {
    if !ascp::is_here() {
        return;
    }
    let Some(mut cluster) =
        Cluster::start(&Plan { nodes: 3, listener: ", persistent_connection: off", ..Plan::default() }).await
    else {
        return;
    };
    let port = cluster.balancer.address.port();
    let mut running = tokio::task::JoinSet::new();
    for client in 0..4 {
        let sources = files(&cluster, &format!("c{client}_"), 40);
        running.spawn(async move {
            for _ in 0..6 {
                let of: Vec<_> = sources.iter().map(PathBuf::as_path).collect();
                Ascp::send(port, false, &of).run().await.must_be_ok("up");
            }
        });
    }
    for _ in 0..2 {
        crate::support::peer::pause(Duration::from_millis(700)).await;
        cluster.redis.stop();
        cluster.state(false).await;
        crate::support::peer::pause(Duration::from_millis(700)).await;
        cluster.redis.again().await;
        cluster.state(true).await;
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}
