//! Tests of the whole way: the reference file, the schema, and the exact text of every kind of problem.

mod limits;
mod state;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::schema::Alternatives;
use super::*;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn no_variables(_: &str) -> Option<String> {
    None
}

fn minimal_tree() -> Value {
    yaml::parse(&std::fs::read_to_string(repository("config/minimal.yaml")).unwrap()).unwrap()
}

fn reference_tree() -> Value {
    yaml::parse(&std::fs::read_to_string(repository("config/fallgate.yaml")).unwrap()).unwrap()
}

/// JSON is YAML too.
fn accept(tree: &Value) -> Result<Config, Vec<Problem>> {
    read(&tree.to_string(), Path::new("/etc/fallgate"), &no_variables)
}

#[test]
fn the_reference_states_the_defaults() {
    let config = Config::load(&repository("config/fallgate.yaml")).unwrap();
    let minimal = Config::load(&repository("config/minimal.yaml")).unwrap();
    assert_eq!(config.limits, LimitsConfig::default());
    assert_eq!(config.bandwidth, BandwidthConfig::default());
    assert_eq!(config.timeouts, TimeoutsConfig::default());
    assert_eq!(config.access_log, AccessLogConfig::default());
    assert_eq!(config.log, LogConfig::default());
    assert_eq!(config.admin, AdminConfig::default());
    assert_eq!(config.resolver, ResolverConfig::default());
    assert_eq!(config.reload, ReloadConfig::default());
    let (said, unsaid) = (&config.listeners[0], &minimal.listeners[0]);
    assert_eq!(said.persistence(), unsaid.persistence());
    assert_eq!(ListenerConfig { persistent_connection: None, ..said.clone() }, *unsaid);
    let mut upstream = config.upstreams[0].clone();
    upstream.nodes[0].ports = minimal.upstreams[0].nodes[0].ports.clone();
    assert_eq!(upstream, minimal.upstreams[0]);
    for said in &config.listeners[3..] {
        assert_eq!(*said, ListenerConfig::new(&said.name, said.protocol, said.address, said.leads_to()));
    }
    assert_eq!(config.upstreams[1].health_check.http, Some(HttpCheckConfig::default()));
    assert_eq!(config.upstreams[2].tls, Some(UpstreamTlsConfig::default()));
}

#[test]
fn the_defaults_are_these() {
    let config = accept(&minimal_tree()).unwrap();
    let node = &config.upstreams[0].nodes[0];
    assert_eq!((node.weight, node.max_sessions, node.max_pending), (1, None, Some(16)));
    assert_eq!(config.limits.max_connections, 10_000);
    assert_eq!(config.timeouts.session_idle, Duration::from_secs(1800));
    assert_eq!(config.timeouts.drain, Duration::from_secs(86_400));
    assert_eq!(config.admin.address, Some("127.0.0.1:9180".parse().unwrap()));
    assert_eq!(config.state, StateConfig::Memory);
    assert_eq!(config.listeners[0].persistence(), PersistentConnection::Force);
    assert_eq!(config.listeners[0].tls.as_ref().unwrap().min_version, TlsVersion::V1_2);
    let listener = &config.listeners[0];
    assert_eq!((listener.node_target, listener.proxy_protocol), (NodeTarget::Received, ProxyProtocol::Off));
    assert_eq!(listener.guard, GuardConfig { names: true, resume: true });
    assert_eq!(listener.slow_node_notice, Some(Duration::from_secs(8)));
    assert!(listener.trusted_proxies.is_empty());
    let upstream = &config.upstreams[0];
    assert_eq!((upstream.scheme, &upstream.tls, upstream.max_pins), (Scheme::Http, &None, 100_000));
    assert_eq!(upstream.node_grace, Duration::from_secs(15));
    assert_eq!(upstream.affinity, AffinityConfig { key: AffinityKey::Session, idle: Duration::from_secs(1800) });
    assert_eq!((node.port(NodePort::Http), node.port(NodePort::Https)), (Some(8080), None));
}

