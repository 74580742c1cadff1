//! The real client in the middle of an upload when the gateway is killed.

use std::path::Path;

use super::{Ascp, field, is_here};
use crate::{
    crash::Stage,
    support::{Wire, eventually, noise, wire::end},
};

const SIZE: usize = 24 << 20;
/// As much is on the node when the gateway is killed.
const SOME: u64 = 2 << 20;

/// What a node has of an upload: of a whole one, or of one that was cut.
fn arrived(root: &Path) -> u64 {
    let files = std::fs::read_dir(root.join("up")).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_a_kill_broke_off_goes_on_at_the_node_that_has_its_beginning() {
    if !is_here() {
        return;
    }
    let Some(mut stage) = Stage::new().await else { return };
    let state = "state: {file: state}\n";
    let slow = stage.config("", &format!("{state}bandwidth: {{per_session: 16Mbit/s}}"));
    stage.run(&slow).await;
    // By turns the next one goes to the second node, and the first one after a start to the first.
    let mut wire = Wire::plain(stage.plain).await;
    let (first, reply) = stage.begin(&mut wire).await;
    assert_eq!(reply.status, 200);
    assert_eq!(Wire::plain(stage.plain).await.ask(&end(stage.plain, &first, "DONE")).await.status, 200);
    let content = noise(SIZE, 11);
    let path = stage.root.path().join("big");
    std::fs::write(&path, &content).unwrap();
    let port = stage.plain.port();
    let put = || Ascp::send(port, false, &[&path]).options(&["-k", "2"]).run();

    let running = tokio::spawn(put());
    let home = stage.root.path().join("n2");
    eventually("the beginning of the file", || (arrived(&home) > SOME).then_some(())).await;
    stage.manager.kill();
    let report = running.await.unwrap();
    assert!(!report.is_ok(), "{report:?}");

    let fast = stage.config("", state);
    stage.run(&fast).await;
    put().await.must_be_ok("again");
    let files = |node: usize| {
        let log = stage.nodes[node].log();
        log.into_iter().filter(|seen| seen.operation == "file").collect::<Vec<_>>()
    };
    assert!(files(0).is_empty(), "the other node has no part in it");
    let resumed = files(1).pop().unwrap();
    let kept = SIZE as u64 - resumed.body_bytes;
    assert!(kept > SOME, "only the rest was sent: {kept}");
    assert_eq!(field(&resumed, "x-content-range"), Some(format!("bytes {kept}-{}/*", SIZE - 1)));
    assert_eq!(std::fs::read(home.join("up/big")).unwrap(), content);
}
