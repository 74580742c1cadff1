//! Failures of the real client beside HAProxy and nginx: the same transfers, the same nodes, the same faults.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::interval};

use super::{
    load::Way,
    nodes::Place,
    peers::{Kind, Peer},
    ports::Ports,
    print,
    report::{Ended, Tally},
    trees::Trees,
    work::SETS,
};

/// Transfers at a time.
const AT_A_TIME: usize = 16;
/// From one reload to the next.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// From the death of one node to that of the other, and how long it is dead.
const DEATH_EVERY: Duration = Duration::from_secs(10);
const DEAD: Duration = Duration::from_secs(3);
/// Six files of all sizes, so slowly that a transfer takes about two seconds.
const SET: usize = 2;
const RATE: &str = "8m";

/// What happens during a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Reload,
    /// A node is gone and comes back; it knows its sessions, or not.
    Death {
        remembers: bool,
    },
}

/// The rows: what happens, and whether the nodes offer persistent connections.
const ROWS: [(Fault, bool); 7] = [
    (Fault::None, true),
    (Fault::Reload, true),
    (Fault::Reload, false),
    (Fault::Death { remembers: true }, true),
    (Fault::Death { remembers: true }, false),
    (Fault::Death { remembers: false }, true),
    (Fault::Death { remembers: false }, false),
];

/// What came of a cell.
#[derive(Default)]
struct Cell {
    tally: Tally,
    wrong: Vec<String>,
    causes: BTreeMap<String, u64>,
}

/// Measures all cells with so many transfers each, and prints the table; whether fallgate lost no file.
pub(crate) async fn all(seed: u64, transfers: u64) -> bool {
    let dir = tempfile::Builder::new().prefix("fallgate-figures-").tempdir().unwrap();
    let trees = Arc::new(Trees::make(dir.path().join("sets"), seed));
    let mut ports = Ports::new();
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    print(format_args!("{transfers} transfers a cell, {AT_A_TIME} at a time, half up and half down; {build} build\n"));
    let (mut table, mut causes, mut is_good) = (String::new(), String::new(), true);
    let _ = writeln!(table, "| failures per 1,000 transfers | fallgate | HAProxy | nginx |\n|---|--:|--:|--:|");
    for (number, (fault, persistent)) in ROWS.into_iter().enumerate() {
        let _ = write!(table, "| {} ", named(fault, persistent));
        for kind in Kind::ALL {
            let dir = dir.path().join(format!("{number}-{}", kind.name()));
            let cell = cell(kind, fault, persistent, &dir, &trees, &mut ports, transfers).await;
            let _ = write!(table, "| {:.0} ", cell.tally.per_thousand());
            let said: Vec<_> = cell.causes.iter().map(|(cause, times)| format!("{times} times {cause}")).collect();
            if !said.is_empty() || !cell.wrong.is_empty() {
                let said = said.join("; ");
                let _ = writeln!(
                    causes,
                    "| {} | {} | {said} | {} |",
                    named(fault, persistent),
                    kind.name(),
                    cell.wrong.len()
                );
            }
            // For whoever waits; the tables come in the end.
            eprintln!("{}, {}: {:?}", named(fault, persistent), kind.name(), cell.tally);
            for wrong in &cell.wrong {
                eprintln!("WRONG: {wrong}");
            }
            is_good &= kind != Kind::Fallgate || cell.wrong.is_empty();
        }
        table += "|\n";
    }
    print(format_args!(
        "{table}\n| | | what clients said of failures | files called done that are wrong |\n|---|---|---|--:|\n{causes}"
    ));
    is_good
}

fn named(fault: Fault, persistent: bool) -> String {
    let fault = match fault {
        Fault::None => "no fault",
        Fault::Reload => "reload every 2 s",
        Fault::Death { remembers: true } => "node gone for 3 s every 10 s, knows its sessions after it",
        Fault::Death { remembers: false } => "node gone for 3 s every 10 s, has forgotten them",
    };
    format!("{fault}; {}", if persistent { "nodes persist" } else { "nodes do not" })
}

async fn cell(
    kind: Kind,
    fault: Fault,
    persistent: bool,
    dir: &std::path::Path,
    trees: &Arc<Trees>,
    ports: &mut Ports,
    transfers: u64,
) -> Cell {
    let mut nodes = Vec::new();
    for name in ["n1", "n2"] {
        let node = Place::start(name, dir, ports, persistent).await;
        trees.link(SET, &node.root.join("pool").join(SETS[SET].0));
        nodes.push(node);
    }
    let (port, own) = (ports.next(), ports.next());
    let peer = Peer::start(kind, &dir.join("peer"), [port, own], [nodes[0].http, nodes[1].http]).await;
    let roots: Vec<_> = nodes.iter().map(|node| node.root.clone()).collect();
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (dir, trees, roots, next) = (dir.to_owned(), trees.clone(), roots.clone(), next.clone());
        workers.spawn(async move {
            let way = Way { dir: &dir, trees: &trees, roots, port, is_tls: true, proxy: None, rate: Some(RATE) };
            let mut ended = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= transfers {
                    return ended;
                }
                let id = format!("t{number}");
                let done =
                    if number.is_multiple_of(2) { way.upload(&id, SET).await } else { way.download(&id, SET).await };
                ended.push(done);
            }
        });
    }
    let ended = tokio::select! {
        ended = workers.join_all() => ended.into_iter().flatten().collect::<Vec<Ended>>(),
        never = commit(fault, &peer, &nodes) => match never {},
    };
    peer.end().await;
    for node in &nodes {
        node.fall(false).await;
    }
    let _ = std::fs::remove_dir_all(dir);
    let mut cell = Cell::default();
    for ended in ended {
        cell.tally.add(ended.failure.is_some());
        cell.wrong.extend(ended.wrong);
        if let Some(cause) = ended.failure {
            *cell.causes.entry(cause).or_default() += 1;
        }
    }
    cell
}

/// Commits a fault over and over.
async fn commit(fault: Fault, peer: &Peer, nodes: &[Place]) -> std::convert::Infallible {
    let mut every = interval(if fault == Fault::Reload { RELOAD_EVERY } else { DEATH_EVERY });
    every.tick().await;
    for number in 1.. {
        match fault {
            Fault::None => std::future::pending().await,
            Fault::Reload => {
                every.tick().await;
                peer.reload(number);
            }
            Fault::Death { remembers } => {
                tokio::time::sleep(DEAD).await;
                let node = &nodes[number % nodes.len()];
                node.fall(remembers).await;
                tokio::time::sleep(DEAD).await;
                node.rise().await;
                every.tick().await;
            }
        }
    }
    std::future::pending().await
}
