//! Every key, changed by itself at a running gateway.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use fallgate::config::Config;
use serde_json::{Value, json};

use crate::{
    readme,
    support::{
        Plan, TOKEN, Wire, certificate, eventually, get, sweep, uuid,
        wire::{end, put, start, start_body},
    },
};

/// What a change of the key is, and what has to go with it so that the config is valid.
type Row = (&'static str, Value, &'static [(&'static str, &'static str)]);

/// Keys of which another value is another thing: things are added and removed in tests of their own.
const LISTS: [&str; 5] = ["listeners", "upstreams", "policies", "upstreams[].nodes", "upstreams[].discovery"];
/// Keys below it change with it, for it is a word or a mapping of them.
const WHOLE: &str = "state";
/// There is one version.
const FIXED: &str = "version";
/// Only a build that sends spans takes another value.
const SPANS: &str = "log.otlp_endpoint";
const HTTPS: (&str, &str) = ("/upstreams/1/nodes/0/ports/https", "8444");

/// The reference, as it can run here.
fn base() -> Value {
    let reference = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/fallgate.yaml"));
    let mut tree = Config::load(reference).unwrap().shown();
    for listener in tree["listeners"].as_array_mut().unwrap() {
        listener["address"] = json!("127.0.0.1:0");
    }
    tree["listeners"][0]["tls"] = json!({ "cert_file": "one.crt", "key_file": "one.key" });
    let pair = |name| json!({ "cert_file": format!("{name}.crt"), "key_file": format!("{name}.key") });
    tree["listeners"][1]["tls"] = json!({
        "certificates": [pair("one"), pair("two")], "client_auth": "require", "client_ca_file": "one.crt",
    });
    for upstream in tree["upstreams"].as_array_mut().unwrap() {
        if let Some(node) = upstream.pointer_mut("/nodes/0/host") {
            *node = json!("127.0.0.1");
        }
    }
    // Each direction by itself, as it can be written.
    let whole = |tree: &mut Value| {
        for cap in ["total", "per_client", "per_session", "per_node"] {
            if let Some(both) = tree[cap].as_str() {
                tree[cap] = json!({ "upload": both, "download": both });
            }
        }
    };
    whole(&mut tree["bandwidth"]);
    whole(&mut tree["listeners"][1]["limits"]["bandwidth"]);
    tree["policies"][0]["auth"]["users_file"] = json!("users");
    tree["access_log"]["path"] = json!("access.log");
    tree["state"] = json!({ "file": "state" });
    tree["admin"] = json!({ "address": "127.0.0.1:0", "token_file": "token" });
    tree
}

