//! How many at once, how often, and how one waits: each limit lets the last one in and holds or refuses the next.

mod connections;
mod crowd;
mod flood;
mod overload;
mod rates;
mod sessions;
mod turns;
mod waiting;

use std::net::SocketAddr;

use fallgate::node::NodeOptions;
use tokio::task::JoinHandle;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, uuid,
    wire::{Reply, end, put, start},
};

const A: [u8; 4] = [127, 0, 0, 2];
const B: [u8; 4] = [127, 0, 0, 3];
const C: [u8; 4] = [127, 0, 0, 4];

/// One node, and these limits.
fn limited(limits: &str) -> Plan {
    Plan::new().node(NodeOptions::default()).top(&format!("limits: {{{limits}}}"))
}

/// A client's side of a session, on one connection.
struct Session {
    wire: Wire,
    host: SocketAddr,
    id: String,
}

/// A start body for this user.
fn body(id: &str, user: &str) -> Vec<u8> {
    format!(
        "<session>\n\n  <id>{id}</id>\n  <operation>put</operation>\n\n  <token>{TOKEN}</token>\n\n  <destination>/</destination>\n\n  <user>{user}</user>\n</session>\n"
    )
    .into_bytes()
}

/// A session of ann from this address, and what its start was answered.
async fn begin(from: [u8; 4], host: SocketAddr) -> (Reply, Session) {
    begin_as(from, host, "ann").await
}

async fn begin_as(from: [u8; 4], host: SocketAddr, user: &str) -> (Reply, Session) {
    let mut session = ask_as(from, host, user).await;
    (session.wire.head().await, session)
}

/// A start that is sent, and not answered yet.
async fn ask(from: [u8; 4], host: SocketAddr) -> Session {
    ask_as(from, host, "ann").await
}

async fn ask_as(from: [u8; 4], host: SocketAddr, user: &str) -> Session {
    let (mut wire, id) = (Wire::from(from, host).await, uuid());
    wire.send(&start(host, &id, &body(&id, user))).await;
    Session { wire, host, id }
}

impl Session {
    async fn put(&mut self) -> u16 {
        self.wire.ask(&put(self.host, &self.id, "a", b"x")).await.status
    }

    async fn end(&mut self) -> u16 {
        self.wire.ask(&end(self.host, &self.id, "DONE")).await.status
    }

    /// The final answer to its start, and how many signs of life came before.
    async fn answer(&mut self) -> (Reply, usize) {
        let mut notices = 0;
        loop {
            // The helper's own patience is for one head.
            let reply = self.wire.head().await;
            if reply.status != 102 {
                return (reply, notices);
            }
            notices += 1;
        }
    }

    /// Awaits its answer elsewhere.
    fn later(mut self) -> JoinHandle<(Reply, Session)> {
        tokio::spawn(async move { (self.answer().await.0, self) })
    }
}

/// Waits until so many sessions wait.
async fn waiting(sandbox: &Sandbox, n: u32) {
    sandbox.until(&format!("{n} waiting"), |m| m.sum("waiting", &[]) == f64::from(n)).await;
}

async fn refusals(sandbox: &Sandbox, word: &str) -> f64 {
    sandbox.metrics().await.sum("refusals_total", &[("reason", word)])
}

/// A start was refused by this word: in its answer, in the count, in its record; and its end is heard.
async fn refused(sandbox: &Sandbox, (reply, mut session): (Reply, Session), status: u16, word: &str) {
    assert_eq!((reply.status, reply.word()), (status, word));
    assert_eq!(reply.field("x-real-mgmt-error"), Some("39"), "{word}");
    assert!(refusals(sandbox, word).await >= 1.0, "{word}");
    let records = sandbox.records(1).await;
    assert!(records.iter().any(|r| r["reason"] == word && r["outcome"] == "refused"), "{word}: {records:?}");
    assert_eq!(session.end().await, 200, "{word}: the end of a refused session is heard");
}
