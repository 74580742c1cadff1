//! How long the node of a session has been away, so that all its requests together wait no longer than one may.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// The absence of a node, as the requests of one session met it.
#[derive(Debug, Default)]
pub(in crate::fallback) struct Absence(Mutex<Option<Missed>>);

#[derive(Debug, Clone, Copy)]
struct Missed {
    first: Instant,
    last: Instant,
}

impl Absence {
    /// The node was not reached at `now`; returns since when that is so. What was longer than `grace` ago is another matter.
    pub(in crate::fallback) fn missed(&self, now: Instant, grace: Duration) -> Instant {
        let mut missed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = missed.filter(|missed| now.saturating_duration_since(missed.last) <= grace);
        let first = before.map_or(now, |missed| missed.first);
        *missed = Some(Missed { first, last: now });
        first
    }

    /// The node was reached.
    pub(in crate::fallback) fn is_over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_lasts_until_the_node_is_reached_or_nobody_has_missed_it_for_long() {
        let (absence, grace, begin) = (Absence::default(), Duration::from_secs(15), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for seconds in [0, 1, 15, 16, 30, 45] {
            assert_eq!(absence.missed(at(seconds), grace), begin);
        }
        assert_eq!(absence.missed(at(61), grace), at(61));
        absence.is_over();
        assert_eq!(absence.missed(at(62), grace), at(62));
    }
}