/// A change for each key, by its place in [`base`].
fn rows() -> Vec<Row> {
    let alone = |place, value| (place, value, [].as_slice());
    let rate = json!({ "rate": "7/s", "burst": 9 });
    vec![
        alone("/access_log/format", json!("logfmt")),
        alone("/access_log/path", json!("other.log")),
        alone("/admin/address", json!("127.0.0.2:0")),
        alone("/admin/token_file", json!("other")),
        alone("/bandwidth/per_client", json!({ "upload": "1Gbit/s", "download": "2Gbit/s" })),
        alone("/bandwidth/per_client/download", json!("1Gbit/s")),
        alone("/bandwidth/per_client/upload", json!("1Gbit/s")),
        alone("/bandwidth/per_node", json!({ "upload": "1Gbit/s", "download": "2Gbit/s" })),
        alone("/bandwidth/per_node/download", json!("1Gbit/s")),
        alone("/bandwidth/per_node/upload", json!("1Gbit/s")),
        alone("/bandwidth/per_session", json!({ "upload": "1Gbit/s", "download": "2Gbit/s" })),
        alone("/bandwidth/per_session/download", json!("1Gbit/s")),
        alone("/bandwidth/per_session/upload", json!("1Gbit/s")),
        alone("/bandwidth/total", json!({ "upload": "3Gbit/s", "download": "2Gbit/s" })),
        alone("/bandwidth/total/download", json!("2Gbit/s")),
        alone("/bandwidth/total/upload", json!("2Gbit/s")),
        alone("/doctor/secret_file", json!("other")),
        alone("/limits/max_connections", json!(9000)),
        alone("/limits/max_connections_per_client", json!("off")),
        alone("/limits/max_sessions", json!(1900)),
        alone("/limits/max_sessions_per_client", json!(40)),
        alone("/limits/max_sessions_per_user", json!(30)),
        alone("/limits/max_tunnels", json!(1000)),
        alone("/limits/max_tunnels_per_client", json!(100)),
        alone("/limits/max_udp_flows", json!(10_000)),
        alone("/limits/max_udp_flows_per_client", json!(100)),
        alone("/limits/max_wait", json!("2m")),
        alone("/limits/max_waiting", json!(1000)),
        alone("/limits/requests_per_client", json!("off")),
        alone("/limits/requests_per_client/burst", json!(300)),
        alone("/limits/requests_per_client/rate", json!("60/s")),
        alone("/limits/session_starts_per_client", json!("off")),
        alone("/limits/session_starts_per_client/burst", json!(60)),
        alone("/limits/session_starts_per_client/rate", json!("20/s")),
        alone("/limits/when_full", json!("refuse")),
        alone("/listeners/2/address", json!("127.0.0.2:0")),
        ("/listeners/0/admission/access_keys", json!(["key"]), &[("/listeners/0/admission/token", "\"decode\"")]),
        alone("/listeners/0/admission/bind_client", json!("ip")),
        alone("/listeners/0/admission/kinds", json!(["transfer"])),
        alone("/listeners/0/admission/token", json!("decode")),
        alone("/listeners/0/admission/unknown_session", json!("route")),
        alone("/listeners/3/banner_timeout", json!("6s")),
        alone("/listeners/4/flow_idle", json!("6m")),
        alone("/listeners/4/gate", json!("off")),
        alone("/listeners/4/gate_grace", json!("40s")),
        alone("/listeners/0/guard/names", json!("off")),
        alone("/listeners/0/guard/resume", json!("off")),
        alone("/listeners/3/idle", json!("12h")),
        alone("/listeners/1/limits/bandwidth/per_client", json!("off")),
        alone("/listeners/1/limits/bandwidth/per_client/download", json!("off")),
        alone("/listeners/1/limits/bandwidth/per_client/upload", json!("off")),
        alone("/listeners/1/limits/bandwidth/per_node", json!({ "upload": "800Mbit/s" })),
        alone("/listeners/1/limits/bandwidth/per_node/download", json!("400Mbit/s")),
        alone("/listeners/1/limits/bandwidth/per_node/upload", json!("800Mbit/s")),
        alone("/listeners/1/limits/bandwidth/per_session", json!("off")),
        alone("/listeners/1/limits/bandwidth/per_session/download", json!("100Mbit/s")),
        alone("/listeners/1/limits/bandwidth/per_session/upload", json!("off")),
        alone("/listeners/1/limits/bandwidth/total", json!("off")),
        alone("/listeners/1/limits/bandwidth/total/download", json!("off")),
        alone("/listeners/1/limits/bandwidth/total/upload", json!("off")),
        alone("/listeners/1/limits/max_connections", json!(900)),
        alone("/listeners/1/limits/max_connections_per_client", json!(90)),
        alone("/listeners/1/limits/max_sessions", json!(400)),
        alone("/listeners/1/limits/max_sessions_per_client", json!(15)),
        alone("/listeners/1/limits/max_sessions_per_user", json!("off")),
        alone("/listeners/5/limits/max_tunnels", json!(90)),
        alone("/listeners/5/limits/max_tunnels_per_client", json!(9)),
        alone("/listeners/4/limits/max_udp_flows", json!(90)),
        alone("/listeners/4/limits/max_udp_flows_per_client", json!(9)),
        alone("/listeners/1/limits/max_wait", json!("5s")),
        alone("/listeners/1/limits/max_waiting", json!(50)),
        alone("/listeners/1/limits/requests_per_client", rate.clone()),
        alone("/listeners/1/limits/requests_per_client/burst", json!(50)),
        alone("/listeners/1/limits/requests_per_client/rate", json!("10/s")),
        alone("/listeners/1/limits/session_starts_per_client", rate),
        alone("/listeners/1/limits/session_starts_per_client/burst", json!(10)),
        alone("/listeners/1/limits/session_starts_per_client/rate", json!("2/s")),
        alone("/listeners/1/limits/when_full", json!("refuse")),
        alone("/listeners/2/name", json!("renamed")),
        alone("/listeners/0/node_target", json!("origin_form")),
        alone("/listeners/0/persistent_connection", json!("off")),
        ("/listeners/5/policy", json!("other"), &[("/policies/1", r#"{"name": "other", "allow": []}"#)]),
        (
            "/listeners/2/protocol",
            json!("https"),
            &[("/listeners/2/tls", r#"{"cert_file": "one.crt", "key_file": "one.key"}"#)],
        ),
        ("/listeners/0/proxy_protocol", json!("accept"), &[("/listeners/0/trusted_proxies", r#"["10.0.0.0/8"]"#)]),
        alone("/listeners/4/receive_buffer", json!("2MiB")),
        alone("/listeners/3/send_proxy_protocol", json!("on")),
        alone("/listeners/0/slow_node_notice", json!("off")),
        alone("/listeners/5/tls", json!({ "cert_file": "one.crt", "key_file": "one.key" })),
        ("/listeners/0/tls/cert_file", json!("two.crt"), &[("/listeners/0/tls/key_file", "\"two.key\"")]),
        alone("/listeners/1/tls/certificates", json!([{ "cert_file": "two.crt", "key_file": "two.key" }])),
        (
            "/listeners/1/tls/certificates/0/cert_file",
            json!("two.crt"),
            &[("/listeners/1/tls/certificates/0/key_file", "\"two.key\"")],
        ),
        (
            "/listeners/1/tls/certificates/1/key_file",
            json!("one.key"),
            &[("/listeners/1/tls/certificates/1/cert_file", "\"one.crt\"")],
        ),
        alone("/listeners/0/tls/client_auth", json!("request")),
        alone("/listeners/1/tls/client_ca_file", json!("two.crt")),
        ("/listeners/0/tls/key_file", json!("two.key"), &[("/listeners/0/tls/cert_file", "\"two.crt\"")]),
        alone("/listeners/0/tls/min_version", json!("1.3")),
        alone("/listeners/0/trusted_proxies", json!(["10.0.0.0/8"])),
        alone("/listeners/2/upstream", json!("transfer-by-request")),
        alone("/listeners/4/workers", json!(3)),
        alone("/log/level", json!("debug")),
        alone("/log/otlp_endpoint", json!("http://127.0.0.1:4318")),
        alone("/policies/0/allow", json!([])),
        alone("/policies/0/allow/0/clients", json!(["10.0.0.0/8"])),
        alone("/policies/0/allow/0/hosts", json!(["*"])),
        alone("/policies/0/allow/0/ports", json!([443])),
        alone("/policies/0/allow/0/users", json!(["anna"])),
        alone("/policies/0/allow_private_addresses", json!(["10.0.0.0/8"])),
        alone("/policies/0/auth/allow_from", json!(["10.0.0.0/8"])),
        alone("/policies/0/auth/users_file", json!("more")),
        alone("/policies/0/deny", json!([])),
        alone("/policies/0/deny/0/clients", json!(["10.0.0.0/8"])),
        alone("/policies/0/deny/0/hosts", json!(["older.example.com"])),
        alone("/policies/0/deny/0/ports", json!([443])),
        alone("/policies/0/deny/0/users", json!(["anna"])),
        alone("/policies/0/mode", json!("report")),
        ("/policies/0/name", json!("other"), &[("/listeners/5/policy", "\"other\"")]),
        ("/policies/0/no_parent", json!(["*.example.com"]), &[("/policies/0/parent", "\"http://127.0.0.1:3128\"")]),
        alone("/policies/0/parent", json!("http://127.0.0.1:3128")),
        alone("/reload/watch", json!("1h")),
        alone("/resolver/servers", json!(["127.0.0.1:53"])),
        alone("/resolver/timeout", json!("2s")),
        alone("/state", json!({ "file": "other" })),
        alone("/timeouts/body_idle", json!("61s")),
        alone("/timeouts/connect", json!("6s")),
        alone("/timeouts/drain", json!("1h")),
        alone("/timeouts/keep_alive", json!("61s")),
        alone("/timeouts/pre_drain", json!("1s")),
        alone("/timeouts/request_head", json!("11s")),
        alone("/timeouts/session_idle", json!("31m")),
        alone("/timeouts/tls_handshake", json!("11s")),
        alone("/timeouts/tunnel_idle", json!("11m")),
        alone("/upstreams/0/affinity/idle", json!("31m")),
        alone("/upstreams/0/affinity/key", json!("client")),
        alone("/upstreams/0/balance", json!("hash")),
        alone("/upstreams/0/health_check/banner", json!("off")),
        alone("/upstreams/0/health_check/healthy_threshold", json!(3)),
        alone("/upstreams/0/health_check/http", json!({ "path": "/" })),
        alone("/upstreams/1/health_check/http/expected_status", json!([200, 204])),
        alone("/upstreams/1/health_check/http/path", json!("/health")),
        alone("/upstreams/0/health_check/interval", json!("11s")),
        alone("/upstreams/0/health_check/timeout", json!("2s")),
        alone("/upstreams/0/health_check/unhealthy_threshold", json!(4)),
        alone("/upstreams/0/max_pins", json!(10)),
        alone("/upstreams/1/name", json!("renamed")),
        alone("/upstreams/0/nodes/0/drain", json!("on")),
        alone("/upstreams/0/nodes/0/host", json!("127.0.0.2")),
        alone("/upstreams/0/nodes/0/max_pending", json!("off")),
        alone("/upstreams/0/nodes/0/max_sessions", json!(7)),
        alone("/upstreams/0/nodes/0/name", json!("n2")),
        alone("/upstreams/0/nodes/0/ports/http", json!(8081)),
        alone("/upstreams/0/nodes/0/ports/https", json!(8444)),
        alone("/upstreams/0/nodes/0/ports/tcp", json!(33_002)),
        alone("/upstreams/0/nodes/0/ports/udp", json!(33_002)),
        alone("/upstreams/0/nodes/0/weight", json!(2)),
        ("/upstreams/1/scheme", json!("https"), &[HTTPS]),
        alone("/upstreams/0/node_grace", json!("16s")),
        alone("/upstreams/0/slow_start", json!("off")),
        ("/upstreams/1/tls", json!({ "verify": "off" }), &[("/upstreams/1/scheme", "\"https\""), HTTPS]),
        alone("/upstreams/2/tls/ca_file", json!("one.crt")),
        alone("/upstreams/2/tls/server_name", json!("nodes.example")),
        alone("/upstreams/3/discovery/dns", json!("localhost")),
        alone("/upstreams/3/discovery/hold", json!("off")),
        alone("/upstreams/3/discovery/interval", json!("7s")),
        alone("/upstreams/3/discovery/max_pending", json!("off")),
        alone("/upstreams/3/discovery/max_sessions", json!(7)),
        alone("/upstreams/3/discovery/ports/http", json!(8081)),
        alone("/upstreams/3/discovery/ports/https", json!(8444)),
        alone("/upstreams/3/discovery/ports/tcp", json!(33_002)),
        alone("/upstreams/3/discovery/ports/udp", json!(33_002)),
        ("/upstreams/3/discovery/srv_port", json!("https"), &[("/upstreams/3/discovery/type", "\"srv\"")]),
        alone("/upstreams/3/discovery/type", json!("srv")),
        alone("/upstreams/2/tls/verify", json!("off")),
        alone("/upstreams/0/when_all_down", json!("try_all")),
    ]
}

/// Puts a value in its place; behind the last item of a list there is one place more.
fn set(tree: &mut Value, place: &str, value: Value) {
    let (parent, last) = place.rsplit_once('/').unwrap();
    match tree.pointer_mut(parent).unwrap_or_else(|| panic!("{place}")) {
        Value::Array(items) if items.len() == last.parse::<usize>().unwrap() => items.push(value),
        Value::Array(items) => items[last.parse::<usize>().unwrap()] = value,
        parent => parent[last] = value,
    }
}

/// The key, as the table in the README has it.
fn key(place: &str) -> String {
    let mut key = String::new();
    for part in place.split('/').skip(1) {
        if part.parse::<usize>().is_ok() {
            key += "[]";
        } else {
            key += if key.is_empty() { "" } else { "." };
            key += part;
        }
    }
    key
}

/// Writes what the config names.
fn fill(dir: &Path) {
    for name in ["one", "two"] {
        certificate(dir, name, &rcgen::PKCS_ECDSA_P256_SHA256);
    }
    let hash = bcrypt::hash("Sesame-Oeffne-Dich", 4).unwrap();
    for name in ["users", "more"] {
        std::fs::write(dir.join(name), format!("anna:{hash}\n")).unwrap();
    }
    for name in ["token", "other"] {
        std::fs::write(dir.join(name), format!("{}\n", crate::support::ADMIN_TOKEN)).unwrap();
    }
}

#[test]
fn the_table_has_every_key() {
    let is_part = |key: &String| key.strip_prefix(WHOLE).is_some_and(|rest| rest.starts_with('.'));
    let known: BTreeSet<_> = readme::config_keys().into_iter().filter(|key| !is_part(key)).collect();
    let mut changed: BTreeSet<_> = rows().iter().map(|(place, ..)| key(place)).collect();
    changed.extend(LISTS.iter().chain(&[FIXED]).map(|key| (*key).to_owned()));
    assert_eq!(known, changed);
}

/// No key is one that silently stays: after a reload it holds, or the reload's report names it and the old value is shown.
#[tokio::test(flavor = "multi_thread")]
async fn every_key_by_itself_holds_after_a_reload_or_the_report_names_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let config = |tree: &Value| {
        Config::from_yaml(&tree.to_string(), dir.path()).unwrap_or_else(|error| panic!("{error}\n{tree}"))
    };
    let base = base();
    let (gateway, _watch) = sweep::gateway(config(&base), dir.path()).await;
    let admin = gateway.admin_address().unwrap();
    let mut restart = Vec::new();
    for (place, value, with) in rows() {
        let key = key(place);
        if key == SPANS && !cfg!(feature = "otlp") {
            continue;
        }
        gateway.reload(config(&base)).await.unwrap();
        let mut tree = base.clone();
        for (place, value) in with {
            set(&mut tree, place, serde_json::from_str(value).unwrap());
        }
        set(&mut tree, place, value);
        let (before, wanted) = (config(&base).shown(), config(&tree).shown());
        assert_ne!(before, wanted, "{key} does not change");
        let kept = gateway.reload(config(&tree)).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        let shown: Value = serde_json::from_str(&get(admin, "/api/v1/config").await.1).unwrap();
        if kept.is_empty() {
            assert_eq!(shown, wanted, "{key}");
        } else {
            let name = key.rsplit('.').next().unwrap();
            assert!(kept.len() == 1 && kept[0].ends_with(name), "{key}: {kept:?}");
            assert_eq!(shown, before, "{key}: what needs a restart is not shown as if it held");
            assert_eq!(gateway.reload(config(&tree)).await.unwrap(), kept, "{key}: each reload says so");
            restart.push(key);
        }
    }
    let mut known = vec!["admin.address", "listeners[].receive_buffer", "listeners[].workers"];
    if cfg!(feature = "otlp") {
        known.push(SPANS);
    }
    known.push(WHOLE);
    assert_eq!(restart, known, "what needs a restart");
}

/// What lives on through a reload goes by the new values as well; limits and caps have their own tests.
#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_moves_and_changes_its_form_with_a_reload_and_stays_where_the_new_place_cannot_be() {
    let sandbox = Plan::new().start().await;
    let host = sandbox.address("plain").await;
    let session = async || {
        let id = uuid();
        let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
        assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
        assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    };
    let read = |name: &str| std::fs::read_to_string(sandbox.dir.path().join(name)).unwrap_or_default();
    session().await;
    eventually("a record", || (read("access.log").lines().count() == 1).then_some(())).await;
    let nowhere = sandbox.config(|y| y.replace("path: access.log", "path: nowhere/access.log"));
    let error = sandbox.gateway.reload(nowhere).await.unwrap_err().to_string();
    assert!(error.starts_with("access_log.path: cannot open"), "{error}");
    session().await;
    eventually("a record", || (read("access.log").lines().count() == 2).then_some(())).await;
    // A session that began before writes to the new place too.
    let id = uuid();
    let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
    let moved = sandbox.config(|y| y.replace("path: access.log", "path: other.log, format: logfmt"));
    assert_eq!(sandbox.gateway.reload(moved).await.unwrap(), [""; 0]);
    assert_eq!(Wire::plain(host).await.ask(&put(host, &id, "a", b"x")).await.status, 201);
    assert_eq!(Wire::plain(host).await.ask(&end(host, &id, "DONE")).await.status, 200);
    session().await;
    eventually("two records", || (read("other.log").lines().count() == 2).then_some(())).await;
    assert!(read("other.log").lines().all(|line| line.contains("outcome=done")), "{}", read("other.log"));
    assert_eq!(read("access.log").lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_runs_goes_by_the_session_idle_of_the_reload() {
    let sandbox = Plan::new().start().await;
    let (host, id) = (sandbox.address("plain").await, uuid());
    let body = start_body(&id, "put", TOKEN.as_bytes(), &[]);
    assert_eq!(Wire::plain(host).await.ask(&start(host, &id, &body)).await.status, 200);
    let hasty = sandbox.config(|y| format!("{y}timeouts: {{session_idle: 200ms}}\n"));
    sandbox.gateway.reload(hasty).await.unwrap();
    let begin = Instant::now();
    eventually("it is forgotten", || (sandbox.gateway.sessions() == 0).then_some(())).await;
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert_eq!(sandbox.records(1).await[0]["outcome"], "idle");
}
