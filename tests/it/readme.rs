//! The README says what is: its tables come from the types, its configs from the files that are shipped.
//!
//! `FALLGATE_BLESS=1 cargo test readme` writes the tables anew.

use std::path::{Path, PathBuf};

use fallgate::{
    admin,
    config::Config,
    telemetry::{Metrics, Record},
};
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// Holds the lines between `<!-- NAME -->` and `<!-- /NAME -->` to `wanted`.
fn hold(name: &str, wanted: &str) {
    let text = readme();
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("no {open}")) + open.len();
    let end = text.find(&close).unwrap_or_else(|| panic!("no {close}"));
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(root().join("README.md"), format!("{}{wanted}{}", &text[..start], &text[end..])).unwrap();
        return;
    }
    assert!(text[start..end] == *wanted, "the table `{name}` is not what the types say; bless it:\n{wanted}");
}

/// A row per key of the schema: its path, its default, its sentence.
fn keys(schema: &Value, node: &Value, path: &str, rows: &mut Vec<String>) {
    let node = resolve(schema, node);
    if let Some(items) = node.get("items") {
        return keys(schema, items, &format!("{path}[]"), rows);
    }
    for branch in node.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        keys(schema, branch, path, rows);
    }
    for (key, field) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let inner = resolve(schema, field);
        let is_group = inner.get("properties").is_some();
        let said = field.get("description").and_then(Value::as_str).unwrap_or_default();
        if !is_group {
            rows.push(format!("| `{path}` | {} |\n", said.replace('|', "\\|")));
        }
        keys(schema, field, &path, rows);
    }
}

/// Every key that the table has.
pub(crate) fn config_keys() -> Vec<String> {
    let (schema, mut rows) = (Config::schema(), Vec::new());
    keys(&schema, &schema, "", &mut rows);
    rows.iter().map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

fn resolve<'s>(schema: &'s Value, node: &'s Value) -> &'s Value {
    let name = node.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/"));
    name.map_or(node, |name| resolve(schema, &schema["$defs"][name]))
}

#[test]
fn the_table_of_keys_is_the_schemas() {
    let schema = Config::schema();
    let mut rows = vec!["| key | meaning |\n|---|---|\n".to_owned()];
    keys(&schema, &schema, "", &mut rows);
    assert!(rows.len() > 40);
    hold("config", &rows.concat());
}

#[test]
fn the_table_of_metrics_is_the_registrys() {
    let metrics = Metrics::new().unwrap();
    let mut rows = vec!["| metric | labels | meaning |\n|---|---|---|\n".to_owned()];
    for family in metrics.families() {
        let labels = family.labels.iter().map(|l| format!("`{l}`")).collect::<Vec<_>>().join(" ");
        rows.push(format!("| `{}` | {labels} | {} |\n", family.name, family.help));
    }
    hold("metrics", &rows.concat());
}

#[test]
fn the_table_of_the_access_log_is_the_records() {
    let mut rows = vec!["| field | meaning |\n|---|---|\n".to_owned()];
    rows.extend(Record::FIELDS.iter().map(|(name, meaning)| format!("| `{name}` | {} |\n", meaning.trim())));
    hold("access log", &rows.concat());
}

#[test]
fn the_table_of_the_api_is_its_descriptions() {
    let description = admin::description();
    let mut rows = vec!["| request | what for |\n|---|---|\n".to_owned()];
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let method = method.to_uppercase();
            rows.push(format!("| `{method} {path}` | {} |\n", operation["summary"].as_str().unwrap()));
        }
    }
    hold("api", &rows.concat());
}

#[test]
fn the_configs_of_the_readme_are_those_that_are_shipped() {
    let minimal = std::fs::read_to_string(root().join("config/minimal.yaml")).unwrap();
    hold("minimal", &format!("```yaml\n{minimal}```\n"));
    Config::load(Path::new(&root().join("config/minimal.yaml"))).unwrap();
    let forward = std::fs::read_to_string(root().join("config/forward.yaml")).unwrap();
    hold("forward", &format!("```yaml\n{forward}```\n"));
    Config::load(Path::new(&root().join("config/forward.yaml"))).unwrap();
}

#[test]
fn every_place_that_contributing_names_is_there() {
    let text = std::fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let named = text.split(['`', ' ', '\n', '(', ')', '"', '$']).filter(|word| {
        ["src/", "tests/", "scripts/", "deploy/", "config/", "docs/"].iter().any(|folder| word.starts_with(folder))
    });
    let mut seen = 0;
    for place in named.map(|place| place.trim_end_matches([',', '.', ';', ':', ']'])) {
        seen += 1;
        // Of a pattern the folder.
        let place = place.split('*').next().unwrap();
        assert!(root().join(place).exists(), "{place}");
    }
    assert!(seen > 20, "only {seen}");
}
