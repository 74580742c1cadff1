//! What the checks of a control port go by.

use std::sync::atomic::Ordering;

use super::{Ssh, checked, closed, met, plan, port, says};

const TCP: [(&str, &str); 1] = [("port", "tcp")];
const OFTEN: &str = "interval: 50ms, timeout: 300ms, unhealthy_threshold: 2, healthy_threshold: 2";

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_up_when_it_shows_a_banner_and_only_then() {
    let (silent, web) = (says(b"").await, says(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    let good = Ssh::start("n3").await;
    let nodes = [port(silent.address), port(web.address), good.port()];
    let sandbox = checked(plan(&nodes).upstream("health_check: {timeout: 300ms}"), 3).await;
    let metrics = sandbox.metrics().await;
    let up = |node| metrics.sum("node_up", &[("node", node), TCP[0]]);
    assert_eq!((up("n1"), up("n2"), up("n3")), (0.0, 0.0, 1.0));
    assert_eq!(metrics.sum("node_up", &[("port", "http")]), 3.0, "the fallback's ports have their own word");
    let good = |result| metrics.sum("health_checks_total", &[TCP[0], ("result", result)]);
    assert_eq!((good("ok"), good("failed")), (1.0, 2.0));
    for _ in 0..3 {
        assert_eq!(met(&sandbox, [127, 0, 0, 1]).await.1, "n3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_banner_check_a_connection_will_do() {
    let silent = says(b"").await;
    let sandbox = checked(plan(&[port(silent.address)]).upstream("health_check: {banner: off}"), 1).await;
    assert_eq!(sandbox.metrics().await.sum("node_up", &TCP), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_goes_down_and_comes_back_with_its_banner() {
    let node = Ssh::start("n1").await;
    let sandbox = checked(plan(&[node.port()]).upstream(&format!("health_check: {{{OFTEN}}}")), 1).await;
    for _ in 0..2 {
        sandbox.until("up", |m| m.sum("node_up", &TCP) == 1.0).await;
        assert_eq!(met(&sandbox, [127, 0, 0, 1]).await.1, "n1");
        node.sheds.store(true, Ordering::Relaxed);
        sandbox.until("down", |m| m.sum("node_up", &TCP) == 0.0).await;
        closed(&sandbox).await;
        node.sheds.store(false, Ordering::Relaxed);
    }
    let refused = sandbox.metrics().await.sum("refusals_total", &[("reason", "no_node")]);
    assert_eq!(refused, 2.0);
}
