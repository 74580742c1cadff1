//! The description of the API holds for what it answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Operator, Said};
use crate::sight::stage::Stage;

/// The description with what was answered so far of it.
struct Description {
    whole: Value,
    unheard: BTreeSet<String>,
}

impl Description {
    async fn of(operator: Operator) -> Description {
        let whole = operator.get("/api/v1/openapi.json").await.json();
        assert_eq!(whole["openapi"], "3.1.0");
        let mut unheard = BTreeSet::new();
        for (path, methods) in whole["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                unheard.extend(answers.keys().map(|status| format!("{method} {path} {status}")));
            }
        }
        Description { whole, unheard }
    }

    /// Whether an answer is as described.
    fn hold(&mut self, method: &str, path: &str, said: &Said) {
        let key = format!("{method} {path} {}", said.status);
        let described = &self.whole["paths"][path][method]["responses"][said.status.to_string()];
        assert!(described.is_object(), "{key} is not described: {said:?}");
        self.unheard.remove(&key);
        let (kind, shape) = described["content"].as_object().unwrap().iter().next().unwrap();
        assert!(said.head.contains(&format!("content-type: {kind}")), "{key}: {}", said.head);
        if kind == "application/json" {
            let schema = json!({ "allOf": [shape["schema"]], "components": self.whole["components"] });
            let validator = jsonschema::validator_for(&schema).unwrap();
            let body = said.json();
            let errors: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{key}: {errors:?} in {body}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_that_is_described_comes_and_is_as_described() {
    let stage = Stage::start().await;
    let (operator, stranger) = (Operator::of(&stage.sandbox), Operator::stranger(&stage.sandbox));
    let mut described = Description::of(operator).await;
    let _tunnel = stage.tunnel().await;
    let [(_, control), _other] = stage.controls().await;
    assert!(stage.datagram(&control).await);
    stage.refusals().await;
    let mut session = stage.session("ann").await;
    assert_eq!(session.answer().await, 200);
    let id = operator.until("?kind=session", |_| true).await["id"].as_str().unwrap().to_owned();
    let flow = operator.until("?kind=flow", |_| true).await["id"].as_str().unwrap().to_owned();
    let wrong = [("Authorization", "Bearer 00000000000000000000")];
    let foreign = [("Host", "evil.example")];
    let paths: Vec<_> = described.whole["paths"].as_object().unwrap().keys().cloned().collect();
    for path in &paths {
        let at = path.replace("{id}", &id).replace("{name}", "n1");
        if !path.ends_with("events") && described.whole["paths"][path]["get"].is_object() {
            described.hold("get", path, &operator.get(&at).await);
        }
        for method in ["get", "post"] {
            if !described.whole["paths"][path][method].is_object() {
                continue;
            }
            let verb = method.to_uppercase();
            let open = ["/livez", "/readyz", "/metrics"].contains(&path.as_str());
            if !open {
                described.hold(method, path, &stranger.ask(&verb, &at, &wrong, "").await);
            }
            described.hold(method, path, &stranger.ask(&verb, &at, &foreign, "").await);
        }
    }
    let one = "/api/v1/sessions/{id}";
    described.hold("get", one, &operator.get("/api/v1/sessions/none").await);
    described.hold("get", "/api/v1/sessions", &operator.get("/api/v1/sessions?limit=0").await);
    let cancel = "/api/v1/sessions/{id}/cancel";
    for (id, status) in [("none", 404), (&flow, 409), (&id, 200)] {
        let said = operator.post(&format!("/api/v1/sessions/{id}/cancel"), "").await;
        assert_eq!(said.status, status);
        described.hold("post", cancel, &said);
    }
    for verb in ["drain", "undrain"] {
        let path = format!("/api/v1/nodes/{{name}}/{verb}");
        for (at, status) in [("n1", 200), ("n9", 404), ("n1?x=y", 400)] {
            let (name, query) =
                at.split_once('?').map_or((at, String::new()), |(name, query)| (name, format!("?{query}")));
            let said = operator.post(&format!("/api/v1/nodes/{name}/{verb}{query}"), "").await;
            assert_eq!(said.status, status, "{at}");
            described.hold("post", &path, &said);
        }
    }
    for change in ["{}", r#"{"log": {"level": "info"}}"#] {
        described.hold("post", "/api/v1/config", &operator.post("/api/v1/config", change).await);
    }
    described.hold("post", "/api/v1/reload", &operator.post("/api/v1/reload", "").await);
    std::fs::write(stage.sandbox.dir.path().join("fallgate.yaml"), "version: 2").unwrap();
    described.hold("post", "/api/v1/reload", &operator.post("/api/v1/reload", "").await);
    described.hold("post", "/api/v1/upgrade", &operator.post("/api/v1/upgrade", "").await);
    described.hold("post", "/api/v1/drain", &operator.post("/api/v1/drain", "").await);
    // Streams have tests of their own, as have a gateway that is not ready, nodes that the config drains and upgrades.
    let left: Vec<_> = described.unheard.iter().filter(|key| !key.contains("/events")).collect();
    assert_eq!(
        left,
        [
            "get /readyz 503",
            "post /api/v1/nodes/{name}/drain 409",
            "post /api/v1/nodes/{name}/undrain 409",
            "post /api/v1/upgrade 200"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_not_ready_says_why_as_described() {
    let sandbox =
        crate::support::Plan::new().admin("token_file: token").top("timeouts: {pre_drain: 20s}").start().await;
    let operator = Operator::of(&sandbox);
    let mut described = Description::of(operator).await;
    let hurry = tokio_util::sync::CancellationToken::new();
    let drained = tokio::spawn(sandbox.gateway.drain(hurry.clone()));
    let said = loop {
        let said = operator.get("/readyz").await;
        if said.status == 503 {
            break said;
        }
    };
    described.hold("get", "/readyz", &said);
    assert_eq!(said.body, "draining\n");
    let status = operator.get("/api/v1/status").await;
    described.hold("get", "/api/v1/status", &status);
    assert_eq!(status.json()["state"], "draining");
    hurry.cancel();
    drained.await.unwrap();
}
