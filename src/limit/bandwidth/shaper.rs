//! The pace of one stream: what each cap above it lets pass.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Bandwidth, Flow,
    bucket::{BURST, Bucket, Grant, LOOK_AFTER, Used},
};
use crate::telemetry::Direction;

/// A bucket that many streams share.
#[derive(Debug)]
pub(super) struct Cap {
    bucket: Mutex<Bucket>,
    /// Nanoseconds that streams waited for caps of this scope and direction.
    throttled: Arc<AtomicU64>,
}

impl Cap {
    pub(super) fn new(rate: Option<u64>, throttled: Arc<AtomicU64>) -> Cap {
        Cap { bucket: Mutex::new(Bucket::new(rate, Instant::now())), throttled }
    }

    pub(super) fn set_rate(&self, rate: Option<u64>) {
        self.with(|bucket| bucket.set_rate(rate, Instant::now()));
    }

    pub(super) fn is_whole(&self) -> bool {
        self.with(|bucket| bucket.is_whole(Instant::now()))
    }

    pub(super) fn take_used(&self) -> Used {
        self.with(Bucket::take_used)
    }

    /// Works on the bucket, and wakes whoever is to be woken once it is let go.
    fn with<T>(&self, work: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut bucket = self.lock();
        let outcome = work(&mut bucket);
        let wakers = bucket.take_wakers();
        drop(bucket);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream under one cap.
#[derive(Debug)]
struct Link {
    cap: Arc<Cap>,
    /// Bytes that the cap lets pass and that have not passed yet.
    credit: u64,
    credited_at: Instant,
    mark: u64,
    /// The place in line, and since when it is waited at; datagrams have a place and do not wait.
    place: Option<(u64, Option<Instant>)>,
}

impl Link {
    fn new(cap: Arc<Cap>) -> Link {
        Link { cap, credit: 0, credited_at: Instant::now(), mark: 0, place: None }
    }

    /// Ready with credit, or the time to ask again at the latest.
    fn poll(&mut self, want: u64, waker: &Waker, now: Instant) -> Result<(), Instant> {
        if self.credit > 0 {
            return Ok(());
        }
        let (place, mark) = (&mut self.place, self.mark);
        let polled = self.cap.with(|bucket| {
            let (id, since) = place.get_or_insert_with(|| (bucket.enter(want, mark, now), None));
            since.get_or_insert(now);
            bucket.poll(*id, waker, now)
        });
        let grant = polled?;
        self.grant(grant, now);
        Ok(())
    }

    fn grant(&mut self, grant: Grant, now: Instant) {
        self.credit = self.credit.saturating_add(grant.bytes);
        self.credited_at = now;
        self.mark = grant.mark;
        self.rest(now);
    }

    /// Waits no longer.
    fn rest(&mut self, now: Instant) {
        if let Some((_, Some(since))) = self.place.take() {
            let waited = now.saturating_duration_since(since).as_nanos();
            self.cap.throttled.fetch_add(u64::try_from(waited).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    fn leave(&mut self, now: Instant) {
        if let Some((id, _)) = self.place
            && let Some(grant) = self.cap.with(|bucket| bucket.leave(id, now))
        {
            self.grant(grant, now);
        }
        self.rest(now);
    }

    fn give_back(&mut self, now: Instant) {
        let bytes = std::mem::take(&mut self.credit);
        if bytes > 0 {
            self.mark = self.mark.saturating_sub(bytes);
            self.cap.with(|bucket| bucket.give_back(bytes, now));
        }
    }

    /// Whether there is credit for a datagram; if not, there is a place in line for it.
    fn has(&mut self, bytes: u64, now: Instant) -> bool {
        while self.credit < bytes {
            let (place, mark, missing) = (&mut self.place, self.mark, bytes - self.credit);
            let grant = self.cap.with(|bucket| {
                let fits = bucket.fits(bytes);
                fits.then(|| place.get_or_insert_with(|| (bucket.enter(0, mark, now), None)).0)
                    .and_then(|id| bucket.ask(id, missing, now))
            });
            let Some(grant) = grant else { return false };
            self.grant(grant, now);
        }
        true
    }

    /// What a cap gave before a pause is not saved up for after it.
    fn expire(&mut self, now: Instant) {
        if self.credit > 0 && now.saturating_duration_since(self.credited_at) > BURST {
            self.give_back(now);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let now = Instant::now();
        self.leave(now);
        self.give_back(now);
    }
}

/// The pace of one stream in one direction, under all caps that concern it. Caps come, change and go while it runs.
///
/// While no cap concerns it, it costs one look at a number.
#[derive(Debug)]
pub struct Shaper {
    bandwidth: Bandwidth,
    flow: Flow,
    direction: Direction,
    /// Of the settings that the links are of.
    generation: u64,
    /// From the narrowest cap to the widest.
    links: Vec<Link>,
    /// A piece is being waited for: what some caps have given already is kept until all have.
    is_waiting: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Shaper {
    pub(super) fn new(bandwidth: Bandwidth, flow: Flow, direction: Direction) -> Shaper {
        let mut shaper =
            Shaper { bandwidth, flow, direction, generation: 0, links: Vec::new(), is_waiting: false, timer: None };
        shaper.refresh();
        shaper
    }

    /// Whether no cap concerns the stream now: then nothing need be asked for what passes until the next look.
    pub fn is_unlimited(&mut self) -> bool {
        self.refresh();
        self.links.is_empty()
    }

    /// Waits until some of `want` bytes may pass, and says how many: at least one, at most `want`, no more than 64 KiB
    /// where there is a cap. Dropped before that, it leaves the line and nothing is lost.
    pub async fn take(&mut self, want: u64) -> u64 {
        self.take_and(want, || ()).await
    }

    /// As [`Shaper::take`]; tells again and again, several times a second, that it waits.
    pub async fn take_and(&mut self, want: u64, mut waits: impl FnMut()) -> u64 {
        struct Leave<'a>(&'a mut Shaper);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }
        let leave = Leave(self);
        poll_fn(|cx| {
            let polled = leave.0.poll_take(cx, want);
            if polled.is_pending() {
                waits();
            }
            polled
        })
        .await
    }

    /// As [`Shaper::take`]. Who polls no further must [`Shaper::cancel`], for others wait behind.
    pub fn poll_take(&mut self, cx: &mut Context<'_>, want: u64) -> Poll<u64> {
        self.refresh();
        if self.links.is_empty() || want == 0 {
            return Poll::Ready(want);
        }
        if !self.is_waiting {
            let now = Instant::now();
            self.links.iter_mut().for_each(|link| link.expire(now));
        }
        loop {
            let now = Instant::now();
            // No more is asked of a wide cap than the narrow ones let pass.
            let mut room = u64::MAX;
            let mut ask_at = None;
            for link in &mut self.links {
                if let Err(at) = link.poll(room, cx.waker(), now) {
                    ask_at = Some(at);
                    break;
                }
                room = room.min(link.credit);
            }
            let Some(at) = ask_at else {
                let bytes = want.min(room);
                self.links.iter_mut().for_each(|link| link.credit -= bytes);
                self.is_waiting = false;
                return Poll::Ready(bytes);
            };
            self.is_waiting = true;
            // However long it takes, whoever watches sees now and then that it is waited for.
            if self.poll_timer(cx, at.min(now + LOOK_AFTER)).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// How many of `want` bytes may pass at once, without waiting: more than a piece where nobody else waits.
    pub fn take_at_once(&mut self, want: u64) -> u64 {
        let (mut taken, mut cx) = (0, Context::from_waker(Waker::noop()));
        while taken < want {
            match self.poll_take(&mut cx, want - taken) {
                Poll::Ready(bytes) => taken += bytes,
                Poll::Pending => {
                    self.cancel();
                    break;
                }
            }
        }
        taken
    }

    /// Leaves the line. What caps have given already is kept for a while.
    pub fn cancel(&mut self) {
        if self.is_waiting {
            let now = Instant::now();
            self.links.iter_mut().for_each(|link| link.leave(now));
            self.is_waiting = false;
        }
    }

    /// Gives back `bytes` that were taken and did not pass.
    pub fn give_back(&mut self, bytes: u64) {
        let now = Instant::now();
        for link in &mut self.links {
            link.credit = link.credit.saturating_add(bytes);
            link.credited_at = now;
        }
    }

    /// Whether a datagram of `bytes` may pass now; if not, it is to be dropped. Datagrams are asked for one by one: what is
    /// longer than five seconds of the rate, and than 4 KiB, never passes.
    pub fn try_take(&mut self, bytes: u64) -> bool {
        self.refresh();
        if self.links.is_empty() {
            return true;
        }
        let now = Instant::now();
        let passes = self.links.iter_mut().all(|link| {
            link.expire(now);
            link.has(bytes, now)
        });
        if passes {
            self.links.iter_mut().for_each(|link| link.credit -= bytes);
        }
        passes
    }

    /// Follows a change of the settings; a cap that was there before is kept with all that it has given.
    fn refresh(&mut self) {
        let generation = self.bandwidth.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let mut before = std::mem::take(&mut self.links);
        for cap in self.bandwidth.caps(&self.flow, self.direction) {
            let kept = before.iter().position(|link| Arc::ptr_eq(&link.cap, &cap));
            self.links.push(kept.map_or_else(|| Link::new(cap), |at| before.swap_remove(at)));
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        // The timers of the runtime go by milliseconds; nothing is lost by the rest, it is there at the next piece.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}

/// Seconds as the metrics have them.
pub(super) fn seconds(nanos: &AtomicU64) -> Duration {
    Duration::from_nanos(nanos.load(Ordering::Relaxed))
}
