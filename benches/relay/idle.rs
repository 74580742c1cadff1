//! Flows that wait: what each costs the proxy in memory of its own.

use std::{net::Ipv4Addr, net::UdpSocket, time::Duration};

use crate::{
    Options,
    load::SIZE,
    machine,
    node::Stage,
    peer::{Kind, Peer},
    process::pause,
    report::Table,
    rounds::{Compared, Measured},
};

const FLOWS: usize = 10_000;
/// Clients, each with its address.
const CLIENTS: usize = 100;

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let flows = options.scaled(FLOWS);
    let mut kinds: Vec<_> = options
        .builds()
        .into_iter()
        .map(|(name, program)| (name, Kind::Fallgate { program, gate: false, unprivileged: false }))
        .collect();
    if !options.alone {
        kinds.push(("nginx".to_owned(), Kind::Nginx("16k")));
    }
    let mut table = Table::new("Flows that wait: resident growth of the proxy for each", "KiB");
    let line = "idle-flows";
    if options.wants(line) {
        let names = kinds.iter().map(|(name, _)| name.clone()).collect();
        // Each figure needs a fresh process.
        let growth = |kind: &(String, Kind)| growth(&Peer::start(&kind.0, &kind.1, stage), stage, flows);
        let values = kinds.iter().map(|kind| (0..options.rounds().min(3)).map(|_| growth(kind)).collect()).collect();
        table.add(line, None, Measured { names, values, noisy: 0, unsure: false });
    }
    vec![table]
}

/// KiB for each of `flows` that brought one datagram.
fn growth(peer: &Peer, stage: &Stage, flows: usize) -> f64 {
    let pid = peer.pid().expect("a process");
    let node = UdpSocket::bind(stage.address).expect("the node's address");
    node.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    let mut space = [0; SIZE];
    let mut open = |n: usize| {
        let client = Ipv4Addr::new(127, 1, 0, (n % CLIENTS + 1) as u8);
        // The flow stays though its client's socket closes.
        let socket = UdpSocket::bind((client, (20_000 + n / CLIENTS) as u16)).expect("a free port");
        socket.send_to(&[7; SIZE], peer.address).expect("a proxy that listens");
        node.recv(&mut space).expect("the datagram");
    };
    (0..100).for_each(&mut open);
    pause(Duration::from_millis(200));
    let before = machine::resident(pid);
    (100..100 + flows).for_each(&mut open);
    pause(Duration::from_millis(1500));
    machine::resident(pid).saturating_sub(before) as f64 / 1024.0 / flows as f64
}