#[test]
fn the_schema_and_the_reference_have_the_same_keys() {
    let schema = Config::schema();
    let mut known = BTreeSet::new();
    schema_keys(&schema, &schema, "", &mut known);
    let mut shown = BTreeSet::new();
    tree_keys(&reference_tree(), "", &mut shown);
    // Those that go with a Redis cannot stand beside a file.
    tree_keys(&state::redis_tree(), "", &mut shown);
    assert_eq!(known, shown);
}

#[test]
fn every_key_of_the_schema_is_described() {
    let schema = Config::schema();
    let mut known = BTreeSet::new();
    let bare = schema_keys(&schema, &schema, "", &mut known);
    assert!(bare.is_empty(), "no description: {bare:?}");
}

#[test]
fn a_configuration_survives_being_written_and_read() {
    let config = Config::load(&repository("config/fallgate.yaml")).unwrap();
    let again = accept(&serde_json::to_value(&config).unwrap()).unwrap();
    assert_eq!(config, again);
}

#[test]
fn file_names_start_from_the_folder_of_the_configuration() {
    let mut tree = minimal_tree();
    tree["access_log"] = json!({ "path": "access.log" });
    tree["state"] = json!({ "file": "fallgate.state" });
    tree["listeners"][0]["tls"]["key_file"] = json!("/run/keys/tls.key");
    tree["upstreams"][0]["scheme"] = json!("https");
    tree["upstreams"][0]["tls"] = json!({ "ca_file": "nodes.pem" });
    tree["upstreams"][0]["nodes"][0]["ports"] = json!({ "https": 8443 });
    let config = accept(&tree).unwrap();
    let certificate = &config.listeners[0].tls.as_ref().unwrap().certificates()[0];
    assert_eq!(certificate.cert_file, Path::new("/etc/fallgate/tls.crt"));
    assert_eq!(certificate.key_file, Path::new("/run/keys/tls.key"));
    let authorities = config.upstreams[0].tls.as_ref().unwrap().ca_file.as_deref();
    assert_eq!(authorities, Some(Path::new("/etc/fallgate/nodes.pem")));
    assert_eq!(config.access_log.path, "/etc/fallgate/access.log");
    assert_eq!(config.state, StateConfig::File("/etc/fallgate/fallgate.state".into()));
}

#[test]
fn variables_are_expanded_into_texts_and_numbers() {
    let mut tree = minimal_tree();
    tree["upstreams"][0]["nodes"][0]["host"] = json!("${NODE}.example");
    tree["upstreams"][0]["nodes"][0]["weight"] = json!("${WEIGHT:-7}");
    tree["upstreams"][0]["nodes"][0]["max_sessions"] = json!("${SESSIONS:-off}");
    tree["timeouts"] = json!({ "connect": "${CONNECT}ms" });
    let lookup = |name: &str| match name {
        "NODE" => Some("n1".to_owned()),
        "CONNECT" => Some("250".to_owned()),
        _ => None,
    };
    let config = read(&tree.to_string(), Path::new(""), &lookup).unwrap();
    let node = &config.upstreams[0].nodes[0];
    assert_eq!((node.host.as_str(), node.weight, node.max_sessions), ("n1.example", 7, None));
    assert_eq!(config.timeouts.connect, Duration::from_millis(250));
}

#[test]
fn a_switch_is_a_word_or_a_truth_value() {
    let minimal = std::fs::read_to_string(repository("config/minimal.yaml")).unwrap();
    let cases = [("on", true), ("off", false), ("true", true), ("false", false), ("\"off\"", false)];
    let variables = [("\"${UNSET:-off}\"", false), ("\"${UNSET:-false}\"", false), ("\"${UNSET:-true}\"", true)];
    for (said, meant) in cases.into_iter().chain(variables) {
        let guard = format!("    guard: {{ names: \"on\", resume: {said} }}\nupstreams:");
        let config = read(&minimal.replace("upstreams:", &guard), Path::new(""), &no_variables).unwrap();
        assert_eq!(config.listeners[0].guard, GuardConfig { names: true, resume: meant }, "{said}");
        let word = if meant { "on" } else { "off" };
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["listeners"][0]["guard"], json!({ "names": "on", "resume": word }), "{said}");
    }
}

