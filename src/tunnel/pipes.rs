//! The pipes that tunnels share: few, lent for the length of a burst, and never given back with bytes in them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::net::splice::Pipe;

/// A pipe with less room than this is worse than a buffer, in bytes.
const LEAST: usize = 64 * 1024;
/// How long no new pipe is asked for after the kernel refused one.
const PAUSE: Duration = Duration::from_secs(10);

/// A bounded store of pipes. Clones share it.
#[derive(Debug, Clone)]
pub struct PipePool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    max: usize,
    room: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Open and empty.
    idle: Vec<Pipe>,
    lent: usize,
    refused: Option<Instant>,
}

impl PipePool {
    /// A store of at most `max` pipes for `room` bytes each, less where the kernel refuses so much. They are opened
    /// when first wanted. A pipe takes two descriptors; with `max` 0 every tunnel copies.
    pub fn new(max: usize, room: usize) -> PipePool {
        PipePool(Arc::new(Pool { max, room, state: Mutex::default() }))
    }

    /// How many pipes may be lent now.
    pub fn free(&self) -> usize {
        self.0.max.saturating_sub(self.0.lock().lent)
    }

    /// Lends an empty pipe, or nothing: all are lent, or the kernel has refused one lately.
    pub(super) fn take(&self) -> Option<Lent> {
        let mut state = self.0.lock();
        if state.lent >= self.0.max {
            return None;
        }
        let pipe = match state.idle.pop() {
            Some(pipe) => pipe,
            None => self.0.open(&mut state)?,
        };
        state.lent += 1;
        Some(Lent { pipe, place: Place(self.0.clone()) })
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, state: &mut State) -> Option<Pipe> {
        if state.refused.is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        let pipe = Pipe::open(self.room).ok().filter(|pipe| pipe.room() >= LEAST.min(self.room));
        state.refused = pipe.is_none().then(Instant::now);
        pipe
    }
}

/// A pipe on loan. Dropped and not given back, it is closed with what it holds, and another may be opened in its place.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) pipe: Pipe,
    place: Place,
}

impl Lent {
    /// Gives the pipe back; one with bytes in it is closed.
    pub(super) fn give_back(self) {
        if self.pipe.held() == 0 {
            self.place.0.lock().idle.push(self.pipe);
        }
    }
}

/// One of the places that the pool has for pipes on loan.
#[derive(Debug)]
struct Place(Arc<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().lent -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pipe_is_lent_and_the_next_is_not_until_one_comes_back() {
        let pool = PipePool::new(2, LEAST);
        let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
        assert_eq!(pool.free(), 0);
        assert!(pool.take().is_none());
        first.give_back();
        assert_eq!(pool.free(), 1);
        assert!(pool.take().is_some());
        drop(second);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn a_pipe_given_back_is_lent_again_and_one_dropped_is_not() {
        let pool = PipePool::new(2, LEAST);
        pool.take().unwrap().give_back();
        assert_eq!(pool.0.lock().idle.len(), 1);
        drop(pool.take());
        assert_eq!(pool.0.lock().idle.len(), 0);
        assert_eq!(pool.free(), 2);
    }

    #[test]
    fn a_pool_without_places_lends_nothing() {
        assert!(PipePool::new(0, LEAST).take().is_none());
    }
}
