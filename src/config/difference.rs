//! What differs between two configurations, and what of that a running process cannot apply.

use std::fmt;

use serde_json::Value;

use super::{Config, Protocol};

/// One thing that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The place, such as `listeners[fallback-https].upstream`.
    pub path: String,
    /// What of it.
    pub what: What,
}

/// How it differs.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// It has another value.
    Changed {
        /// What holds.
        from: Value,
        /// What would hold.
        to: Value,
    },
    /// It would be new.
    Added,
    /// It would be gone.
    Removed,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match &self.what {
            What::Changed { from, to } => write!(f, "{}: {} -> {}", self.path, text(from), text(to)),
            What::Added => write!(f, "{} is added", self.path),
            What::Removed => write!(f, "{} is removed", self.path),
        }
    }
}

impl Config {
    /// What would change if this configuration took the place of the running one, whatever that takes. A password that
    /// is another is not told, for passwords are masked; nor is another order of things that have names.
    #[must_use]
    pub fn differences(&self, running: &Config) -> Vec<Difference> {
        let mut found = Vec::new();
        compare("", &running.shown(), &self.shown(), &mut found);
        found
    }

    /// Takes over from the running configuration what a running process cannot change, so that this is what holds once
    /// it is applied; hands back the keys of which it wanted another value.
    pub fn keep_of(&mut self, running: &Config) -> Vec<String> {
        let mut kept = Vec::new();
        keep("admin.address", &mut self.admin.address, &running.admin.address, &mut kept);
        keep("state", &mut self.state, &running.state, &mut kept);
        keep("log.otlp_endpoint", &mut self.log.otlp_endpoint, &running.log.otlp_endpoint, &mut kept);
        for listener in self.listeners.iter_mut().filter(|listener| listener.protocol == Protocol::Udp) {
            // An address keeps the sockets that it has, so that no flow changes threads.
            if let Some(before) = running.listeners.iter().find(|before| listener.keeps_socket_of(before)) {
                let path = |key: &str| format!("listeners[{}].{key}", listener.name);
                let (workers, buffer) = (path("workers"), path("receive_buffer"));
                keep(&workers, &mut listener.workers, &before.workers, &mut kept);
                keep(&buffer, &mut listener.receive_buffer, &before.receive_buffer, &mut kept);
            }
        }
        kept
    }
}

fn keep<T: Clone + PartialEq>(path: &str, wanted: &mut T, running: &T, kept: &mut Vec<String>) {
    if wanted != running {
        wanted.clone_from(running);
        kept.push(path.to_owned());
    }
}

fn compare(path: &str, from: &Value, to: &Value, found: &mut Vec<Difference>) {
    match (from, to) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, old.get(key).unwrap_or(&Value::Null), new.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.iter().chain(new).all(|item| name(item).is_some()) => {
            let find = |items: &[Value], wanted: &Value| items.iter().find(|item| name(item) == name(wanted)).cloned();
            let place = |item: &Value| format!("{path}[{}]", name(item).unwrap_or_default());
            for item in old {
                match find(new, item) {
                    Some(other) => compare(&place(item), item, &other, found),
                    None => found.push(Difference { path: place(item), what: What::Removed }),
                }
            }
            let added = new.iter().filter(|item| find(old, item).is_none());
            found.extend(added.map(|item| Difference { path: place(item), what: What::Added }));
        }
        _ if from == to => {}
        _ => {
            found.push(Difference { path: path.to_owned(), what: What::Changed { from: from.clone(), to: to.clone() } })
        }
    }
}

fn name(item: &Value) -> Option<&str> {
    item.get("name")?.as_str()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn reference() -> Config {
        Config::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/fallgate.yaml"))).unwrap()
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Config {
        let mut tree = reference().shown();
        change(&mut tree);
        Config::from_yaml(&tree.to_string(), Path::new("")).unwrap()
    }

    fn told(config: &Config) -> Vec<String> {
        config.differences(&reference()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_changes_comes_and_goes_is_told_by_its_place() {
        assert_eq!(told(&reference()), [""; 0]);
        let config = changed(|tree| {
            tree["limits"]["max_sessions"] = json!(700);
            tree["bandwidth"]["total"] = json!("1Gbit/s");
            tree["listeners"][0]["tls"]["min_version"] = json!("1.3");
            let nodes = tree["upstreams"][0]["nodes"].as_array_mut().unwrap();
            nodes.push(json!({ "name": "n2", "host": "h", "ports": { "http": 1, "tcp": 2, "udp": 3 } }));
            tree["upstreams"].as_array_mut().unwrap().remove(1);
            tree["access_log"]["path"] = json!("off");
        });
        assert_eq!(
            told(&config),
            [
                "access_log.path: stdout -> off",
                "bandwidth.total: off -> 1Gbit/s",
                "limits.max_sessions: 2000 -> 700",
                "listeners[fallback-https].tls.min_version: 1.2 -> 1.3",
                "upstreams[transfer].nodes[n2] is added",
                "upstreams[transfer-by-request] is removed",
            ]
        );
    }

    #[test]
    fn another_order_of_what_has_names_is_no_difference() {
        let config = changed(|tree| tree["upstreams"].as_array_mut().unwrap().reverse());
        assert_eq!(told(&config), [""; 0]);
    }

    #[test]
    fn what_a_process_cannot_change_stays_and_is_named_and_all_else_is_taken() {
        let mut config = changed(|tree| {
            tree["admin"]["address"] = json!("off");
            tree["limits"]["max_sessions"] = json!(700);
            tree["listeners"][4]["workers"] = json!(3);
            tree["listeners"][4]["receive_buffer"] = json!("1MiB");
            tree["listeners"][4]["name"] = json!("renamed");
        });
        let kept = config.keep_of(&reference());
        assert_eq!(kept, ["admin.address", "listeners[renamed].workers", "listeners[renamed].receive_buffer"]);
        assert_eq!((config.admin.address, config.limits.max_sessions), (reference().admin.address, Some(700)));
        assert_eq!(config.listeners[4].workers, None);
        assert_eq!(config.keep_of(&reference()), [""; 0], "what is kept is no wish any more");
        // Other sockets are new, and are made as they are to be.
        let mut moved = changed(|tree| {
            tree["listeners"][4]["workers"] = json!(3);
            tree["listeners"][4]["address"] = json!("127.0.0.1:33001");
        });
        assert_eq!(moved.keep_of(&reference()), [""; 0]);
        assert_eq!(moved.listeners[4].workers, Some(3));
    }
}
