//! A standstill of all threads of a listener, in which their flows are handed to another process.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use super::listener::Handed;
use crate::net::udp::UdpSocket;

/// What a thread that stands still tells: which it is, by its sockets, and its flows, or why not all of them.
pub(super) type Told = (Arc<[UdpSocket]>, io::Result<Vec<Handed>>);

/// Whether threads are to stand still.
#[derive(Debug, Default)]
pub(super) struct Halt {
    /// Looked at before the lock is taken.
    wanted: AtomicBool,
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    tell: Option<Sender<Told>>,
    handed: bool,
}

impl Halt {
    /// From now on every thread stands still once it looks, and tells what it has.
    pub(super) fn begin(&self) -> Receiver<Told> {
        let (tell, told) = channel();
        self.lock().tell = Some(tell);
        self.wanted.store(true, Ordering::Release);
        told
    }

    /// The threads go on; `handed` says whether their flows are another process's now.
    pub(super) fn end(&self, handed: bool) {
        let mut state = self.lock();
        (state.tell, state.handed) = (None, handed);
        self.wanted.store(false, Ordering::Release);
        drop(state);
        self.ended.notify_all();
    }

    /// Whether the flows of the threads are another process's.
    pub(super) fn is_handed(&self) -> bool {
        self.lock().handed
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Tells what the thread has, and stands still until the end.
    pub(super) fn stand(&self, told: Told) {
        let state = self.lock();
        if let Some(tell) = &state.tell {
            // Who has given up waiting ends the standstill.
            let _ = tell.send(told);
        }
        let wait = self.ended.wait_while(state, |state| state.tell.is_some());
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
