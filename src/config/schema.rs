//! The JSON Schema of the configuration, and the few questions the shape walk asks of it.

use serde_json::Value;

use super::Config;
use super::format;

/// The JSON Schema of a configuration file.
pub(super) fn generate() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// What one place of the schema accepts, with references and nested choices laid flat.
pub(super) struct Alternatives<'a> {
    branches: Vec<&'a Value>,
}

impl<'a> Alternatives<'a> {
    /// The alternatives at `schema`, which stands somewhere in `root`.
    pub(super) fn of(root: &'a Value, schema: &'a Value) -> Self {
        let mut branches = Vec::new();
        flatten(root, schema, &mut branches);
        Self { branches }
    }

    /// Whether `value` is accepted as it stands: a fixed word or truth value, or `null` where that is allowed.
    pub(super) fn has_literal(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.words().any(|word| word == text),
            Value::Bool(_) => self.branches.iter().any(|branch| choices(branch).any(|choice| choice == value)),
            Value::Null => self.wants("null"),
            _ => false,
        }
    }

    /// The fixed words, such as those of an enum.
    pub(super) fn words(&self) -> impl Iterator<Item = &'a str> + '_ {
        self.branches.iter().flat_map(|branch| words(branch))
    }

    /// Whether a value of this JSON type can be right; fixed words do not count as strings.
    pub(super) fn wants(&self, kind: &str) -> bool {
        self.branches.iter().any(|branch| types(branch).any(|name| name == kind))
    }

    /// Whether a text with this kind of format can be right.
    pub(super) fn has_format(&self, suffix: &str) -> bool {
        self.branches.iter().filter_map(|branch| format_of(branch)).any(|f| f.ends_with(suffix))
    }

    /// The branch that accepts values of the type of `value`.
    pub(super) fn branch_for(&self, value: &Value) -> Option<&'a Value> {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.branches.iter().copied().find(|branch| types(branch).any(|name| name == kind))
    }

    /// The one key that a mapping must have, where it must have one and no more.
    pub(super) fn only_key(&self) -> Option<&'a str> {
        let required = self.branches.iter().find_map(|branch| branch.get("required").and_then(Value::as_array));
        required.filter(|keys| keys.len() == 1)?.first()?.as_str()
    }

    /// What is accepted, for `expected ...`.
    pub(super) fn describe(&self) -> String {
        let words: Vec<&str> = self.words().collect();
        let mut parts: Vec<String> = self.branches.iter().filter_map(|branch| describe(branch)).collect();
        match words.as_slice() {
            [] => {}
            [word] => parts.push((*word).to_owned()),
            several => parts.push(format!("one of {}", several.join(", "))),
        }
        parts.join(" or ")
    }
}

fn flatten<'a>(root: &'a Value, schema: &'a Value, into: &mut Vec<&'a Value>) {
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix('#'));
    if let Some(target) = reference.and_then(|pointer| root.pointer(pointer)) {
        return flatten(root, target, into);
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(Value::Array(choices)) = schema.get(key) {
            return choices.iter().for_each(|choice| flatten(root, choice, into));
        }
    }
    into.push(schema);
}

fn words(branch: &Value) -> impl Iterator<Item = &str> {
    choices(branch).filter_map(Value::as_str)
}

/// The fixed values of a branch.
fn choices(branch: &Value) -> impl Iterator<Item = &Value> {
    let several = branch.get("enum").and_then(Value::as_array);
    branch.get("const").into_iter().chain(several.into_iter().flatten())
}

fn types(branch: &Value) -> impl Iterator<Item = &str> {
    let is_fixed = branch.get("const").is_some() || branch.get("enum").is_some();
    let said = branch.get("type").filter(|_| !is_fixed);
    let one = said.and_then(Value::as_str);
    let several = said.and_then(Value::as_array);
    one.into_iter().chain(several.into_iter().flatten().filter_map(Value::as_str))
}

fn format_of(branch: &Value) -> Option<&str> {
    branch.get("format").and_then(Value::as_str)
}

fn describe(branch: &Value) -> Option<String> {
    types(branch).find(|kind| *kind != "null").map(|kind| match kind {
        "object" => match branch.get("required").and_then(Value::as_array) {
            Some(keys) => {
                let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
                format!("a mapping with {}", keys.join(", "))
            }
            None => "a mapping".to_owned(),
        },
        "array" => "a list".to_owned(),
        "boolean" => "true or false".to_owned(),
        "integer" => {
            let bound = |key| branch.get(key).and_then(Value::as_u64);
            match (bound("minimum"), bound("maximum")) {
                (Some(least), Some(most)) if least == most => least.to_string(),
                (least, Some(most)) => {
                    format!("a whole number from {} to {most}", least.unwrap_or(0))
                }
                (Some(least), None) if least > 0 => format!("a whole number from {least}"),
                _ => "a whole number".to_owned(),
            }
        }
        _ => format_of(branch).map_or("a text", format::describe).to_owned(),
    })
}
