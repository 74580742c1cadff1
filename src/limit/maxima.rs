//! Maxima of all, of each client and of each user, over all listeners and for one.

use std::sync::Arc;

use siphasher::sip128::SipHasher24;

use super::{
    client::ClientKey,
    permits::{Claim, Permit, Permits},
};
use crate::config::{LimitsConfig, ListenerLimitsConfig};

/// How many there may be of one kind of thing at once; `None` is no maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Maxima {
    /// All together.
    pub all: Option<u32>,
    /// Those of each client.
    pub per_client: Option<u32>,
    /// Those of each transfer user.
    pub per_user: Option<u32>,
}

impl Maxima {
    /// Of connections, over all listeners.
    pub fn of_connections(limits: &LimitsConfig) -> Maxima {
        Maxima { all: Some(limits.max_connections), per_client: limits.max_connections_per_client, per_user: None }
    }

    /// Of sessions, over all listeners.
    pub fn of_sessions(limits: &LimitsConfig) -> Maxima {
        Maxima {
            all: limits.max_sessions,
            per_client: limits.max_sessions_per_client,
            per_user: limits.max_sessions_per_user,
        }
    }

    /// Of tunnels, over all listeners.
    pub fn of_tunnels(limits: &LimitsConfig) -> Maxima {
        Maxima { all: Some(limits.max_tunnels), per_client: Some(limits.max_tunnels_per_client), per_user: None }
    }
}

/// A listener and the maxima of its own, which hold besides those of all; the default has no name and no maximum.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfListener {
    name: Arc<str>,
    maxima: Maxima,
}

impl OfListener {
    /// The listener `name` with these maxima.
    pub fn new(name: &str, maxima: Maxima) -> OfListener {
        OfListener { name: name.into(), maxima }
    }

    /// Its connections.
    pub fn connections(name: &str, limits: &ListenerLimitsConfig) -> OfListener {
        let (all, per_client) = (limits.max_connections, limits.max_connections_per_client);
        OfListener::new(name, Maxima { all, per_client, per_user: None })
    }

    /// Its sessions.
    pub fn sessions(name: &str, limits: &ListenerLimitsConfig) -> OfListener {
        let (all, per_client) = (limits.max_sessions, limits.max_sessions_per_client);
        OfListener::new(name, Maxima { all, per_client, per_user: limits.max_sessions_per_user })
    }

    /// Its tunnels.
    pub fn tunnels(name: &str, limits: &ListenerLimitsConfig) -> OfListener {
        let (all, per_client) = (limits.max_tunnels, limits.max_tunnels_per_client);
        OfListener::new(name, Maxima { all, per_client, per_user: None })
    }
}

/// Which maximum is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all together.
    All,
    /// That of all on this listener.
    Listener,
    /// That of this client, over all listeners or on this one.
    Client,
    /// That of this user, over all listeners or on this one.
    User,
}

/// A maximum as replicas count towards it together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMaximum {
    /// What is counted: the same name for the same in every replica.
    pub scope: String,
    /// How many there may be; `None` is no maximum, and is counted all the same.
    pub max: Option<u32>,
    /// Which maximum it is, for when it is reached.
    pub full: Full,
}

/// Whose things are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    All,
    Client(ClientKey),
    User(Arc<str>),
    Listener(Arc<str>),
    ClientOfListener(Arc<str>, ClientKey),
    UserOfListener(Arc<str>, Arc<str>),
}

impl Scope {
    /// What replicas call it. The name of a user may be anything, of any length, and is told by a hash.
    fn shared_name(&self) -> String {
        match self {
            Scope::All => "all".to_owned(),
            Scope::Client(client) => format!("client:{client}"),
            Scope::User(user) => format!("user:{:032x}", hashed(user)),
            Scope::Listener(listener) => format!("all@{listener}"),
            Scope::ClientOfListener(listener, client) => format!("client:{client}@{listener}"),
            Scope::UserOfListener(listener, user) => format!("user:{:032x}@{listener}", hashed(user)),
        }
    }

