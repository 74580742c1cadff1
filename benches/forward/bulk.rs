//! Bulk through tunnels: what the proxy pays for each GiB, and how long it takes.

use std::{io, time::Instant};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::{
    Options,
    load::wish,
    origin::{DOWN, Stage, UP, discard, give},
    peer::{self, Peer},
    report::Table,
    rounds::{self, Compared},
};

const GIB: usize = 1 << 30;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let size = options.scaled(GIB);
    let lines =
        [("bulk-up-t1", UP, 1), ("bulk-up-t200", UP, 200), ("bulk-down-t1", DOWN, 1), ("bulk-down-t200", DOWN, 200)];
    let peers = peer::all(options, stage);
    let measured =
        |line, way, tunnels| rounds::run_many(line, options, &peers, |peer| transfer(stage, peer, way, tunnels, size));
    let wanted = lines.into_iter().filter(|(line, ..)| options.wants(line));
    let lines = wanted.map(|(line, way, tunnels)| (line, measured(line, way, tunnels))).collect();
    peer::tables("Bulk through tunnels, for each GiB", "s", lines)
}

/// Seconds of the proxy's processor time, and on the wall, for each GiB.
fn transfer(stage: &Stage, peer: &Peer, way: u8, tunnels: usize, size: usize) -> [f64; 2] {
    let each = (size / tunnels) as u64;
    let told = |e: io::Error| -> ! { panic!("{}: {e}", peer.name()) };
    let mut streams = Vec::new();
    for _ in 0..tunnels {
        streams.push(stage.runtime.block_on(peer.way.tunnel()).unwrap_or_else(|e| told(e)));
    }
    let (before, start) = (peer.cpu_ns(), Instant::now());
    let tasks: Vec<_> = streams.into_iter().map(|stream| stage.runtime.spawn(one(stream, way, each))).collect();
    for task in tasks {
        stage.runtime.block_on(task).expect("a load").unwrap_or_else(|e| told(e));
    }
    let (seconds, used) = (start.elapsed().as_secs_f64(), peer.cpu_ns() - before);
    let gib = (each * tunnels as u64) as f64 / GIB as f64;
    [used as f64 / 1e9 / gib, seconds / gib]
}

async fn one(mut stream: TcpStream, way: u8, size: u64) -> io::Result<()> {
    wish(&mut stream, way, size, &[]).await?;
    if way == DOWN {
        return discard(&mut stream, size).await;
    }
    give(&mut stream, size).await?;
    stream.read_exact(&mut [0]).await.map(drop)
}
