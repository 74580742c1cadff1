//! Whether one port of a node counts as up, given what checks and real connects say. Pure.

use std::time::Instant;

/// Real connects that must fail in a row until a port counts as down without a check saying so.
const PASSIVE_THRESHOLD: u32 = 2;

/// Up or down, with the run of like results that may turn it over.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) up: bool,
    /// Whether any check has ended yet.
    pub(super) known: bool,
    /// Checks in a row that say the opposite of `up`.
    against: u32,
    /// Real connects that failed in a row. A connect that succeeds ends this run alone: a node may
    /// take connections and fail its checks.
    missed: u32,
    /// When a check found it up again last; none while it is down, or was never.
    pub(super) risen: Option<Instant>,
}

impl Default for Verdict {
    /// A port that was not checked yet counts as up.
    fn default() -> Self {
        Verdict { up: true, known: false, against: 0, missed: 0, risen: None }
    }
}

impl Verdict {
    /// Takes the result of a check into account; `threshold` results in a row turn it over. True when
    /// this one did.
    pub(super) fn checked(&mut self, good: bool, threshold: u32, now: Instant) -> bool {
        self.known = true;
        if self.up == good {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < threshold {
            return false;
        }
        *self = Verdict { up: good, known: true, against: 0, missed: 0, risen: good.then_some(now) };
        true
    }

    /// Takes the result of a real connect into account. It can only mark the port down; true when it
    /// did.
    pub(super) fn connected(&mut self, good: bool, now: Instant) -> bool {
        self.missed = if good { 0 } else { self.missed + 1 };
        self.up && self.missed >= PASSIVE_THRESHOLD && self.checked(false, 1, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_of_like_checks_turns_it_over() {
        let (mut verdict, now) = (Verdict::default(), Instant::now());
        for (good, turned) in [(false, false), (true, false), (false, false), (false, false), (false, true)] {
            assert_eq!(verdict.checked(good, 3, now), turned);
        }
        assert!(!verdict.up && verdict.known);
        assert!(!verdict.checked(true, 2, now) && verdict.checked(true, 2, now) && verdict.up);
    }

    #[test]
    fn two_failed_connects_in_a_row_take_it_down_and_a_good_one_does_not_bring_it_back() {
        let (mut verdict, now) = (Verdict::default(), Instant::now());
        assert!(!verdict.connected(false, now) && !verdict.connected(true, now) && !verdict.connected(false, now));
        assert!(verdict.connected(false, now) && !verdict.up);
        assert!(!verdict.connected(true, now) && !verdict.up);
    }

    #[test]
    fn only_a_check_that_brings_it_back_makes_it_rise() {
        let (mut verdict, now) = (Verdict::default(), Instant::now());
        let at = |seconds| now + std::time::Duration::from_secs(seconds);
        verdict.checked(true, 1, now);
        assert_eq!(verdict.risen, None, "the first check of a node that is up is no return");
        verdict.checked(false, 1, at(1));
        assert_eq!(verdict.risen, None);
        verdict.checked(true, 2, at(2));
        verdict.checked(true, 2, at(3));
        assert_eq!(verdict.risen, Some(at(3)));
        verdict.checked(true, 2, at(4));
        verdict.connected(true, at(5));
        assert_eq!(verdict.risen, Some(at(3)), "what goes on being so does not begin anew");
        verdict.connected(false, at(6));
        verdict.connected(false, at(7));
        assert_eq!(verdict.risen, None);
        verdict.checked(true, 1, at(8));
        assert_eq!(verdict.risen, Some(at(8)));
    }
}
