//! What a reload takes out of the config is shown no more, once it is over.

use fallgate::node::NodeOptions;

use crate::support::{Plan, Sandbox, TOKEN, Wire, peer::DeadPort, uuid, wire};

/// Lines of the metrics that speak of this.
async fn about(sandbox: &Sandbox, what: &str) -> usize {
    sandbox.metrics().await.0.lines().filter(|line| line.contains(what)).count()
}

async fn is_forgotten(sandbox: &Sandbox, what: &str) {
    sandbox.until(&format!("{what} is forgotten"), |m| !m.0.contains(what)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_taken_out_is_down_no_more() {
    let dead = DeadPort::new();
    let plan = Plan::new().node(NodeOptions::default()).node(NodeOptions::default());
    let sandbox = plan.peer(dead.address).start().await;
    let node = "node=\"n3\"";
    sandbox.until("a node is down", |m| m.sum("node_up", &[("node", "n3")]) == 0.0 && m.0.contains(node)).await;
    sandbox.until("it was checked", |m| m.sum("health_checks_total", &[("node", "n3")]) >= 1.0).await;
    let checked = |m: &crate::support::Metrics| m.sum("health_checks_total", &[("node", "n1")]);
    let before = checked(&sandbox.metrics().await);
    let entry = format!(", {{name: n3, host: 127.0.0.1, ports: {{http: {}}}}}", dead.address.port());
    let without = sandbox.config(|text| text.replace(&entry, ""));
    assert_eq!(without.upstreams[0].nodes.len(), 2);
    sandbox.gateway.reload(without).await.unwrap();
    is_forgotten(&sandbox, node).await;
    let metrics = sandbox.metrics().await;
    assert!(checked(&metrics) > before, "those that stay count on");
    assert_eq!(metrics.sum("node_up", &[]), 2.0);
    sandbox.gateway.reload(sandbox.config(|text| text)).await.unwrap();
    sandbox.until("it is there again", |m| m.0.contains(node) && m.sum("node_up", &[("node", "n3")]) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_config_is_rejected_leaves_nothing() {
    let sandbox = Plan::new().start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("'{}', upstream", taken.local_addr().unwrap());
    let config = sandbox.config(|text| {
        let text = text.replacen("'127.0.0.1:0', upstream", &busy, 1);
        text.replace("nodes: [", "nodes: [{name: new, host: 127.0.0.1, ports: {http: 9}}, ")
    });
    sandbox.gateway.reload(config).await.unwrap_err();
    is_forgotten(&sandbox, "node=\"new\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_goes_is_shown_until_it_is_through_and_then_no_more() {
    let sandbox = Plan::new().start().await;
    let added = "  - {name: extra, protocol: http, address: '127.0.0.1:0', upstream: u}\nupstreams:";
    sandbox.gateway.reload(sandbox.config(|text| text.replace("upstreams:", added))).await.unwrap();
    let (extra, id) = (sandbox.address("extra").await, uuid());
    let start = wire::start(extra, &id, &wire::start_body(&id, "put", TOKEN.as_bytes(), &["a"]));
    assert_eq!(Wire::plain(extra).await.ask(&start).await.status, 200);
    let (plain, label) = (about(&sandbox, "listener=\"plain\"").await, "listener=\"extra\"");
    let dead = DeadPort::new();
    let taken_out = format!("nodes: [{{name: gone, host: 127.0.0.1, ports: {{http: {}}}}}, ", dead.address.port());
    sandbox.gateway.reload(sandbox.config(|text| text.replace("nodes: [", &taken_out))).await.unwrap();
    sandbox.gateway.reload(sandbox.config(|text| text)).await.unwrap();
    // By then it was looked what is over.
    is_forgotten(&sandbox, "node=\"gone\"").await;
    let metrics = sandbox.metrics().await;
    assert_eq!(metrics.sum("sessions_active", &[("listener", "extra")]), 1.0, "its session goes on");
    assert_eq!(metrics.sum("sessions_started_total", &[("listener", "extra")]), 1.0);
    assert_eq!(Wire::plain(extra).await.ask(&wire::end(extra, &id, "DONE")).await.status, 200);
    is_forgotten(&sandbox, label).await;
    assert_eq!(about(&sandbox, "listener=\"plain\"").await, plain);
}
