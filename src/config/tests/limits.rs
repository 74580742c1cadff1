//! Tests of `limits` and `bandwidth`: their defaults, their forms, and what is warned of.

use super::*;

#[test]
fn the_defaults_of_limits_are_these() {
    let config = accept(&minimal_tree()).unwrap();
    let limits = serde_json::to_value(&config.limits).unwrap();
    let expected = json!({
        "max_connections": 10_000, "max_connections_per_client": 200,
        "max_sessions": 2000, "max_sessions_per_client": 50, "max_sessions_per_user": "off",
        "session_starts_per_client": { "rate": "10/s", "burst": 50 },
        "requests_per_client": { "rate": "50/s", "burst": 200 },
        "when_full": "wait", "max_wait": "1m", "max_waiting": 2000,
        "max_udp_flows": 20_000, "max_udp_flows_per_client": 200,
        "max_tunnels": 2000, "max_tunnels_per_client": 200,
    });
    assert_eq!(limits, expected);
    let bandwidth = serde_json::to_value(&config.bandwidth).unwrap();
    let off = json!({ "total": "off", "per_client": "off", "per_session": "off", "per_node": "off" });
    assert_eq!(bandwidth, off);
    assert_eq!(config.listeners[0].limits, ListenerLimitsConfig::default());
}

#[test]
fn a_bandwidth_holds_for_each_direction_or_for_one() {
    let mut tree = minimal_tree();
    tree["bandwidth"] = json!({
        "total": "200Mbit/s", "per_client": { "upload": "1MB/s" }, "per_node": { "upload": "off", "download": "off" },
    });
    let config = accept(&tree).unwrap();
    let bandwidth = &config.bandwidth;
    assert_eq!(bandwidth.total, Bandwidth { upload: Some(25_000_000), download: Some(25_000_000) });
    assert_eq!(bandwidth.per_client, Bandwidth { upload: Some(1_000_000), download: None });
    assert!(bandwidth.per_node.is_off() && bandwidth.per_session.is_off());
    assert_eq!(accept(&serde_json::to_value(&config).unwrap()).unwrap(), config);
}

#[test]
fn what_may_be_off_survives_being_written_and_read() {
    let mut tree = minimal_tree();
    let rate = json!({ "rate": "600/min", "burst": 7 });
    tree["limits"] = json!({
        "max_connections_per_client": "off", "max_sessions": "off", "max_sessions_per_client": "off",
        "session_starts_per_client": "off", "requests_per_client": rate, "when_full": "refuse", "max_waiting": 0,
    });
    tree["listeners"][0]["limits"] = json!({ "max_sessions": 5, "bandwidth": { "total": "1Gbit/s" } });
    let config = accept(&tree).unwrap();
    let limits = &config.limits;
    assert_eq!((limits.max_connections_per_client, limits.max_sessions), (None, None));
    assert_eq!((limits.max_sessions_per_client, limits.session_starts_per_client), (None, None));
    let per_minute = units::EventRate { count: 600, seconds: 60 };
    assert_eq!(limits.requests_per_client, Some(RateConfig { rate: per_minute, burst: 7 }));
    let own = &config.listeners[0].limits;
    assert_eq!((own.max_sessions, own.bandwidth.total.upload), (Some(5), Some(125_000_000)));
    assert_eq!(accept(&serde_json::to_value(&config).unwrap()).unwrap(), config);
}

#[test]
fn a_whole_may_be_lowered_without_naming_its_parts() {
    let mut tree = minimal_tree();
    tree["limits"] = json!({ "max_connections": 1, "max_sessions": 1, "max_udp_flows": 1, "max_tunnels": 1 });
    accept(&tree).unwrap();
}

#[test]
fn a_wait_that_the_client_cannot_hear_of_is_warned_of() {
    let mut tree = minimal_tree();
    let warned = |tree: &Value| accept(tree).unwrap().warnings().iter().map(|w| w.path.clone()).collect::<Vec<_>>();
    assert!(warned(&tree).is_empty());
    tree["listeners"][0]["slow_node_notice"] = json!("off");
    assert_eq!(warned(&tree), ["listeners[fallback-https].slow_node_notice"]);
    tree["listeners"][0]["limits"] = json!({ "max_wait": "15s" });
    assert!(warned(&tree).is_empty());
    tree["listeners"][0]["limits"] = json!({ "when_full": "refuse" });
    assert!(warned(&tree).is_empty());
}
