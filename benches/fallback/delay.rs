//! A client far away: the real client over a delay line of 50 ms there and back.
//!
//! The line holds back bytes, not the handshake of TCP, which the kernel ends on loopback at once; so a new connection
//! costs less here than it does on a real line.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    Options, ascp,
    peer::{Kind, Peer},
    process,
    report::Table,
    rounds,
    stage::Stage,
};

/// One way.
const DELAY: Duration = Duration::from_millis(25);
const FILES: usize = 200;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let Some(client) = ascp::client() else {
        eprintln!("delay: left out, tests/get-ascp could not bring the client");
        return Vec::new();
    };
    let files = ascp::files(stage, options.scaled(FILES));
    let program = options.builds().remove(0).1;
    let fallgate = |persistence| Kind::Fallgate { program: program.clone(), persistence };
    let kinds = [("fallgate", fallgate("force")), ("off", fallgate("off")), ("HAProxy", Kind::Haproxy)];
    let peers: Vec<_> = kinds.iter().map(|(name, kind)| Peer::start(name, kind, stage, stage.plain)).collect();
    let measured = rounds::run("delay", options, &peers, |peer| {
        let line = Line::start(peer.rsa);
        ascp::send(&client, stage.dir(), &files, line.address.port(), &peer.name)
    });
    let mut table =
        Table::new("The real client 50 ms away, 200 files of 1 KiB over TLS, `force`: seconds on the wall", "s");
    table.add("delay", None, measured);
    vec![table]
}

/// A delay line in front of an address. It takes connections until the process ends.
struct Line {
    address: SocketAddr,
}

impl Line {
    fn start(to: SocketAddr) -> Line {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound port");
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(to) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone(), to.try_clone());
                    if let (Ok(from), Ok(to)) = (from, to) {
                        carry(from, to);
                    }
                }
            }
        });
        Line { address }
    }
}

/// Carries what comes from one side to the other, each piece [`DELAY`] after it came, the end too.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    let (pieces, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    let _ = to.set_nodelay(true);
    thread::spawn(move || {
        let mut space = [0; 64 * 1024];
        loop {
            let n = from.read(&mut space).unwrap_or(0);
            if pieces.send((Instant::now() + DELAY, space[..n].to_vec())).is_err() || n == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (at, piece) in due {
            process::pause(at.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    });
}
