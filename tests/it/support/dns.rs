//! A name server made by hand: it says what a test has it say, and counts who asks.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{net::UdpSocket, task::AbortHandle};

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;

/// Names that begin so are aliases of what follows.
const ALIAS: &str = "alias.";

type Asked = Arc<Mutex<HashMap<(String, u16), usize>>>;

/// A name server on UDP; it ends when this drops. No answer may be remembered, but that there is no such name.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    asked: Asked,
    task: AbortHandle,
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Dns {
    /// Asks `addresses` for those of a name in lower case and for the how-manieth time, from 0, it is looked up. A name
    /// without any is not there. A name that begins with `alias.` is an alias of what follows.
    pub(crate) async fn start(addresses: impl Fn(&str, usize) -> Vec<IpAddr> + Send + Sync + 'static) -> Dns {
        Dns::serve(move |name, turn| Some(addresses(name, turn))).await
    }

    /// Counts, and never answers.
    pub(crate) async fn silent() -> Dns {
        Dns::serve(|_, _| None).await
    }

    /// As [`Dns::start`], and where there is nothing at all it does not answer.
    pub(crate) async fn serve(addresses: impl Fn(&str, usize) -> Option<Vec<IpAddr>> + Send + Sync + 'static) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, asked) = (socket.local_addr().unwrap(), Asked::default());
        let counts = asked.clone();
        let serving = async move {
            let mut space = [0; 1500];
            while let Ok((n, from)) = socket.recv_from(&mut space).await {
                let Some((name, kind, question)) = question(&space[..n]) else { continue };
                let turn = {
                    let mut counts = counts.lock().unwrap();
                    let count = counts.entry((name.clone(), kind)).or_default();
                    *count += 1;
                    *count - 1
                };
                let target = name.trim_start_matches(ALIAS);
                let Some(found) = addresses(target, turn) else { continue };
                let _ = socket.send_to(&answer(&space[..2], question, (&name, kind), &found), from).await;
            }
        };
        Dns { address, asked, task: tokio::spawn(serving).abort_handle() }
    }

    /// How often a name was looked up: its IPv4 addresses, as both families are asked for each time.
    pub(crate) fn lookups(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(&(name.to_owned(), A)).copied().unwrap_or(0)
    }

    /// How many queries there were of any kind.
    pub(crate) fn queries(&self) -> usize {
        self.asked.lock().unwrap().values().sum()
    }
}

/// The name in lower case without the last dot, the kind, and the bytes of the only question.
fn question(query: &[u8]) -> Option<(String, u16, &[u8])> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    Some((labels.join("."), kind, query.get(12..at + 4)?))
}

fn answer(id: &[u8], question: &[u8], (name, kind): (&str, u16), found: &[IpAddr]) -> Vec<u8> {
    let mut records = Vec::new();
    let mut owner = name;
    if !found.is_empty() {
        while let Some(rest) = owner.strip_prefix(ALIAS) {
            records.push(record(owner, CNAME, 0, &wire(rest)));
            owner = rest;
        }
    }
    for ip in found {
        match ip {
            IpAddr::V4(ip) if kind == A => records.push(record(owner, A, 0, &ip.octets())),
            IpAddr::V6(ip) if kind == AAAA => records.push(record(owner, AAAA, 0, &ip.octets())),
            _ => {}
        }
    }
    let has_addresses = found.iter().any(|ip| ip.is_ipv4() == (kind == A));
    let code: u16 = if found.is_empty() { 3 } else { 0 };
    let soa = [wire("ns.test"), wire("host.test"), [1u32, 60, 60, 60, 60].map(u32::to_be_bytes).concat()].concat();
    let authority = if has_addresses { Vec::new() } else { record("test", SOA, 60, &soa) };
    let counts = [1, records.len() as u16, u16::from(!has_addresses), 0].map(u16::to_be_bytes).concat();
    let head = [id, &(0x8580 | code).to_be_bytes(), &counts, question].concat();
    [head, records.concat(), authority].concat()
}

fn record(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let kind = [kind, 1].map(u16::to_be_bytes).concat();
    [&wire(owner), &kind, &ttl.to_be_bytes()[..], &(data.len() as u16).to_be_bytes(), data].concat()
}

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
