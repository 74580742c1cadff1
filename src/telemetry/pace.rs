//! How fast bytes go: a pure core that is told sums and times.

use std::time::{Duration, Instant};

/// Over which time a rate is made; what is three times as long ago hardly shows in it.
const MEMORY: Duration = Duration::from_secs(3);
/// What moves in less time than this is averaged over this: a first burst is no pace.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// Below this many bytes a second nothing moves.
pub(super) const STILL: f64 = 1.0;

/// How fast bytes go, seen from time to time: the average over [`MEMORY`], where what is longer ago counts less. As long as
/// less time than that has passed it is the average over what has.
#[derive(Debug)]
pub(super) struct Pace {
    /// Since when something moves.
    begin: Instant,
    at: Instant,
    moved: Instant,
    bytes: (u64, u64),
    /// Averages as if before the beginning nothing had moved for ever.
    sums: (f64, f64),
}

impl Pace {
    pub(super) fn new(begin: Instant) -> Pace {
        Pace { begin, at: begin, moved: begin, bytes: (0, 0), sums: (0.0, 0.0) }
    }

    /// Takes the sums of all bytes so far.
    pub(super) fn sample(&mut self, now: Instant, up: u64, down: u64) {
        let past = now.saturating_duration_since(self.at).as_secs_f64();
        if past <= 0.0 {
            return;
        }
        if !self.is_moving() {
            (self.begin, self.sums) = (self.at, (0.0, 0.0));
        }
        let weight = 1.0 - (-past / MEMORY.as_secs_f64()).exp();
        let blend =
            |sum: f64, before: u64, bytes: u64| sum + weight * (bytes.saturating_sub(before) as f64 / past - sum);
        if (up, down) != self.bytes {
            self.moved = now;
        }
        self.sums = (blend(self.sums.0, self.bytes.0, up), blend(self.sums.1, self.bytes.1, down));
        (self.at, self.bytes) = (now, (up, down));
    }

    /// When something last moved, as the samples saw it; at first its beginning.
    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// Bytes a second up and down; what is next to nothing is nothing.
    pub(super) fn rates(&self) -> (f64, f64) {
        let age = self.at.saturating_duration_since(self.begin).max(FIRST);
        // What the time since the beginning weighs in the averages.
        let weight = 1.0 - (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        let or_still = |sum: f64| if sum / weight < STILL { 0.0 } else { sum / weight };
        (or_still(self.sums.0), or_still(self.sums.1))
    }

    pub(super) fn is_moving(&self) -> bool {
        self.rates() != (0.0, 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_pace_is_shown_as_it_is_and_a_pause_brings_it_down() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for second in 1..=20 {
            pace.sample(start + Duration::from_secs(second), second * 1000, 0);
        }
        assert!((pace.rates().0 - 1000.0).abs() < 10.0, "{:?}", pace.rates());
        pace.sample(start + Duration::from_secs(23), 20_000, 0);
        assert!(pace.rates().0 < 500.0, "{:?}", pace.rates());
        assert_eq!(pace.rates().1, 0.0);
    }

    #[test]
    fn a_steady_pace_is_right_from_the_first_second_and_again_after_a_standstill() {
        let start = Instant::now();
        for step in [50, 200, 1000] {
            let (mut pace, mut bytes) = (Pace::new(start), 0);
            for begin in [0, 100_000] {
                pace.sample(start + Duration::from_millis(begin), bytes, 2 * bytes);
                assert!(!pace.is_moving());
                for past in (step..=10_000).step_by(step as usize) {
                    bytes += step * 1000;
                    pace.sample(start + Duration::from_millis(begin + past), bytes, 2 * bytes);
                    let (up, down) = pace.rates();
                    let is_right = (up / 1e6 - 1.0).abs() < 0.05 && (down / 2e6 - 1.0).abs() < 0.05;
                    assert!(is_right || past < 1000 && up < 1e6, "every {step}, after {past}: {up} {down}");
                }
            }
        }
    }

    #[test]
    fn a_burst_in_the_first_moment_is_no_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.sample(start + Duration::from_millis(1), 1000, 0);
        assert!((900.0..1200.0).contains(&pace.rates().0), "{:?}", pace.rates());
    }

    #[test]
    fn two_samples_of_one_moment_and_counters_that_step_back_do_no_harm() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.sample(start, 10, 10);
        pace.sample(start + Duration::from_secs(1), 5000, 10);
        pace.sample(start + Duration::from_secs(2), 10, 10);
        assert!(pace.rates().0.is_finite() && pace.rates().0 >= 0.0);
    }
}
