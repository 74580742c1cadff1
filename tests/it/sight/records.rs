//! The access log, whatever a line is about.

use std::collections::BTreeSet;

use fallgate::telemetry::{Kind, Record};

use super::stage::Stage;
use crate::support::{Wire, eventually, loopback};

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_every_kind_and_outcome_have_the_same_fields_in_the_same_order() {
    let stage = Stage::start().await;
    let [report, _] = stage.transfers("tls", "bob").await;
    assert!(report.is_ok());
    stage.refusals().await;
    let [(_, good), other] = stage.controls().await;
    assert!(stage.datagram(&good).await);
    drop((stage.tunnel().await, good, other));
    let target = loopback(9);
    let request = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n");
    Wire::plain(stage.sandbox.address("egress").await).await.ask(request.as_bytes()).await;
    let path = stage.sandbox.dir.path().join("access.log");
    let kinds = |text: &str| {
        let kind = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].to_string();
        text.lines().map(kind).collect::<BTreeSet<_>>()
    };
    let text = eventually("a line of each kind", || {
        let text = std::fs::read_to_string(&path).unwrap();
        (text.ends_with('\n') && kinds(&text).len() == Kind::ALL.len()).then_some(text)
    })
    .await;
    let wanted: Vec<_> = Record::FIELDS.iter().map(|(name, _)| format!("\"{name}\":")).collect();
    for line in text.lines() {
        let mut at = 0;
        for name in &wanted {
            at += line[at..].find(name).unwrap_or_else(|| panic!("{name} is not where it must be in {line}"));
        }
        let fields = serde_json::from_str::<serde_json::Value>(line).unwrap().as_object().unwrap().len();
        assert_eq!(fields, wanted.len(), "{line}");
    }
}
