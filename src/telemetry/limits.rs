//! How much of each of the gateway's limits is used. The limits count it; here it is read when the metrics are.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use prometheus::{
    IntGaugeVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{families::opts, labels::Limit};

/// The maximum, none where there is no limit, and what is used of it.
type Source = Box<dyn Fn(Limit) -> (Option<u64>, u64) + Send + Sync>;

/// The families of limits and of what is used of them.
#[derive(Clone)]
pub(super) struct Limits(Arc<Inner>);

struct Inner {
    max: IntGaugeVec,
    used: IntGaugeVec,
    source: OnceLock<Source>,
    /// Only one writes the series and reads them out at a time.
    reading: Mutex<()>,
}

impl Limits {
    /// No series until there is a source.
    pub(super) fn new() -> Result<Limits, prometheus::Error> {
        let max = "What a limit of the whole gateway allows; no series where it is off.";
        let used = "What is used now of what the limit of that name counts.";
        let max = IntGaugeVec::new(opts("limit", max), &["limit"])?;
        let used = IntGaugeVec::new(opts("limit_used", used), &["limit"])?;
        Ok(Limits(Arc::new(Inner { max, used, source: OnceLock::new(), reading: Mutex::default() })))
    }

    /// Where it is read from; the first source stays.
    pub(super) fn read_from(&self, source: Source) {
        let _ = self.0.source.set(source);
    }

    /// Each limit with its maximum and what is used of it; nothing until there is a source.
    pub(super) fn now(&self) -> Vec<(Limit, Option<u64>, u64)> {
        let Some(source) = self.0.source.get() else { return Vec::new() };
        let read = |limit: &Limit| {
            let (max, used) = source(*limit);
            (*limit, max, used)
        };
        Limit::ALL.iter().map(read).collect()
    }
}

impl Collector for Limits {
    fn desc(&self) -> Vec<&Desc> {
        [self.0.max.desc(), self.0.used.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Inner { max, used, reading, .. } = &*self.0;
        let _reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for (limit, allowed, taken) in self.now() {
            match allowed {
                Some(allowed) => max.with_label_values(&[limit.as_str()]).set(whole(allowed)),
                // Fails where there is none, which is what is wanted.
                None => drop(max.remove_label_values(&[limit.as_str()])),
            }
            used.with_label_values(&[limit.as_str()]).set(whole(taken));
        }
        [max.collect(), used.collect()].concat()
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Limits")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_limit_that_is_switched_off_loses_its_series_and_keeps_what_is_used() {
        let metrics = Metrics::new().unwrap();
        assert_eq!(metrics.limits(), []);
        let off = Arc::new(AtomicBool::new(false));
        let is_off = off.clone();
        metrics.read_limits(move |limit| match limit {
            Limit::MaxSessions => ((!is_off.load(Ordering::Relaxed)).then_some(5), 3),
            _ => (Some(1024), 0),
        });
        let text = || String::from_utf8(metrics.render()).unwrap();
        let shown = text();
        assert!(shown.contains("fallgate_limit{limit=\"max_sessions\"} 5\n"), "{shown}");
        assert!(shown.contains("fallgate_limit{limit=\"open_files\"} 1024\n"), "{shown}");
        off.store(true, Ordering::Relaxed);
        let shown = text();
        assert!(!shown.contains("fallgate_limit{limit=\"max_sessions\"}"), "{shown}");
        assert!(shown.contains("fallgate_limit_used{limit=\"max_sessions\"} 3\n"), "{shown}");
        assert!(metrics.limits().contains(&(Limit::MaxSessions, None, 3)));
    }
}
