//! Whole sessions through the gateway.

use crate::support::{Plan, noise};

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_goes_up_and_comes_back_the_same_through_both_listeners() {
    let sandbox = Plan::new().start().await;
    for listener in ["tls", "plain"] {
        let source = sandbox.dir.path().join(format!("{listener}-tree"));
        std::fs::create_dir_all(source.join("empty")).unwrap();
        std::fs::write(source.join("a b"), noise(300_000, 1)).unwrap();
        std::fs::write(source.join("é%20"), b"").unwrap();
        let client = sandbox.client(listener).await;
        let report = client.upload(&[source], "/").await.unwrap();
        assert!(report.is_ok(), "{report:?}");
        let node = (1..=2).find(|i| sandbox.seen(*i).iter().any(|s| s.session == report.session)).unwrap();
        let up = sandbox.dir.path().join(format!("n{node}/up/{listener}-tree"));
        assert_eq!(std::fs::read(up.join("a b")).unwrap(), noise(300_000, 1));
        assert!(up.join("empty").is_dir());
    }
    let records = sandbox.records(2).await;
    assert!(records.iter().all(|r| r["outcome"] == "done" && r["bytes_uploaded"] == 300_000));
    let nodes: std::collections::HashSet<_> = records.iter().map(|r| r["node"].to_string()).collect();
    assert_eq!(nodes.len(), 2, "equal nodes take turns");
}
