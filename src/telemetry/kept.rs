//! How it stands with what other processes are to know of sessions and pins. Whoever keeps it knows; here it is read when
//! the metrics are.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prometheus::{
    IntCounterVec, IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::families::opts;

/// Whether the last change is kept, and how many could not be written; none where nothing is kept.
type Source = Box<dyn Fn() -> Option<(bool, u64)> + Send + Sync>;

/// The families of kept state.
#[derive(Clone)]
pub(super) struct KeptState(Arc<Inner>);

struct Inner {
    up: IntGaugeVec,
    errors: IntCounterVec,
    source: OnceLock<Source>,
    /// Only one writes the series and reads them out at a time.
    reading: Mutex<()>,
}

impl KeptState {
    /// No series until there is a source that keeps something.
    pub(super) fn new() -> Result<KeptState, prometheus::Error> {
        let up = "1 while the place where sessions and pins are kept takes what changes, else 0; no series where it is memory.";
        let errors = "Times that what had changed could not be kept.";
        let up = IntGaugeVec::new(opts("shared_state_up", up), &[])?;
        let errors = IntCounterVec::new(opts("shared_state_errors_total", errors), &["operation"])?;
        Ok(KeptState(Arc::new(Inner { up, errors, source: OnceLock::new(), reading: Mutex::default() })))
    }

    /// Where it is read from; the first source stays.
    pub(super) fn read_from(&self, source: Source) {
        let _ = self.0.source.set(source);
    }
}

impl Collector for KeptState {
    fn desc(&self) -> Vec<&Desc> {
        [self.0.up.desc(), self.0.errors.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Inner { up, errors, source, reading } = &*self.0;
        let _reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((is_well, failures)) = source.get().and_then(|source| source()) {
            up.with_label_values::<&str>(&[]).set(i64::from(is_well));
            let counted = errors.with_label_values(&["write"]);
            counted.inc_by(failures.saturating_sub(counted.get()));
        }
        [up.collect(), errors.collect()].concat()
    }
}

impl fmt::Debug for KeptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptState")
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    #[test]
    fn kept_state_has_series_only_where_something_is_kept() {
        let text = |metrics: &Metrics| String::from_utf8(metrics.render()).unwrap();
        let metrics = Metrics::new().unwrap();
        metrics.read_kept(|| None);
        assert!(!text(&metrics).contains("fallgate_shared_state"));
        let metrics = Metrics::new().unwrap();
        metrics.read_kept(|| Some((false, 3)));
        for _ in 0..2 {
            let shown = text(&metrics);
            assert!(shown.contains("fallgate_shared_state_up 0\n"), "{shown}");
            assert!(shown.contains("fallgate_shared_state_errors_total{operation=\"write\"} 3\n"), "{shown}");
        }
    }
}
