//! How many connections may be open at once; there is always room left for who has a session.
//!
//! A session is many connections, and its client gives up at the first that is refused. So the last tenth of all places is
//! for clients that have a session, and each session allows its client one connection more.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{
    client::ClientKey,
    maxima::{Claims, Full, Maxima, OfListener, Scope},
    permits::{Permit, Permits},
};
use crate::telemetry::Reason;

/// Counts open connections against maxima that may change while it runs.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    permits: Permits<Scope>,
    maxima: Arc<ArcSwap<Maxima>>,
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connecting {
    /// The client.
    pub client: ClientKey,
    /// How many sessions of it, that were let in, are open.
    pub live_sessions: u32,
}

impl ConnectionLimit {
    /// Allows so many connections at once.
    pub fn new(maxima: Maxima) -> ConnectionLimit {
        ConnectionLimit { permits: Permits::new(), maxima: Arc::new(ArcSwap::from_pointee(maxima)) }
    }

    /// Changes the maxima; connections over lower ones stay open.
    pub fn set(&self, maxima: Maxima) {
        self.maxima.store(Arc::new(maxima));
    }

    /// A permit for one more connection to `listener`, or which maximum is reached.
    ///
    /// Who comes through a front is not known when the connection is made: with `None` only the connections of all are
    /// counted, up to the last place, and [`ConnectionPermit::name`] does the rest.
    pub fn try_acquire(&self, listener: &OfListener, who: Option<Connecting>) -> Result<ConnectionPermit, Full> {
        let maxima = **self.maxima.load();
        let claims = match who {
            None => Claims::default().of_all(maxima, listener),
            Some(who) => of_client(who, maxima, listener).of_all_with(maxima, listener, |max| open_to(max, who)),
        };
        let permit = claims.acquire(&self.permits)?;
        Ok(ConnectionPermit { permit, limit: self.clone(), is_named: who.is_some() })
    }

    /// How many connections there may be, over all listeners; `None` is no maximum.
    pub fn max(&self) -> Option<u32> {
        self.maxima.load().all
    }

    /// How many connections are open.
    pub fn open(&self) -> u32 {
        self.permits.held(&Scope::All)
    }

    /// The word for a maximum that is reached.
    pub fn reason(full: Full) -> Reason {
        match full {
            Full::All | Full::Listener | Full::User => Reason::TooManyConnections,
            Full::Client => Reason::TooManyConnectionsPerClient,
        }
    }
}

/// One open connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    permit: Permit<Scope>,
    limit: ConnectionLimit,
    is_named: bool,
}

impl ConnectionPermit {
    pub(super) fn is_in_reserve(&self, listener: &OfListener) -> bool {
        if self.is_named {
            return false;
        }
        let open = Claims::default().of_all_with(**self.limit.maxima.load(), listener, open_to_strangers);
        open.exceeded_in(&self.limit.permits).is_some()
    }

    /// Says whose connection it is, once that is known; refused, it counts for nobody in particular. Once named it stays so.
    pub fn name(&mut self, listener: &OfListener, who: Connecting) -> Result<(), Full> {
        if self.is_named {
            return Ok(());
        }
        let maxima = **self.limit.maxima.load();
        let all = Claims::default().of_all_with(maxima, listener, |max| open_to(max, who));
        if let Some(full) = all.exceeded_in(&self.limit.permits) {
            return Err(full);
        }
        of_client(who, maxima, listener).extend(&mut self.permit)?;
        self.is_named = true;
        Ok(())
    }
}

fn of_client(who: Connecting, maxima: Maxima, listener: &OfListener) -> Claims {
    Claims::default().of_client_with(who.client, maxima, listener, |max| {
        max.saturating_add(who.live_sessions.saturating_mul(OF_A_SESSION))
    })
}

/// What a session may have beyond its client's maximum: the connection of a request, and that of the one before it, which
/// may still be closing.
const OF_A_SESSION: u32 = 2;

/// How many of `max` places are open to a client: all if it has a session, else all but a tenth and at least one.
fn open_to(max: u32, who: Connecting) -> u32 {
    match who.live_sessions {
        0 => open_to_strangers(max),
        _ => max,
    }
}

