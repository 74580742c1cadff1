//! A session that several replicas carry: what each of them did of it, and where a request of it is under way.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering::{Relaxed, SeqCst},
    },
};

use arc_swap::ArcSwapOption;

use super::{Session, lock};
use crate::shared::redis::{News, Part, ReplicaId, SharedSession};
use crate::{
    fallback::sessions::Replicas,
    shared::{Key, SessionState},
    telemetry::Direction,
};

/// Who tells the other replicas, where there are any.
pub(in crate::fallback) type Teller = Arc<ArcSwapOption<Box<dyn Replicas>>>;

/// What is known of a session beside what happens here.
#[derive(Debug, Default)]
pub(in crate::fallback) struct Shares(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Where it began; none as long as the others are not to know of it.
    home: Option<ReplicaId>,
    /// What was done of it before it was shared.
    base: Part,
    /// What each other replica did of it, as it said last.
    others: HashMap<ReplicaId, Part>,
    /// Those with a request of it under way.
    busy: HashSet<ReplicaId>,
    /// Which file was announced last, over all replicas, counted from 1; 0 where that is not known.
    turn: u64,
    is_guest: bool,
}

impl Shares {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node has announced this file, counted from 1; gives the one before.
    pub(super) fn turn(&self, turn: u64) -> u64 {
        std::mem::replace(&mut self.lock().turn, turn)
    }

    /// The file that the node announced last, counted from 1.
    pub(super) fn last_turn(&self) -> u64 {
        self.lock().turn
    }
}

impl Session {
    /// Where it began, once the other replicas are to know of it.
    pub fn home(&self) -> Option<ReplicaId> {
        self.shares.lock().home
    }

    /// Whether it is shown, and ends when it is idle, at another replica.
    pub fn is_guest(&self) -> bool {
        self.shares.lock().is_guest
    }

    /// The other replicas are to know of it from now on.
    pub fn share(&self, home: ReplicaId) {
        self.shares.lock().home.get_or_insert(home);
    }

    /// From now on the other replicas are told nothing of it.
    pub(in crate::fallback) fn unshare(&self) {
        self.shares.lock().home = None;
    }

    /// Has it shown at another replica, or here.
    pub fn set_guest(&self, is_guest: bool) {
        self.shares.lock().is_guest = is_guest;
        if is_guest {
            lock(&self.active).take();
            self.transfer.hide();
        } else if self.is_open() {
            let node = self.node().map_or_else(String::new, |node| node.name().to_owned());
            lock(&self.active).get_or_insert_with(|| self.opening.metrics.session_here(&node));
            self.transfer.show();
        }
    }

    /// A node elsewhere accepted its start, and it is shown there.
    pub(in crate::fallback) fn open_as_guest(&self, state: &SessionState) {
        self.node_keeps.store(state.node_keeps, Relaxed);
        self.client_keeps.store(state.client_keeps, Relaxed);
        self.was_open.store(state.open, Relaxed);
        self.transfer.set_stage(crate::telemetry::Stage::Open);
        let mut known = self.shares.lock();
        known.base = of_state(state);
        known.is_guest = true;
    }

    /// What all replicas did, as they said last, with what was before.
    fn part_of_all(&self) -> Part {
        let counts = self.transfer.counts();
        let (files, files_failed) = self.transfer.files();
        Part {
            bytes_uploaded: counts.upload(),
            bytes_downloaded: counts.download(),
            files,
            files_failed,
            requests: self.requests.load(Relaxed),
            lengths_differ: self.lengths_differ.load(Relaxed),
            announced: *lock(&self.announced),
            turn: 0,
        }
    }

    fn own(&self, known: &Known) -> Part {
        let elsewhere = known.others.values().fold(known.base, |sum, part| sum.plus(part));
        Part { turn: known.turn, ..self.part_of_all().minus(&elsewhere) }
    }

