//! The rules and the dashboard against a real Prometheus that reads a gateway at work: every expression finds something.

use std::{process::Command, sync::Arc};

use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};

use super::{dashboard::Dashboard, server::Prometheus, shipped, stage::Stage};
use crate::support::{eventually, programs::is_here};

/// Runs promtool in the folder of the rules; what it says is shown where it is not content.
fn promtool(args: &[&str]) {
    let said = Command::new("promtool").args(args).current_dir(shipped("prometheus")).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{args:?}: {text}");
}

#[test]
fn the_rules_are_sound_and_each_alert_fires_when_it_should() {
    if !is_here("promtool", &["--version"]) {
        return;
    }
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "fallgate.rules.yml"]);
    promtool(&["test", "rules", "fallgate.rules.test.yml"]);
}

#[test]
fn each_alert_has_a_test_and_says_what_is_to_be_done() {
    let read = |name: &str| std::fs::read_to_string(shipped("prometheus").join(name)).unwrap();
    let rules: Value = serde_saphyr::from_str(&read("fallgate.rules.yml")).unwrap();
    let tests: Value = serde_saphyr::from_str(&read("fallgate.rules.test.yml")).unwrap();
    let tests = tests["tests"].as_array().unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules: Vec<_> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() > 15);
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        for part in ["summary", "description"] {
            assert!(rule["annotations"][part].as_str().unwrap().ends_with('.'), "{name}: {part}");
        }
        let fires = |case: &Value| {
            let samples = case["promql_expr_test"].as_array().into_iter().flatten();
            let samples = samples.flat_map(|case| case["exp_samples"].as_array().unwrap());
            let alerts = case["alert_rule_test"].as_array().into_iter().flatten();
            let alerts = alerts.filter(|case| !case["exp_alerts"].as_array().unwrap().is_empty());
            let told = |labels: &Value| labels.as_str().unwrap().contains(&format!("alertname=\"{name}\""));
            samples.clone().any(|sample| told(&sample["labels"])) || alerts.clone().any(|a| a["alertname"] == name)
        };
        assert!(tests.iter().any(fires), "no test has {name} fire");
    }
}

/// The vector that an alert compares: what is left of its last comparison, or what it wants to be absent.
fn compared(expr: &str) -> &str {
    if let Some(inner) = expr.strip_prefix("absent(").and_then(|rest| rest.strip_suffix(')')) {
        return inner;
    }
    let (mut depth, mut quoted, mut at) = (0_u32, false, None);
    for (i, c) in expr.char_indices() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            '<' | '>' if depth == 0 => at = Some(i),
            '=' if depth == 0 && expr[i..].starts_with("==") => at = Some(i),
            _ => {}
        }
    }
    let at = at.unwrap_or_else(|| panic!("no comparison in {expr}"));
    let number = expr[at..].trim_start_matches(['<', '>', '=', ' ']);
    assert!(number.chars().all(|c| c.is_ascii_digit() || " .*".contains(c)), "{expr} is compared with {number}");
    expr[..at].trim_end()
}

/// What goes on all the time: each task does one thing again and again.
fn load(stage: &Arc<Stage>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (listener, user) in [("tls", "bob"), ("plain", "carl")] {
        let stage = stage.clone();
        tasks.spawn(async move {
            loop {
                stage.transfers(listener, user).await;
            }
        });
    }
    let here = stage.clone();
    tasks.spawn(async move {
        loop {
            let [(_, good), (_, deaf)] = here.controls().await;
            let some = async |control: &TcpStream| here.datagram(control).await;
            tokio::join!(some(&good), some(&deaf));
            here.stray_datagram().await;
        }
    });
    let here = stage.clone();
    tasks.spawn(async move {
        loop {
            let tunnel = here.tunnel().await;
            here.refusals().await;
            drop(tunnel);
        }
    });
    let here = stage.clone();
    tasks.spawn(async move {
        loop {
            let mut first = here.session("ann").await;
            assert_eq!(first.answer().await, 200);
            let mut second = here.session("ann").await;
            here.sandbox.until("one waits", |m| m.sum("waiting", &[]) >= 1.0).await;
            assert_eq!((first.end().await, second.answer().await), (200, 200));
            assert_eq!(second.end().await, 200);
        }
    });
    tasks
}

#[tokio::test(flavor = "multi_thread")]
async fn every_expression_of_dashboard_and_rules_finds_something_while_the_gateway_works() {
    if !is_here("prometheus", &["--version"]) {
        return;
    }
    let stage = Arc::new(Stage::start().await);
    let mut tasks = load(&stage);
    let prometheus = Prometheus::start(stage.sandbox.gateway.admin_address().unwrap()).await;
    eventually("a few scrapes", || {
        let seen = prometheus.query("count_over_time(up{job=\"fallgate\"}[1m])");
        seen.iter().any(|(_, n)| *n >= 6.0).then_some(())
    })
    .await;
    // A number, and not only what comes of a division by nothing.
    let finds = async |place: &str, expr: &str| {
        let what = format!("{place} finds a number: {expr}");
        eventually(&what, || prometheus.query(expr).iter().any(|(_, n)| !n.is_nan()).then_some(())).await;
    };
    let dashboard = Dashboard::read();
    for shown in dashboard.targets() {
        finds(&shown.place, &shown.expr).await;
    }
    for shown in dashboard.annotations() {
        finds(&shown.place, compared(&shown.expr)).await;
    }
    for (series, label) in dashboard.variables() {
        let found = prometheus.query(&series);
        assert!(found.iter().any(|(labels, _)| labels[&label].is_string()), "{series} has no {label}");
    }
    for rule in prometheus.rules() {
        let (name, expr) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        finds(name, compared(expr)).await;
    }
    // Once it has evaluated them itself.
    eventually("each rule was evaluated", || {
        prometheus.rules().iter().all(|rule| rule["health"] == "ok").then_some(())
    })
    .await;
    let state = |name: &str| {
        let rules = prometheus.rules();
        rules.iter().find(|rule| rule["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state("FallgateNodeDown").as_str(), state("FallgateUpstreamDown").as_str()), ("pending", "inactive"));
    assert_eq!(state("FallgateDown"), "inactive");
    assert!(tasks.try_join_next().is_none(), "a part of the load ended");
}

#[test]
fn the_vector_of_a_comparison_is_found_whatever_it_holds() {
    assert_eq!(compared("absent(up{job=\"f\"})"), "up{job=\"f\"}");
    assert_eq!(compared("up{job=\"f==1\"} == 0"), "up{job=\"f==1\"}");
    assert_eq!(compared("a - time() < 14 * 86400"), "a - time()");
    assert_eq!(compared("sum(a > 1) / b{c!~\"d|e\"} >= 0.5"), "sum(a > 1) / b{c!~\"d|e\"}");
}
