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

/// How it stands; none where nothing is kept.
type Source = Box<dyn Fn() -> Option<KeptNow> + Send + Sync>;

/// How it stands with what is kept.
#[derive(Debug, Clone, Copy)]
pub struct KeptNow {
    /// Whether the last change is kept.
    pub is_well: bool,
    /// How many could not be.
    pub failures: u64,
    /// How many replicas live, this one among them; none where nobody shares it.
    pub replicas: Option<usize>,
}

/// The families of kept state.
#[derive(Clone)]
pub(super) struct KeptState(Arc<Inner>);

struct Inner {
    up: IntGaugeVec,
    errors: IntCounterVec,
    replicas: IntGaugeVec,
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
        let replicas = "Gateways that share sessions and pins and live, this one among them, as it knows; 1 where it shares them with nobody.";
        let replicas = IntGaugeVec::new(opts("replicas", replicas), &[])?;
        Ok(KeptState(Arc::new(Inner { up, errors, replicas, source: OnceLock::new(), reading: Mutex::default() })))
    }

    /// Where it is read from; the first source stays.
    pub(super) fn read_from(&self, source: Source) {
        let _ = self.0.source.set(source);
    }
}

impl Collector for KeptState {
    fn desc(&self) -> Vec<&Desc> {
        [self.0.up.desc(), self.0.errors.desc(), self.0.replicas.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Inner { up, errors, replicas, source, reading } = &*self.0;
        let _reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(now) = source.get().and_then(|source| source()) {
            up.with_label_values::<&str>(&[]).set(i64::from(now.is_well));
            let counted = errors.with_label_values(&["write"]);
            counted.inc_by(now.failures.saturating_sub(counted.get()));
            let live = i64::try_from(now.replicas.unwrap_or(1)).unwrap_or(i64::MAX);
            replicas.with_label_values::<&str>(&[]).set(live);
        }
        [up.collect(), errors.collect(), replicas.collect()].concat()
    }
}

impl fmt::Debug for KeptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptState")
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::{KeptNow, Metrics};

    #[test]
    fn kept_state_has_series_only_where_something_is_kept() {
        let text = |metrics: &Metrics| String::from_utf8(metrics.render()).unwrap();
        let metrics = Metrics::new().unwrap();
        metrics.read_kept(|| None);
        assert!(!text(&metrics).contains("fallgate_shared_state"));
        let metrics = Metrics::new().unwrap();
        metrics.read_kept(|| Some(KeptNow { is_well: false, failures: 3, replicas: Some(2) }));
        for _ in 0..2 {
            let shown = text(&metrics);
            assert!(shown.contains("fallgate_shared_state_up 0\n"), "{shown}");
            assert!(shown.contains("fallgate_shared_state_errors_total{operation=\"write\"} 3\n"), "{shown}");
            assert!(shown.contains("fallgate_replicas 2\n"), "{shown}");
        }
    }
}
