//! Small exchanges: a tunnel for each of them, or requests in absolute form.

use std::time::Instant;

use crate::{
    Options,
    load::{Client, Way, echo},
    origin::{SMALL, Stage},
    peer::{self, Peer},
    report::Table,
    rounds::{self, Compared},
};

/// Clients at once.
const CLIENTS: usize = 16;

/// A tunnel, 1 KiB there and back, and its end.
pub(crate) fn connect(options: &Options, stage: &Stage) -> Vec<Table> {
    run(options, stage, "connect", "A tunnel, 1 KiB there and back, and its end", options.scaled(400), |way, each| {
        stage.runtime.spawn(async move {
            for _ in 0..each {
                let mut stream = way.tunnel().await?;
                echo(&mut stream, SMALL).await?;
            }
            Ok(each)
        })
    })
}

/// GET after GET, on one connection where the proxy keeps it.
pub(crate) fn absolute(options: &Options, stage: &Stage) -> Vec<Table> {
    run(options, stage, "absolute", "GET of 1 KiB in absolute form", options.scaled(800), |way, each| {
        stage.runtime.spawn(async move {
            let mut client = Client::new(way);
            for _ in 0..each {
                client.get().await?;
            }
            Ok(client.opened)
        })
    })
}

/// What a client does so many times; it gives the connections that it opened.
type Task = tokio::task::JoinHandle<std::io::Result<usize>>;

fn run(
    options: &Options,
    stage: &Stage,
    case: &str,
    what: &str,
    each: usize,
    client: impl Fn(Way, usize) -> Task,
) -> Vec<Table> {
    let line = format!("{case}-c{CLIENTS}");
    if !options.wants(&line) {
        return Vec::new();
    }
    let peers = peer::all(options, stage);
    let mut told = vec![false; peers.len()];
    let figures = rounds::run_many(&line, options, &peers, |peer| {
        let (before, start) = (peer.cpu_ns(), Instant::now());
        let clients: Vec<_> = (0..CLIENTS).map(|_| client(peer.way, each)).collect();
        let opened: usize = clients.into_iter().map(|task| finish(stage, peer, task)).sum();
        let (seconds, used) = (start.elapsed().as_secs_f64(), peer.cpu_ns() - before);
        let count = (CLIENTS * each) as f64;
        if let Some(told) = peers.iter().position(|p| p.name() == peer.name()).and_then(|i| told.get_mut(i)) {
            if !*told {
                eprintln!("{line}: {}: {opened} connections for {count} exchanges", peer.name());
            }
            *told = true;
        }
        [used as f64 / 1e3 / count, seconds * 1e6 / count]
    });
    peer::tables(what, "us", vec![(&line, figures)])
}

fn finish(stage: &Stage, peer: &Peer, task: Task) -> usize {
    let done = stage.runtime.block_on(task).expect("a load");
    done.unwrap_or_else(|e| panic!("{}: {e}", peer.name()))
}