    /// What was done of it at another replica, as that one says now.
    pub fn add_part(&self, from: ReplicaId, part: &Part) {
        let mut known = self.shares.lock();
        let before = known.others.get(&from).copied().unwrap_or_default();
        // What is read may be older than what was heard.
        if part.requests < before.requests {
            return;
        }
        known.others.insert(from, *part);
        let new = part.minus(&before);
        let counts = self.transfer.counts();
        counts.add(Direction::Upload, new.bytes_uploaded);
        counts.add(Direction::Download, new.bytes_downloaded);
        self.transfer.add_files(new.files, new.files_failed);
        self.requests.fetch_add(new.requests, Relaxed);
        self.lengths_differ.fetch_add(new.lengths_differ, Relaxed);
        if part.turn > known.turn {
            known.turn = part.turn;
            *lock(&self.announced) = part.announced;
        }
        drop(known);
        self.touch();
    }

    /// A request of it is under way at another replica, or is no more.
    pub fn set_busy_at(&self, replica: ReplicaId, is_busy: bool) {
        let mut known = self.shares.lock();
        if is_busy {
            known.busy.insert(replica);
        } else {
            known.busy.remove(&replica);
        }
        drop(known);
        self.touch();
        self.request_over.notify_waiters();
    }

    /// Only these replicas are there still.
    pub fn only(&self, live: &[ReplicaId]) {
        self.shares.lock().busy.retain(|replica| live.contains(replica));
        self.request_over.notify_waiters();
    }

    /// Whether a request of it is under way at another replica.
    pub fn is_busy_elsewhere(&self) -> bool {
        !self.shares.lock().busy.is_empty()
    }

    /// Whether another replica did anything of it.
    pub fn is_carried_elsewhere(&self) -> bool {
        let known = self.shares.lock();
        !known.busy.is_empty() || known.others.values().any(|part| part.requests > 0)
    }

    /// As the other replicas are told of it: with the part of this one, or with those of `all`.
    pub fn shared(&self, me: ReplicaId, all: bool) -> Option<SharedSession> {
        let state = self.state()?;
        let known = self.shares.lock();
        let (base, own) = (known.base, self.own(&known));
        let state = SessionState {
            bytes_uploaded: base.bytes_uploaded,
            bytes_downloaded: base.bytes_downloaded,
            files: base.files,
            files_failed: base.files_failed,
            requests: base.requests,
            lengths_differ: base.lengths_differ,
            ..state
        };
        let others = known.others.iter().filter(|_| all).map(|(replica, part)| (*replica, *part));
        let parts = std::iter::once((me, own)).chain(others).collect();
        Some(SharedSession { state, home: known.home?, parts })
    }

    /// One more request is under way. Told in the same step, so that nobody hears it in another order.
    pub(super) fn request_begins(&self) {
        let known = self.shares.lock();
        if self.in_flight.fetch_add(1, SeqCst) == 0 && known.home.is_some() {
            self.tell(News::Busy(Key(self.id().to_bytes())));
        }
    }

    /// The others hear once more that one is under way, where one is: who has lost its connection knows that no more.
    pub fn tell_busy(&self) {
        let known = self.shares.lock();
        if self.in_flight.load(SeqCst) > 0 && known.home.is_some() {
            self.tell(News::Busy(Key(self.id().to_bytes())));
        }
    }

    /// One less is.
    pub(super) fn request_ends(&self) {
        let known = self.shares.lock();
        if self.in_flight.fetch_sub(1, SeqCst) == 1 && known.home.is_some() {
            self.tell(News::Idle(Key(self.id().to_bytes()), self.own(&known)));
        }
    }

    fn tell(&self, news: News) {
        if let Some(replicas) = &*self.teller.load() {
            replicas.tell(news);
        }
    }
}

fn of_state(state: &SessionState) -> Part {
    Part {
        bytes_uploaded: state.bytes_uploaded,
        bytes_downloaded: state.bytes_downloaded,
        files: state.files,
        files_failed: state.files_failed,
        requests: state.requests,
        lengths_differ: state.lengths_differ,
        ..Part::default()
    }
}
