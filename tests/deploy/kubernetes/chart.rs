//! The chart beside the manifests, and what it refuses.

use serde_json::{Value, json};

use crate::support::{here, text};

use super::rendered::{Rendered, chart_refused, charted, everything, items, kustomized};

const CONFIG: &str = "deploy/kubernetes/helm/fallgate/fallgate.yaml";
const SITE: &str = "deploy/kubernetes/site/fallgate.yaml";
const SHARED: &str = "deploy/kubernetes/components/shared-state/fallgate.yaml";

#[test]
fn the_chart_brings_the_config_of_the_manifests() {
    let base = text("deploy/kubernetes/base/fallgate.yaml");
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(here(CONFIG), &base).unwrap();
    }
    assert!(text(CONFIG) == base, "{CONFIG} is another one than that of base; FALLGATE_BLESS=1 writes it");
}

/// An object without what the two name differently: labels, the names of ports, and what is a default.
fn bare(mut object: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for name in ["labels", "matchLabels", "imagePullPolicy", "targetPort"] {
                    fields.remove(name);
                }
                if fields.contains_key("protocol") {
                    fields.remove("name");
                }
                fields.values_mut().for_each(strip);
            }
            Value::Array(items) => {
                items.iter_mut().for_each(strip);
                // In which order ports and mounts stand says nothing.
                items.sort_by_key(Value::to_string);
            }
            _ => {}
        }
    }
    let is_of_the_nodes = object["spec"]["clusterIP"] == "None";
    if object["kind"] == "Service" && !is_of_the_nodes {
        object["spec"]["selector"] = Value::Null;
    }
    strip(&mut object);
    object
}