#[test]
fn what_stands_in_front_and_behind_survives_being_written_and_read() {
    let mut tree = minimal_tree();
    let listener = &mut tree["listeners"][0];
    listener["node_target"] = json!("origin_form");
    listener["slow_node_notice"] = json!("off");
    listener["trusted_proxies"] = json!(["10.1.0.5", "fd00::5", "10.0.0.0/8"]);
    listener["proxy_protocol"] = json!("accept");
    let upstream = &mut tree["upstreams"][0];
    upstream["scheme"] = json!("https");
    upstream["tls"] = json!({ "server_name": "node.example", "verify": false });
    upstream["affinity"] = json!({ "key": "user", "idle": "1h" });
    upstream["max_pins"] = json!(1);
    upstream["node_grace"] = json!("0s");
    upstream["nodes"][0]["ports"] = json!({ "http": 8080, "https": 8443 });
    let config = accept(&tree).unwrap();
    let listener = &config.listeners[0];
    let networks: Vec<_> = listener.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.1.0.5/32", "fd00::5/128", "10.0.0.0/8"]);
    assert_eq!((listener.node_target, listener.slow_node_notice), (NodeTarget::OriginForm, None));
    assert_eq!(listener.proxy_protocol, ProxyProtocol::Accept);
    let upstream = &config.upstreams[0];
    assert_eq!(upstream.nodes[0].port(upstream.scheme.port()), Some(8443));
    assert!(!upstream.tls.as_ref().unwrap().verify);
    assert_eq!((upstream.affinity.key, upstream.node_grace), (AffinityKey::User, Duration::ZERO));
    assert_eq!(accept(&serde_json::to_value(&config).unwrap()).unwrap(), config);
}

#[test]
fn ports_left_to_the_system_never_clash() {
    let mut tree = minimal_tree();
    let mut second = tree["listeners"][0].clone();
    second["name"] = json!("second");
    tree["listeners"].as_array_mut().unwrap().push(second);
    tree["listeners"][0]["address"] = json!("127.0.0.1:0");
    tree["listeners"][1]["address"] = json!("127.0.0.1:0");
    tree["admin"] = json!({ "address": "127.0.0.1:0" });
    accept(&tree).unwrap();
    tree["admin"] = json!({ "address": "off" });
    assert_eq!(accept(&tree).unwrap().admin.address, None);
}

#[test]
fn the_example_of_a_forward_proxy_needs_no_upstream_and_no_warning() {
    let config = Config::load(&repository("config/forward.yaml")).unwrap();
    assert!(config.upstreams.is_empty() && config.warnings().is_empty());
    let (listener, policy) = (&config.listeners[0], &config.policies[0]);
    assert_eq!((listener.upstream.as_deref(), listener.leads_to()), (None, "partners"));
    assert_eq!((policy.mode, policy.parent.is_none(), policy.allow.len()), (PolicyMode::Enforce, true, 2));
    assert!(policy.allow[1].ports[0].contains(8443) && policy.deny[0].ports.is_empty());
    assert_eq!(accept(&serde_json::to_value(&config).unwrap()).unwrap(), config);
}

fn forward_tree() -> Value {
    yaml::parse(&std::fs::read_to_string(repository("config/forward.yaml")).unwrap()).unwrap()
}

#[test]
fn a_parents_password_comes_from_the_environment_and_is_written_nowhere() {
    let mut tree = forward_tree();
    tree["policies"][0]["parent"] = json!("http://gate:${PASSWORD}@10.0.0.1:3128");
    tree["policies"][0]["auth"]["users_file"] = json!("users");
    let lookup = |name: &str| (name == "PASSWORD").then(|| "SECRET".to_owned());
    let config = read(&tree.to_string(), Path::new("/etc/fallgate"), &lookup).unwrap();
    let policy = &config.policies[0];
    assert_eq!(policy.parent.as_ref().unwrap().credentials(), Some(("gate", "SECRET")));
    assert_eq!(policy.auth.users_file.as_deref(), Some(Path::new("/etc/fallgate/users")));
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("SECRET") && shown.contains("gate:***@10.0.0.1:3128"));
}

