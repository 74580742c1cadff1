//! What of a configuration can be changed while it holds, and how.

use serde_json::{Map, Value};

use super::{Config, Problem, none_of, schema, shape, validate};

/// The keys that can be changed without a new configuration.
const CHANGEABLE: &str =
    "log.level and bandwidth.total, per_client, per_session and per_node can be changed; all else by a reload";

impl Config {
    /// The configuration as a file may hold it, with all defaults; passwords are masked.
    #[must_use]
    pub fn shown(&self) -> Value {
        let mut tree = serde_json::to_value(self).unwrap_or_default();
        escape(&mut tree);
        tree
    }

    /// The same configuration with a change: a tree of nothing but what is to be another. `${NAME}` is not expanded in it.
    ///
    /// # Errors
    /// The change names what cannot be changed, or is wrong; then all of it is reported.
    pub fn with_change(&self, change: &Value) -> Result<Config, Vec<Problem>> {
        let change = change.as_object().filter(|change| !change.is_empty());
        let change =
            change.ok_or_else(|| vec![Problem::new("", "the change names nothing").hint(CHANGEABLE.to_owned())])?;
        none_of(unchangeable(change))?;
        // What is not changed was valid, and passwords are masked: of the result only the changed sections are taken.
        let mut tree = self.shown();
        for (section, keys) in change {
            for (key, value) in keys.as_object().into_iter().flatten() {
                tree[section][key] = value.clone();
            }
        }
        none_of(shape::check(&schema::generate(), &mut tree, &|_| None))?;
        let said: Config = serde_json::from_value(tree).map_err(|error| vec![Problem::new("", error.to_string())])?;
        none_of(validate::validate(&said))?;
        let mut changed = self.clone();
        changed.bandwidth = said.bandwidth;
        changed.log.level = said.log.level;
        Ok(changed)
    }
}

/// Writes what looks like a variable so that it stands for itself.
fn escape(tree: &mut Value) {
    match tree {
        Value::String(text) => *text = text.replace("${", "$${"),
        Value::Array(items) => items.iter_mut().for_each(escape),
        Value::Object(fields) => fields.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// One problem for each key that cannot be changed.
fn unchangeable(change: &Map<String, Value>) -> Vec<Problem> {
    let cannot = |path: String| Problem::new(path, "cannot be changed while it holds").hint(CHANGEABLE.to_owned());
    let mut problems = Vec::new();
    for (section, keys) in change {
        let allowed: &[&str] = match section.as_str() {
            "log" => &["level"],
            "bandwidth" => &["total", "per_client", "per_session", "per_node"],
            _ => &[],
        };
        match keys.as_object() {
            Some(keys) if !allowed.is_empty() && !keys.is_empty() => {
                let others = keys.keys().filter(|key| !allowed.contains(&key.as_str()));
                problems.extend(others.map(|key| cannot(format!("{section}.{key}"))));
            }
            _ => problems.push(cannot(section.clone())),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::{Bandwidth, LogLevel};

    fn reference() -> Config {
        Config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/fallgate.yaml"))).unwrap()
    }

    #[test]
    fn the_level_and_the_caps_change_and_nothing_else() {
        let before = reference();
        let change = json!({ "log": { "level": "debug" }, "bandwidth": { "total": "1Gbit/s", "per_client": { "upload": "400Mbit/s" } } });
        let after = before.with_change(&change).unwrap();
        assert_eq!(after.log.level, LogLevel::Debug);
        let total = Bandwidth { upload: Some(125_000_000), download: Some(125_000_000) };
        assert_eq!((after.bandwidth.total, after.bandwidth.per_session), (total, before.bandwidth.per_session));
        assert_eq!(after.bandwidth.per_client, Bandwidth { upload: Some(50_000_000), download: None });
        let off = after
            .with_change(&json!({ "bandwidth": { "total": "off", "per_client": "off" }, "log": { "level": "info" } }));
        assert_eq!(off.unwrap(), before);
    }

    #[test]
    fn what_cannot_be_changed_is_named_with_what_can() {
        for (change, path) in [
            (json!({ "limits": { "max_sessions": 5 } }), "limits"),
            (json!({ "log": { "otlp": true } }), "log.otlp"),
            (json!({ "log": {} }), "log"),
            (json!({ "bandwidth": "off" }), "bandwidth"),
            (json!({}), ""),
            (json!([1]), ""),
            (json!(null), ""),
        ] {
            let problems = reference().with_change(&change).unwrap_err();
            assert_eq!((problems.len(), problems[0].path.as_str()), (1, path), "{change}");
            assert!(problems[0].hint.as_ref().unwrap().contains("bandwidth.total"));
        }
    }

    #[test]
    fn a_wrong_value_is_told_as_in_a_file_and_no_variable_is_expanded() {
        for (change, path) in [
            (json!({ "log": { "level": "loud" } }), "log.level"),
            (json!({ "bandwidth": { "total": 5 } }), "bandwidth.total"),
            (json!({ "bandwidth": { "total": "${HOME}" } }), "bandwidth.total"),
            (json!({ "bandwidth": { "total": "8Mbit/s", "per_client": "9Mbit/s" } }), "bandwidth.per_client"),
        ] {
            let problems = reference().with_change(&change).unwrap_err();
            assert!(problems.iter().any(|problem| problem.path.starts_with(path)), "{change}: {problems:?}");
            assert!(!format!("{problems:?}").contains("/root"));
        }
    }

    #[test]
    fn what_looks_like_a_variable_stands_for_itself_in_what_is_shown_and_in_what_is_changed() {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/minimal.yaml")).unwrap();
        let text = text.replace("upstreams:", "upstreams:\n  - { name: odd, health_check: { http: { path: '/a$${b}' } }, nodes: [ { name: n1, host: h, ports: { http: 1 } } ] }");
        let config = Config::from_yaml(&text, Path::new("")).unwrap();
        assert!(config.shown().to_string().contains("/a$${b}"));
        assert_eq!(Config::from_yaml(&config.shown().to_string(), Path::new("")).unwrap(), config);
        let changed = config.with_change(&json!({ "log": { "level": "debug" } })).unwrap();
        assert_eq!(changed.upstreams, config.upstreams);
    }

    proptest! {
        #[test]
        fn no_change_panics(key in "log|bandwidth|total|.{0,8}", inner in "level|total|per_node|.{0,8}", value in ".{0,12}") {
            let _ = reference().with_change(&json!({ key: { inner: value } }));
        }
    }
}
