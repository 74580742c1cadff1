//! The waiting room: who finds no room waits in line, in order and fairly among clients.
//!
//! One waiter at a time has the turn. It tries to take what it needs, and says how that went: served, it leaves and the next
//! one has the turn; if nobody could be served, all rest until something is freed; if only those of its client could not
//! be, its client stands aside until then and the next client has the turn. Clients take turns, and those of one client are
//! served in the order in which they came. Nobody loses the place by trying.
//!
//! Whoever asks for what may be scarce enters, even when nobody waits: else newcomers would overtake those who do.

mod line;

use std::{
    fmt,
    future::pending,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

use self::line::Line;

/// A line of waiters, each of a client `K`. Where a listener has maxima of its own, the client on that listener is the one
/// who takes turns and stands aside: `K` is both.
pub struct WaitingRoom<K: Hash + Eq + Clone>(Arc<Mutex<Line<K>>>);

/// As many wait as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many wait as may")]
pub struct RoomFull;

/// The turn did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the turn did not come in time")]
pub struct TooLong;

/// Why who has the turn was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// Nobody could be, whoever asks: all wait for [`WaitingRoom::poke`].
    Nobody,
    /// Nobody could be, whoever asks; from this time on somebody might, though nobody pokes.
    NobodyUntil(Instant),
    /// This client could not be, others might: its waiters stand aside until something is freed.
    Client,
    /// This client could not be, and can from this time on.
    ClientUntil(Instant),
}

impl<K: Hash + Eq + Clone> WaitingRoom<K> {
    /// Room for `max` waiters.
    pub fn new(max: usize) -> WaitingRoom<K> {
        WaitingRoom(Arc::new(Mutex::new(Line::new(max))))
    }

    /// Changes how many may wait; those who do stay.
    pub fn set_max(&self, max: usize) {
        self.lock().set_max(max);
    }

    /// A place at the end of the client's line, which is left when the place drops. Where as many wait as may, there is one
    /// only for whom nobody that waits is in the way of, and only to try once.
    pub fn enter(&self, client: K) -> Result<Place<K>, RoomFull> {
        let called = Arc::new(Notify::new());
        let (id, may_stay) = self.lock().enter(client.clone(), called.clone()).ok_or(RoomFull)?;
        Ok(Place { room: self.clone(), client, id, called, retry: None, wakes_all: false, may_stay })
    }

    /// Something was freed that anybody might need, such as a node that is up again: all may try once more.
    pub fn poke(&self) {
        self.lock().poke_all();
    }

    /// Something was freed that these clients may need: they may try once more, and so may all who do not stand aside.
    pub fn poke_where(&self, may_need: impl Fn(&K) -> bool) {
        self.lock().poke(may_need);
    }

    /// How many wait, the one with the turn included.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Line<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Clone for WaitingRoom<K> {
    fn clone(&self) -> Self {
        WaitingRoom(self.0.clone())
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for WaitingRoom<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingRoom").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// A place in line. It must be awaited for its turn without delay, or dropped: others wait behind it.
pub struct Place<K: Hash + Eq + Clone> {
    room: WaitingRoom<K>,
    client: K,
    id: u64,
    called: Arc<Notify>,
    retry: Option<Instant>,
    /// At that time, or when it goes, nobody rests any longer.
    wakes_all: bool,
    may_stay: bool,
}

impl<K: Hash + Eq + Clone> Place<K> {
    /// Whether it may be kept after a turn that was not served; else it must be dropped.
    pub fn may_stay(&self) -> bool {
        self.may_stay
    }

    /// Waits for the turn until `deadline`. After that the place is still held, until it drops.
    pub async fn turn(&mut self, deadline: Instant) -> Result<Turn<'_, K>, TooLong> {
        let came = timeout_at(deadline, self.called()).await;
        if came.is_err() && !self.room.lock().has_turn(self.id) {
            return Err(TooLong);
        }
        Ok(Turn { place: self, is_over: false })
    }

    async fn called(&mut self) {
        while !self.room.lock().has_turn(self.id) {
            let retry = async {
                match self.retry {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.called.notified() => {}
                () = retry => {
                    self.retry = None;
                    let mut line = self.room.lock();
                    line.unblock(&self.client);
                    if std::mem::take(&mut self.wakes_all) {
                        line.wake();
                    }
                }
            }
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        let mut line = self.room.lock();
        line.leave(&self.client, self.id);
        // Who goes leaves nobody asleep that it was to wake.
        if self.wakes_all {
            line.wake();
        }
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for Place<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The turn to try; nobody else tries meanwhile, so nothing is to be awaited while it is held.
///
/// Dropped without a word it is as [`Turn::served`]: who is gone needs nothing, and the next one has the turn.
#[must_use]
pub struct Turn<'a, K: Hash + Eq + Clone> {
    place: &'a mut Place<K>,
    is_over: bool,
}

impl<K: Hash + Eq + Clone> Turn<'_, K> {
    /// What was needed is had: the place is left, and the next one has the turn.
    pub fn served(self) {}

    /// It was not to be had: the place is kept, at the head of its client's line.
    pub fn unserved(mut self, why: Unserved) {
        self.is_over = true;
        self.place.retry = match why {
            Unserved::NobodyUntil(at) | Unserved::ClientUntil(at) => Some(at),
            Unserved::Nobody | Unserved::Client => None,
        };
        self.place.wakes_all = matches!(why, Unserved::NobodyUntil(_));
        let nobody = matches!(why, Unserved::Nobody | Unserved::NobodyUntil(_));
        self.place.room.lock().unserved(&self.place.client, self.place.id, nobody);
    }
}

impl<K: Hash + Eq + Clone> Drop for Turn<'_, K> {
    fn drop(&mut self) {
        if !self.is_over {
            self.place.room.lock().leave(&self.place.client, self.place.id);
        }
    }
}

impl<K: Hash + Eq + Clone> fmt::Debug for Turn<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("id", &self.place.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
