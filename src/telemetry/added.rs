//! What the gateway itself adds to a request: a clock that runs while the gateway is at work, and stands while it waits for
//! anybody else.

use std::time::{Duration, Instant};

use prometheus::Histogram;

/// Where the clocks of one listener's requests are read out; cloning shares the series.
#[derive(Debug, Clone)]
pub struct AddedLatency(pub(super) Histogram);

/// How long the gateway has been at work on one request. It neither locks nor allocates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkClock {
    spent: Duration,
    /// It runs since then, if it does.
    since: Option<Instant>,
    /// What it tells is counted, once.
    counts: bool,
}

impl WorkClock {
    /// Runs since `begin`.
    pub fn running_since(begin: Instant) -> WorkClock {
        WorkClock { spent: Duration::ZERO, since: Some(begin), counts: true }
    }

    /// The gateway is at work again; nothing if it was already.
    pub fn run(&mut self) {
        self.run_from(Instant::now());
    }

    /// The gateway has been at work again since `at`; nothing if it was already.
    pub fn run_from(&mut self, at: Instant) {
        self.since.get_or_insert(at);
    }

    /// Somebody else is waited for; nothing if that was so already.
    pub fn stand(&mut self) {
        self.stand_at(Instant::now());
    }

    /// Somebody else has been waited for since `at`; nothing if that was so already.
    pub fn stand_at(&mut self, at: Instant) {
        if let Some(since) = self.since.take() {
            self.spent += at.saturating_duration_since(since);
        }
    }

    /// The request met trouble: what was spent on it is nothing that an ordinary one sees, and is not counted.
    pub fn spoil(&mut self) {
        self.counts = false;
    }

    /// The work is done: it stands, and what it tells is counted in `series` unless that was done or it is spoiled.
    pub fn count(&mut self, series: &AddedLatency) {
        self.stand();
        if std::mem::take(&mut self.counts) {
            series.0.observe(self.spent.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    /// A clock that ran for so many milliseconds.
    fn ran(millis: u64) -> WorkClock {
        let begin = Instant::now().checked_sub(Duration::from_millis(millis)).unwrap();
        let mut clock = WorkClock::running_since(begin);
        clock.stand();
        clock
    }

    fn counted(metrics: &Metrics) -> (u64, f64) {
        let text = String::from_utf8(metrics.render()).unwrap();
        let value = |name: &str| {
            let line = text.lines().find(|l| l.starts_with(&format!("fallgate_added_latency_seconds_{name}"))).unwrap();
            line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
        };
        (value("count") as u64, value("sum"))
    }

    #[test]
    fn a_clock_that_stands_adds_nothing() {
        let mut clock = ran(40);
        let spent = clock.spent;
        assert!(spent >= Duration::from_millis(40) && clock.since.is_none());
        clock.stand();
        assert_eq!(clock.spent, spent);
        clock.run();
        let since = clock.since;
        clock.run();
        assert_eq!(clock.since, since, "a clock that runs is not begun anew");
        clock.stand_at(since.unwrap());
        assert_eq!(clock.spent, spent);
    }

    #[test]
    fn a_request_is_counted_once_and_one_that_met_trouble_not_at_all() {
        let metrics = Metrics::new().unwrap();
        let series = metrics.listener("l").added_latency();
        let mut clock = ran(40);
        clock.count(&series);
        clock.run();
        clock.count(&series);
        let mut spoiled = ran(40);
        spoiled.spoil();
        spoiled.count(&series);
        let (count, sum) = counted(&metrics);
        assert_eq!(count, 1);
        assert!((0.04..4.0).contains(&sum), "{sum}");
    }
}
