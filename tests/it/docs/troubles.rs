//! docs/troubleshooting.md: every word is told, and every name in it exists. Under which code a word stands is tested where the
//! answers are made (`src/fallback/answer.rs`, `src/forward/answer.rs`).

use std::{collections::BTreeSet, path::Path};

use fallgate::telemetry::{DropReason, Metrics, Reason};

use super::{page, pages, root};
use crate::readme::config_keys;

fn words() -> BTreeSet<&'static str> {
    Reason::ALL.iter().map(|r| r.as_str()).chain(DropReason::ALL.iter().map(|r| r.as_str())).collect()
}

#[test]
fn every_word_of_a_refusal_a_failure_or_a_drop_is_told() {
    let told: BTreeSet<_> = page("docs/troubleshooting.md").spans().into_iter().collect();
    let missing: Vec<_> = words().into_iter().filter(|word| !told.contains(*word)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn what_is_told_as_a_word_is_one() {
    let (page, words) = (page("docs/troubleshooting.md"), words());
    for table in page.text.split("| word |").skip(1) {
        for row in table.split("\n\n").next().unwrap().lines().filter(|line| line.starts_with("| `")) {
            let cell = row.split('|').nth(1).unwrap();
            for word in cell.split('`').skip(1).step_by(2) {
                assert!(words.contains(word), "{word}");
            }
        }
    }
}

#[test]
fn metrics_alerts_and_lines_of_the_log_that_pages_name_are_there() {
    let families: BTreeSet<_> = Metrics::new().unwrap().families().iter().map(|family| family.name.clone()).collect();
    let rules = std::fs::read_to_string(root().join("deploy/prometheus/fallgate.rules.yml")).unwrap();
    let source = source(&root().join("src"));
    // There are also names there that the autoscaler has for them.
    for page in pages().iter().filter(|page| page.path != "deploy/kubernetes/README.md") {
        let path = &page.path;
        for span in page.spans() {
            let name = span.split('{').next().unwrap();
            if name.starts_with("fallgate_") {
                assert!(families.contains(name), "{path}: {name}");
            } else if name.starts_with("Fallgate") {
                assert!(rules.contains(&format!("alert: {name}\n")), "{path}: {name}");
            }
        }
    }
    let page = page("docs/troubleshooting.md").prose().replace('\n', " ");
    let lines: Vec<_> = page.split('"').skip(1).step_by(2).filter(|line| line.ends_with('.')).collect();
    assert!(lines.len() > 6, "{lines:?}");
    for line in lines {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(source.contains(&format!("\"{line}\"")), "no such line of the log: {line}");
    }
}

fn source(dir: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        all += &if path.is_dir() { source(&path) } else { std::fs::read_to_string(&path).unwrap() };
    }
    all
}

#[test]
fn codes_have_the_text_that_the_client_gives_them() {
    let protocol = page("docs/protocol.md").text;
    let mut codes = 0;
    for heading in page("docs/troubleshooting.md").text.lines().filter_map(|line| line.strip_prefix("## Code ")) {
        let (code, text) = heading.split_once(": ").unwrap();
        let in_table = protocol.contains(&format!("| {code} | {text} |"));
        // Not in the table of management errors: seen for the connection itself.
        assert!(
            in_table || code == "27" || code == "44" || protocol.contains(&format!("{code}, \"{text}\"")),
            "{heading}"
        );
        codes += 1;
    }
    assert!(codes >= 12, "{codes}");
}

/// Keys with a dot can only be keys of the config.
#[test]
fn keys_that_pages_name_are_keys_of_the_config() {
    let keys = config_keys();
    let top: BTreeSet<_> = keys.iter().filter_map(|key| key.split(['.', '[']).next()).collect();
    for page in pages() {
        for span in page.spans() {
            let is_key = span.chars().all(|c| c.is_ascii_lowercase() || matches!(c, '.' | '_'));
            let first = span.split('.').next().unwrap();
            if is_key && span.contains('.') && top.contains(first) {
                let known = keys.iter().any(|key| *key == span || key.starts_with(&format!("{span}.")));
                assert!(known, "{}: {span}", page.path);
            }
        }
    }
}
