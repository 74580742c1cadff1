//! Whether one port of a node counts as up, given what checks and real connects say. Pure.

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
}

impl Default for Verdict {
    /// A port that was not checked yet counts as up.
    fn default() -> Self {
        Verdict { up: true, known: false, against: 0, missed: 0 }
    }
}

impl Verdict {
    /// Takes the result of a check into account; `threshold` results in a row turn it over. True when
    /// this one did.
    pub(super) fn checked(&mut self, good: bool, threshold: u32) -> bool {
        self.known = true;
        if self.up == good {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < threshold {
            return false;
        }
        *self = Verdict { up: good, known: true, against: 0, missed: 0 };
        true
    }

    /// Takes the result of a real connect into account. It can only mark the port down; true when it
    /// did.
    pub(super) fn connected(&mut self, good: bool) -> bool {
        self.missed = if good { 0 } else { self.missed + 1 };
        self.up && self.missed >= PASSIVE_THRESHOLD && self.checked(false, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_of_like_checks_turns_it_over() {
        let mut verdict = Verdict::default();
        for (good, turned) in [(false, false), (true, false), (false, false), (false, false), (false, true)] {
            assert_eq!(verdict.checked(good, 3), turned);
        }
        assert!(!verdict.up && verdict.known);
        assert!(!verdict.checked(true, 2) && verdict.checked(true, 2) && verdict.up);
    }

    #[test]
    fn two_failed_connects_in_a_row_take_it_down_and_a_good_one_does_not_bring_it_back() {
        let mut verdict = Verdict::default();
        assert!(!verdict.connected(false) && !verdict.connected(true) && !verdict.connected(false));
        assert!(verdict.connected(false) && !verdict.up);
        assert!(!verdict.connected(true) && !verdict.up);
    }
}
