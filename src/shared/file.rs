//! Sessions and pins in a file, so that a gateway that comes after a crash goes on with them.
//!
//! The doors tell what changes and go on at once; a thread of its own writes it, many changes in one commit. What was
//! told survives the end of the process after [`PACE`] and the time of a commit or two, whether or not anybody says
//! goodbye. A file that cannot be written is no reason to serve less: what is missing there is kept here, and written
//! once it can be.

mod disk;
mod ledger;
pub mod record;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use self::{
    disk::{Batch, Disk, Stored},
    ledger::{Changes, Ledger},
};
use super::{Key, PinState, SessionState};

/// From the beginning of one commit to that of the next at least: however much changes, there are 20 in a second.
pub const PACE: Duration = Duration::from_millis(50);
/// After a commit that failed until the next one is tried.
const RETRY: Duration = Duration::from_secs(1);
/// How long [`FileStore::close`] waits for the last commit.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much is kept; above it the oldest go.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Sessions at most, by when they began.
    pub max_sessions: usize,
    /// Pins at most, over all upstreams, by when they were set.
    pub max_pins: usize,
}

/// What was in a file, in no order.
#[derive(Debug, Default)]
pub struct Saved {
    /// The sessions. The file does not know how long they have been idle.
    pub sessions: Vec<SessionState>,
    /// The pins.
    pub pins: Vec<PinState>,
}

/// Sessions and pins in a file of this process alone. Dropping it is as [`FileStore::close`], without the waiting.
pub struct FileStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something has changed.
    changed: Condvar,
    /// The thread has come to its end.
    ended: Condvar,
}

struct State {
    sessions: Ledger<SessionState>,
    pins: Ledger<PinState>,
    is_well: bool,
    failures: u64,
    is_closing: bool,
    has_ended: bool,
}

