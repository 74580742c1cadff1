//! The connections that were opened from here, so that one that comes back in is known: a request that meets itself would go
//! round until nothing is left.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::net::TcpStream;

/// A TCP connection by both its ends. One end alone does not tell: a port that one connection leaves from may be that of
/// another one too, which leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link {
    /// Who connected.
    from: SocketAddr,
    /// What to.
    to: SocketAddr,
}

impl Link {
    /// That of a connection that came in.
    pub(super) fn incoming(stream: &TcpStream) -> Option<Link> {
        Some(Link { from: canonical(stream.peer_addr().ok()?), to: canonical(stream.local_addr().ok()?) })
    }

    fn outgoing(stream: &TcpStream) -> Option<Link> {
        Some(Link { from: canonical(stream.local_addr().ok()?), to: canonical(stream.peer_addr().ok()?) })
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The connections to targets and parents. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Outgoing(Arc<Mutex<HashSet<Link>>>);

impl Outgoing {
    /// Remembers a connection as long as the guard lives; it must be done before anything is written to it.
    pub(super) fn begin(&self, stream: &TcpStream) -> Leaving {
        let link = Link::outgoing(stream);
        self.lock().extend(link);
        Leaving { all: self.clone(), link }
    }

    /// Whether a connection that came in is one of these.
    pub(super) fn holds(&self, link: Link) -> bool {
        self.lock().contains(&link)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection that was opened from here.
#[derive(Debug)]
pub(super) struct Leaving {
    all: Outgoing,
    link: Option<Link>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(link) = self.link {
            self.all.lock().remove(&link);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_comes_back_in_is_known_and_one_from_the_same_port_to_elsewhere_is_not() {
        let (here, there) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let outgoing = Outgoing::default();
        let left = TcpStream::connect(there.local_addr().unwrap()).await.unwrap();
        let leaving = outgoing.begin(&left);
        let (came, _) = there.accept().await.unwrap();
        assert!(outgoing.holds(Link::incoming(&came).unwrap()));

        // A local client that the kernel gave the same port, which it may since its target is another.
        let link = Link { from: left.local_addr().unwrap(), to: here.local_addr().unwrap() };
        assert!(!outgoing.holds(link));
        drop(leaving);
        assert!(!outgoing.holds(Link::incoming(&came).unwrap()));
    }
}