#[test]
fn a_policy_that_ascp_cannot_satisfy_or_that_is_open_to_all_is_warned_of() {
    let mut tree = forward_tree();
    let warnings = |tree: &Value| {
        let config = accept(tree).unwrap();
        config.warnings().iter().map(|warning| warning.path.clone()).collect::<Vec<_>>()
    };
    tree["policies"][0]["auth"] = json!({});
    tree["policies"][0]["allow"][1] = json!({ "hosts": ["*"] });
    assert_eq!(warnings(&tree), ["policies[partners].allow[1]"]);
    tree["policies"][0]["auth"] = json!({ "users_file": "users" });
    assert_eq!(warnings(&tree), ["policies[partners].auth.users_file"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/gate.yaml")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /nowhere/gate.yaml: "), "{error}");
}

/// `FALLGATE_BLESS=1` writes the expected texts anew.
#[test]
fn every_bad_configuration_is_told_exactly() {
    let folder = repository("tests/it/config/bad");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let problems = read(&text, &folder, &no_variables).unwrap_err();
        let file = path.file_name().map(PathBuf::from);
        let told = format!("{}\n", ConfigError::Invalid { problems, file });
        let golden = path.with_extension("txt");
        if std::env::var_os("FALLGATE_BLESS").is_some() {
            std::fs::write(&golden, &told).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(told, expected, "{}", path.display());
    }
    assert!(seen >= 10, "only {seen} bad configurations in {}", folder.display());
}

/// A leaf of any kind, near to what is right at some place.
fn leaf() -> impl Strategy<Value = Value> {
    let words = [
        "on",
        "off",
        "",
        "5s",
        "0s",
        "1.2",
        "stdout",
        "10.0.0.1:80",
        "10.0.0.1",
        "10.0.0.1/8",
        "n1",
        "${A}",
        "${A:-5}",
        "${A:-true}",
        "/",
    ];
    prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..70_000u32).prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ]
}

proptest! {
    #[test]
    fn what_the_walk_lets_through_the_types_take(place in any::<prop::sample::Index>(), leaf in leaf()) {
        let mut tree = reference_tree();
        let mut places = Vec::new();
        pointers(&tree, String::new(), &mut places);
        *tree.pointer_mut(place.get(places.as_slice()).as_str()).unwrap() = leaf;
        if shape::check(&Config::schema(), &mut tree, &no_variables).is_empty() {
            let taken = serde_json::from_value::<Config>(tree.clone());
            prop_assert!(taken.is_ok(), "{:?} in {tree}", taken.err());
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = Config::from_yaml(&text, Path::new(""));
    }
}

/// Collects the keys of a schema, lists as `[]`; hands back those without a description.
fn schema_keys(root: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) -> Vec<String> {
    let alternatives = Alternatives::of(root, schema);
    let mut bare = Vec::new();
    if let Some(branch) = alternatives.branch_for(&json!([])) {
        bare.extend(schema_keys(root, &branch["items"], &format!("{path}[]"), into));
    }
    let Some(Value::Object(fields)) = alternatives.branch_for(&json!({})).map(|b| &b["properties"]) else {
        return bare;
    };
    for (key, field) in fields {
        let place = format!("{path}.{key}");
        bare.extend(schema_keys(root, field, &place, into));
        if field["description"].as_str().is_none_or(str::is_empty) {
            bare.push(place.clone());
        }
        into.insert(place);
    }
    bare
}

fn tree_keys(tree: &Value, path: &str, into: &mut BTreeSet<String>) {
    match tree {
        Value::Object(fields) => {
            for (key, value) in fields {
                let place = format!("{path}.{key}");
                tree_keys(value, &place, into);
                into.insert(place);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| tree_keys(item, &format!("{path}[]"), into)),
        _ => {}
    }
}

fn pointers(tree: &Value, path: String, into: &mut Vec<String>) {
    match tree {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| pointers(value, format!("{path}/{key}"), into));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| pointers(item, format!("{path}/{i}"), into));
        }
        _ => {}
    }
    into.push(path);
}