    fn full(&self) -> Full {
        match self {
            Scope::All => Full::All,
            Scope::Listener(_) => Full::Listener,
            Scope::Client(_) | Scope::ClientOfListener(..) => Full::Client,
            Scope::User(_) | Scope::UserOfListener(..) => Full::User,
        }
    }
}

/// The claims on one thing more; the narrow ones come first, so that who has too many hears of that.
#[derive(Debug, Default)]
pub(super) struct Claims(Vec<Claim<Scope>>);

impl Claims {
    pub(super) fn of_user(mut self, user: &Arc<str>, all: Maxima, listener: &OfListener) -> Claims {
        let scope = Scope::UserOfListener(listener.name.clone(), user.clone());
        self.push(scope, listener.maxima.per_user, Scope::User(user.clone()), all.per_user);
        self
    }

    pub(super) fn of_client(self, client: ClientKey, all: Maxima, listener: &OfListener) -> Claims {
        self.of_client_with(client, all, listener, |max| max)
    }

    /// With maxima that are another for this client.
    pub(super) fn of_client_with(
        mut self,
        client: ClientKey,
        all: Maxima,
        listener: &OfListener,
        other: impl Fn(u32) -> u32,
    ) -> Claims {
        let scope = Scope::ClientOfListener(listener.name.clone(), client);
        let (own, all) = (listener.maxima.per_client.map(&other), all.per_client.map(other));
        self.push(scope, own, Scope::Client(client), all);
        self
    }

    pub(super) fn of_all(self, all: Maxima, listener: &OfListener) -> Claims {
        self.of_all_with(all, listener, |max| max)
    }

    /// With maxima that are another for this claim.
    pub(super) fn of_all_with(mut self, all: Maxima, listener: &OfListener, other: impl Fn(u32) -> u32) -> Claims {
        let (own, all) = (listener.maxima.all.map(&other), all.all.map(other));
        self.push(Scope::Listener(listener.name.clone()), own, Scope::All, all);
        self
    }

    /// What replicas count together, in this order.
    pub(super) fn shared(&self) -> Vec<SharedMaximum> {
        let shared = |claim: &Claim<Scope>| SharedMaximum {
            scope: claim.key.shared_name(),
            max: claim.max,
            full: claim.key.full(),
        };
        self.0.iter().map(shared).collect()
    }

    fn push(&mut self, own: Scope, max_of_own: Option<u32>, all: Scope, max_of_all: Option<u32>) {
        self.0.push(Claim { key: own, max: max_of_own });
        self.0.push(Claim { key: all, max: max_of_all });
    }

    pub(super) fn acquire(self, permits: &Permits<Scope>) -> Result<Permit<Scope>, Full> {
        let fulls = self.fulls();
        permits.try_acquire(self.0).map_err(|index| told(&fulls, index))
    }

    pub(super) fn extend(self, permit: &mut Permit<Scope>) -> Result<(), Full> {
        let fulls = self.fulls();
        permit.extend(self.0).map_err(|index| told(&fulls, index))
    }

    /// The first maximum that what is held already is above.
    pub(super) fn exceeded_in(&self, permits: &Permits<Scope>) -> Option<Full> {
        let exceeded = |claim: &&Claim<Scope>| claim.max.is_some_and(|max| permits.held(&claim.key) > max);
        self.0.iter().find(exceeded).map(|claim| claim.key.full())
    }

    fn fulls(&self) -> Vec<Full> {
        self.0.iter().map(|claim| claim.key.full()).collect()
    }
}

/// The same in every replica.
fn hashed(user: &str) -> u128 {
    SipHasher24::new().hash(user.as_bytes()).as_u128()
}

fn told(fulls: &[Full], index: usize) -> Full {
    fulls.get(index).copied().unwrap_or(Full::All)
}
