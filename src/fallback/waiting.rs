//! The way of a start to its place: it is had at once, or waited for, or refused.

use std::{
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time;

use super::{
    Door,
    entry::Terms,
    needs::{Need, Waiter},
    session::Session,
    sessions::Reach,
    shared_limits::{Denied, Starter, again},
};
use crate::{
    config::WhenFull,
    limit::{ClientKey, Full, SessionLimit, Unserved},
    net::http1::Airlock,
    telemetry::{ActiveGuard, Reason, WorkClock},
};

/// From one sign of life to the next; the client's patience is 20 seconds (docs/protocol.md, "Answers").
const NOTICE: Duration = Duration::from_secs(5);
/// A sign of life that is not taken by then finds nobody.
const NOTICE_WRITE: Duration = Duration::from_secs(1);
/// Until then a start is not said to wait: those before it are but trying.
const MOMENT: Duration = Duration::from_millis(20);
/// How long a start that cannot wait stands in line for those who try before it.
const NO_WAIT: Duration = Duration::from_secs(1);

/// Why a start does not go on now.
struct Lacks {
    reason: Reason,
    need: Need,
    unserved: Unserved,
}

/// A start that wants to go on.
struct Start<'a> {
    door: &'a Door,
    session: &'a Arc<Session>,
    client: ClientKey,
    user: Option<Arc<str>>,
    /// By which of the rates it was let pass already; each counts it once.
    passed: [bool; 2],
    /// The same among the replicas.
    passed_anywhere: [bool; 2],
    /// How often they had no place for it.
    denied: u32,
}

/// A start that is seen to wait, until it drops.
struct Waiting<'a> {
    door: &'a Door,
    session: &'a Session,
    since: Instant,
    _active: ActiveGuard,
}

/// Puts an admitted start on a node, within all limits; waits for that if it may and `can_wait`, with its body in the
/// airlock. A client that leaves meanwhile is a [`Reason::ClientLost`].
pub(super) async fn admit(
    door: &Door,
    airlock: &mut Airlock,
    session: &Arc<Session>,
    can_wait: bool,
    clock: &mut WorkClock,
) -> Result<(), Reason> {
    let terms = door.own.terms();
    let client = ClientKey::from(session.client());
    let user = session.user().map(Arc::from);
    let start = Start { door, session, client, user, passed: [false; 2], passed_anywhere: [false; 2], denied: 0 };
    // One that is not to wait has its turn like all others, so that it overtakes nobody.
    let can_wait = can_wait && terms.when_full == WhenFull::Wait;
    start.in_turn(airlock, &terms, can_wait, clock).await
}

