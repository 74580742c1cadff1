//! How many sessions may be open at once: of all, of one client, of one transfer user.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{
    client::ClientKey,
    maxima::{Claims, Full, Maxima, OfListener, Scope, SharedMaximum},
    permits::{Permit, Permits},
};
use crate::telemetry::Reason;

/// Counts open sessions against maxima that may change while it runs.
#[derive(Debug, Clone)]
pub struct SessionLimit {
    permits: Permits<Scope>,
    maxima: Arc<ArcSwap<Maxima>>,
}

/// Whose session ended: who waits for a maximum of theirs may try once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freed {
    /// The listener that it came through.
    pub listener: Arc<str>,
    /// The client.
    pub client: ClientKey,
    /// The transfer user, if that was known.
    pub user: Option<Arc<str>>,
}

impl Freed {
    fn of(scopes: &[Scope]) -> Option<Freed> {
        let mut user = None;
        let mut place = None;
        for scope in scopes {
            match scope {
                Scope::ClientOfListener(listener, client) => place = Some((listener.clone(), *client)),
                Scope::User(name) => user = Some(name.clone()),
                _ => {}
            }
        }
        place.map(|(listener, client)| Freed { listener, client, user })
    }
}

impl SessionLimit {
    /// Allows so many sessions at once; `freed` is called after each that ends.
    pub fn new(maxima: Maxima, freed: impl Fn(Freed) + Send + Sync + 'static) -> SessionLimit {
        let permits = Permits::with_hook(move |scopes: &[Scope]| Freed::of(scopes).into_iter().for_each(&freed));
        SessionLimit { permits, maxima: Arc::new(ArcSwap::from_pointee(maxima)) }
    }

    /// Changes the maxima; sessions over lower ones go on. Who waits for room is not told.
    pub fn set(&self, maxima: Maxima) {
        self.maxima.store(Arc::new(maxima));
    }

    /// A permit for one more session through `listener`, or which maximum is reached; that of the user is looked at
    /// first, then that of the client. A session whose user is not known counts for none.
    pub fn try_acquire(
        &self,
        listener: &OfListener,
        client: ClientKey,
        user: Option<&Arc<str>>,
    ) -> Result<SessionPermit, Full> {
        claims(listener, client, user, **self.maxima.load()).acquire(&self.permits).map(SessionPermit)
    }

    /// What replicas count of such a session together, and what there may be of each.
    pub fn shared(&self, listener: &OfListener, client: ClientKey, user: Option<&Arc<str>>) -> Vec<SharedMaximum> {
        claims(listener, client, user, **self.maxima.load()).shared()
    }

    /// A permit for a session that was let in elsewhere, whatever the maxima say.
    pub fn acquire(&self, listener: &str, client: ClientKey, user: Option<&Arc<str>>) -> Option<SessionPermit> {
        let (listener, none) = (OfListener::new(listener, Maxima::default()), Maxima::default());
        // Without a maximum nothing stands against it.
        claims(&listener, client, user, none).acquire(&self.permits).map(SessionPermit).ok()
    }

    /// How many sessions there may be, over all listeners; `None` is no maximum.
    pub fn max(&self) -> Option<u32> {
        self.maxima.load().all
    }

    /// How many sessions are open.
    pub fn open(&self) -> u32 {
        self.permits.held(&Scope::All)
    }

    /// How many sessions of `client` are open.
    pub fn of_client(&self, client: ClientKey) -> u32 {
        self.permits.held(&Scope::Client(client))
    }

    /// The word for a maximum that is reached.
    pub fn reason(full: Full) -> Reason {
        match full {
            Full::All | Full::Listener => Reason::TooManySessions,
            Full::Client => Reason::TooManySessionsPerClient,
            Full::User => Reason::TooManySessionsPerUser,
        }
    }
}

fn claims(listener: &OfListener, client: ClientKey, user: Option<&Arc<str>>, all: Maxima) -> Claims {
    let of_user = user.map_or_else(Claims::default, |user| Claims::default().of_user(user, all, listener));
    of_user.of_client(client, all, listener).of_all(all, listener)
}

/// One open session.
#[derive(Debug)]
pub struct SessionPermit(Permit<Scope>);

impl SessionPermit {
    /// Gives it back as if it had never been taken: for who has the turn in a waiting room, and lacks something else.
    pub fn undo(self) {
        self.0.undo();
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Mutex};

    use super::*;

