//! How many connections may be open at once.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Counts open connections against a maximum that may change while it runs.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    open: Arc<AtomicU32>,
    max: Arc<AtomicU32>,
}

impl ConnectionLimit {
    /// Allows `max` connections at once.
    pub fn new(max: u32) -> ConnectionLimit {
        ConnectionLimit { open: Arc::default(), max: Arc::new(AtomicU32::new(max)) }
    }

    /// Changes the maximum; connections over a lower one stay open.
    pub fn set_max(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// A permit for one more connection, or nothing when the maximum is reached.
    pub fn try_acquire(&self) -> Option<ConnectionPermit> {
        let max = self.max.load(Ordering::Relaxed);
        self.open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1))
            .ok()
            .map(|_| ConnectionPermit(self.open.clone()))
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionPermit(Arc<AtomicU32>);

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_permit_is_given_and_the_next_is_not() {
        let limit = ConnectionLimit::new(2);
        let held = (limit.try_acquire(), limit.try_acquire());
        assert!(held.0.is_some() && held.1.is_some());
        assert!(limit.try_acquire().is_none());
    }

    #[test]
    fn dropping_a_permit_frees_its_place_even_under_a_new_maximum() {
        let limit = ConnectionLimit::new(1);
        let held = limit.try_acquire();
        limit.set_max(2);
        let second = limit.try_acquire();
        assert!(second.is_some() && limit.try_acquire().is_none());
        drop(held);
        assert!(limit.try_acquire().is_some());
    }
}