impl FileStore {
    /// Opens the file at `path`, or begins one, and reads what is in it; nobody but its owner may read it from then on.
    ///
    /// A file that is damaged, or that another version has written in a way not known here, is moved to `path.corrupt`,
    /// in the place of any such file, and a new one is begun; a warning tells of it.
    ///
    /// What is above the bounds is read all the same, and goes from the file. Reading takes as long as the file is big;
    /// it is done when this returns.
    ///
    /// # Errors
    /// The file cannot be read or written, or another process has it open.
    pub fn open(path: &Path, bounds: Bounds) -> io::Result<(FileStore, Saved)> {
        let (disk, saved) = Disk::open(path)?;
        let sessions = saved.sessions.iter().map(|session| (record::session_name(session.key), session.began));
        let pins = saved.pins.iter().map(|pin| (record::pin_name(&pin.upstream, pin.hash), pin.set));
        let state = State {
            sessions: Ledger::new(bounds.max_sessions, sessions),
            pins: Ledger::new(bounds.max_pins, pins),
            is_well: true,
            failures: 0,
            is_closing: false,
            has_ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), ended: Condvar::new() });
        let of_thread = shared.clone();
        std::thread::Builder::new().name("state".to_owned()).spawn(move || of_thread.write(disk))?;
        Ok((FileStore { shared }, saved))
    }

    /// From now on so much is kept; what is above it goes.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.shared.change(|state| {
            state.sessions.resize(bounds.max_sessions);
            state.pins.resize(bounds.max_pins);
        });
    }

    /// A session is new, or has gone on.
    pub fn save_session(&self, session: SessionState) {
        let (name, began) = (record::session_name(session.key), session.began);
        self.shared.change(|state| state.sessions.save(name, began, session));
    }

    /// A session is over.
    pub fn forget_session(&self, key: Key) {
        self.shared.change(|state| state.sessions.forget(&record::session_name(key)));
    }

    /// A pin is new, or another now.
    pub fn save_pin(&self, pin: PinState) {
        let (name, set) = (record::pin_name(&pin.upstream, pin.hash), pin.set);
        self.shared.change(|state| state.pins.save(name, set, pin));
    }

    /// A pin is no more.
    pub fn forget_pin(&self, upstream: &str, hash: u64) {
        self.shared.change(|state| state.pins.forget(&record::pin_name(upstream, hash)));
    }

    /// Whether the last commit went well. Where it did not, what has changed since is in memory alone.
    pub fn is_well(&self) -> bool {
        self.shared.state().is_well
    }

    /// Commits that failed since the file was opened.
    pub fn failures(&self) -> u64 {
        self.shared.state().failures
    }

    /// Writes what is not yet written and lets go of the file; waits for that, 5 s at most.
    ///
    /// Returns whether everything is in the file and the file free. What is told later is not kept.
    pub fn close(&self) -> bool {
        self.shared.end();
        let state = self.shared.state();
        let waited = self.shared.ended.wait_timeout_while(state, PATIENCE, |state| !state.has_ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.has_ended && state.is_settled()
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("is_well", &self.is_well()).finish_non_exhaustive()
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl State {
    fn is_settled(&self) -> bool {
        self.sessions.is_settled() && self.pins.is_settled()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        let is_first = state.is_settled();
        change(&mut state);
        // Of further changes it need not know.
        if is_first || state.is_closing {
            self.changed.notify_one();
        }
    }

    fn end(&self) {
        self.change(|state| state.is_closing = true);
    }

    /// What the thread does, to its end.
    fn write(&self, mut disk: Disk) {
        while self.is_awaited() {
            let begun = Instant::now();
            let result = self.commit(&mut disk);
            let is_well = result.is_ok();
            self.note(result);
            let state = self.state();
            if !is_well && state.is_closing {
                break;
            }
            let pause = if is_well { PACE.saturating_sub(begun.elapsed()) } else { RETRY };
            drop(self.changed.wait_timeout_while(state, pause, |state| !state.is_closing));
        }
        drop(disk);
        self.state().has_ended = true;
        self.ended.notify_all();
    }

    /// Waits for a change; false once there is none and none will come.
    fn is_awaited(&self) -> bool {
        let wait = |state: &mut State| state.is_settled() && state.is_well && !state.is_closing;
        let state = self.changed.wait_while(self.state(), wait).unwrap_or_else(PoisonError::into_inner);
        !(state.is_settled() && state.is_closing)
    }

    fn commit(&self, disk: &mut Disk) -> io::Result<()> {
        if let Some(Stored { sessions, pins }) = disk.reopen()? {
            let mut state = self.state();
            state.sessions.found(sessions);
            state.pins.found(pins);
        }
        let (sessions, pins) = {
            let mut state = self.state();
            (state.sessions.take(), state.pins.take())
        };
        let result = disk.commit(&Batch { sessions: values(&sessions), pins: values(&pins) });
        let mut state = self.state();
        match &result {
            Ok(()) => {
                state.sessions.written(sessions);
                state.pins.written(pins);
            }
            Err(_) => {
                state.sessions.missed(sessions);
                state.pins.missed(pins);
            }
        }
        result
    }

    /// Keeps in mind how a commit went; says so where the one before went another way.
    fn note(&self, result: io::Result<()>) {
        let mut state = self.state();
        let was_well = std::mem::replace(&mut state.is_well, result.is_ok());
        state.failures += u64::from(result.is_err());
        drop(state);
        match (result, was_well) {
            (Err(error), true) => {
                tracing::error!(%error, "The state file cannot be written; what changes is kept in memory until it can.");
            }
            (Ok(()), false) => tracing::info!("The state file is written again, and nothing is missing there."),
            _ => {}
        }
    }
}

fn values<T: serde::Serialize>(changes: &Changes<T>) -> Changes<Vec<u8>> {
    changes.iter().map(|(name, value)| (name.clone(), value.as_ref().map(record::value))).collect()
}
