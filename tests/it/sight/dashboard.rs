//! The dashboard as a document: what each panel shows, and in what unit.

use std::collections::HashSet;

use fallgate::telemetry::Metrics;
use serde_json::Value;

use super::shipped;

/// The dashboard as it is shipped.
pub(super) struct Dashboard(Value);

/// An expression of a dashboard, with where it stands.
pub(super) struct Shown {
    pub(super) place: String,
    pub(super) expr: String,
}

impl Dashboard {
    pub(super) fn read() -> Dashboard {
        let text = std::fs::read_to_string(shipped("grafana/fallgate.json")).unwrap();
        Dashboard(serde_json::from_str(&text).unwrap())
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.0["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row")
    }

    /// The expression of each target of each panel, with Grafana's variables filled in.
    pub(super) fn targets(&self) -> Vec<Shown> {
        let of_panel = |panel: &Value| {
            let title = text(&panel["title"]).to_owned();
            let targets = panel["targets"].as_array().unwrap().clone();
            targets.into_iter().map(move |t| {
                let place = format!("{title} / {}", text(&t["refId"]));
                Shown { place, expr: filled_in(text(&t["expr"])) }
            })
        };
        self.panels().flat_map(of_panel).collect()
    }

    /// What the variables ask for: series, and the label of which the values are taken.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let all = self.0["templating"]["list"].as_array().unwrap().iter().filter(|v| v["type"] == "query");
        let asked = all.map(|v| {
            let inner = text(&v["query"]["query"]).strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
            let (series, label) = inner.rsplit_once(", ").unwrap();
            (filled_in(series), label.to_owned())
        });
        asked.collect()
    }

    /// What marks points in time.
    pub(super) fn annotations(&self) -> Vec<Shown> {
        let all = self.0["annotations"]["list"].as_array().unwrap().iter();
        all.map(|a| Shown { place: text(&a["name"]).to_owned(), expr: filled_in(text(&a["expr"])) }).collect()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// With all of everything, over as short a time as a test has.
fn filled_in(expr: &str) -> String {
    let mut filled = expr.to_owned();
    for (variable, value) in
        [("$__rate_interval", "5s"), ("$__range", "1m"), ("$job", "fallgate"), ("$instance", ".*"), ("$listener", ".*")]
    {
        filled = filled.replace(variable, value);
    }
    assert!(!filled.contains('$'), "a variable that is not known: {filled}");
    filled
}

#[test]
fn each_panel_says_what_it_shows_in_a_unit_and_a_legend() {
    let dashboard = Dashboard::read();
    assert!(dashboard.0["schemaVersion"].as_u64().unwrap() >= 38, "of Grafana 10 or later");
    let mut ids = HashSet::new();
    for panel in dashboard.0["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
    }
    for panel in dashboard.panels() {
        let title = text(&panel["title"]);
        assert!(text(&panel["description"]).ends_with('.'), "{title} says in a sentence what it shows");
        assert!(!text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert_eq!(text(&target["legendFormat"]).is_empty(), panel["type"] == "table", "{title}");
            let expr = text(&target["expr"]);
            let has_rate = expr.contains("rate(") || expr.contains("increase(");
            assert!(!has_rate || expr.contains("[$__rate_interval]") || expr.contains("[$__range]"), "{title}");
            assert!(expr.contains("$job") && expr.contains("$instance"), "{title} is of the chosen gateways");
        }
    }
}

#[test]
fn panels_do_not_lie_on_each_other_and_each_is_below_its_row() {
    let dashboard = Dashboard::read();
    let mut taken = HashSet::new();
    for panel in dashboard.0["panels"].as_array().unwrap() {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for (column, line) in (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line))) {
            assert!(taken.insert((column, line)), "{}", panel["title"]);
        }
    }
}

#[test]
fn each_family_is_somewhere_on_the_dashboard_and_no_other() {
    let shown: String = Dashboard::read().targets().into_iter().map(|t| t.expr + "\n").collect();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: HashSet<_> = shown.split(|c| !is_word(c)).filter(|word| word.starts_with("fallgate_")).collect();
    let metrics = Metrics::new().unwrap();
    let families: HashSet<_> = metrics.families().iter().map(|family| family.name.as_str()).collect();
    let base = |name: &&str| families.contains(name.trim_end_matches("_bucket").trim_end_matches("_count"));
    let unknown: Vec<_> = names.iter().filter(|name| !base(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let missing: Vec<_> = families.iter().filter(|f| !names.iter().any(|name| name.starts_with(**f))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
