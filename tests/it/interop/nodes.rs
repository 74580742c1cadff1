//! Two nodes: sessions stay where they began, and what a node does badly reaches the user at once.

use std::{collections::BTreeMap, time::Instant};

use fallgate::node::NodeOptions;

use super::{
    Ascp, LISTENERS, checked, folder, is_here, kill, one_node, root, sessions, source,
    tree::{self, assert_same},
    up,
};
use crate::support::{Plan, eventually};

/// Two nodes with one disk, as downloads need them.
fn two_nodes_with_one_disk(disk: &std::path::Path) -> Plan {
    let node = || NodeOptions { root: disk.to_owned(), ..NodeOptions::default() };
    Plan::new().node(node()).node(node())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_at_once_land_on_both_nodes_and_each_stays_on_its_own() {
    if !is_here() {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let tree = tree::many(40);
    tree::write(&disk.path().join("t"), &tree);
    let sandbox = two_nodes_with_one_disk(disk.path()).start().await;
    let mut runs = tokio::task::JoinSet::new();
    for i in 0..8 {
        let listener = LISTENERS[i % 2];
        let name = format!("s{i}");
        if i < 4 {
            let source = folder(&sandbox, "source").join(&name);
            tree::write(&source, &tree);
            runs.spawn(Ascp::put(&sandbox, listener, &[&source]).await.run());
        } else {
            let back = folder(&sandbox, &name);
            runs.spawn(Ascp::get(&sandbox, listener, &["t"], &back).await.run());
        }
    }
    while let Some(report) = runs.join_next().await {
        report.unwrap().must_be_ok("one of eight");
    }
    for i in 0..4 {
        assert_same(&tree::read(&disk.path().join(format!("up/s{i}"))), &tree, "put");
        assert_same(&tree::read(&sandbox.dir.path().join(format!("s{}/t", i + 4))), &tree, "get");
    }
    let (one, two) = (sandbox.seen(1), sandbox.seen(2));
    assert_eq!((sessions(&one).len(), sessions(&two).len()), (4, 4), "equal nodes share equally");
    assert!(sessions(&one).is_disjoint(&sessions(&two)));
    let mut requests: BTreeMap<_, usize> = BTreeMap::new();
    one.iter().chain(&two).for_each(|s| *requests.entry(&s.session).or_default() += 1);
    assert!(requests.values().all(|n| *n == 42), "start, 40 files, end: {requests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_dead_before_the_start_is_passed_over() {
    if !is_here() {
        return;
    }
    for listener in LISTENERS {
        // One check at the beginning and none for long after: the gateway believes that both are up.
        let mut sandbox = Plan::new().upstream("health_check: {interval: 1h}").start().await;
        checked(&sandbox, 2).await;
        let _dead = kill(&mut sandbox).await;
        let path = source(&sandbox, "file", b"x");
        for _ in 0..3 {
            Ascp::put(&sandbox, listener, &[&path]).await.run().await.must_be_ok(listener);
        }
        assert_eq!(std::fs::read(up(&sandbox, 2, "file")).unwrap(), b"x");
        assert!(sandbox.metrics().await.sum("node_picks_total", &[("how", "failover")]) > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_in_the_middle_ends_the_session_with_an_error_and_soon() {
    if !is_here() {
        return;
    }
    for listener in LISTENERS {
        for mode in ["put", "get"] {
            // It is awaited once, and not for each of the files that are left.
            let mut sandbox = one_node().upstream("node_grace: 2s").start().await;
            let tree = tree::many(30);
            let (source, back) = (folder(&sandbox, "source").join("t"), folder(&sandbox, "back"));
            tree::write(&source, &tree);
            tree::write(&root(&sandbox, 1).join("t"), &tree);
            sandbox.nodes[0].set_faults(vec![format!("{mode}:10=delay:600").parse().unwrap()]);
            let ascp = match mode {
                "put" => Ascp::put(&sandbox, listener, &[&source]).await,
                _ => Ascp::get(&sandbox, listener, &["t"], &back).await,
            };
            let run = tokio::spawn(ascp.run());
            let at_the_tenth =
                || (sandbox.seen(1).iter().filter(|s| s.operation == "file").count() >= 10).then_some(());
            eventually("the tenth file", at_the_tenth).await;
            let death = Instant::now();
            let _dead = kill(&mut sandbox).await;
            let report = run.await.unwrap();
            report.must_fail(&format!("{listener}, {mode}"), 27, "One or more files failed");
            assert!(death.elapsed().as_secs() < 15, "{listener}, {mode}: the client waited");
            sandbox.records(1).await;
            assert_eq!(sandbox.metrics().await.sum("sessions_active", &[]), 0.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_refusal_and_its_reason_reach_the_user() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let path = source(&sandbox, "file", b"x");
    for listener in LISTENERS {
        for (fault, code, text) in [
            ("start=403,x-real-mgmt-error: 25", 25, "No space left on disk"),
            ("start=200,x-real-mgmt-error: 41", 41, "File location is outside 'docroot' hierarchy"),
            ("start=403", 5, "Error establishing HTTP session.  Refused by server"),
            ("start=500", 11, "Internal error"),
            ("start=503", 47, "Error establishing HTTP connection (check HTTP port and firewall)"),
            ("put=403", 27, "One or more files failed"),
            ("put=drain:413", 27, "One or more files failed"),
        ] {
            sandbox.nodes[0].set_faults(vec![fault.parse().unwrap()]);
            let report = Ascp::put(&sandbox, listener, &[&path]).await.run().await;
            report.must_fail(&format!("{listener}, {fault}"), code, text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_node_refuses_costs_no_other_file() {
    if !is_here() {
        return;
    }
    for fault in ["put:2=403", "put:2=drain:507", "put:2=early:413"] {
        for listener in LISTENERS {
            let sandbox = one_node().start().await;
            sandbox.nodes[0].set_faults(vec![fault.parse().unwrap()]);
            let source = folder(&sandbox, "source").join("t");
            tree::write(&source, &(0..5).map(|i| tree::file(format!("{i}"), vec![i; 3_000_000])).collect());
            let report = Ascp::put(&sandbox, listener, &[&source]).await.run().await;
            report.must_fail(&format!("{listener}, {fault}"), 27, "One or more files failed");
            assert_eq!(report.of("FILEERROR").count(), 1, "{listener}, {fault}: {report:?}");
            let stored = tree::read(&up(&sandbox, 1, "t")).into_keys().filter(|p| p.extension().is_none());
            assert_eq!(stored.count(), 4, "{listener}, {fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_keep_alives_carry_the_client_over_more_than_its_twenty_seconds() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    std::fs::write(root(&sandbox, 1).join("slow"), b"slow").unwrap();
    let faults = ["put=102:22", "get=102:22"].map(|f| f.parse().unwrap());
    sandbox.nodes[0].set_faults(faults.to_vec());
    let mut runs = tokio::task::JoinSet::new();
    for listener in LISTENERS {
        // Names of their own: the node refuses two uploads of one name at once.
        let path = source(&sandbox, &format!("{listener}-file"), b"x");
        runs.spawn(Ascp::put(&sandbox, listener, &[&path]).await.run());
        let back = folder(&sandbox, listener);
        runs.spawn(Ascp::get(&sandbox, listener, &["slow"], &back).await.run());
    }
    let start = Instant::now();
    while let Some(report) = runs.join_next().await {
        report.unwrap().must_be_ok("one of four");
    }
    assert!(start.elapsed().as_secs() >= 22);
}