    fn client(last: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, last]).into()
    }

    fn maxima(all: u32, per_client: u32, per_user: u32) -> Maxima {
        Maxima { all: Some(all), per_client: Some(per_client), per_user: Some(per_user) }
    }

    #[test]
    fn each_maximum_refuses_by_its_own_word_and_takes_nothing() {
        let limit = SessionLimit::new(maxima(4, 3, 2), |_| {});
        let (any, ann, bob) = (OfListener::default(), Arc::from("ann"), Arc::from("bob"));
        let mut held =
            vec![limit.try_acquire(&any, client(1), Some(&ann)), limit.try_acquire(&any, client(2), Some(&ann))];
        assert_eq!(limit.try_acquire(&any, client(3), Some(&ann)).unwrap_err(), Full::User);
        held.push(limit.try_acquire(&any, client(1), Some(&bob)));
        held.push(limit.try_acquire(&any, client(1), None));
        assert_eq!(limit.try_acquire(&any, client(1), None).unwrap_err(), Full::Client);
        assert_eq!(limit.try_acquire(&any, client(3), None).unwrap_err(), Full::All);
        assert!(held.iter().all(Result::is_ok));
        assert_eq!((limit.open(), limit.of_client(client(1)), limit.of_client(client(3))), (4, 3, 0));
        drop(held);
        assert_eq!((limit.open(), limit.permits.keys()), (0, 0));
        let words = [Full::All, Full::Client, Full::User].map(|full| SessionLimit::reason(full).as_str());
        assert_eq!(words, ["too_many_sessions", "too_many_sessions_per_client", "too_many_sessions_per_user"]);
    }

    #[test]
    fn the_end_of_a_session_is_told_with_whose_it_was() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let limit = SessionLimit::new(maxima(1, 1, 1), {
            let told = told.clone();
            move |freed| told.lock().unwrap().push(freed)
        });
        let (listener, ann) = (OfListener::new("web", Maxima::default()), Arc::from("ann"));
        let held = limit.try_acquire(&listener, client(7), Some(&ann)).unwrap();
        assert!(limit.try_acquire(&OfListener::default(), client(8), None).is_err());
        assert!(told.lock().unwrap().is_empty());
        drop(held);
        let freed = Freed { listener: "web".into(), client: client(7), user: Some(ann) };
        assert_eq!(*told.lock().unwrap(), [freed]);
    }

    #[test]
    fn a_listener_has_maxima_of_its_own() {
        let limit = SessionLimit::new(Maxima::default(), |_| {});
        let small = OfListener::new("small", maxima(2, 1, 5));
        let held = (limit.try_acquire(&small, client(1), None), limit.try_acquire(&small, client(2), None));
        assert_eq!(limit.try_acquire(&small, client(1), None).unwrap_err(), Full::Client);
        assert_eq!(limit.try_acquire(&small, client(3), None).unwrap_err(), Full::Listener);
        assert!(limit.try_acquire(&OfListener::new("other", Maxima::default()), client(1), None).is_ok());
        drop(held);
    }

    #[test]
    fn replicas_count_a_session_by_names_that_are_the_same_in_each() {
        let limit = SessionLimit::new(maxima(9, 8, 7), |_| {});
        let web = OfListener::new("web", Maxima { all: Some(6), per_client: None, per_user: None });
        let shared = |user: Option<&Arc<str>>| limit.shared(&web, client(1), user);
        let of = |scope: &str, max, full| SharedMaximum { scope: scope.to_owned(), max, full };
        let nobody = [
            of("client:192.0.2.1@web", None, Full::Client),
            of("client:192.0.2.1", Some(8), Full::Client),
            of("all@web", Some(6), Full::Listener),
            of("all", Some(9), Full::All),
        ];
        assert_eq!(shared(None), nobody);
        let ann = shared(Some(&"ann".into()));
        assert_eq!((&ann[2..], ann[1].max, ann[1].full), (&nobody[..], Some(7), Full::User));
        assert_eq!(ann[1].scope, "user:ce3a08c9a6ffb6a1aa2fa9ea2477fbcc");
        assert_eq!(ann[0].scope, format!("{}@web", ann[1].scope));
    }

    #[test]
    fn a_maximum_that_comes_later_counts_what_there_is() {
        let limit = SessionLimit::new(Maxima::default(), |_| {});
        let held: Vec<_> = (1..=3).map(|last| limit.try_acquire(&OfListener::default(), client(last), None)).collect();
        limit.set(maxima(3, 3, 3));
        assert_eq!(limit.try_acquire(&OfListener::default(), client(9), None).unwrap_err(), Full::All);
        drop(held);
    }
}
