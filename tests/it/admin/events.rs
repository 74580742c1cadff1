//! The event stream.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Operator;
use crate::{
    sight::stage::Stage,
    support::{Plan, Wire},
};

/// A page that watches.
struct Watcher {
    wire: Wire,
    table: HashMap<String, Map<String, Value>>,
}

impl Watcher {
    async fn start(operator: Operator) -> Watcher {
        let mut wire = Wire::plain(operator.address).await;
        let reply = wire.ask(operator.head("GET", "/api/v1/events", &[], "").as_bytes()).await;
        assert_eq!((reply.status, reply.field("content-type")), (200, Some("text/event-stream")));
        Watcher { wire, table: HashMap::new() }
    }

    /// The next event with its data.
    async fn event(&mut self) -> (String, Value) {
        let line = async |wire: &mut Wire| {
            let mut line = Vec::new();
            loop {
                match wire.body(1).await[0] {
                    b'\n' => return String::from_utf8(line).unwrap(),
                    byte => line.push(byte),
                }
            }
        };
        // Pieces of the body stand between lines that say how long they are.
        loop {
            let name = line(&mut self.wire).await;
            if let Some(name) = name.strip_prefix("event: ") {
                let data = line(&mut self.wire).await;
                let data = data.strip_prefix("data: ").unwrap();
                return (name.to_owned(), serde_json::from_str(data).unwrap());
            }
        }
    }

    /// The next status, and after it the table.
    async fn moment(&mut self) -> (Value, Value) {
        let (name, status) = self.event().await;
        assert_eq!(name, "status");
        let (name, table) = self.event().await;
        assert_eq!(name, "sessions");
        if table["full"] == true {
            self.table.clear();
        }
        for patch in table["changed"].as_array().unwrap() {
            let id = patch["id"].as_str().unwrap().to_owned();
            self.table.entry(id).or_default().extend(patch.as_object().unwrap().clone());
        }
        for id in table["gone"].as_array().unwrap() {
            self.table.remove(id.as_str().unwrap());
        }
        (status, table)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_all_there_is_and_goes_on_with_what_changes() {
    let stage = Stage::start().await;
    let operator = Operator::stranger(&stage.sandbox);
    let mut tunnel = stage.tunnel().await;
    let mut watcher = Watcher::start(operator).await;
    let (status, table) = watcher.moment().await;
    assert_eq!((&table["full"], &table["total"]), (&true.into(), &1.into()));
    assert_eq!(status["listeners"].as_array().unwrap().len(), 5);
    let id = watcher.table.keys().next().unwrap().clone();
    tunnel.send(b"more").await;
    while watcher.table[&id]["bytes_uploaded"] != 8 {
        let (_, table) = watcher.moment().await;
        assert_eq!(table["full"], false, "only what has changed");
    }
    let shown = operator.until("", |_| true).await;
    for key in ["id", "kind", "client", "target", "started", "listener"] {
        assert_eq!(watcher.table[&id][key], shown[key], "{key}");
    }
    drop(tunnel);
    while !watcher.table.is_empty() {
        watcher.moment().await;
    }
}

/// As many streams as there may be.
const STREAMS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_and_one_that_ends_makes_room_for_another() {
    let sandbox = Plan::new().start().await;
    let operator = Operator::stranger(&sandbox);
    let mut watchers = Vec::new();
    for _ in 0..STREAMS {
        watchers.push(Watcher::start(operator).await);
    }
    for n in 1..=5 {
        let said = operator.get("/api/v1/events").await;
        assert_eq!(said.refusal(), (503, "too_many_streams".into()));
        assert!(said.head.contains("retry-after: "));
        let refusals = [("listener", "admin"), ("reason", "too_many_streams")];
        assert_eq!(sandbox.metrics().await.sum("refusals_total", &refusals), f64::from(n), "metrics are there for all");
    }
    for watcher in &mut watchers {
        watcher.moment().await;
    }
    watchers.pop();
    let begin = std::time::Instant::now();
    let mut wire = Wire::plain(operator.address).await;
    loop {
        if wire.ask(operator.head("GET", "/api/v1/events", &[], "").as_bytes()).await.status == 200 {
            break;
        }
        assert!(begin.elapsed() < std::time::Duration::from_secs(20), "the place stays taken");
        wire = Wire::plain(operator.address).await;
    }
}
