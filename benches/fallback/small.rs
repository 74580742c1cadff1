//! Small files: a TLS connection for each of them, or one for all.

use std::net::SocketAddr;

use crate::{
    Options,
    load::{Link, Session, Tls},
    peer::{self, Peer},
    report::Table,
    rounds,
    stage::Stage,
};

const SIZE: usize = 1024;
/// Clients at once, where each file has its connection.
const CLIENTS: usize = 4;

/// Each file on a TLS 1.2 connection of its own, at a node that offers no persistence.
pub(crate) fn connect(options: &Options, stage: &Stage) -> Vec<Table> {
    let peers = peer::all(options, stage, stage.plain);
    let mut table = Table::new("New TLS 1.2 connection and a PUT of 1 KiB: CPU of the proxy", "us per request");
    let each = options.scaled(200);
    for (line, address) in
        [("connect-rsa2048", (|p: &Peer| p.rsa) as fn(&Peer) -> SocketAddr), ("connect-p256", |p: &Peer| p.p256)]
    {
        if options.wants(line) {
            let measured = rounds::run(line, options, &peers, |peer| fresh_connections(peer, address(peer), each));
            // 1.2 times the requests in a CPU second.
            table.add(line, Some(1.0 / 1.2), measured);
        }
    }
    vec![table]
}

fn fresh_connections(peer: &Peer, address: SocketAddr, each: usize) -> f64 {
    let config = Tls::V12.config();
    let sessions: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (session, mut link) = (Session::new(address), Link::open(address, &config));
            session.start(&mut link, None);
            link.close();
            session
        })
        .collect();
    let before = peer.cpu_ns();
    std::thread::scope(|scope| {
        for session in &sessions {
            scope.spawn(|| {
                for _ in 0..each {
                    let mut link = Link::open(address, &config);
                    session.put(&mut link, SIZE);
                    link.close();
                }
            });
        }
    });
    let used = peer.cpu_ns() - before;
    for session in sessions {
        let mut link = Link::open(address, &config);
        session.end(&mut link);
        link.close();
    }
    used as f64 / 1e3 / (CLIENTS * each) as f64
}

/// All files on one TLS 1.2 connection, as a node that offers persistence wants it.
pub(crate) fn keepalive(options: &Options, stage: &Stage) -> Vec<Table> {
    let peers = peer::all(options, stage, stage.persistent);
    let mut table = Table::new("PUT of 1 KiB on one TLS 1.2 connection: CPU of the proxy", "us per request");
    let requests = options.scaled(8000);
    let line = "keepalive-put";
    if options.wants(line) {
        let measured = rounds::run(line, options, &peers, |peer| {
            let (session, mut link) = (Session::new(peer.rsa), Link::open(peer.rsa, &Tls::V12.config()));
            session.start(&mut link, None);
            let before = peer.cpu_ns();
            for _ in 0..requests {
                session.put(&mut link, SIZE);
            }
            let used = peer.cpu_ns() - before;
            session.end(&mut link);
            link.close();
            used as f64 / 1e3 / requests as f64
        });
        table.add(line, Some(1.3), measured);
    }
    vec![table]
}