impl Start<'_> {
    async fn in_turn(
        mut self,
        airlock: &mut Airlock,
        terms: &Terms,
        can_wait: bool,
        clock: &mut WorkClock,
    ) -> Result<(), Reason> {
        let (door, begin) = (self.door, Instant::now());
        let waiter = Waiter { listener: door.own.name.clone(), client: self.client };
        let known = door.entry.needs.enter(waiter.clone());
        let mut place = door.entry.room.enter(waiter).map_err(|_| Reason::WaitingRoomFull)?;
        let may_stay = place.may_stay();
        let longest = if can_wait { terms.max_wait } else { terms.max_wait.min(NO_WAIT) };
        let deadline = time::Instant::from_std(begin + longest);
        let mut next_look = time::Instant::from_std(begin + MOMENT);
        let mut waiting = None;
        loop {
            clock.stand();
            let turn = tokio::select! {
                biased;
                () = door.drain.cancelled() => return Err(Reason::Draining),
                () = self.session.cancelled() => return Err(Reason::Cancelled),
                () = poll_fn(|cx| airlock.poll_left_behind_body(cx)) => return Err(Reason::ClientLost),
                turn = place.turn(deadline) => Some(turn.map_err(|_| Reason::WaitTooLong)?),
                () = time::sleep_until(next_look) => None,
            };
            let Some(turn) = turn else {
                if waiting.is_some() {
                    airlock.notice(NOTICE_WRITE).await.map_err(|_| Reason::ClientLost)?;
                }
                if waiting.is_none() && can_wait {
                    waiting = Some(self.wait(begin)?);
                }
                next_look = time::Instant::now() + NOTICE;
                continue;
            };
            clock.run();
            known.set(Need::Unknown);
            // What holds may have changed meanwhile.
            let lacks = match self.attempt(&door.own.terms()).await {
                Ok(()) => {
                    turn.served();
                    return Ok(());
                }
                Err(lacks) => lacks,
            };
            let Lacks { reason, need, unserved } = lacks;
            known.set(need);
            turn.unserved(unserved);
            if !can_wait {
                return Err(if terms.when_full == WhenFull::Refuse { reason } else { Reason::WaitTooLong });
            }
            if !may_stay {
                return Err(Reason::WaitingRoomFull);
            }
            if waiting.is_none() {
                waiting = Some(self.wait(begin)?);
                next_look = time::Instant::from_std(begin + NOTICE);
            }
        }
    }

    /// Takes all that a session needs, or nothing. The replicas are asked last of all limits; while they think, the turn is
    /// kept: they answer in good time, and nobody overtakes.
    async fn attempt(&mut self, terms: &Terms) -> Result<(), Lacks> {
        let entry = &self.door.entry;
        let now = Instant::now();
        for (rate, passed) in entry.start_rates(&self.door.own).into_iter().zip(&mut self.passed) {
            if !*passed && let Err(wait) = rate.check(&self.client, now) {
                let until = time::Instant::from_std(now + wait);
                let unserved = Unserved::ClientUntil(until);
                return Err(Lacks { reason: Reason::StartRate, need: Need::Nothing, unserved });
            }
            *passed = true;
        }
        let permit = entry.sessions.try_acquire(&terms.maxima, self.client, self.user.as_ref());
        let permit = permit.map_err(|full| self.full(full))?;
        if let Err(lacks) = self.attempt_anywhere(terms).await {
            permit.undo();
            return Err(lacks);
        }
        let upstream = entry.current(&self.door.upstream);
        let picked = if self.door.sessions.reach() == Reach::Hash {
            upstream.pick_by_hash(self.session.wish(), &[])
        } else {
            upstream.pick(self.session.wish(), &[])
        };
        match picked {
            Ok(lease) => {
                self.session.let_in(permit, lease);
                Ok(())
            }
            Err(_) => {
                permit.undo();
                entry.release(self.session.id()).await;
                let need = Need::Node(upstream.name().into());
                Err(Lacks { reason: Reason::NoNode, need, unserved: Unserved::Client })
            }
        }
    }

    /// Takes what the replicas share of what a session needs, or nothing.
    async fn attempt_anywhere(&mut self, terms: &Terms) -> Result<(), Lacks> {
        let (entry, own) = (&self.door.entry, &self.door.own);
        let who = Starter { id: self.session.id(), client: self.client, user: self.user.as_ref() };
        let denied = match entry.reserve(own, terms, who, &mut self.passed_anywhere).await {
            Ok(()) => return Ok(()),
            Err(denied) => denied,
        };
        Err(match denied {
            Denied::TooFast(until) => {
                let unserved = Unserved::ClientUntil(until);
                Lacks { reason: Reason::StartRate, need: Need::Nothing, unserved }
            }
            Denied::Full(full) => {
                let (lacks, at) = (self.full(full), again(self.denied));
                self.denied += 1;
                let unserved = match lacks.unserved {
                    Unserved::Nobody => Unserved::NobodyUntil(at),
                    _ => Unserved::ClientUntil(at),
                };
                Lacks { unserved, ..lacks }
            }
        })
    }

    fn full(&self, full: Full) -> Lacks {
        let (need, unserved) = match full {
            Full::All => (Need::Nothing, Unserved::Nobody),
            Full::Listener => (Need::Listener, Unserved::Client),
            Full::Client => (Need::Client, Unserved::Client),
            Full::User => (self.user.clone().map_or(Need::Client, Need::User), Unserved::Client),
        };
        Lacks { reason: SessionLimit::reason(full), need, unserved }
    }
}

impl<'a> Start<'a> {
    /// From now on it is seen to wait, if its listener has room for one that does.
    fn wait(&self, since: Instant) -> Result<Waiting<'a>, Reason> {
        if !self.door.entry.enter(&self.door.own) {
            return Err(Reason::WaitingRoomFull);
        }
        let _active = self.door.metrics.waiting();
        self.session.set_waiting(true);
        Ok(Waiting { door: self.door, session: self.session, since, _active })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.door.entry.leave(&self.door.own);
        let waited = self.since.elapsed();
        self.door.metrics.waited(waited);
        self.session.has_waited(waited);
        self.session.set_waiting(false);
    }
}
