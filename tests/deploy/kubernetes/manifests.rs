//! What is true of every folder that can be applied. That each object is one of the API is asked whenever one is rendered.

use serde_json::{Value, json};

use super::{
    FOLDER, TO_FILL_IN, WHOLE,
    rendered::{everything, items, kustomized},
};
use crate::support::{here, text};

/// The secret with the certificate.
const TLS: &str = "fallgate-tls";

/// A duration of one number and one unit.
fn seconds(duration: &Value) -> u64 {
    let text = duration.as_str().unwrap();
    let (number, unit) = text.split_at(text.len() - 1);
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => panic!("{text}"),
    };
    number.parse::<u64>().unwrap() * unit
}

#[test]
fn every_folder_that_can_be_applied_is_tested() {
    let overlays = std::fs::read_dir(here(FOLDER).join("overlays")).unwrap();
    for overlay in overlays {
        let name = format!("overlays/{}", overlay.unwrap().file_name().to_str().unwrap());
        assert!(WHOLE.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn a_pod_is_given_longer_than_its_transfers_may_take() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        let grace = rendered.pod()["terminationGracePeriodSeconds"].as_u64().unwrap();
        let timeouts = &rendered.configs[0]["timeouts"];
        let (before, drain) = (seconds(&timeouts["pre_drain"]), seconds(&timeouts["drain"]));
        assert!(before >= 10, "{name}: endpoints take a while to go");
        assert!(grace >= before + drain + 30, "{name}: {grace} s for {before} and {drain}");
    }
}

#[test]
fn a_pod_may_do_nothing_that_it_need_not() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        let pod = rendered.pod();
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(rendered.one("ServiceAccount", "fallgate")["automountServiceAccountToken"], false, "{name}");
        for container in items(&pod["containers"]) {
            let context = &container["securityContext"];
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["capabilities"], json!({ "drop": ["ALL"] }), "{name}");
            // A file of its own is never renewed.
            assert!(items(&container["volumeMounts"]).iter().all(|mount| mount["subPath"].is_null()), "{name}");
        }
    }
}

#[test]
fn what_selects_the_gateway_selects_its_pods() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        let labels = &rendered.one("Deployment", "fallgate")["spec"]["template"]["metadata"]["labels"];
        let mut selectors = vec![
            &rendered.one("Deployment", "fallgate")["spec"]["selector"]["matchLabels"],
            &rendered.one("PodDisruptionBudget", "fallgate")["spec"]["selector"]["matchLabels"],
            &rendered.one("NetworkPolicy", "fallgate")["spec"]["podSelector"]["matchLabels"],
        ];
        let spread = items(&rendered.pod()["topologySpreadConstraints"]);
        selectors.extend(spread.iter().map(|one| &one["labelSelector"]["matchLabels"]));
        let services = rendered.all("Service");
        let own = services.iter().filter(|service| service["spec"]["clusterIP"] != "None");
        selectors.extend(own.map(|service| &service["spec"]["selector"]));
        selectors.extend(rendered.all("PodMonitor").iter().map(|one| &one["spec"]["selector"]["matchLabels"]));
        for selector in selectors {
            assert_eq!(selector, labels, "{name}");
        }
    }
}

#[test]
fn what_the_pods_mount_is_made_or_told_of() {
    let readme = text("deploy/kubernetes/README.md");
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        for volume in items(&rendered.pod()["volumes"]) {
            if let Some(config) = volume["configMap"]["name"].as_str() {
                assert_eq!(rendered.one("ConfigMap", config)["metadata"]["name"], config, "{name}");
            }
            if let Some(secret) = volume["secret"]["secretName"].as_str() {
                let kind = if secret == TLS { "tls" } else { "generic" };
                assert!(readme.contains(&format!("create secret {kind} {secret}")), "{name}: {secret}");
            }
        }
        for certificate in rendered.all("Certificate") {
            assert_eq!(certificate["spec"]["secretName"], TLS, "{name}");
        }
        for mount in items(&rendered.pod()["containers"][0]["volumeMounts"]) {
            let path = mount["mountPath"].as_str().unwrap();
            let args = rendered.pod()["containers"][0]["args"].to_string();
            let is_used = rendered.texts[0].contains(&format!("{path}/")) || args.contains(&format!("{path}/"));
            // Where replicas share their state the folder of the file is empty.
            let is_shared = path == "/var/lib/fallgate" && !rendered.configs[0]["state"]["redis"].is_null();
            assert!(is_used || is_shared, "{name}: {path} is of no use");
        }
    }
}

#[test]
fn replicas_that_share_their_state_differ_in_nothing_else() {
    let (Some(base), Some(mut ha)) = (kustomized("base"), kustomized("overlays/ha")) else { return };
    assert!(!ha.configs[0]["state"]["redis"].is_null());
    ha.configs[0]["state"] = base.configs[0]["state"].clone();
    assert_eq!(ha.configs, base.configs);
}

#[test]
fn replicas_by_load_share_their_state_and_have_no_other_number() {
    let Some(all) = everything() else { return };
    let mut found = 0;
    for (name, rendered) in all {
        let is_scaled = !rendered.all("HorizontalPodAutoscaler").is_empty();
        assert_eq!(is_scaled, rendered.one("Deployment", "fallgate")["spec"]["replicas"].is_null(), "{name}");
        assert!(!is_scaled || !rendered.configs[0]["state"]["redis"].is_null(), "{name}");
        found += usize::from(is_scaled);
    }
    assert_eq!(found, 1);
}

#[test]
fn a_service_keeps_the_address_of_clients_and_asks_for_one_replica_a_client() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        for service in rendered.all("Service").iter().filter(|service| service["spec"]["clusterIP"] != "None") {
            assert_eq!(service["spec"]["externalTrafficPolicy"], "Local", "{name}");
            assert_eq!(service["spec"]["sessionAffinity"], "ClientIP", "{name}");
        }
        let spread = items(&rendered.pod()["topologySpreadConstraints"]);
        let machine = spread.iter().find(|one| one["topologyKey"] == "kubernetes.io/hostname").unwrap();
        assert_eq!(machine["whenUnsatisfiable"], "DoNotSchedule", "{name}");
        // Else two are even on one machine, and three on two.
        assert_eq!(machine["maxSkew"], 1, "{name}");
        assert!(machine["minDomains"].as_u64().unwrap() > 5000, "{name}: a cluster has 5000 machines at most");
    }
}

/// Every text in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn nothing_is_left_to_fill_in_but_where_it_is_said() {
    let Some(all) = everything() else { return };
    for (name, rendered) in all {
        // An alert has a comparison and the dashboard is markup here and there.
        let ours = rendered.objects.iter().filter(|object| {
            object["kind"] != "PrometheusRule" && object["metadata"]["labels"]["grafana_dashboard"].is_null()
        });
        let left: Vec<_> = ours.flat_map(texts).filter(|text| text.contains('<')).collect();
        assert_eq!(!left.is_empty(), TO_FILL_IN.contains(&name.as_str()), "{name}: {left:?}");
    }
}
