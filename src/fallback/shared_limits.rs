//! Limits that this gateway and its replicas count together. What holds here is looked at first; the others are asked only
//! about what it lets pass.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time;

use super::{
    entry::{Entry, OfDoor, Terms},
    grammar::SessionId,
};
use crate::{
    limit::{ClientKey, Full, Pace, RateLimit},
    shared::{
        Key,
        limits::{Paced, Reserved, Scoped, Starting},
    },
};

/// A start that another replica's sessions leave no room for tries again after this, if it hears of nothing before: a
/// place may be free a moment later, and nobody says so where a start came to nothing elsewhere. Then after twice as long.
const AGAIN: Duration = Duration::from_millis(20);
/// It tries so often at least.
const AGAIN_AT_LAST: Duration = Duration::from_millis(320);

/// The other replicas, where there are any.
pub trait SharedLimits: Send + Sync {
    /// Takes for a session what it needs of what all share, or nothing but events of rates. Answers in good time.
    fn reserve(&self, starting: Starting) -> Pin<Box<dyn Future<Output = Reserved> + Send>>;

    /// The places of a session are free again, before it can ask for others. Answers in good time.
    fn release(&self, key: Key) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Counts an event of each rate, and whether the others, as far as is known, leave room for it.
    fn count(&self, rates: Vec<Paced>) -> bool;
}

/// Why the replicas together do not let a start go on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    TooFast(time::Instant),
    Full(Full),
}

/// Whose start it is.
pub(super) struct Starter<'a> {
    pub(super) id: SessionId,
    pub(super) client: ClientKey,
    pub(super) user: Option<&'a Arc<str>>,
}

impl Entry {
    /// Has limits counted with the replicas from now on, or no more.
    pub fn share(&self, shared: Option<Box<dyn SharedLimits>>) {
        self.shared.store(shared.map(Arc::new));
    }

    /// Asks the replicas about a start that has its place here. `passed` says which rates have counted it already.
    pub(super) async fn reserve(
        &self,
        door: &OfDoor,
        terms: &Terms,
        who: Starter<'_>,
        passed: &mut [bool; 2],
    ) -> Result<(), Denied> {
        let Some(shared) = self.shared.load_full() else { return Ok(()) };
        let maxima = self.sessions.shared(&terms.maxima, who.client, who.user);
        let is_limited =
            maxima.iter().any(|it| it.max.is_some()) || self.start_rates(door).iter().any(|it| it.pace().is_some());
        if !is_limited {
            return Ok(());
        }
        let scopes = maxima.iter().map(|it| Scoped { name: it.scope.clone(), max: it.max }).collect();
        let paces = self.start_rates(door).map(RateLimit::pace);
        let paced = paced("starts", paces, who.client, &door.name);
        let (asked, rates): (Vec<_>, Vec<_>) = passed
            .iter_mut()
            .zip(paced)
            .filter(|(passed, _)| !**passed)
            .filter_map(|(it, rate)| Some((it, rate?)))
            .unzip();
        let answer = shared.reserve(Starting { key: Key(who.id.to_bytes()), scopes, rates }).await;
        let counted = match answer {
            Reserved::Yes | Reserved::Full(_) => usize::MAX,
            Reserved::TooFast(rate, _) => rate,
            Reserved::Alone => 0,
        };
        asked.into_iter().take(counted).for_each(|passed| *passed = true);
        match answer {
            Reserved::Yes | Reserved::Alone => Ok(()),
            Reserved::TooFast(_, wait) => Err(Denied::TooFast(time::Instant::now() + wait)),
            Reserved::Full(scope) => Err(Denied::Full(maxima.get(scope).map_or(Full::All, |it| it.full))),
        }
    }

    /// A session that has its place everywhere does not start after all.
    pub(super) async fn release(&self, id: SessionId) {
        if let Some(shared) = self.shared.load_full() {
            shared.release(Key(id.to_bytes())).await;
        }
    }

    /// Counts a request outside of a session among the replicas, or says that it is one too many.
    pub(super) fn may_ask_anywhere(&self, door: &OfDoor, client: ClientKey) -> bool {
        let Some(shared) = &*self.shared.load() else { return true };
        let paces = self.request_rates(door).map(RateLimit::pace);
        let rates: Vec<_> = paced("requests", paces, client, &door.name).into_iter().flatten().collect();
        rates.is_empty() || shared.count(rates)
    }
}

/// When a start tries again that was denied so often for want of a place.
pub(super) fn again(denied: u32) -> time::Instant {
    let wait = AGAIN.saturating_mul(2_u32.saturating_pow(denied));
    time::Instant::now() + wait.min(AGAIN_AT_LAST)
}

/// The rates of a client, of all and of a listener.
fn paced(kind: &str, [all, own]: [Option<Pace>; 2], client: ClientKey, listener: &str) -> [Option<Paced>; 2] {
    let paced = |name: String, pace: Pace| Paced { name, period: pace.period, burst: pace.burst };
    [
        all.map(|pace| paced(format!("{kind}:{client}"), pace)),
        own.map(|pace| paced(format!("{kind}:{client}@{listener}"), pace)),
    ]
}
