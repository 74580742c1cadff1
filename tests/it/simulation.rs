//! The flow tables of several workers under days of traffic in seconds: against a plain model, with no clock.
//!
//! `FALLGATE_SEED=17` replays one seed and prints its steps.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fallgate::{
    limit::{ClientFlows, FlowLimit},
    relay::udp::table::{FlowId, Key, Table},
    telemetry::{DropReason, FlowOutcome},
};

use crate::support::dice::Dice;

const SEEDS: u64 = 10_000;
const STEPS: u32 = 80;
const WORKERS: u64 = 3;
const CLIENTS: u64 = 4;
const NODES: u64 = 3;
/// Milliseconds for which a gate stays open after the last control connection.
const GRACE: u64 = 2_000;
const IDLE: u64 = 10_000;

/// Ends the run with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// What a flow holds: its node, and a number no other flow has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    node: u64,
    serial: u64,
}

/// A flow as the model knows it.
#[derive(Debug, Clone)]
struct Known {
    id: FlowId,
    key: Key,
    held: Held,
    last: u64,
    /// The step after which it was to be ended, without a break since.
    condemned: Option<u32>,
}

struct Worker {
    table: Table<Held>,
    model: Vec<Known>,
    /// The step in which the round of sweeps began that goes on now.
    round: Option<u32>,
}

/// A client's entry, as the worker's door keeps it.
#[derive(Default)]
struct Client {
    flows: ClientFlows,
    control: u32,
    closed_at: Option<u64>,
}

impl Client {
    fn open(&self, now: u64) -> bool {
        self.control > 0 || self.closed_at.is_some_and(|at| now - at <= GRACE)
    }
}

struct World {
    dice: Dice,
    told: bool,
    step: u32,
    now: u64,
    idle: u64,
    max: u32,
    max_per_client: u32,
    limit: FlowLimit,
    clients: Vec<Client>,
    up: Vec<bool>,
    workers: Vec<Worker>,
    serial: u64,
    /// Flows that have ended, with their workers.
    gone: Vec<(usize, FlowId)>,
    /// What happened, to know that the dice reach everything.
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    admitted: u64,
    found: u64,
    refused: [u64; 4],
    idle: u64,
    gate_closed: u64,
}

fn client_of(key: &Key) -> usize {
    let IpAddr::V4(ip) = key.client.ip() else { unreachable!("clients have IPv4 here") };
    usize::from(ip.octets()[3])
}

