//! Resume and skip. The next run of a client is a session of its own, and only the node of the first
//! run holds what came of it: with one node it is the same, with two it must be found.

use fallgate::node::Seen;

use super::{Ascp, LISTENERS, field, folder, is_here, one_node, root, source, up};
use crate::support::{Plan, noise};

const SIZE: usize = 1_000_000;
const CUT: usize = 300_000;

fn files(seen: &[Seen]) -> Vec<&Seen> {
    seen.iter().filter(|s| s.operation == "file").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_upload_goes_on_where_it_broke_off_and_is_skipped_when_complete() {
    if !is_here() {
        return;
    }
    for listener in LISTENERS {
        let sandbox = one_node().start().await;
        let content = noise(SIZE, 5);
        let path = source(&sandbox, "cut", &content);
        sandbox.nodes[0].set_faults(vec![format!("put:1=fin@{CUT}").parse().unwrap()]);
        let put = async || Ascp::put(&sandbox, listener, &[&path]).await.options(&["-k", "1"]).run().await;
        put().await.must_fail(listener, 27, "One or more files failed");
        sandbox.nodes[0].set_faults(Vec::new());

        put().await.must_be_ok(listener);
        assert_eq!(std::fs::read(up(&sandbox, 1, "cut")).unwrap(), content);
        let seen = sandbox.seen(1);
        let resumed = files(&seen)[1];
        let wanted = format!("bytes {CUT}-{}/*", SIZE - 1);
        assert_eq!(field(resumed, "x-content-range"), Some(wanted), "{listener}");
        assert_eq!(resumed.body_bytes, (SIZE - CUT) as u64);

        put().await.must_be_ok(listener);
        let seen = sandbox.seen(1);
        assert_eq!(field(files(&seen)[2], "x-skip-file").as_deref(), Some("1"), "{listener}");
        assert_eq!(std::fs::read(up(&sandbox, 1, "cut")).unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_download_goes_on_where_it_broke_off_and_is_skipped_when_complete() {
    if !is_here() {
        return;
    }
    for listener in LISTENERS {
        for cut in ["fin", "rst"] {
            let sandbox = one_node().start().await;
            let content = noise(SIZE, 6);
            std::fs::write(root(&sandbox, 1).join("cut"), &content).unwrap();
            let back = folder(&sandbox, "back");
            sandbox.nodes[0].set_faults(vec![format!("get:1={cut}@{CUT}").parse().unwrap()]);
            let get = async || Ascp::get(&sandbox, listener, &["cut"], &back).await.options(&["-k", "1"]).run().await;
            get().await.must_fail(&format!("{listener}, {cut}"), 16, "Connection lost");
            let kept = std::fs::metadata(back.join("cut")).unwrap().len();
            assert!(back.join("cut.haspx").exists() && kept <= CUT as u64, "{listener}, {cut}: {kept}");
            sandbox.nodes[0].set_faults(Vec::new());

            get().await.must_be_ok(listener);
            assert_eq!(std::fs::read(back.join("cut")).unwrap(), content);
            let seen = sandbox.seen(1);
            let range = field(files(&seen)[1], "x-content-range").unwrap();
            assert_eq!(range, format!("bytes {kept}-*/*"), "{listener}, {cut}");

            get().await.must_be_ok(listener);
            let seen = sandbox.seen(1);
            assert_eq!(field(files(&seen)[2], "x-skip-file").as_deref(), Some("1"), "{listener}");
            assert_eq!(std::fs::read(back.join("cut")).unwrap(), content);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_two_disks_a_cut_upload_goes_on_at_the_node_that_has_its_beginning() {
    if !is_here() {
        return;
    }
    for listener in LISTENERS {
        let sandbox = Plan::new().start().await;
        let content = noise(SIZE, 7);
        let path = source(&sandbox, "cut", &content);
        for node in &sandbox.nodes {
            node.set_faults(vec![format!("put:1=fin@{CUT}").parse().unwrap()]);
        }
        let put = async || Ascp::put(&sandbox, listener, &[&path]).await.options(&["-k", "2"]).run().await;
        put().await.must_fail(listener, 27, "One or more files failed");
        for node in &sandbox.nodes {
            node.set_faults(Vec::new());
        }

        put().await.must_be_ok(listener);
        let (home, other) = if files(&sandbox.seen(1)).is_empty() { (2, 1) } else { (1, 2) };
        assert!(sandbox.seen(other).is_empty(), "{listener}: the other node has no part in it");
        let seen = sandbox.seen(home);
        let wanted = format!("bytes {CUT}-{}/*", SIZE - 1);
        assert_eq!(field(files(&seen)[1], "x-content-range"), Some(wanted), "{listener}");
        assert_eq!(std::fs::read(up(&sandbox, home, "cut")).unwrap(), content);
    }
}
