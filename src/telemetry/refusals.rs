//! When each listener last refused, and why: for people, who ask what was refused just now, and not for metrics.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::IntCounter;

use super::labels::Reason;

/// What a listener refused, or failed at, for one reason since it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalSeen {
    /// The listener's name.
    pub listener: String,
    /// Why.
    pub reason: Reason,
    /// How often.
    pub total: u64,
    /// When it did so last, to the millisecond.
    pub last: SystemTime,
}

/// The counts of one listener with their times, shared by all who count for it.
#[derive(Debug)]
pub(super) struct OfListener(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    count: IntCounter,
    /// Milliseconds since the Unix epoch; 0 is never.
    last: AtomicU64,
}

impl OfListener {
    /// Counts one more, now.
    pub(super) fn count(&self, reason: Reason) {
        let Some(slot) = self.0.get(reason as usize) else { return };
        slot.count.inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A clock that stands at the epoch is not to look as if nothing had been.
        slot.last.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }
}

/// The refusals of all listeners by name, so that those of a listener go on when a reload builds it anew.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<BTreeMap<String, Arc<OfListener>>>);

impl Refusals {
    /// Those of a listener; `counter` gives the series of a reason when there are none yet.
    pub(super) fn of(&self, listener: &str, counter: impl Fn(Reason) -> IntCounter) -> Arc<OfListener> {
        let slot = |reason: &Reason| Slot { count: counter(*reason), last: AtomicU64::new(0) };
        let fresh = || Arc::new(OfListener(Reason::ALL.iter().map(slot).collect()));
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(listener.to_owned()).or_insert_with(fresh).clone()
    }

    /// Forgets those of all listeners but these.
    pub(super) fn forget(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|listener, _| keep(listener));
    }

    /// All that there were, by listener and then by reason.
    pub(super) fn seen(&self) -> Vec<RefusalSeen> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = Vec::new();
        for (listener, own) in all.iter() {
            for (reason, slot) in Reason::ALL.iter().zip(&own.0) {
                let last = slot.last.load(Ordering::Relaxed);
                if last > 0 {
                    seen.push(RefusalSeen {
                        listener: listener.clone(),
                        reason: *reason,
                        total: slot.count.get(),
                        last: UNIX_EPOCH + Duration::from_millis(last),
                    });
                }
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn what_was_refused_is_told_with_its_last_time_across_reloads() {
        let metrics = Metrics::new().unwrap();
        let before = metrics.listener("b");
        assert_eq!(metrics.refusals(), []);
        let begin = SystemTime::now() - Duration::from_millis(1);
        before.refusal(Reason::BadHead);
        let after = metrics.listener("b");
        after.refusal(Reason::BadHead);
        metrics.listener("a").refusal(Reason::NoNode);
        let told = metrics.refusals();
        let short: Vec<_> = told.iter().map(|r| (r.listener.as_str(), r.reason, r.total)).collect();
        assert_eq!(short, [("a", Reason::NoNode, 1), ("b", Reason::BadHead, 2)]);
        assert!(told.iter().all(|r| r.last >= begin && r.last <= SystemTime::now()), "{told:?}");
        let shown = String::from_utf8(metrics.render()).unwrap();
        assert!(shown.contains("fallgate_refusals_total{listener=\"b\",reason=\"bad_head\"} 2\n"));
    }
}
