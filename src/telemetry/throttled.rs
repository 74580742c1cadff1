//! How long streams waited for caps on bandwidth. The caps count it; here it is read when the metrics are.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use prometheus::{
    CounterVec,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{
    families::opts,
    labels::{Direction, Scope},
};

type Source = Box<dyn Fn(Scope, Direction) -> Duration + Send + Sync>;

/// The family of what is waited, added up over all streams.
#[derive(Clone)]
pub(super) struct Throttled(Arc<Inner>);

struct Inner {
    seconds: CounterVec,
    source: OnceLock<Source>,
    /// Only one reads at a time, or what is new would be added twice.
    reading: Mutex<()>,
}

impl Throttled {
    /// All series at 0 until there is a source.
    pub(super) fn new(name: &str, help: &str) -> Result<Throttled, prometheus::Error> {
        let seconds = CounterVec::new(opts(name, help), &["scope", "direction"])?;
        Ok(Throttled(Arc::new(Inner { seconds, source: OnceLock::new(), reading: Mutex::default() })))
    }

    /// Where it is read from; the first source stays.
    pub(super) fn read_from(&self, source: Source) {
        let _ = self.0.source.set(source);
    }
}

impl Collector for Throttled {
    fn desc(&self) -> Vec<&Desc> {
        self.0.seconds.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Inner { seconds, source, reading } = &*self.0;
        let _reading = reading.lock().unwrap_or_else(PoisonError::into_inner);
        for (scope, direction) in Scope::ALL.iter().flat_map(|s| Direction::ALL.iter().map(move |d| (*s, *d))) {
            let counter = seconds.with_label_values(&[scope.as_str(), direction.as_str()]);
            let now = source.get().map_or(Duration::ZERO, |source| source(scope, direction));
            counter.inc_by((now.as_secs_f64() - counter.get()).max(0.0));
        }
        seconds.collect()
    }
}

impl fmt::Debug for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Throttled")
    }
}
