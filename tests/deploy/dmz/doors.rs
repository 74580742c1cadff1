//! The doors of the site: what somebody does who wants something, and whether it works.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use super::site::{OTHER, Site, at};
use crate::support::netns::Host;

/// How long something may take that is to work.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long is tried what is not to work.
pub(super) const SHORT: Duration = Duration::from_millis(700);

pub(super) const GATEWAY: [&str; 2] = ["192.0.2.10", "2001:db8:d::10"];
pub(super) const CLIENT: [&str; 2] = ["198.51.100.2", "2001:db8:1::2"];
pub(super) const NODES: [&str; 2] = ["10.1.0.11", "fd00:1::12"];

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Try {
    /// A connection.
    Connect,
    /// A datagram there and one back.
    Datagram,
    /// The same, with an answer that is too long for the last mile.
    Long,
}

/// Something that somebody wants.
pub(super) struct Door<'s> {
    /// The comment of the rules that it needs.
    pub(super) name: &'static str,
    /// 0 for IPv4, 1 for IPv6.
    pub(super) family: usize,
    pub(super) from: &'s Host,
    pub(super) to: SocketAddr,
    pub(super) what: Try,
}

impl Door<'_> {
    /// Whether it works within this time; what comes to nothing is tried again until then.
    pub(super) fn works(&self, patience: Duration) -> bool {
        let begin = Instant::now();
        self.from.open(|| {
            while begin.elapsed() < patience {
                let rest = patience.saturating_sub(begin.elapsed()).max(Duration::from_millis(10));
                match self.once(rest) {
                    Ok(true) => return true,
                    // A rule of this host; trying again and again would come upon the port of an older conversation.
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => return false,
                    _ => {}
                }
            }
            false
        })
    }

    fn once(&self, rest: Duration) -> std::io::Result<bool> {
        let bytes: &[u8] = match self.what {
            Try::Connect => return TcpStream::connect_timeout(&self.to, rest).map(|_| true),
            Try::Datagram => &[7; 100],
            Try::Long => &[7; 1400],
        };
        let any = if self.to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(rest.min(Duration::from_millis(250))))?;
        socket.connect(self.to)?;
        socket.send(bytes)?;
        Ok(socket.recv(&mut [0; 2000])? == bytes.len() + 2)
    }
}

/// Everything that must work. The client has a control connection for its data.
pub(super) fn wanted(site: &Site) -> Vec<Door<'_>> {
    let mut all = Vec::new();
    for family in [0, 1] {
        let mut door = |name, from, to, what| all.push(Door { name, family, from, to, what });
        for (name, port) in [("fallback-https", 8443), ("fallback-http", 8080), ("control", 33_001)] {
            door(name, &*site.client, at(GATEWAY[family], port), Try::Connect);
        }
        door("data", &site.client, at(GATEWAY[family], 33_001), Try::Datagram);
        for (name, port) in [("transfer fallback", 8080), ("transfer control", 33_001)] {
            door(name, &site.gateway, at(NODES[family], port), Try::Connect);
        }
        door("transfer data", &site.gateway, at(NODES[family], 33_001), Try::Datagram);
    }
    let mut door = |name, family, from, to, what| all.push(Door { name, family, from, to, what });
    door("data", 0, &*site.client, at(GATEWAY[0], 33_001), Try::Long);
    door("path MTU", 1, &site.client, at(GATEWAY[1], 33_001), Try::Long);
    door("admin", 0, &site.operator, at(GATEWAY[0], 9180), Try::Connect);
    door("itself", 0, &site.gateway, at(GATEWAY[0], 9180), Try::Connect);
    all
}

/// What must not work: everything has somebody who listens.
pub(super) fn unwanted(site: &Site) -> Vec<Door<'_>> {
    let mut all = Vec::new();
    for family in [0, 1] {
        let mut tcp = |name, from, ip: [&str; 2], port| {
            all.push(Door { name, family, from, to: at(ip[family], port), what: Try::Connect });
        };
        tcp("a client at any other port of the gateway", &*site.client, GATEWAY, OTHER);
        tcp("a client at the fallback of a node", &site.client, NODES, 8080);
        tcp("a client at the control port of a node", &site.client, NODES, 33_001);
        tcp("the gateway at any other port of a node", &site.gateway, ["10.1.0.11", "fd00:1::11"], OTHER);
        tcp("the gateway at the fallback of no node", &site.gateway, ["10.1.0.99", "fd00:1::99"], OTHER);
        tcp("the gateway in the internet", &site.gateway, CLIENT, OTHER);
        tcp("another host of the DMZ at a node's fallback", &site.neighbour, NODES, 8080);
        tcp("another host of the DMZ at a node's control port", &site.neighbour, NODES, 33_001);
        tcp("another host of the DMZ in the internet", &site.neighbour, CLIENT, OTHER);
        tcp("another host of the DMZ at any other port of the gateway", &site.neighbour, GATEWAY, OTHER);
        tcp("a node at the gateway", &site.n1, GATEWAY, 8443);
        tcp("a node at any other port of the gateway", &site.n1, GATEWAY, OTHER);
        tcp("a node in the internet", &site.n1, CLIENT, OTHER);
        for (name, from) in
            [("a client at a node's data", &site.client), ("another host of the DMZ at a node's data", &site.neighbour)]
        {
            all.push(Door { name, family, from, to: at(NODES[family], 33_001), what: Try::Datagram });
        }
    }
    for (name, from) in [
        ("a client at the admin port", &site.client),
        ("a node at the admin port", &site.n1),
        ("another host of the DMZ at the admin port", &site.neighbour),
    ] {
        all.push(Door { name, family: 0, from, to: at(GATEWAY[0], 9180), what: Try::Connect });
    }
    all
}

/// Tries all at once; those that did not do as they should, within a time for each.
pub(super) fn wrong(doors: &[Door<'_>], patience: impl Fn(&Door<'_>) -> (bool, Duration) + Sync) -> Vec<String> {
    std::thread::scope(|scope| {
        let tries: Vec<_> = doors
            .iter()
            .map(|door| {
                let patience = &patience;
                scope.spawn(move || {
                    let (should, within) = patience(door);
                    (door.works(within) != should)
                        .then(|| format!("{} over IPv{}: {}", door.name, [4, 6][door.family], !should))
                })
            })
            .collect();
        tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
    })
}
