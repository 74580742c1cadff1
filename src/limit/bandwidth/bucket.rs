//! One cap in one direction: what may pass now, and who is next.
//!
//! A bucket fills at the rate up to a short burst. Whoever is next may take a piece as soon as there is anything in it, and
//! leaves it in debt; a piece is small, so that the debt is short. Who is next is reckoned in bytes (start-time fair
//! queueing): each stream has a mark, the sum of what it took; the lowest mark goes first, and a stream that comes, or comes
//! back, begins where the others are. So streams that all have much to send get equal shares whatever their pieces. Who has
//! waited for two seconds goes before all marks.
//!
//! Datagrams do not wait, but their place does: one that is refused leaves a place in line, and a later one finds the piece.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    task::Waker,
    time::Duration,
};

use tokio::time::Instant;

/// The largest piece, in bytes.
pub(super) const MAX_PIECE: u64 = 64 * 1024;
/// The smallest piece where many small ones are not needed for fairness, in bytes: a full segment.
const MTU: u64 = 1500;
/// The smallest burst, in bytes.
const MIN_BURST: u64 = 4096;
/// So much may pass at once after a pause.
pub(super) const BURST: Duration = Duration::from_millis(50);
/// A datagram that would leave a debt longer than this is too large for the rate.
const MAX_DEBT_SECONDS: u64 = 5;
/// Who has waited for so long is next, whatever it took before.
const OLD: Duration = Duration::from_secs(2);
/// A waiter without the timer looks whether the one with it is gone without a word.
pub(super) const LOOK_AFTER: Duration = Duration::from_millis(250);

/// Contents are counted in bytes times this, so that no nanosecond is lost.
const UNIT: i128 = 1_000_000_000;

/// The state of one cap.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes a second, or no bound.
    rate: Option<u64>,
    content: i128,
    filled_at: Instant,
    /// The mark of who was served last.
    mark: u64,
    next_id: u64,
    line: BTreeMap<(u64, u64), Waiter>,
    /// Where each waiter stands in line, the oldest first.
    marks: BTreeMap<u64, u64>,
    /// Those who wait indeed, and are woken; the oldest sets the timer for the next piece.
    awaiting: BTreeSet<u64>,
    /// What was granted and not fetched yet.
    granted: HashMap<u64, Grant>,
    /// Who has set the timer.
    timed: Option<u64>,
    /// Whom to wake once the lock is let go.
    to_wake: Vec<(u64, Waker)>,
    /// What it let pass since it was asked for that.
    used: Used,
}

/// What a cap let pass in a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Used {
    pub(super) bytes: u64,
    /// Whether anybody was held up.
    pub(super) held_up: bool,
}

#[derive(Debug)]
struct Waiter {
    /// At most so many bytes are asked for.
    want: u64,
    /// Fewer are of no use.
    least: u64,
    since: Instant,
    /// None for datagrams.
    waker: Option<Waker>,
}

/// A piece that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) bytes: u64,
    /// The stream's mark from now on.
    pub(super) mark: u64,
}

impl Bucket {
    pub(super) fn new(rate: Option<u64>, now: Instant) -> Bucket {
        let mut bucket = Bucket {
            rate,
            content: 0,
            filled_at: now,
            mark: 0,
            next_id: 0,
            line: BTreeMap::new(),
            marks: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            granted: HashMap::new(),
            timed: None,
            to_wake: Vec::new(),
            used: Used::default(),
        };
        bucket.content = bucket.burst();
        bucket
    }

    /// Changes the rate: a debt of more than a piece is forgiven, and so is a burst that is now too large.
    pub(super) fn set_rate(&mut self, rate: Option<u64>, now: Instant) {
        self.fill(now);
        self.rate = rate;
        let piece = i128::from(self.piece(self.line.len())) * UNIT;
        self.content = self.content.clamp(-piece, self.burst());
        self.timed = None;
        self.serve(now);
    }

