//! The real client under caps on bandwidth: slower, and whole.

use std::time::Instant;

use super::{Ascp, folder, is_here, one_node, root, source, up};
use crate::support::noise;

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_under_a_cap_takes_the_time_that_it_must_and_ends_well() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().top("bandwidth: {per_session: 20Mbit/s}").start().await;
    let content = noise(5_000_000, 9);
    let path = source(&sandbox, "capped", &content);
    let back = folder(&sandbox, "back");
    for (listener, what) in [("plain", "put"), ("tls", "get")] {
        let begin = Instant::now();
        let report = match what {
            "put" => Ascp::put(&sandbox, listener, &[&path]).await.run().await,
            _ => Ascp::get(&sandbox, listener, &["up/capped"], &back).await.run().await,
        };
        report.must_be_ok(what);
        // All but the burst of 50 ms at 2.5 MB/s.
        let took = begin.elapsed().as_secs_f64();
        assert!((1.85..3.5).contains(&took), "{what}: {took} s");
    }
    assert!(std::fs::read(up(&sandbox, 1, "capped")).unwrap() == content);
    assert!(std::fs::read(back.join("capped")).unwrap() == content);
}

/// Takes most of a minute: only with FALLGATE_LONG set.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_a_cap_makes_longer_than_the_patience_of_the_client_ends_well() {
    if !is_here() || std::env::var_os("FALLGATE_LONG").is_none() {
        return;
    }
    let case = |cap: &'static str, size: usize| async move {
        let sandbox = one_node().top(&format!("bandwidth: {{per_session: {cap}}}")).start().await;
        let content = noise(size, 9);
        let path = source(&sandbox, "slow", &content);
        std::fs::write(root(&sandbox, 1).join("slow"), &content).unwrap();
        let back = folder(&sandbox, "back");
        let put = async { Ascp::put(&sandbox, "plain", &[&path]).await.run().await };
        let get = async { Ascp::get(&sandbox, "plain", &["slow"], &back).await.run().await };
        let (put, get) = tokio::join!(put, get);
        put.must_be_ok(cap);
        get.must_be_ok(cap);
        assert!(std::fs::read(up(&sandbox, 1, "slow")).unwrap() == content, "{cap}");
        assert!(std::fs::read(back.join("slow")).unwrap() == content, "{cap}");
    };
    tokio::join!(case("1Mbit/s", 5_000_000), case("100kbit/s", 500_000));
}
