//! Tunnels that wait: what each costs the proxy in memory of its own.

use std::{io, time::Duration};

use tokio::net::TcpStream;

use crate::{
    Options,
    load::{Way, echo},
    machine,
    origin::Stage,
    peer::{self, Kind, Peer},
    process::pause,
    report::Table,
    rounds::Measured,
};

const TUNNELS: usize = 8000;
/// Tunnels that are opened before memory is read.
const FIRST: usize = 64;
/// Tunnels that are opened at once.
const AT_ONCE: usize = 16;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let line = "idle";
    if !options.wants(line) {
        return Vec::new();
    }
    let count = options.scaled(TUNNELS);
    let mut table = Table::new("Tunnels that wait: resident growth of the proxy for each", "KiB");
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, kind) in peer::kinds(options, stage) {
        // Each figure needs a fresh process.
        let round = |_| growth(&name, &kind, stage, count);
        match (0..options.rounds().min(3)).map(round).collect::<Result<Vec<_>, _>>() {
            Ok(rounds) => {
                names.push(name);
                values.push(rounds);
            }
            Err(why) => eprintln!("{line}: {name} is left out: {why}"),
        }
    }
    if !names.is_empty() {
        table.add(line, None, Measured { names, values, noisy: 0, unsure: false });
    }
    vec![table]
}

/// KiB for each of `count` tunnels that carried a byte there and back.
fn growth(name: &str, kind: &Kind, stage: &Stage, count: usize) -> Result<f64, String> {
    let peer = Peer::start(name, kind, stage)?;
    let pid = peer.process.as_ref().map(|p| p.pid()).ok_or("no process")?;
    let mut open = Vec::new();
    stage.runtime.block_on(more(peer.way, FIRST, &mut open)).map_err(|e| e.to_string())?;
    pause(Duration::from_millis(300));
    let before = machine::resident(pid);
    let done = stage.runtime.block_on(more(peer.way, count, &mut open));
    done.map_err(|e| format!("{} of {count} tunnels, then: {e}", open.len().saturating_sub(FIRST)))?;
    pause(Duration::from_millis(1500));
    let after = machine::resident(pid);
    // They are still there, all of them.
    for stream in &mut open {
        stage.runtime.block_on(echo(stream, 1)).map_err(|e| format!("an idle tunnel broke: {e}"))?;
    }
    Ok(after.saturating_sub(before) as f64 / 1024.0 / count as f64)
}

/// Opens further tunnels, some at once.
async fn more(way: Way, count: usize, open: &mut Vec<TcpStream>) -> io::Result<()> {
    let mut left = count;
    while left > 0 {
        let n = left.min(AT_ONCE);
        let tasks: Vec<_> = (0..n)
            .map(|_| {
                tokio::spawn(async move {
                    let mut stream = way.tunnel().await?;
                    echo(&mut stream, 1).await?;
                    io::Result::Ok(stream)
                })
            })
            .collect();
        for task in tasks {
            open.push(task.await??);
        }
        left -= n;
    }
    Ok(())
}