fn by_name(rendered: Rendered) -> Vec<(String, Value)> {
    let name = |object: &Value| format!("{}/{}", object["kind"], object["metadata"]["name"]);
    let mut all: Vec<_> = rendered.objects.into_iter().map(|object| (name(&object), bare(object))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn same(charted: Rendered, kustomized: Rendered) {
    let (chart, manifests) = (by_name(charted), by_name(kustomized));
    let names = |all: &[(String, Value)]| all.iter().map(|one| one.0.clone()).collect::<Vec<_>>();
    assert_eq!(names(&chart), names(&manifests));
    for ((name, chart), (_, manifest)) in chart.iter().zip(&manifests) {
        assert_eq!(chart, manifest, "{name}");
    }
}

#[test]
fn the_chart_makes_what_the_manifests_are() {
    let (Some(chart), Some(base)) = (charted(&json!({})), kustomized("base")) else { return };
    same(chart, base);
}

#[test]
fn the_chart_makes_a_certificate_and_a_monitor_as_the_manifests_do() {
    let values = json!({
        "certificate": { "enabled": true, "dnsNames": ["transfer.example.com"], "issuer": { "name": "letsencrypt" } },
        "podMonitor": { "enabled": true },
    });
    let (Some(chart), Some(mut site)) = (charted(&values), kustomized("site")) else { return };
    let mut certificate = site.one("Certificate", "fallgate").clone();
    certificate["spec"]["dnsNames"] = json!(["transfer.example.com"]);
    certificate["spec"]["issuerRef"]["name"] = json!("letsencrypt");
    site.objects.retain(|object| object["kind"] == "PodMonitor");
    site.objects.push(certificate);
    for object in &mut site.objects {
        // Where a chart is installed is said when it is.
        object["metadata"].as_object_mut().unwrap().remove("namespace");
    }
    let wanted = ["Certificate", "PodMonitor"];
    let objects = chart.objects.into_iter().filter(|object| wanted.contains(&object["kind"].as_str().unwrap()));
    same(Rendered { objects: objects.collect(), configs: Vec::new(), texts: Vec::new() }, site);
}

#[test]
fn the_chart_with_the_config_of_replicas_that_share_makes_what_their_manifests_are() {
    let config = text(SHARED);
    let values = json!({
        "config": config, "secrets": { "redis": "fallgate-redis" }, "autoscaling": { "enabled": true },
    });
    let (Some(chart), Some(ha)) = (charted(&values), kustomized("overlays/ha")) else { return };
    same(chart, ha);
}

#[test]
fn values_that_are_unknown_or_half_are_refused_with_their_place() {
    let cases = [
        (json!({ "replicaCount": 3 }), "additional properties 'replicaCount' not allowed"),
        (json!({ "service": { "anotations": {} } }), "at '/service': additional properties 'anotations' not allowed"),
        (json!({ "replicas": 0 }), "at '/replicas': minimum"),
        (json!({ "certificate": { "enabled": true } }), "at '/certificate/dnsNames': minItems"),
        (
            json!({ "certificate": { "enabled": true, "dnsNames": ["<name>"], "issuer": { "name": "i" } } }),
            "at '/certificate/dnsNames/0': '<name>' does not match",
        ),
        (json!({ "certificate": { "enabled": true, "dnsNames": ["a.example"] } }), "at '/certificate/issuer/name'"),
        (json!({ "secrets": { "tls": "mine" } }), "invalid propertyName 'tls'"),
        (json!({ "image": { "repository": "<registry>/fallgate" } }), "at '/image/repository'"),
        (json!({ "autoscaling": { "enabled": true, "minReplicas": 9 } }), "minReplicas: it is above maxReplicas"),
        (json!({ "config": "listeners: [" }), "config: it is no YAML"),
        (json!({ "config": "version: 1" }), "config: it has no listeners; give a whole fallgate.yaml"),
        (
            json!({ "config": "listeners: [{ name: a, protocol: http, address: '0.0.0.0:${PORT}' }]" }),
            "listeners[a].address: \"0.0.0.0:${PORT}\" has no fixed port",
        ),
        (
            json!({ "config": "listeners: [{ name: a, protocol: http, address: '0.0.0.0:80' }]" }),
            "admin.address: probes do not reach 127.0.0.1:9180; write \"0.0.0.0:9180\"",
        ),
        (
            json!({ "service": { "type": "NodePort", "loadBalancerClass": "service.k8s.aws/nlb" } }),
            "service.loadBalancerClass: only a service.type of LoadBalancer has one",
        ),
        (
            json!({ "config": text(SITE) }),
            "config: \"<the name or address of the first node>\" is left to be filled in",
        ),
        (
            json!({ "config": text(SHARED), "autoscaling": { "enabled": true } }),
            "config: nothing is mounted at /etc/fallgate/redis/: give secrets.redis",
        ),
        (
            json!({ "tls": { "secretName": "" } }),
            "config: nothing is mounted at /etc/fallgate/tls/: give tls.secretName",
        ),
        (
            json!({ "config": text(CONFIG).replace("ports: { http: 8080, ", "ports: { ") }),
            "its SRV records alone tell the port of http, which the NetworkPolicy must let out to",
        ),
        (
            json!({ "config": text(CONFIG).replace("name: data,", "name: fallback_http,") }),
            "listeners[fallback_http].name: a Service calls another one \"fallback-http\" too",
        ),
    ];
    for (values, expected) in cases {
        let Some(said) = chart_refused(&values) else { return };
        assert!(said.contains(expected), "{values} is refused with: {said}");
    }
}

#[test]
fn names_of_listeners_that_are_no_names_of_ports_are_left_out_of_the_pod() {
    let config = text(CONFIG).replace("name: control,", "name: admin,").replace("name: data,", "name: \"33001\",");
    let config = config.replace("name: fallback-http,", "name: fall__back_,");
    let Some(rendered) = charted(&json!({ "config": config })) else { return };
    let ports = items(&rendered.pod()["containers"][0]["ports"]);
    let mut names: Vec<_> = ports.iter().filter_map(|port| port["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["admin", "fall-back", "fallback-https"]);
    let admin = ports.iter().find(|port| port["name"] == "admin").unwrap();
    assert_eq!(admin["containerPort"], 9180, "the probes ask at it");
}

#[test]
fn manifests_and_chart_run_the_same_program() {
    let version = env!("CARGO_PKG_VERSION");
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        let container = &rendered.pod()["containers"][0];
        assert!(container["image"].as_str().unwrap().ends_with(&format!("fallgate:{version}")), "{name}");
        assert_eq!(container["args"][0], "run", "{name}");
        assert_eq!(items(&container["command"]).len(), 0, "{name}");
    }
}
