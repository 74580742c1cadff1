//! `state`, as it is written for replicas.

use super::*;

/// The reference with its lines of a Redis instead of the file.
pub(super) fn redis_tree() -> Value {
    let text = std::fs::read_to_string(repository("config/fallgate.yaml")).unwrap();
    let (before, rest) = text.split_once("\nstate:").unwrap();
    let (state, after) = rest.split_once("\n\n").unwrap();
    let lines = state.lines().filter(|line| !line.trim_start().starts_with("file:"));
    let lines: Vec<_> =
        lines.map(|line| line.strip_prefix("# ").map_or(line.to_owned(), |key| format!("  {key}"))).collect();
    yaml::parse(&format!("{before}\nstate:{}\n\n{after}", lines.join("\n"))).unwrap()
}

#[test]
fn the_reference_states_the_defaults_of_a_redis() {
    let said = accept(&redis_tree()).unwrap().state;
    let mut tree = minimal_tree();
    tree["state"] = json!({ "redis": "redis://10.0.0.30:6379" });
    assert_eq!(said, accept(&tree).unwrap().state);
}

#[test]
fn the_example_of_replicas_shares_a_redis_and_shows_no_password() {
    let config = Config::load(&repository("config/replicas.yaml")).unwrap();
    assert!(config.warnings().is_empty());
    let redis = config.state.redis().unwrap();
    assert_eq!(
        (redis.redis[0].user(), redis.redis[0].password(), redis.redis[0].is_tls()),
        (Some("fallgate"), None, true)
    );
    assert_eq!((redis.on_unavailable, redis.timeout), (OnUnavailable::Local, Duration::from_millis(500)));
    assert!(config.files().iter().any(|file| file.ends_with("redis-password")));
    assert_eq!(accept(&serde_json::to_value(&config).unwrap()).unwrap(), config);
}
