//! Which node the nominal path of a client takes: control connections choose, data follows.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::{
    Lease, NoNode, Node, Upstream, Wish,
    clients::{Client, Entered, NotNow, Place, Trying},
};
use crate::{config::NodePort, telemetry::PickHow};

/// A node held for a control connection that it has not answered yet.
#[derive(Debug)]
pub struct Attempt {
    client: IpAddr,
    lease: Lease,
    place: Place,
    trying: Trying,
    last_resort: bool,
}

impl Attempt {
    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        self.lease.node()
    }

    /// Whether it was chosen although its checks fail, because all of them do (`when_all_down: try_all`).
    pub fn is_last_resort(&self) -> bool {
        self.last_resort
    }

    /// Where to connect to.
    pub fn address(&self) -> Option<SocketAddr> {
        self.node().control_address(self.place.ip)
    }

    /// The node has answered: the client's data goes there from now on.
    pub fn met(self) -> Control {
        Control { lease: self.lease, entered: self.trying.met(self.client, self.place) }
    }
}

/// A node held for one control connection, and the pin that leads the client's data to it.
#[derive(Debug)]
pub struct Control {
    pub(super) lease: Lease,
    pub(super) entered: Entered,
}

impl Control {
    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        self.entered.ip
    }

    /// The node.
    pub fn node(&self) -> &Arc<Node> {
        self.lease.node()
    }

    /// The client whose connection it is.
    pub fn client(&self) -> &Arc<Client> {
        &self.entered.client
    }
}

impl Upstream {
    /// Takes a lease on a node for a control connection of `client`; `tried` are left out.
    ///
    /// The node of the client's live connections and flows comes first, for its data can go to one node only. When that
    /// one cannot take it and another one answers, the pin moves: what flows already stays where it is, new flows
    /// follow.
    ///
    /// A node whose name cannot be looked up within `patience` joins the tried ones.
    pub async fn pick_control(
        &self,
        client: IpAddr,
        tried: &mut Vec<Arc<Node>>,
        patience: Duration,
    ) -> Result<Attempt, NoNode> {
        let client = client.to_canonical();
        let wish = Wish { port: NodePort::Tcp, session: None, client, user: None };
        loop {
            let pinned = self.clients.find(client).filter(|c| c.is_live()).map(|c| c.place());
            let at_pin = pinned.as_ref().and_then(|place| self.lease_by_name(wish, place.node.name(), tried));
            let (lease, how) = match at_pin {
                Some(lease) => (lease, Some(PickHow::Control)),
                None => (self.pick(wish, tried)?, pinned.as_ref().map(|_| PickHow::Repin)),
            };
            let node = lease.node().clone();
            // A node may have moved, with a reload or with its name; then its old address is no longer its.
            let known = pinned.as_ref().filter(|p| p.node.name() == node.name() && node.is_known_at(p.ip));
            let ip = match known {
                Some(place) => Ok(place.ip),
                None => match timeout(patience, node.address(NodePort::Tcp)).await {
                    Ok(found) => found.map(|address| address.ip()),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                },
            };
            let ip = match ip {
                Ok(ip) => ip,
                Err(error) => {
                    tracing::warn!(upstream = node.upstream(), node = node.name(), %error, "A node has no address.");
                    tried.push(node);
                    continue;
                }
            };
            let place = Place { node, ip };
            match self.clients.attempt(client, &place, pinned.as_ref(), Instant::now()) {
                Ok(trying) => {
                    how.into_iter().for_each(|how| self.count(how));
                    let last_resort = !lease.node().is_up(NodePort::Tcp);
                    return Ok(Attempt { client, lease, place, trying, last_resort });
                }
                // Two connections of one client chose at once: the second follows the first.
                Err(NotNow::Moved) => {}
                Err(NotNow::Full) => return Err(NoNode),
            }
        }
    }

    /// What is known of a client address. Takes no lock.
    pub fn client(&self, ip: IpAddr) -> Option<Arc<Client>> {
        self.clients.find(ip)
    }

    /// A client whose data goes to a node although no control connection leads it there: by its live flows, else by
    /// `balance`. Waits for nothing: a node whose name was not looked up yet is left out.
    pub fn pick_data(&self, client: IpAddr) -> Result<Arc<Client>, NoNode> {
        let wish = Wish { port: NodePort::Udp, session: None, client, user: None };
        let pinned = self.clients.find(client).filter(|c| c.is_live()).map(|client| (client.place(), client));
        if let Some((place, client)) = &pinned
            && self
                .nodes
                .now()
                .iter()
                .any(|n| n.name() == place.node.name() && n.is_same(&place.node) && n.is_up(NodePort::Udp))
        {
            return Ok(client.clone());
        }
        // Data holds no lease: how many sessions it stands for is not known.
        let node = self.pick(wish, &[])?.node().clone();
        let ip = node.known_ip().ok_or(NoNode)?;
        let seen = pinned.as_ref().map(|(place, _)| place);
        self.clients.visit(client, Place { node, ip }, seen, Instant::now()).map_err(|_| NoNode)
    }

    /// Forgets clients that were not heard of for `keep`.
    pub fn prune_clients(&self, now: Instant, keep: Duration) {
        self.clients.prune(now, keep);
    }

    /// The node of the client's live control connections; for the fallback, which prefers it.
    pub(super) fn control_node(&self, client: IpAddr) -> Option<String> {
        let client = self.clients.find(client.to_canonical()).filter(|c| c.controls() > 0)?;
        Some(client.place().node.name().to_owned())
    }
}
