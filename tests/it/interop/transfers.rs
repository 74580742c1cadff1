//! Whole transfers both ways, in the clear and over TLS.

use super::{
    Ascp, LISTENERS, folder, is_here, one_node, root, source,
    tree::{self, Tree, assert_same},
    up,
};
use crate::support::noise;

/// Sends the tree up and fetches it from where it landed, on each listener.
async fn there_and_back(what: &str, tree: &Tree) {
    let sandbox = one_node().start().await;
    for listener in LISTENERS {
        let name = format!("{listener}-tree");
        let source = folder(&sandbox, "source").join(&name);
        tree::write(&source, tree);
        let sent = Ascp::put(&sandbox, listener, &[&source]).await.run().await;
        sent.must_be_ok(&format!("{what}, put, {listener}"));
        assert_same(&tree::read(&up(&sandbox, 1, &name)), tree, &format!("{what}, put, {listener}"));

        let back = folder(&sandbox, &format!("{listener}-back"));
        let got = Ascp::get(&sandbox, listener, &[&format!("/up/{name}")], &back).await.run().await;
        got.must_be_ok(&format!("{what}, get, {listener}"));
        let wanted = tree::files_of(tree);
        assert_same(&tree::read(&back.join(&name)), &wanted, &format!("{what}, get, {listener}"));
    }
    let files = tree::files_of(tree).len();
    let records = sandbox.records(4).await;
    for record in &records {
        assert_eq!((&record["outcome"], &record["files"]), (&"done".into(), &files.into()), "{record}");
        assert_eq!((&record["code"], &record["client_files"]), (&0.into(), &files.into()), "{record}");
        assert_eq!((&record["user"], &record["files_failed"]), (&"xfer".into(), &0.into()), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_with_empty_files_goes_up_and_comes_back_and_empty_folders_go_up() {
    if is_here() {
        there_and_back("tree", &tree::plain()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_files_go_up_and_come_back() {
    if is_here() {
        there_and_back("500 files", &tree::many(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_odd_name_goes_up_and_comes_back() {
    if is_here() {
        there_and_back("odd names", &tree::odd_names()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_files_large_and_empty_go_up_and_come_back_as_arguments() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    for listener in LISTENERS {
        for (name, size) in [("large é", 5_000_000), ("-empty", 0)] {
            let content = noise(size, 7);
            let path = source(&sandbox, name, &content);
            Ascp::put(&sandbox, listener, &[&path]).await.run().await.must_be_ok(name);
            assert_eq!(std::fs::read(up(&sandbox, 1, name)).unwrap(), content);
            let back = folder(&sandbox, &format!("{listener}-back"));
            Ascp::get(&sandbox, listener, &[&format!("/up/{name}")], &back).await.run().await.must_be_ok(name);
            assert_eq!(std::fs::read(back.join(name)).unwrap(), content);
        }
        std::fs::remove_dir_all(root(&sandbox, 1).join("up")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_missing_is_told_and_the_others_arrive() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    for listener in LISTENERS {
        let path = source(&sandbox, "here", b"x");
        let report = Ascp::put(&sandbox, listener, &[&path, &path.with_file_name("gone")]).await.run().await;
        assert_eq!(report.code, Some(0), "{report:?}");
        assert_eq!(report.of("FILEERROR").count(), 1, "{report:?}");
    }
    let messages = sandbox.seen(1).iter().filter(|s| s.operation == "mgmt_msg").count();
    assert_eq!(messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_at_a_set_pace_is_not_broken_off() {
    if !is_here() {
        return;
    }
    // The client sleeps for most of each second; it must not look stalled.
    let sandbox = one_node().top("timeouts: {body_idle: 2s}").start().await;
    let content = noise(2_500_000, 9);
    let path = source(&sandbox, "paced", &content);
    let pace = ["-l", "8m"];
    let back = folder(&sandbox, "back");
    let put = async { Ascp::put(&sandbox, "plain", &[&path]).await.options(&pace).run().await };
    put.await.must_be_ok("put");
    let get = async { Ascp::get(&sandbox, "tls", &["up/paced"], &back).await.options(&pace).run().await };
    get.await.must_be_ok("get");
    assert_eq!(std::fs::read(back.join("paced")).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_forty_thousand_sources_is_let_in_by_its_token() {
    if !is_here() {
        return;
    }
    // Its start body is larger than what the gateway reads before it decides.
    let sandbox = one_node().start().await;
    std::fs::write(root(&sandbox, 1).join("here"), b"x").unwrap();
    let list = folder(&sandbox, "source").join("list");
    let lines: String = (0..40_000).map(|i| format!("not-here-{i}\n")).collect();
    std::fs::write(&list, format!("{lines}here\n")).unwrap();
    for listener in LISTENERS {
        let back = folder(&sandbox, &format!("{listener}-back"));
        let get = Ascp::get(&sandbox, listener, &[], &back).await.option_path("--file-list=", &list);
        get.run().await.must_be_ok(listener);
        assert_eq!(std::fs::read(back.join("here")).unwrap(), b"x");
    }
    let starts: Vec<_> = sandbox.seen(1).into_iter().filter(|s| s.operation == "session_start").collect();
    assert!(starts.iter().all(|s| s.body.len() > 1 << 20), "{}", starts[0].body.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_gibibyte_goes_through_tls_both_ways() {
    if !is_here() {
        return;
    }
    const SIZE: u64 = 1 << 30;
    let node = fallgate::node::NodeOptions { sink: true, ..Default::default() };
    let sandbox = crate::support::Plan::new().node(node).start().await;
    let path = source(&sandbox, "big", b"");
    std::fs::File::options().write(true).open(&path).unwrap().set_len(SIZE).unwrap();
    Ascp::put(&sandbox, "tls", &[&path]).await.run().await.must_be_ok("put");
    let back = folder(&sandbox, "back");
    let name = format!("big.{SIZE}b");
    Ascp::get(&sandbox, "tls", &[&name], &back).await.run().await.must_be_ok("get");
    assert_eq!(std::fs::metadata(back.join(&name)).unwrap().len(), SIZE);
    let records = sandbox.records(2).await;
    assert_eq!((&records[0]["bytes_uploaded"], &records[1]["bytes_downloaded"]), (&SIZE.into(), &SIZE.into()));
}
