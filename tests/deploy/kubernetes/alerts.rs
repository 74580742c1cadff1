//! Alerts and metrics: what the cluster is given is what `deploy/prometheus` has and what the gateway tells.

use crate::support::{here, text};

use super::rendered::{items, kustomized, yaml};

const RULE: &str = "deploy/kubernetes/monitoring/prometheus-rule.yaml";
const HEAD: &str = "\
# The alerts of ../../prometheus/fallgate.rules.yml, word for word. A test holds them equal, and with FALLGATE_BLESS=1
# writes this file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fallgate
  labels: { app.kubernetes.io/name: fallgate }
spec:
";

#[test]
fn the_alerts_of_a_cluster_are_those_of_any_prometheus() {
    let rules = text("deploy/prometheus/fallgate.rules.yml");
    let groups = rules.lines().skip_while(|line| *line != "groups:");
    let lines = groups.map(|line| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") });
    let expected = HEAD.to_owned() + &lines.collect::<String>();
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(here(RULE), &expected).unwrap();
    }
    assert!(text(RULE) == expected, "{RULE} is not {rules:.60}...; FALLGATE_BLESS=1 writes it");
}

#[test]
fn prometheus_knows_the_pods_by_the_job_that_the_alerts_ask_for() {
    let Some(rendered) = kustomized("site") else { return };
    let monitor = &rendered.one("PodMonitor", "fallgate")["spec"];
    let labels = &rendered.one("Deployment", "fallgate")["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels[monitor["jobLabel"].as_str().unwrap()], "fallgate");
    assert!(text(RULE).contains(r#"up{job="fallgate"}"#));
    let port = &monitor["podMetricsEndpoints"][0]["port"];
    let ports = items(&rendered.pod()["containers"][0]["ports"]);
    assert!(ports.iter().any(|one| one["name"] == *port && one["containerPort"] == 9180));
}

#[test]
fn the_autoscaler_asks_for_what_the_adapter_makes_of_what_there_is() {
    let readme = text("README.md");
    let Some(adapter) = yaml("deploy/kubernetes/components/autoscaling/prometheus-adapter.yaml") else { return };
    let Some(autoscaler) = yaml("deploy/kubernetes/components/autoscaling/autoscaler.yaml") else { return };
    let rules = items(&adapter["rules"]["custom"]);
    let mut made: Vec<_> = rules.iter().map(|rule| rule["name"]["as"].as_str().unwrap()).collect();
    for rule in rules {
        let series = rule["seriesQuery"].as_str().unwrap().split('{').next().unwrap();
        assert!(readme.contains(&format!("| `{series}` |")), "{series} is no metric");
    }
    let pods = items(&autoscaler["spec"]["metrics"]).iter().filter(|metric| metric["type"] == "Pods");
    let mut asked: Vec<_> = pods.map(|metric| metric["pods"]["metric"]["name"].as_str().unwrap()).collect();
    made.sort_unstable();
    asked.sort_unstable();
    assert_eq!(asked, made);
}
