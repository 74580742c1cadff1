//! A connection from the moment of its acceptance: its place, and whose it is once that is known.

use std::net::IpAddr;

use super::{
    client::ClientKey,
    connections::{Connecting, ConnectionLimit, ConnectionPermit},
    maxima::OfListener,
    sessions::SessionLimit,
};
use crate::telemetry::Reason;

/// What connections are let in by, whatever their listener.
#[derive(Debug, Clone)]
pub struct Places {
    /// How many connections there may be.
    pub connections: ConnectionLimit,
    /// Who has sessions, and so may have more connections.
    pub sessions: SessionLimit,
}

impl Places {
    /// Takes a place for a connection to `listener` from `peer`; for a front whose clients are not known yet none does.
    ///
    /// # Errors
    /// The word for the maximum that is reached.
    pub fn admit(&self, listener: &OfListener, peer: Option<IpAddr>) -> Result<Guest, Reason> {
        let who = peer.map(|peer| self.connecting(peer));
        let permit = self.connections.try_acquire(listener, who).map_err(ConnectionLimit::reason)?;
        Ok(Guest { permit, listener: listener.clone(), places: self.clone() })
    }

    fn connecting(&self, client: IpAddr) -> Connecting {
        let client = ClientKey::from(client);
        Connecting { client, live_sessions: self.sessions.of_client(client) }
    }
}

/// One accepted connection; its place is free when it drops.
#[derive(Debug)]
pub struct Guest {
    permit: ConnectionPermit,
    listener: OfListener,
    places: Places,
}

impl Guest {
    /// Whether it is a front's connection, nobody's in particular, and has one of the places that are for clients with a
    /// session.
    #[must_use]
    pub fn is_in_reserve(&self) -> bool {
        self.permit.is_in_reserve(&self.listener)
    }

    /// Says who is behind the front that connected; does nothing where that was known from the beginning.
    ///
    /// # Errors
    /// The word for the maximum that this client has reached.
    pub fn name(&mut self, client: IpAddr) -> Result<(), Reason> {
        self.permit.name(&self.listener, self.places.connecting(client)).map_err(ConnectionLimit::reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Maxima;

    #[test]
    fn a_front_is_let_in_and_its_client_named_later_by_what_he_has() {
        let of = |all, per_client| Maxima { all: Some(all), per_client: Some(per_client), per_user: None };
        let places = Places {
            connections: ConnectionLimit::new(of(10, 1)),
            sessions: SessionLimit::new(Maxima::default(), |_| {}),
        };
        let (listener, one) = (OfListener::default(), IpAddr::from([192, 0, 2, 1]));
        let mut first = places.admit(&listener, None).unwrap();
        first.name(one).unwrap();
        assert_eq!(places.admit(&listener, Some(one)).unwrap_err(), Reason::TooManyConnectionsPerClient);
        let mut second = places.admit(&listener, None).unwrap();
        assert_eq!(second.name(one), Err(Reason::TooManyConnectionsPerClient));
        let _session = places.sessions.try_acquire(&listener, one.into(), None).unwrap();
        assert_eq!(second.name(one), Ok(()), "who has a session may have more connections");
    }
}
