//! Bulk: processor time of the proxy for each GiB of one large file, or of four at once.

use crate::{
    Options,
    load::{Link, Session, Tls},
    peer::{self, Peer},
    report::Table,
    rounds,
    stage::Stage,
};

const GIB: f64 = (1_u64 << 30) as f64;
/// What one connection carries, in bytes.
const SIZE: usize = 256 << 20;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let size = options.scaled(SIZE);
    let peers = peer::all(options, stage, stage.plain);
    let mut table = Table::new("Bulk: CPU seconds of the proxy per GiB", "s/GiB");
    for upload in [true, false] {
        for (word, tls) in [("tls12", Tls::V12), ("tls13", Tls::V13)] {
            for connections in [1, 4] {
                let line = format!("bulk-{}-{word}-c{connections}", if upload { "put" } else { "get" });
                if !options.wants(&line) {
                    continue;
                }
                let measured =
                    rounds::run(&line, options, &peers, |peer| transfer(peer, tls, upload, connections, size));
                table.add(&line, Some(0.8), measured);
            }
        }
    }
    vec![table]
}

/// CPU seconds per GiB of one transfer, or of several at once; starts and ends of sessions are not counted.
fn transfer(peer: &Peer, tls: Tls, upload: bool, connections: usize, size: usize) -> f64 {
    let config = tls.config();
    let name = format!("zeros.{size}b");
    let mut all: Vec<_> = (0..connections)
        .map(|_| {
            let (session, mut link) = (Session::new(peer.rsa), Link::open(peer.rsa, &config));
            session.start(&mut link, (!upload).then_some(name.as_str()));
            (session, link)
        })
        .collect();
    let before = peer.cpu_ns();
    std::thread::scope(|scope| {
        for (session, link) in &mut all {
            scope.spawn(|| {
                if upload {
                    session.put(link, size);
                } else {
                    assert_eq!(session.get(link, &name), size as u64, "not the whole file");
                }
            });
        }
    });
    let used = peer.cpu_ns() - before;
    for (session, mut link) in all {
        session.end(&mut link);
        link.close();
    }
    used as f64 / 1e9 / ((connections * size) as f64 / GIB)
}
