//! Bulk on control connections: what the proxy pays for each GiB.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    os::fd::AsRawFd,
    thread,
};

use crate::{
    Options,
    node::{self, BANNER, DOWN, Stage, UP},
    peer::{Kind, Peer},
    report::Table,
    rounds, wire,
};

const GIB: u64 = 1 << 30;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let size = options.scaled(GIB as usize) as u64;
    let fallgate = |program, unprivileged| Kind::Fallgate { program, gate: true, unprivileged };
    let builds = options.builds();
    let own = builds[0].1.clone();
    let mut kinds: Vec<_> = builds.into_iter().map(|(name, program)| (name, fallgate(program, false))).collect();
    kinds.push(("unprivileged".to_owned(), fallgate(own, true)));
    if !options.alone {
        kinds.push(("HAProxy".to_owned(), Kind::Haproxy(false)));
        kinds.push(("nginx".to_owned(), Kind::Nginx("16k")));
        kinds.push(("HAProxy `splice-auto`".to_owned(), Kind::Haproxy(true)));
        kinds.push(("nginx 256k".to_owned(), Kind::Nginx("256k")));
    }
    let peers: Vec<_> = kinds.iter().map(|(name, kind)| Peer::start(name, kind, stage)).collect();
    let mut table = Table::new("Bulk over TCP: CPU seconds of the proxy per GiB", "s/GiB");
    for (word, way) in [("up", UP), ("down", DOWN)] {
        for connections in [1, 8] {
            let line = format!("tcp-{word}-c{connections}");
            if options.wants(&line) {
                let measured = rounds::run(&line, options, &peers, |peer| transfer(peer, way, connections, size));
                table.add(&line, Some(0.5), measured);
            }
        }
    }
    vec![table]
}

/// CPU seconds per GiB of `size` bytes in one direction.
fn transfer(peer: &Peer, way: u8, connections: u64, size: u64) -> f64 {
    let each = size / connections;
    let mut streams: Vec<_> = (0..connections)
        .map(|_| {
            let mut stream = TcpStream::connect(peer.address).expect("a proxy that listens");
            stream.read_exact(&mut [0; BANNER.len()]).expect("the node's banner");
            stream
        })
        .collect();
    let before = peer.cpu_ns();
    thread::scope(|scope| {
        for stream in &mut streams {
            scope.spawn(move || {
                let mut wish = [way; 9];
                wish[1..].copy_from_slice(&each.to_be_bytes());
                stream.write_all(&wish).expect("a proxy that reads");
                let wanted = if way == UP { 0 } else { each };
                if way == UP {
                    node::write(stream, each);
                }
                let mut got = 0;
                loop {
                    // Not before all is here: nginx takes the end of one side for that of both.
                    if got == wanted {
                        stream.shutdown(Shutdown::Write).expect("a connection");
                    }
                    // The node closes when it has seen the end.
                    match wire::discard_stream(stream.as_raw_fd()).expect("a connection") {
                        0 => break,
                        n => got += n as u64,
                    }
                }
                assert_eq!(got, wanted, "bytes of the node");
            });
        }
    });
    (peer.cpu_ns() - before) as f64 / 1e9 / (size as f64 / GIB as f64)
}