fn open_to_strangers(max: u32) -> u32 {
    max.saturating_sub((max / 10).max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn maxima(all: u32, per_client: u32) -> Maxima {
        Maxima { all: Some(all), per_client: Some(per_client), per_user: None }
    }

    fn client(last: u8, live_sessions: u32) -> Option<Connecting> {
        Some(Connecting { client: IpAddr::from([192, 0, 2, last]).into(), live_sessions })
    }

    fn take(limit: &ConnectionLimit, count: usize, who: Option<Connecting>) -> Vec<Result<ConnectionPermit, Full>> {
        (0..count).map(|_| limit.try_acquire(&OfListener::default(), who)).collect()
    }

    fn ok(permits: &[Result<ConnectionPermit, Full>]) -> usize {
        permits.iter().filter(|permit| permit.is_ok()).count()
    }

    #[test]
    fn the_last_tenth_is_for_clients_that_have_a_session() {
        let limit = ConnectionLimit::new(maxima(20, 100));
        let strangers = take(&limit, 30, client(1, 0));
        assert_eq!(ok(&strangers), 18);
        assert_eq!(strangers.last().unwrap().as_ref().unwrap_err(), &Full::All);
        let admitted = take(&limit, 5, client(2, 1));
        assert_eq!((ok(&admitted), limit.open()), (2, 20));
        drop(strangers);
        assert_eq!(ok(&take(&limit, 30, client(3, 0))), 16, "places that the others hold count as well");
    }

    #[test]
    fn a_few_places_keep_one_for_a_session_and_the_only_one_is_for_anybody() {
        for (max, strangers) in [(1, 1), (2, 1), (3, 2), (10, 9), (19, 18), (20, 18)] {
            let limit = ConnectionLimit::new(maxima(max, 100));
            assert_eq!(ok(&take(&limit, 30, client(1, 0))), strangers, "of {max}");
        }
    }

    #[test]
    fn each_session_allows_its_client_two_connections_more() {
        let limit = ConnectionLimit::new(maxima(100, 3));
        let held = take(&limit, 5, client(1, 0));
        assert_eq!(ok(&held), 3);
        assert_eq!(held.last().unwrap().as_ref().unwrap_err(), &Full::Client);
        let more = take(&limit, 5, client(1, 2));
        assert_eq!(ok(&more), 4);
        assert_eq!(ok(&take(&limit, 5, client(2, 0))), 3, "another client has its own");
    }

    #[test]
    fn dropping_a_permit_frees_its_place_even_under_new_maxima() {
        let limit = ConnectionLimit::new(maxima(1, 1));
        let held = take(&limit, 1, client(1, 1));
        limit.set(maxima(2, 2));
        let second = take(&limit, 2, client(1, 1));
        assert_eq!((ok(&second), limit.open()), (1, 2));
        drop(held);
        let third = take(&limit, 2, client(1, 1));
        assert_eq!(ok(&third), 1);
        drop((second, third));
        assert_eq!((limit.open(), limit.permits.keys()), (0, 0));
    }

    #[test]
    fn a_listener_has_maxima_of_its_own_besides_those_of_all() {
        let limit = ConnectionLimit::new(maxima(100, 50));
        let small = OfListener::new("small", maxima(4, 2));
        let mut held: Vec<_> = (0..3).map(|_| limit.try_acquire(&small, client(1, 0))).collect();
        assert_eq!(held.pop().unwrap().unwrap_err(), Full::Client);
        held.push(limit.try_acquire(&small, client(2, 0)));
        assert_eq!(limit.try_acquire(&small, client(3, 0)).unwrap_err(), Full::Listener, "the last is for a session");
        assert!(limit.try_acquire(&small, client(3, 1)).is_ok());
        assert!(limit.try_acquire(&OfListener::new("other", Maxima::default()), client(1, 0)).is_ok());
    }

    #[test]
    fn who_comes_through_a_front_is_counted_once_named() {
        let limit = ConnectionLimit::new(maxima(4, 2));
        let listener = OfListener::default();
        let named = |who: Option<Connecting>| {
            let mut permit = limit.try_acquire(&listener, None).unwrap();
            permit.name(&listener, who.unwrap()).map(|()| permit)
        };
        let held = (named(client(1, 0)).unwrap(), named(client(1, 0)).unwrap());
        assert_eq!(named(client(1, 0)).unwrap_err(), Full::Client);
        let third = named(client(2, 0)).unwrap();
        assert_eq!(named(client(3, 0)).unwrap_err(), Full::All, "the last place is for a session");
        let fourth = named(client(3, 1)).unwrap();
        assert_eq!(limit.try_acquire(&listener, None).unwrap_err(), Full::All);
        drop((held, third, fourth));
        assert_eq!(limit.permits.keys(), 0);
    }

    #[test]
    fn each_maximum_has_its_word() {
        assert_eq!(ConnectionLimit::reason(Full::All), Reason::TooManyConnections);
        assert_eq!(ConnectionLimit::reason(Full::Client), Reason::TooManyConnectionsPerClient);
    }
}
