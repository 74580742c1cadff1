//! A node that is away between two requests of the real client.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;

use super::{
    Ascp, LISTENERS, folder, is_here, root, source,
    tree::{self, Tree},
    up,
};
use crate::support::{Plan, Sandbox, ascp::Report, away, back, eventually, noise, peer::pause};

/// Files of a transfer.
const FILES: usize = 6;
/// While the third one is answered the node leaves; the answer takes so long that it is heard of in time.
const THIRD: usize = 3;
const SLOWLY: &str = "delay:2";

/// A transfer of small files in one direction, over a listener, before a node that keeps connections or not.
struct Case {
    what: String,
    sandbox: Sandbox,
    tree: Tree,
    ascp: Ascp,
    target: PathBuf,
}

impl Case {
    async fn new(is_put: bool, listener: &str, node_keeps: bool, grace: &str) -> Case {
        let verb = if is_put { "put" } else { "get" };
        let faults = vec![format!("{verb}:{THIRD}={SLOWLY}").parse().unwrap()];
        let persistent = node_keeps.then(|| "1".to_owned());
        let plan = Plan::new().node(NodeOptions { persistent, faults, ..NodeOptions::default() });
        let upstream = format!("node_grace: {grace}, health_check: {{interval: 1h}}");
        let sandbox = plan.upstream(&upstream).start().await;
        let tree = tree::many(FILES);
        let (ascp, target) = if is_put {
            let source = folder(&sandbox, "source").join("t");
            tree::write(&source, &tree);
            (Ascp::put(&sandbox, listener, &[&source]).await, up(&sandbox, 1, "t"))
        } else {
            tree::write(&root(&sandbox, 1).join("t"), &tree);
            let into = folder(&sandbox, "back");
            (Ascp::get(&sandbox, listener, &["t"], &into).await, into.join("t"))
        };
        Case { what: format!("{verb} {listener}, node keeps {node_keeps}"), sandbox, tree, ascp, target }
    }

    /// Runs the client; the node is away for this long, or for good.
    async fn run(self, gone: Option<Duration>) -> (Report, After) {
        let Case { what, mut sandbox, tree, ascp, target } = self;
        let absence = async {
            let files = || sandbox.seen(1).iter().filter(|s| s.operation == "file").count();
            eventually("the third file", || (files() == THIRD).then_some(())).await;
            away(&mut sandbox, 1).await;
            if let Some(gone) = gone {
                pause(gone).await;
                back(&mut sandbox, 1);
            }
        };
        let (report, ()) = tokio::join!(ascp.run(), absence);
        (report, After { what, sandbox, tree, target })
    }
}

/// What is there afterwards.
struct After {
    what: String,
    sandbox: Sandbox,
    tree: Tree,
    target: PathBuf,
}

/// All transfers go well although the node is away for this long, and no request comes to it twice.
async fn all_go_well(is_put: bool, grace: &str, gone: Duration) {
    let mut cases = Vec::new();
    for listener in LISTENERS {
        for node_keeps in [false, true] {
            cases.push(Case::new(is_put, listener, node_keeps, grace).await);
        }
    }
    let mut all = tokio::task::JoinSet::new();
    for case in cases {
        all.spawn(async move { case.run(Some(gone)).await });
    }
    for (report, case) in all.join_all().await {
        let metrics = case.sandbox.metrics().await;
        let why: Vec<_> = metrics.0.lines().filter(|l| l.contains("refusals_total") && !l.ends_with(" 0")).collect();
        report.must_be_ok(&format!("{}: {why:?}", case.what));
        tree::assert_same(&tree::read(&case.target), &case.tree, &case.what);
        assert_eq!(case.sandbox.seen(1).len(), FILES + 2, "{}: start, files, end", case.what);
        let held = case.sandbox.metrics().await.sum("node_waits_total", &[("result", "returned")]);
        assert_eq!(held, 1.0, "{}", case.what);
        let record = &case.sandbox.records(1).await[0];
        assert_eq!((&record["outcome"], &record["files"]), (&"done".into(), &FILES.into()), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_when_its_node_is_back() {
    if is_here() {
        all_go_well(true, "15s", Duration::from_secs(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_when_its_node_is_back() {
    if is_here() {
        all_go_well(false, "15s", Duration::from_secs(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_may_be_away_for_longer_than_the_client_has_patience() {
    if !is_here() {
        return;
    }
    let gone = Duration::from_secs(23);
    tokio::join!(all_go_well(true, "40s", gone), all_go_well(false, "40s", gone));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stays_away_is_a_clear_end_in_time() {
    if !is_here() {
        return;
    }
    for is_put in [true, false] {
        for listener in LISTENERS {
            let case = Case::new(is_put, listener, true, "1s").await;
            let begin = Instant::now();
            let (report, case) = case.run(None).await;
            report.must_fail(&case.what, 27, "One or more files failed");
            assert!(begin.elapsed() < Duration::from_secs(20), "{}: {:?}", case.what, begin.elapsed());
            let record = &case.sandbox.records(1).await[0];
            assert_eq!((&record["outcome"], &record["files"]), (&"error".into(), &THIRD.into()), "{record}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_is_released_before_its_client_loses_patience() {
    if !is_here() {
        return;
    }
    let mut all = tokio::task::JoinSet::new();
    for listener in LISTENERS {
        let faults = vec![format!("start={SLOWLY}").parse().unwrap()];
        let plan = Plan::new().node(NodeOptions { faults, ..NodeOptions::default() });
        let mut sandbox = plan.upstream("node_grace: 40s, health_check: {interval: 1h}").start().await;
        let file = source(&sandbox, "large", &noise(40_000_000, 1));
        let ascp = Ascp::put(&sandbox, listener, &[&file]).await;
        all.spawn(async move {
            let absence = async {
                eventually("the start", || (!sandbox.seen(1).is_empty()).then_some(())).await;
                away(&mut sandbox, 1).await;
                sandbox.until("it is released", |m| m.sum("node_waits_total", &[("result", "gave_up")]) == 1.0).await;
                back(&mut sandbox, 1);
            };
            let (report, ()) = tokio::join!(ascp.run(), absence);
            report.must_fail(listener, 27, "One or more files failed");
            assert_eq!(sandbox.seen(1).len(), 2, "{listener}: start and end");
        });
    }
    all.join_all().await;
}
