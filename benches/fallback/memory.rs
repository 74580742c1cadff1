//! Memory: what a TLS connection costs the proxy while it idles, and while it uploads.

use std::time::Duration;

use crate::{
    Options,
    load::{Link, PIECE, Session, Tls},
    machine,
    peer::{self, Peer},
    process,
    report::Table,
    rounds::Measured,
    stage::Stage,
};

const CONNECTIONS: usize = 1000;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let count = options.scaled(CONNECTIONS);
    let mut table = Table::new("Memory: resident growth of the proxy for each connection", "KiB");
    for (line, upload) in [("memory-idle", false), ("memory-upload", true)] {
        if options.wants(line) {
            // Each figure needs fresh processes.
            let rounds: Vec<Vec<f64>> = (0..options.rounds().min(3))
                .map(|_| peer::all(options, stage, stage.plain).iter().map(|p| growth(p, count, upload)).collect())
                .collect();
            let names = peer::all(options, stage, stage.plain).iter().map(|p| p.name.clone()).collect::<Vec<_>>();
            let values = (0..names.len()).map(|i| rounds.iter().map(|r| r[i]).collect()).collect();
            table.add(line, None, Measured { names, values, noisy: 0, unsure: false });
        }
    }
    vec![table]
}

/// KiB for each of `count` connections that made a PUT of 1 KiB and wait, or that are in the middle of a body.
fn growth(peer: &Peer, count: usize, upload: bool) -> f64 {
    let config = Tls::V12.config();
    let (session, mut first) = (Session::new(peer.rsa), Link::open(peer.rsa, &config));
    session.start(&mut first, None);
    for _ in 0..20 {
        session.put(&mut first, 1024);
    }
    let before = machine::resident(peer.pid());
    let links: Vec<_> = (0..count)
        .map(|_| {
            let mut link = Link::open(peer.rsa, &config);
            if upload {
                link.send(session.put_head(64 * PIECE).as_bytes());
                link.send(&[0; 4 * PIECE]);
            } else {
                session.put(&mut link, 1024);
            }
            link
        })
        .collect();
    process::pause(Duration::from_millis(500));
    let after = machine::resident(peer.pid());
    drop(links);
    after.saturating_sub(before) as f64 / 1024.0 / count as f64
}
