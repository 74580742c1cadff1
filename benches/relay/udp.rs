//! Datagrams from clients to a node: what each costs the proxy, and how many it moves.

use std::{cell::RefCell, time::Duration};

use crate::{
    Options,
    load::{Arrival, Load, Shape, Sink},
    node::Stage,
    peer::{Kind, Peer},
    report::Table,
    rounds,
};

/// What is offered while the cost is measured, in datagrams a second.
const RATE: f64 = 60_000.0;
pub(crate) const TRIAL: Duration = Duration::from_millis(400);
const COSTED: Duration = Duration::from_secs(1);

/// Lines with their goals: for the cost of a datagram, and for the time that one takes at the highest rate.
type Line = (&'static str, Shape, Option<f64>, Option<f64>);

const fn shape(flows: usize, arrival: Arrival) -> Shape {
    Shape { flows, arrival, node_joins: true }
}

const LINES: &[Line] = &[
    ("bursts", shape(1, Arrival::Bursts), Some(0.5), None),
    ("many-bursts", shape(1000, Arrival::Bursts), Some(0.5), None),
    ("many-bursts-cut", Shape { node_joins: false, ..shape(1000, Arrival::Bursts) }, None, None),
    ("many-each", shape(1000, Arrival::Each), Some(0.9), None),
    ("many-spaced", shape(1000, Arrival::Spaced), None, None),
    // 8 times the datagrams.
    ("gro", shape(1, Arrival::Joined), None, Some(1.0 / 8.0)),
];

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    let fallgate = |program, gate| Kind::Fallgate { program, gate, unprivileged: false };
    let builds = options.builds();
    let own = builds[0].1.clone();
    let mut kinds: Vec<_> = builds.into_iter().map(|(name, program)| (name, fallgate(program, false))).collect();
    if !options.alone {
        kinds.push(("gate".to_owned(), fallgate(own, true)));
        kinds.push(("nginx".to_owned(), Kind::Nginx("16k")));
        kinds.push(("nginx as it comes".to_owned(), Kind::NginxPlain));
    }
    let sink = RefCell::new(Sink::open(stage.address));
    let mut tables = [
        Table::new("Datagrams at 60,000 a second: CPU time of the proxy for each", "us"),
        Table::new("Datagrams at the highest rate without loss: time for each", "us"),
    ];
    for (line, shape, cost, time) in LINES {
        let line_of = |figure| format!("udp-{line}-{figure}");
        let peers = |kinds: &[(String, Kind)]| -> Vec<_> {
            kinds.iter().map(|(name, kind)| Peer::start(name, kind, stage)).collect()
        };
        if options.wants(&line_of("cost")) {
            let measured = rounds::run(&line_of("cost"), options, &peers(&kinds), |peer| {
                cost_of_each(peer, *shape, &mut sink.borrow_mut())
            });
            tables[0].add(&line_of("cost"), *cost, measured);
        }
        if options.wants(&line_of("rate")) {
            let mut kinds = kinds.clone();
            kinds.retain(|(name, _)| name != "gate");
            kinds.push(("no proxy".to_owned(), Kind::Direct));
            let measured = rounds::run(&line_of("rate"), options, &peers(&kinds), |peer| {
                1e6 / Load::open(peer.address, *shape, &mut sink.borrow_mut()).highest_rate(TRIAL)
            });
            tables[1].add(&line_of("rate"), *time, measured);
        }
    }
    tables.into()
}

fn cost_of_each(peer: &Peer, shape: Shape, sink: &mut Sink) -> f64 {
    let mut load = Load::open(peer.address, shape, sink);
    let before = peer.cpu_ns();
    let outcome = load.offer(RATE, COSTED);
    let used = peer.cpu_ns() - before;
    if !outcome.is_whole() {
        eprintln!("{}: {outcome}", rounds::Compared::name(peer));
    }
    used as f64 / 1e3 / outcome.received as f64
}
