//! One list of ports, in the config, the pods, the Services and the policies.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::rendered::{Rendered, charted, everything, items};

type Ports = BTreeSet<(String, u64)>;

/// The ports of an address or of a range of them.
fn of_address(protocol: &Value, address: &Value) -> Ports {
    let protocol = if protocol == "udp" { "UDP" } else { "TCP" };
    let port = address.as_str().unwrap().rsplit(':').next().unwrap();
    let (from, to) = port.split_once('-').unwrap_or((port, port));
    (from.parse().unwrap()..=to.parse().unwrap()).map(|port| (protocol.to_owned(), port)).collect()
}

/// What clients connect to, by the config.
fn configured(config: &Value) -> Ports {
    items(&config["listeners"]).iter().flat_map(|one| of_address(&one["protocol"], &one["address"])).collect()
}

fn admin(config: &Value) -> Ports {
    of_address(&json!("http"), &config["admin"]["address"])
}

/// The ports of the nodes, by the config: of data as many as a listener has that leads there.
fn of_nodes(config: &Value) -> Ports {
    let mut all = Ports::new();
    for upstream in items(&config["upstreams"]) {
        let data = items(&config["listeners"]).iter().filter(|one| one["protocol"] == "udp");
        let data = data.filter(|one| one["upstream"] == upstream["name"]);
        let count = data.map(|one| of_address(&one["protocol"], &one["address"]).len() as u64).max().unwrap_or(1);
        let nodes = items(&upstream["nodes"]).iter().chain(std::iter::once(&upstream["discovery"]));
        for (kind, port) in nodes.filter_map(|node| node["ports"].as_object()).flatten() {
            let (protocol, count) = if kind == "udp" { ("UDP", count) } else { ("TCP", 1) };
            let first = port.as_u64().unwrap();
            all.extend((first..first + count).map(|port| (protocol.to_owned(), port)));
        }
    }
    all
}

/// The port of the Redis that replicas share, if they do.
fn of_redis(config: &Value) -> Ports {
    let urls = match &config["state"]["redis"] {
        Value::Array(urls) => urls.as_slice(),
        Value::Null => &[],
        url => std::slice::from_ref(url),
    };
    urls.iter().flat_map(|url| of_address(&json!("redis"), url)).collect()
}

fn of_list(list: &Value, key: &str) -> Ports {
    items(list).iter().map(|one| (one["protocol"].as_str().unwrap().to_owned(), one[key].as_u64().unwrap())).collect()
}

/// The port that a Service means, by its number or by the name that the container gives it.
fn target(rendered: &Rendered, port: &Value) -> u64 {
    let ports = items(&rendered.pod()["containers"][0]["ports"]);
    match &port["targetPort"] {
        Value::Number(number) => number.as_u64().unwrap(),
        name => {
            let named = ports.iter().find(|one| one["name"] == *name && one["protocol"] == port["protocol"]);
            named.unwrap_or_else(|| panic!("no port {name}"))["containerPort"].as_u64().unwrap()
        }
    }
}

fn agree(name: &str, rendered: &Rendered) {
    let config = &rendered.configs[0];
    let clients = configured(config);
    assert!(clients.len() >= 4, "{name}: {clients:?}");

    let container = of_list(&rendered.pod()["containers"][0]["ports"], "containerPort");
    assert_eq!(container, clients.union(&admin(config)).cloned().collect(), "{name}: the container");

    let mut served = Ports::new();
    for service in rendered.all("Service") {
        let own = of_list(&service["spec"]["ports"], "port");
        if service["spec"]["clusterIP"] == "None" {
            assert_eq!(own, of_nodes(config), "{name}: the Service of the nodes");
            continue;
        }
        for port in items(&service["spec"]["ports"]) {
            assert_eq!(target(rendered, port), port["port"].as_u64().unwrap(), "{name}: {port}");
        }
        assert!(served.is_disjoint(&own), "{name}: a port of two Services");
        served.extend(own);
    }
    assert_eq!(served, clients, "{name}: the Services");

    let policy = &rendered.one("NetworkPolicy", "fallgate")["spec"];
    let (mut open, mut private) = (Ports::new(), Ports::new());
    for rule in items(&policy["ingress"]) {
        let into = if rule["from"].is_null() { &mut open } else { &mut private };
        into.extend(of_list(&rule["ports"], "port"));
    }
    assert_eq!(open, clients, "{name}: what the policy lets anybody in to");
    assert_eq!(private, admin(config), "{name}: what it lets Prometheus in to");
    let out: Ports = items(&policy["egress"]).iter().flat_map(|rule| of_list(&rule["ports"], "port")).collect();
    let names = ["TCP", "UDP"].map(|protocol| (protocol.to_owned(), 53));
    let expected = of_nodes(config).into_iter().chain(of_redis(config)).chain(names).collect();
    assert_eq!(out, expected, "{name}: what the policy lets out");
}

#[test]
fn config_pods_services_and_policies_have_the_same_ports() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        agree(name, rendered);
    }
}

#[test]
fn the_name_that_finds_the_nodes_is_one_of_their_service() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all.iter().filter(|(name, _)| name != "site") {
        let found = rendered.configs[0]["upstreams"][0]["discovery"]["dns"].as_str().unwrap();
        let parts: Vec<_> = found.split('.').collect();
        let services = rendered.all("Service");
        let service = services.iter().find(|one| one["metadata"]["name"] == parts[2]).unwrap();
        assert_eq!(service["spec"]["clusterIP"], "None", "{name}: only then each pod has a record");
        let is_named = |port: &Value| {
            let protocol = port["protocol"].as_str().unwrap().to_lowercase();
            format!("_{}", port["name"].as_str().unwrap()) == parts[0] && format!("_{protocol}") == parts[1]
        };
        assert!(items(&service["spec"]["ports"]).iter().any(is_named), "{name}: {found}");
        assert_eq!(parts[3..], ["${POD_NAMESPACE}", "svc", "cluster", "local"], "{name}");
        let env = &rendered.pod()["containers"][0]["env"][0];
        assert_eq!(env["name"], "POD_NAMESPACE", "{name}");
    }
}

#[test]
fn the_chart_takes_its_ports_from_the_config_ranges_too() {
    let config = r#"
version: 1
listeners:
  - { name: the_fallback_of_everybody, protocol: http, address: "0.0.0.0:9080", upstream: transfer }
  - { name: control, protocol: tcp, address: "[::]:22001", upstream: transfer }
  - { name: data, protocol: udp, address: "[::]:33001-33004", upstream: transfer }
upstreams:
  - name: transfer
    nodes: [{ name: n1, host: 10.1.0.11, ports: { http: 80, tcp: 22, udp: 44001 } }]
timeouts: { pre_drain: 20s, drain: 1h }
state: { redis: ["redis://one:6390", "redis://two:6391"] }
admin: { address: "0.0.0.0:9999" }
"#;
    let split = json!({ "config": config, "service": { "split": true }, "tls": { "secretName": "" } });
    for values in [json!({ "config": config }), split] {
        let Some(rendered) = charted(&values) else { return };
        assert_eq!(rendered.texts, [config], "the config is what was given, byte for byte");
        agree("chart", &rendered);
        assert!(of_nodes(&rendered.configs[0]).contains(&("UDP".to_owned(), 44004)), "the fourth transfer at once");
        assert_eq!(rendered.pod()["terminationGracePeriodSeconds"], 3600 + 20 + 45);
    }
}
