//! Nodes that nothing new goes to.

use serde_json::Value;

use super::Operator;
use crate::support::{
    Plan, Sandbox, TOKEN, Wire, uuid,
    wire::{Reply, end, put, start, start_body},
};

async fn begin(sandbox: &Sandbox, id: &str) -> Reply {
    let host = sandbox.address("plain").await;
    Wire::plain(host).await.ask(&start(host, id, &start_body(id, "put", TOKEN.as_bytes(), &["f"]))).await
}

async fn node(operator: Operator, name: &str) -> Value {
    let nodes = operator.get("/api/v1/nodes").await.json();
    nodes["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_drains_takes_nothing_new_and_carries_on_with_what_it_has() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let (operator, host) = (Operator::of(&sandbox), sandbox.address("plain").await);
    let first = uuid();
    assert_eq!(begin(&sandbox, &first).await.status, 200);
    let home = operator.until("", |_| true).await["node"].as_str().unwrap().to_owned();
    let other = if home == "n1" { "n2" } else { "n1" };
    let said = operator.post(&format!("/api/v1/nodes/{home}/drain"), "").await;
    assert_eq!(said.status, 200);
    assert!(said.body.contains("1 now"), "{said:?}");
    for _ in 0..5 {
        let id = uuid();
        assert_eq!(begin(&sandbox, &id).await.status, 200);
        assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    }
    assert_eq!(Wire::plain(host).await.ask(&put(host, &first, "f", b"x")).await.status, 201);
    let shown = node(operator, &home).await;
    assert_eq!((&shown["drains"], &shown["sessions"], &shown["up"]), (&true.into(), &1.into(), &true.into()));
    assert_eq!(sandbox.metrics().await.sum("node_draining", &[("node", &home)]), 1.0);
    let status = operator.get("/api/v1/status").await.json();
    assert_eq!(status["state"], "ready", "somebody wants it so");
    assert!(status["notes"][0].as_str().unwrap().contains(&home));
    // It outlives a reload.
    assert_eq!(operator.post("/api/v1/reload", "").await.status, 200);
    assert_eq!(node(operator, &home).await["drains"], true);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &first, "DONE")).await.status, 200);
    assert_eq!(node(operator, &home).await["sessions"], 0);
    let homes: Vec<_> =
        sandbox.records(6).await.iter().map(|record| record["node"].as_str().unwrap().to_owned()).collect();
    assert_eq!(homes.iter().filter(|at| *at == other).count(), 5, "{homes:?}");
    assert_eq!(operator.post(&format!("/api/v1/nodes/{home}/undrain"), "").await.status, 200);
    assert_eq!(node(operator, &home).await["drains"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_every_node_drains_a_start_waits_and_goes_on_when_one_is_let_in_again() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let operator = Operator::of(&sandbox);
    for name in ["n1", "n2"] {
        assert_eq!(operator.post(&format!("/api/v1/nodes/{name}/drain"), "").await.status, 200);
    }
    let id = uuid();
    let (waits, undrained) = tokio::join!(begin(&sandbox, &id), async {
        operator.until("?state=waiting", |_| true).await;
        operator.post("/api/v1/nodes/n2/undrain?upstream=u", "").await
    });
    assert_eq!((waits.status, undrained.status), (200, 200));
    assert_eq!(operator.until("?state=open", |_| true).await["node"], "n2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_config_drains_the_config_alone_lets_in_again() {
    let sandbox = Plan::new().admin("token_file: token").start().await;
    let operator = Operator::of(&sandbox);
    let drained = sandbox.config(|text| text.replace("{name: n1,", "{name: n1, drain: on,"));
    sandbox.gateway.reload(drained).await.unwrap();
    assert_eq!(node(operator, "n1").await["drains"], true);
    assert_eq!(operator.post("/api/v1/nodes/n1/undrain", "").await.refusal(), (409, "conflict".into()));
    assert_eq!(operator.post("/api/v1/nodes/n9/drain", "").await.refusal(), (404, "unknown_node".into()));
    assert_eq!(operator.post("/api/v1/nodes/n1/drain?upstream=v", "").await.refusal(), (404, "unknown_node".into()));
    assert_eq!(operator.post("/api/v1/nodes/n1/drain?color=red", "").await.refusal(), (400, "bad_request".into()));
    sandbox.gateway.reload(sandbox.config(|text| text)).await.unwrap();
    assert_eq!(node(operator, "n1").await["drains"], false);
}