impl World {
    fn new(seed: u64, told: bool) -> World {
        let mut dice = Dice::new(seed);
        let (max, max_per_client) = (1 + dice.below(12) as u32, 1 + dice.below(6) as u32);
        World {
            dice,
            told,
            step: 0,
            now: 1_000,
            idle: IDLE,
            max,
            max_per_client,
            limit: FlowLimit::new(max, max_per_client),
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            up: vec![true; NODES as usize],
            workers: (0..WORKERS).map(|_| Worker { table: Table::new(IDLE), model: vec![], round: None }).collect(),
            serial: 0,
            gone: Vec::new(),
            seen: Seen::default(),
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.told {
            eprintln!("{:>3} {:>7} ms  {}", self.step, self.now, what());
        }
    }

    fn total(&self) -> usize {
        self.workers.iter().map(|w| w.model.len()).sum()
    }

    fn of_client(&self, client: usize) -> usize {
        self.workers.iter().flat_map(|w| &w.model).filter(|f| client_of(&f.key) == client).count()
    }

    fn run(&mut self) -> Result<(), String> {
        for step in 0..STEPS {
            self.step = step;
            let before = self.total();
            let of_clients: Vec<_> = (0..self.clients.len()).map(|c| self.of_client(c)).collect();
            match self.dice.below(20) {
                0..=7 => self.datagram()?,
                8..=9 => self.reply()?,
                10 => self.control_opens(),
                11 => self.control_ends(),
                12 => self.node_turns()?,
                13..=14 => self.time_passes(),
                15 => self.caps_change(),
                16 => self.stale_place()?,
                _ => self.sweep()?,
            }
            self.condemn();
            self.check(before, &of_clients)?;
        }
        self.end()
    }

    /// A client says something; as often as not one that has said something before.
    fn datagram(&mut self) -> Result<(), String> {
        let ip = Ipv4Addr::new(192, 0, 2, self.dice.below(CLIENTS) as u8);
        let client = SocketAddr::from((ip, 5000 + self.dice.below(3) as u16));
        let local = Ipv4Addr::new(198, 51, 100, self.dice.below(2) as u8);
        let key = Key { client, port: self.dice.below(2) as u16, local: Some(local.into()) };
        // As the kernel deals them out: by addresses and ports, always the same.
        let at = (u64::from(client.port()) + u64::from(ip.octets()[3]) * 7 + u64::from(key.port)) % WORKERS;
        let at = at as usize;
        let found = self.workers[at].table.find(&key, self.now).map(|(id, held)| (id, *held));
        if let Some(known) = self.workers[at].model.iter_mut().find(|f| f.key == key) {
            known.last = self.now;
            ensure!(found == Some((known.id, known.held)), "{known:?} went to {found:?}");
            self.seen.found += 1;
            self.tell(|| format!("datagram {key:?} goes on"));
            return Ok(());
        }
        ensure!(found.is_none(), "{key:?} has no flow and went to {found:?}");
        self.begin(at, key)
    }

    /// A datagram without a flow: what the model expects is what must be.
    fn begin(&mut self, at: usize, key: Key) -> Result<(), String> {
        let client = client_of(&key);
        let open = self.clients[client].open(self.now);
        let node = self.dice.below(NODES);
        let node = (0..NODES).map(|i| (node + i) % NODES).find(|n| self.up[*n as usize]);
        let expected = if !open {
            Err(DropReason::GateClosed)
        } else if self.of_client(client) >= self.max_per_client as usize {
            Err(DropReason::TooManyFlowsPerClient)
        } else if self.total() >= self.max as usize {
            Err(DropReason::TooManyFlows)
        } else {
            node.map(|node| Held { node, serial: self.serial }).ok_or(DropReason::NoNode)
        };
        let gate = open.then_some(&self.clients[client].flows);
        let serial = self.serial;
        let worker = &mut self.workers[at];
        let got = worker.table.admit(key, self.now, gate, &self.limit, || {
            node.map(|node| Held { node, serial }).ok_or(DropReason::NoNode)
        });
        self.tell(|| format!("datagram {key:?} begins: {expected:?}"));
        match (expected, got) {
            (Ok(held), Ok(id)) => {
                self.seen.admitted += 1;
                self.serial += 1;
                self.workers[at].model.push(Known { id, key, held, last: self.now, condemned: None });
            }
            (Err(expected), Err(got)) if expected == got => match got {
                DropReason::GateClosed => self.seen.refused[0] += 1,
                DropReason::TooManyFlowsPerClient => self.seen.refused[1] += 1,
                DropReason::TooManyFlows => self.seen.refused[2] += 1,
                _ => self.seen.refused[3] += 1,
            },
            (expected, got) => return Err(format!("{key:?} was to be {expected:?} and is {got:?}")),
        }
        Ok(())
    }

    /// A node says something to a client.
    fn reply(&mut self) -> Result<(), String> {
        let at = self.dice.below(WORKERS) as usize;
        let worker = &mut self.workers[at];
        if worker.model.is_empty() {
            return Ok(());
        }
        let which = self.dice.below(worker.model.len() as u64) as usize;
        let known = &mut worker.model[which];
        known.last = self.now;
        let key = known.key;
        let got = worker.table.touch(known.id, self.now).map(|(key, held)| (*key, *held));
        ensure!(got == Some((key, known.held)), "a reply for {known:?} went to {got:?}");
        self.tell(|| format!("reply to {key:?}"));
        Ok(())
    }

    fn control_opens(&mut self) {
        let which = self.dice.below(CLIENTS) as usize;
        let now = self.now;
        let client = &mut self.clients[which];
        // A new entry, as long as nothing is counted in the old one.
        if !client.open(now) && client.flows.open() == 0 {
            *client = Client::default();
        }
        client.control += 1;
        client.closed_at = None;
        self.tell(|| format!("control connection of client {which} opens"));
    }

    fn control_ends(&mut self) {
        let which = self.dice.below(CLIENTS) as usize;
        let client = &mut self.clients[which];
        if client.control > 0 {
            client.control -= 1;
            client.closed_at = (client.control == 0).then_some(self.now);
            self.tell(|| format!("control connection of client {which} ends"));
        }
    }

    /// A node goes down, sometimes ending its flows, or comes back.
    fn node_turns(&mut self) -> Result<(), String> {
        let node = self.dice.below(NODES);
        let up = &mut self.up[node as usize];
        *up = !*up;
        let ends = !*up && self.dice.below(2) == 0;
        self.tell(|| format!("node {node} turns, ending its flows: {ends}"));
        for (at, worker) in self.workers.iter_mut().enumerate().filter(|_| ends) {
            let ids: Vec<_> = worker.table.iter().filter(|(_, _, h)| h.node == node).map(|(id, ..)| id).collect();
            for id in ids {
                let ended = worker.table.remove(id, FlowOutcome::Drained).ok_or("a flow of the list is not there")?;
                ensure!(ended.held.node == node && ended.why == FlowOutcome::Drained, "{ended:?} is of node {node}");
                self.gone.push((at, id));
            }
            worker.model.retain(|f| f.held.node != node);
        }
        Ok(())
    }

    fn time_passes(&mut self) {
        self.now += match self.dice.below(6) {
            0 => self.idle,
            1 => GRACE + 1,
            2 => 0,
            _ => self.dice.below(GRACE),
        };
        self.tell(|| "time passes".into());
    }

    fn caps_change(&mut self) {
        self.max = self.dice.below(12) as u32;
        self.max_per_client = self.dice.below(6) as u32;
        self.limit.set_max(self.max, self.max_per_client);
        self.idle = IDLE / (1 + self.dice.below(3));
        self.workers.iter_mut().for_each(|w| w.table.set_idle(self.idle));
        self.tell(|| format!("{} flows, {} per client, idle {}", self.max, self.max_per_client, self.idle));
    }

    /// A socket that was closed still says something.
    fn stale_place(&mut self) -> Result<(), String> {
        for (at, id) in &self.gone {
            let table = &mut self.workers[*at].table;
            ensure!(table.touch(*id, self.now).is_none(), "a flow that ended was found");
            ensure!(table.remove(*id, FlowOutcome::Idle).is_none(), "a flow ended twice");
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), String> {
        let at = self.dice.below(WORKERS) as usize;
        let most = if self.dice.below(3) == 0 { 1000 } else { self.dice.below(4) as usize };
        let (clients, now) = (&self.clients, self.now);
        let worker = &mut self.workers[at];
        let began = *worker.round.get_or_insert(self.step);
        let swept = worker.table.sweep(now, most, |key, _, _| !clients[client_of(key)].open(now));
        for ended in &swept.ended {
            let which = worker.model.iter().position(|f| f.key == ended.key);
            let known = worker.model.swap_remove(which.ok_or_else(|| format!("{ended:?} was no flow"))?);
            ensure!((known.held, known.last) == (ended.held, ended.last), "{known:?} ended as {ended:?}");
            let open = clients[client_of(&ended.key)].open(now);
            let why = match ended.why {
                FlowOutcome::GateClosed => !open,
                FlowOutcome::Idle => now - known.last >= self.idle,
                _ => false,
            };
            ensure!(why, "{ended:?} ended at {now}, gate open: {open}");
            self.seen.idle += u64::from(ended.why == FlowOutcome::Idle);
            self.seen.gate_closed += u64::from(ended.why == FlowOutcome::GateClosed);
            self.gone.push((at, known.id));
        }
        if swept.complete {
            worker.round = None;
            let late = worker.model.iter().find(|f| f.condemned.is_some_and(|step| step < began));
            ensure!(late.is_none(), "{late:?} outlived the round that began in step {began}");
        }
        self.tell(|| format!("worker {at} sweeps {most}: {} end, round over: {}", swept.ended.len(), swept.complete));
        Ok(())
    }

    /// Marks the flows whose time is over from this step on.
    fn condemn(&mut self) {
        for flow in self.workers.iter_mut().flat_map(|w| &mut w.model) {
            let over = self.now - flow.last >= self.idle || !self.clients[client_of(&flow.key)].open(self.now);
            flow.condemned = over.then(|| flow.condemned.unwrap_or(self.step));
        }
    }

    /// What holds after every step.
    fn check(&self, before: usize, of_clients: &[usize]) -> Result<(), String> {
        let total = self.total();
        ensure!(total <= self.max as usize || total <= before, "{total} flows of {}", self.max);
        ensure!(self.limit.open() as usize == total, "{} counted of {total}", self.limit.open());
        for (which, client) in self.clients.iter().enumerate() {
            let flows = self.of_client(which);
            ensure!(flows <= self.max_per_client as usize || flows <= of_clients[which], "client {which} has {flows}");
            ensure!(client.flows.open() as usize == flows, "client {which}: {} of {flows}", client.flows.open());
        }
        for worker in &self.workers {
            ensure!(worker.table.len() == worker.model.len(), "{} flows", worker.table.len());
            for known in &worker.model {
                let got = worker.table.get(known.id);
                ensure!(got == Some((&known.key, &known.held)), "{known:?} is {got:?}");
            }
        }
        Ok(())
    }

    /// Everything ends, and nothing is counted any more.
    fn end(&mut self) -> Result<(), String> {
        let total = self.total();
        let ended: usize = self.workers.iter_mut().map(|w| w.table.remove_all(FlowOutcome::Drained).len()).sum();
        ensure!(ended == total, "{ended} flows ended of {total}");
        let counted = self.limit.open() + self.clients.iter().map(|c| c.flows.open()).sum::<u32>();
        ensure!(counted == 0, "{counted} are counted though none is left");
        Ok(())
    }
}

#[test]
fn the_flow_tables_keep_their_promises_whatever_comes() {
    let one = std::env::var("FALLGATE_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut all = Seen::default();
    for seed in seeds {
        let mut world = World::new(seed, one.is_some());
        if let Err(what) = world.run() {
            panic!("{what}, in step {}; FALLGATE_SEED={seed} replays it", world.step);
        }
        let seen = world.seen;
        (all.admitted, all.found) = (all.admitted + seen.admitted, all.found + seen.found);
        (all.idle, all.gate_closed) = (all.idle + seen.idle, all.gate_closed + seen.gate_closed);
        all.refused.iter_mut().zip(seen.refused).for_each(|(all, seen)| *all += seen);
    }
    let least = [all.admitted, all.found, all.idle, all.gate_closed].into_iter().chain(all.refused).min();
    assert!(one.is_some() || least > Some(1000), "the dice reach too little: {least:?}");
}
