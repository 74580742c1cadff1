//! The shape walk: a tree of values against the schema of the types, every problem of it in one go.
//!
//! It expands `${NAME}` on the way, because only the schema tells whether the result is to be a number. A tree that comes
//! through without a problem can be turned into the types.

use serde_json::{Map, Value};

use super::env::{self, Lookup};
use super::error::Problem;
use super::format;
use super::schema::Alternatives;
use super::suggest::{did_you_mean, nearest};

/// Checks `value` against `schema`, expanding variables in place.
pub(super) fn check(schema: &Value, value: &mut Value, lookup: Lookup<'_>) -> Vec<Problem> {
    let mut walk = Walk { root: schema, lookup, problems: Vec::new() };
    walk.value(schema, value, "");
    walk.problems
}

struct Walk<'a> {
    root: &'a Value,
    lookup: Lookup<'a>,
    problems: Vec<Problem>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &'a Value, value: &mut Value, path: &str) {
        let alternatives = Alternatives::of(self.root, schema);
        if !self.expand(&alternatives, value, path) || alternatives.has_literal(value) {
            return;
        }
        let Some(branch) = alternatives.branch_for(value) else {
            self.mismatch(&alternatives, value, path);
            return;
        };
        match value {
            Value::Object(fields) => self.object(branch, fields, path),
            Value::Array(items) => self.array(branch, items, path),
            Value::Number(_) => self.number(&alternatives, branch, value, path),
            Value::String(text) => self.text(&alternatives, branch, text, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Replaces the variables of a text; `false` when that failed and there is nothing more to look at.
    fn expand(&mut self, alternatives: &Alternatives<'_>, value: &mut Value, path: &str) -> bool {
        let Value::String(text) = value else {
            return true;
        };
        if !text.contains("${") {
            return true;
        }
        match env::expand(text, self.lookup) {
            Ok(expanded) => {
                let number = expanded.parse::<u64>().ok().filter(|_| alternatives.wants("integer")).map(Value::from);
                let truth = expanded.parse::<bool>().ok().map(Value::from).filter(|t| alternatives.has_literal(t));
                *value = number.or(truth).unwrap_or_else(|| Value::from(expanded.into_owned()));
                true
            }
            Err(error) => {
                self.problems.push(Problem::new(path, error.to_string()).hint(error.hint()));
                false
            }
        }
    }

    fn object(&mut self, schema: &'a Value, fields: &mut Map<String, Value>, path: &str) {
        let Some(Value::Object(known)) = schema.get("properties") else {
            return;
        };
        let required = schema.get("required").and_then(Value::as_array);
        let mut missing: Vec<&str> =
            required.map(|keys| keys.iter().filter_map(Value::as_str).collect()).unwrap_or_default();
        missing.retain(|key| !fields.contains_key(*key));
        let absent = known.keys().map(String::as_str).filter(|key| !fields.contains_key(*key));
        let absent: Vec<&str> = absent.collect();
        for (key, value) in fields.iter_mut() {
            let place = join(path, key);
            if let Some(schema) = known.get(key) {
                self.value(schema, value, &place);
                continue;
            }
            let all = || known.keys().map(String::as_str);
            let likely = nearest(key, absent.iter().copied());
            // A misspelt key is one problem, not two.
            missing.retain(|key| Some(*key) != likely);
            let hint = likely
                .or_else(|| nearest(key, all()))
                .map_or_else(|| format!("known here: {}", list(all())), |key| format!("did you mean {key:?}?"));
            self.problems.push(Problem::new(place, "unknown key").hint(hint));
        }
        for key in missing {
            let expected = known.get(key).map(|schema| Alternatives::of(self.root, schema).describe());
            let hint = expected.map(|expected| format!("give it {expected}"));
            self.problems.push(Problem::new(join(path, key), "this key is required").hint(hint));
        }
    }

    fn array(&mut self, schema: &'a Value, items: &mut [Value], path: &str) {
        if (items.len() as u64) < bound(schema, "minItems").unwrap_or(0) {
            let hint = "give at least one entry".to_owned();
            self.problems.push(Problem::new(path, "the list is empty").hint(hint));
        }
        let Some(schema) = schema.get("items") else {
            return;
        };
        let names: Vec<Option<String>> =
            items.iter().map(|item| item.get("name").and_then(Value::as_str).map(str::to_owned)).collect();
        for (index, item) in items.iter_mut().enumerate() {
            let place = item_path(path, &names, index);
            self.value(schema, item, &place);
        }
    }

    fn number(&mut self, all: &Alternatives<'_>, schema: &Value, value: &Value, path: &str) {
        let Some(number) = value.as_u64() else {
            return self.mismatch(all, value, path);
        };
        let highest = bound(schema, "maximum").unwrap_or(match schema.get("format") {
            Some(Value::String(format)) if format == "uint32" => u64::from(u32::MAX),
            Some(Value::String(format)) if format == "uint16" => u64::from(u16::MAX),
            _ => u64::MAX,
        });
        if number < bound(schema, "minimum").unwrap_or(0) || number > highest {
            self.mismatch(all, value, path);
        }
    }

    fn text(&mut self, all: &Alternatives<'_>, schema: &Value, text: &str, path: &str) {
        if text.is_empty() && bound(schema, "minLength").is_some_and(|least| least > 0) {
            self.problems.push(Problem::new(path, "the text is empty"));
        }
        let Some(format) = schema.get("format").and_then(Value::as_str) else {
            return;
        };
        if let Err(refusal) = format::check(format, text) {
            let word = did_you_mean(text, all.words());
            self.problems.push(Problem::new(path, refusal.message).hint(word.or(refusal.hint)));
        }
    }

    fn mismatch(&mut self, expected: &Alternatives<'_>, found: &Value, path: &str) {
        let message = format!("expected {}, found {}", expected.describe(), describe(found));
        self.problems.push(Problem::new(path, message).hint(hint(expected, found)));
    }
}

/// What to write instead of a value of the wrong kind.
fn hint(expected: &Alternatives<'_>, found: &Value) -> Option<String> {
    let is_word = |word: &str| expected.words().any(|known| known == word);
    match found {
        Value::Null => Some("give it a value, or leave the key out if it has a default".to_owned()),
        Value::Bool(false) if is_word("off") => Some("write off".to_owned()),
        Value::Number(number) if expected.has_format("duration") => {
            Some(format!("write \"{number}s\" if seconds are meant; units: ms, s, m, h, d"))
        }
        Value::Number(number) if expected.has_format("size") => {
            Some(format!("write \"{number}B\" if bytes are meant; units: B, KiB, MiB, GiB, KB, MB, GB"))
        }
        Value::Number(number) if expected.has_format("bandwidth") => {
            Some(format!("write \"{number}Mbit/s\" or another unit: kbit/s, Mbit/s, Gbit/s, KB/s, MB/s, GB/s"))
        }
        Value::Number(number) if expected.has_format("rate") => {
            Some(format!("write \"{number}/s\" if that is meant; units: /s, /min, /h"))
        }
        Value::Number(_) | Value::Bool(_)
            if is_word(&found.to_string()) || expected.wants("string") && !expected.wants("integer") =>
        {
            Some(format!("put it in quotes: \"{found}\""))
        }
        Value::String(text) if expected.wants("integer") && text.parse::<u64>().is_ok() => {
            Some(format!("write {text} without quotes"))
        }
        Value::String(text) => did_you_mean(text, expected.words())
            .or_else(|| expected.only_key().map(|key| format!("write {{ {key}: {text:?} }} if that is meant"))),
        Value::Object(_) if expected.wants("array") => Some("begin each entry of the list with \"- \"".to_owned()),
        _ => None,
    }
}

/// A found value in a few words.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() > 60 => {
            format!("{:?}...", text.chars().take(60).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn bound(schema: &Value, key: &str) -> Option<u64> {
    schema.get(key).and_then(Value::as_u64)
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The place of an item: by its name where that is fit and not given twice, by its index elsewhere.
pub(super) fn item_path(path: &str, names: &[Option<String>], index: usize) -> String {
    let name = names.get(index).and_then(Option::as_deref).filter(|name| format::is_name(name));
    let alone = |name: &&str| names.iter().flatten().filter(|other| other == name).count() == 1;
    match name.filter(alone) {
        Some(name) => format!("{path}[{name}]"),
        None => format!("{path}[{index}]"),
    }
}
