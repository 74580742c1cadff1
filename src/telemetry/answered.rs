//! Answered requests by operation and status, each series resolved when the first of its kind is counted.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use super::labels::Operation;

/// A node may send any number; only those that mean something get a series. 0 is no answer at all.
const STATUSES: &[(u16, &str)] = &[
    (0, "none"),
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (206, "206"),
    (301, "301"),
    (302, "302"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (407, "407"),
    (408, "408"),
    (409, "409"),
    (411, "411"),
    (413, "413"),
    (416, "416"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (501, "501"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
];
/// What any other status counts as.
const OTHER: &str = "other";

/// The counts of one listener.
#[derive(Debug)]
pub(super) struct Answered {
    listener: String,
    family: IntCounterVec,
    series: Vec<OnceLock<IntCounter>>,
}

impl Answered {
    pub(super) fn new(listener: &str, family: IntCounterVec) -> Answered {
        let places = Operation::ALL.len() * (STATUSES.len() + 1);
        Answered { listener: listener.to_owned(), family, series: (0..places).map(|_| OnceLock::new()).collect() }
    }

    /// Counts one more.
    pub(super) fn count(&self, operation: Operation, status: u16) {
        let found = STATUSES.binary_search_by_key(&status, |(status, _)| *status);
        let word = found.map_or(OTHER, |at| STATUSES[at].1);
        let place = operation as usize * (STATUSES.len() + 1) + found.unwrap_or(STATUSES.len());
        let resolve = || self.family.with_label_values(&[self.listener.as_str(), operation.as_str(), word]);
        if let Some(series) = self.series.get(place) {
            series.get_or_init(resolve).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn each_status_counts_for_itself_or_as_other_and_at_its_operation() {
        assert!(STATUSES.is_sorted());
        let metrics = Metrics::new().unwrap();
        let listener = metrics.listener("l");
        for (operation, status) in [(0, 200), (0, 299), (0, 999), (1, 200), (1, 0), (7, 507), (0, 200)] {
            listener.request(Operation::ALL[operation], status);
        }
        let text = String::from_utf8(metrics.render()).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("fallgate_requests_total{")).collect();
        let wanted = [
            ("file", "200", 1),
            ("file", "none", 1),
            ("other", "507", 1),
            ("session_start", "200", 2),
            ("session_start", "other", 2),
        ];
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(operation, status, n)| {
                format!("fallgate_requests_total{{listener=\"l\",operation=\"{operation}\",status=\"{status}\"}} {n}")
            })
            .collect();
        assert_eq!(lines, wanted);
    }
}
