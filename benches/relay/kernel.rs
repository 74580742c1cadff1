//! The kernel's own forwarding, for comparison: nftables translates the address between network namespaces.
//!
//! It keeps no gate, counts nothing and knows no node's health; it is what a router could do.

use std::{
    cell::RefCell,
    fs::{self, File},
    net::SocketAddr,
    process::Command,
    thread,
};

use crate::{
    Options,
    load::{Arrival, Load, Shape, Sink},
    node::Stage,
    peer::{Kind, Peer},
    report::Table,
    rounds::{self, Compared},
    udp::TRIAL,
    wire,
};

const GATE: ([u8; 4], u16) = ([10, 255, 1, 1], 40_000);
const NODE: ([u8; 4], u16) = ([10, 255, 2, 2], 40_000);

/// One forwards, clients and node are at its sides. `rps_cpus` puts its work on the processor of the proxies.
const SCRIPT: &str = "set -e
for n in client gate node; do ip netns add fallgate-$n; ip -n fallgate-$n link set lo up; done
ip link add c0 netns fallgate-client type veth peer name g0 netns fallgate-gate
ip link add n0 netns fallgate-node type veth peer name g1 netns fallgate-gate
ip -n fallgate-client addr add 10.255.1.2/30 dev c0; ip -n fallgate-gate addr add 10.255.1.1/30 dev g0
ip -n fallgate-node addr add 10.255.2.2/30 dev n0; ip -n fallgate-gate addr add 10.255.2.1/30 dev g1
for l in client:c0 gate:g0 gate:g1 node:n0; do ip -n fallgate-${l%:*} link set ${l#*:} up; done
ip -n fallgate-client route add default via 10.255.1.1; ip -n fallgate-node route add default via 10.255.2.1
ip netns exec fallgate-gate sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /sys/class/net/g0/queues/rx-0/rps_cpus'
ip netns exec fallgate-gate nft 'add table ip t; add chain ip t p { type nat hook prerouting priority dstnat; };
add rule ip t p udp dport 40000 dnat to 10.255.2.2'";

const LINES: &[(&str, Shape)] = &[
    ("udp-kernel-many-bursts", Shape { flows: 1000, arrival: Arrival::Bursts, node_joins: true }),
    ("udp-kernel-many-each", Shape { flows: 1000, arrival: Arrival::Each, node_joins: true }),
    ("udp-kernel-gro", Shape { flows: 1, arrival: Arrival::Joined, node_joins: true }),
];

/// Namespaces of our own; dropping it takes them away.
struct Namespaces;

impl Namespaces {
    fn make() -> Result<Namespaces, String> {
        let made = Namespaces;
        let done = Command::new("sh").args(["-c", SCRIPT]).output().map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        if done.status.success() { Ok(made) } else { Err(said) }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in ["client", "gate", "node"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("fallgate-{name}")]).output();
        }
    }
}

enum Contender {
    Fallgate(Peer),
    Kernel,
}

impl Compared for Contender {
    fn name(&self) -> &str {
        match self {
            Contender::Fallgate(peer) => peer.name(),
            Contender::Kernel => "the kernel",
        }
    }

    fn pid(&self) -> Option<u32> {
        match self {
            Contender::Fallgate(peer) => peer.pid(),
            Contender::Kernel => None,
        }
    }
}

pub(crate) fn run(options: &Options, stage: &Stage) -> Vec<Table> {
    if options.alone || !LINES.iter().any(|(line, _)| options.wants(line)) {
        return Vec::new();
    }
    let _namespaces = match Namespaces::make() {
        Ok(made) => made,
        Err(why) => {
            eprintln!("udp-kernel: left out, no network namespaces: {why}");
            return Vec::new();
        }
    };
    let sink = RefCell::new(Sink::open(stage.address));
    let far = RefCell::new(within("node", || Sink::open(SocketAddr::from(NODE))));
    let program = options.builds().remove(0).1;
    let kind = Kind::Fallgate { program, gate: false, unprivileged: false };
    let mut table = Table::new("Beside the kernel's forwarding, at the highest rate without loss: time for each", "us");
    for (line, shape) in LINES.iter().filter(|(line, _)| options.wants(line)) {
        let contenders = [Contender::Fallgate(Peer::start("fallgate", &kind, stage)), Contender::Kernel];
        let measured = rounds::run(line, options, &contenders, |contender| {
            let rate = match contender {
                Contender::Fallgate(peer) => {
                    Load::open(peer.address, *shape, &mut sink.borrow_mut()).highest_rate(TRIAL)
                }
                Contender::Kernel => {
                    let sink = &mut *far.borrow_mut();
                    within("client", || Load::open(SocketAddr::from(GATE), *shape, sink).highest_rate(TRIAL))
                }
            };
            1e6 / rate
        });
        table.add(line, None, measured);
    }
    vec![table]
}

/// Runs something on a thread within a namespace; the sockets it opens belong there.
fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let file: File = fs::File::open(format!("/run/netns/fallgate-{namespace}")).expect("a namespace of ours");
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            wire::enter(&file);
            run()
        });
        thread.join().expect("a load")
    })
}