    /// A place in line for a stream with this mark, for a piece of at most `want` bytes; nothing is granted yet.
    pub(super) fn enter(&mut self, want: u64, mark: u64, now: Instant) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let start = mark.max(self.mark);
        self.line.insert((start, id), Waiter { want, least: 1, since: now, waker: None });
        self.marks.insert(id, start);
        id
    }

    /// The piece of the waiter, or when to ask again at the latest.
    pub(super) fn poll(&mut self, id: u64, waker: &Waker, now: Instant) -> Result<Grant, Instant> {
        if let Some(waiter) = self.waiter(id) {
            match &mut waiter.waker {
                Some(known) => known.clone_from(waker),
                unknown => *unknown = Some(waker.clone()),
            }
            self.awaiting.insert(id);
        }
        self.serve(now);
        // Who asks need not be woken. Another stream of the same task must be.
        self.to_wake.retain(|(other, _)| *other != id);
        if let Some(grant) = self.granted.remove(&id) {
            return Ok(grant);
        }
        if self.awaiting.first() != Some(&id) {
            return Err(now + LOOK_AFTER);
        }
        self.timed = Some(id);
        Err(now + self.until_more())
    }

    /// The piece of a waiter that stays in line without waiting, and asks for `bytes` more each time.
    pub(super) fn ask(&mut self, id: u64, bytes: u64, now: Instant) -> Option<Grant> {
        if let Some(waiter) = self.waiter(id) {
            waiter.want = waiter.want.saturating_add(bytes);
            waiter.least = waiter.least.max(bytes);
        }
        self.serve(now);
        self.granted.remove(&id)
    }

    /// Whether a datagram is not too large to pass ever.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.rate.is_none_or(|rate| bytes <= rate.saturating_mul(MAX_DEBT_SECONDS).max(MIN_BURST))
    }

    /// The waiter goes; a piece that was granted to it is handed over.
    pub(super) fn leave(&mut self, id: u64, now: Instant) -> Option<Grant> {
        if let Some(start) = self.marks.remove(&id) {
            self.line.remove(&(start, id));
            self.awaiting.remove(&id);
        }
        let grant = self.granted.remove(&id);
        self.serve(now);
        grant
    }

    /// Takes back what did not pass.
    pub(super) fn give_back(&mut self, bytes: u64, now: Instant) {
        self.fill(now);
        self.content = (self.content + i128::from(bytes) * UNIT).min(self.burst());
        self.used.bytes = self.used.bytes.saturating_sub(bytes);
        self.serve(now);
    }

    /// Whether it is as good as new: full, and nobody waits.
    pub(super) fn is_whole(&mut self, now: Instant) -> bool {
        self.fill(now);
        let is_full = self.rate.is_none() || self.content >= self.burst();
        is_full && self.line.is_empty() && self.granted.is_empty()
    }

    /// What it let pass since the last call.
    pub(super) fn take_used(&mut self) -> Used {
        let held_up = !self.line.is_empty();
        std::mem::replace(&mut self.used, Used { bytes: 0, held_up })
    }

    /// Whom to wake; to be called, and they to be woken, after each change.
    pub(super) fn take_wakers(&mut self) -> Vec<(u64, Waker)> {
        std::mem::take(&mut self.to_wake)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_nanos();
        self.filled_at = self.filled_at.max(now);
        if let Some(rate) = self.rate {
            let more = i128::try_from(passed).unwrap_or(i128::MAX).saturating_mul(i128::from(rate));
            self.content = self.content.saturating_add(more).min(self.burst());
        }
    }

    /// Gives pieces to those who are next while there is anything, and has one set a timer for the rest.
    fn serve(&mut self, now: Instant) {
        self.fill(now);
        while self.rate.is_none() || self.content > 0 {
            let waiting = self.line.len();
            let Some((start, id)) = self.next(now) else { break };
            let Some(waiter) = self.line.remove(&(start, id)) else { break };
            self.marks.remove(&id);
            self.awaiting.remove(&id);
            self.mark = self.mark.max(start);
            let bytes = waiter.want.min(self.piece(waiting).max(waiter.least)).max(1);
            // Whole datagrams: what is left of one is of no use for long.
            let bytes = bytes - bytes % waiter.least;
            if self.rate.is_some() {
                self.content -= i128::from(bytes) * UNIT;
            }
            self.used.bytes = self.used.bytes.saturating_add(bytes);
            self.granted.insert(id, Grant { bytes, mark: start.saturating_add(bytes) });
            self.to_wake.extend(waiter.waker.map(|waker| (id, waker)));
        }
        self.used.held_up |= !self.line.is_empty();
        let oldest = self.awaiting.first().copied();
        if let Some(id) = oldest.filter(|id| self.timed != Some(*id)) {
            self.timed = Some(id);
            let waker = self.waiter(id).and_then(|waiter| waiter.waker.clone());
            self.to_wake.extend(waker.map(|waker| (id, waker)));
        }
    }

    /// The place of who is next.
    fn next(&self, now: Instant) -> Option<(u64, u64)> {
        let oldest = self.marks.first_key_value().map(|(id, start)| (*start, *id));
        let old = oldest.filter(|place| {
            self.line.get(place).is_some_and(|waiter| now.saturating_duration_since(waiter.since) >= OLD)
        });
        old.or_else(|| self.line.first_key_value().map(|(place, _)| *place))
    }

    fn waiter(&mut self, id: u64) -> Option<&mut Waiter> {
        let start = *self.marks.get(&id)?;
        self.line.get_mut(&(start, id))
    }

    /// What one of so many waiters gets in its turn: 20 ms of the rate, and less if the others would wait for more than
    /// half a second until theirs.
    fn piece(&self, waiting: usize) -> u64 {
        let Some(rate) = self.rate else { return MAX_PIECE };
        let share = rate / 2 / u64::try_from(waiting).unwrap_or(u64::MAX).max(1);
        (rate / 50).clamp(MTU, MAX_PIECE).min(share).max(1)
    }

    fn burst(&self) -> i128 {
        let rate = self.rate.unwrap_or(0);
        i128::from((rate / 20).max(MIN_BURST)) * UNIT
    }

    /// How long until there is anything again.
    fn until_more(&self) -> Duration {
        let debt = 1 - self.content.min(0);
        let rate = i128::from(self.rate.unwrap_or(u64::MAX)).max(1);
        Duration::from_nanos(u64::try_from(debt / rate + 1).unwrap_or(u64::MAX))
    }
}
