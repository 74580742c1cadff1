//! A thread that moves datagrams: its sockets towards the clients, and a socket towards the node for each flow.
//!
//! What costs is the kernel's work for each send. So a receive takes up to 32 messages, those of one flow are put
//! together, and a run of equal datagrams goes out in one segmented send; a kernel that received them joined hands them
//! over joined already. Nothing is allocated and no lock is taken for a datagram of a known flow, unless a
//! cap on bandwidth holds for it: those are shared.

mod handed;

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    DataDoor,
    flow::{self, Flow, Way},
    listener::{Handed, Listening, Orders},
    table::{Ended, FlowId, Key, Table},
};
use crate::{
    net::{
        shortage::is_ours,
        udp::{self, Batch, Buffers, MESSAGES, Message, Poller, Run, Sent, UdpSocket, Unsent, is_icmp},
    },
    telemetry::{Direction, DropReason, FlowOutcome, Transfer},
};

/// Receives in a row from one socket while others wait.
const TURN: usize = 8;
/// How often all flows are looked at for which are over, at the most and at the least.
const ROUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Steps of such a round, so that datagrams need not wait for all of it.
const STEPS: u32 = 8;
/// While draining, a flow that no control connection stands for is over after so long without a datagram.
const DRAIN_IDLE: Duration = Duration::from_secs(30);

/// One thread of a listener.
#[derive(Debug)]
pub(super) struct Worker {
    poller: Poller,
    /// One for each port.
    listening: Arc<[UdpSocket]>,
    /// What the kernel threw away at each of them, as far as it is told already.
    lost: Vec<u32>,
    buffers: Buffers,
    table: Table<Flow>,
    orders: Arc<Orders>,
    door: Arc<DataDoor>,
    begin: Instant,
}

impl Worker {
    /// Makes a thread's work; it goes on with the flows that another process hands over.
    pub(super) fn new(
        (poller, listening): Listening,
        flows: Vec<Handed>,
        buffers: Buffers,
        orders: Arc<Orders>,
    ) -> Worker {
        let door = orders.door.load_full();
        let (now, oldest) = (Instant::now(), flows.iter().map(|(flow, _)| flow.age).max().unwrap_or(0));
        let mut worker = Worker {
            poller,
            // What was lost before is told already.
            lost: listening.iter().map(|socket| socket.lost().unwrap_or(0)).collect(),
            listening,
            buffers,
            table: Table::new(millis(door.flow_idle)),
            orders,
            door,
            begin: now.checked_sub(Duration::from_millis(oldest)).unwrap_or(now),
        };
        for (flow, socket) in flows {
            worker.bring(flow, socket, worker.millis(now));
        }
        worker
    }

    /// Moves datagrams until it is told to stop.
    pub(super) fn run(mut self) {
        for (number, socket) in self.listening.iter().enumerate() {
            if let Err(error) = self.poller.add(socket, of_port(number)) {
                tracing::error!(listener = self.door.name, %error, "A socket for datagrams cannot be waited for.");
            }
        }
        let mut batch = Batch::new();
        let (mut ready, mut unfinished) = (Vec::new(), Vec::new());
        let mut swept = Instant::now();
        while !self.orders.stop.load(Ordering::Relaxed) {
            if self.orders.halt.is_wanted() {
                self.orders.halt.stand((self.listening.clone(), self.handed()));
                continue;
            }
            let round = self.door.shortest_wait().clamp(ROUNDS.0, ROUNDS.1);
            let pause = round / STEPS;
            let patience = if unfinished.is_empty() { pause } else { Duration::ZERO };
            ready.append(&mut unfinished);
            if let Err(error) = self.poller.wait(patience, &mut ready) {
                tracing::error!(listener = self.door.name, %error, "Datagrams cannot be waited for.");
                return;
            }
            // A socket that was not finished and got more stands there twice.
            ready.sort_unstable();
            ready.dedup();
            let now = Instant::now();
            for number in ready.drain(..) {
                let left = match port_of(number) {
                    Some(port) => self.take_from_clients(port, &mut batch, now),
                    None => self.take_from_node(FlowId::from(number as u64), &mut batch, now),
                };
                if left {
                    unfinished.push(number);
                }
            }
            if now.saturating_duration_since(swept) >= pause {
                swept = now;
                self.door = self.orders.door.load_full();
                self.sweep(now);
            }
        }
        if self.orders.halt.is_handed() {
            return;
        }
        let ended = self.table.remove_all(FlowOutcome::Drained);
        self.end(ended, self.millis(Instant::now()));
    }

    fn millis(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.begin))
    }

    /// Takes what clients sent to one port. True when there may be more.
    fn take_from_clients(&mut self, port: usize, batch: &mut Batch, now: Instant) -> bool {
        for _ in 0..TURN {
            let Some(socket) = self.listening.get(port) else { return false };
            match socket.receive(batch) {
                Ok(count) => {
                    self.send_to_nodes(port, batch, now);
                    if count < MESSAGES {
                        return false;
                    }
                }
                Err(error) => return self.failed(&error),
            }
        }
        true
    }

    /// Sends a batch of clients' datagrams on, flow by flow.
    fn send_to_nodes(&mut self, port: usize, batch: &Batch, now: Instant) {
        let millis = self.millis(now);
        let mut waiting: [Option<(FlowId, Message<'_>)>; MESSAGES] = [None; MESSAGES];
        let mut last: Option<(Key, FlowId)> = None;
        for (place, message) in waiting.iter_mut().zip(batch.messages()) {
            if let Err(reason) = check(&message) {
                self.door.metrics.dropped(reason, 1);
                continue;
            }
            if self.door.is_probe(&message) {
                self.listening.get(port).iter().for_each(|socket| self.door.answer(socket, &message));
                continue;
            }
            let key = Key { client: message.from, port: port as u16, local: message.to };
            let flow = match last {
                Some((known, flow)) if known == key => flow,
                _ => match self.flow(key, now, millis) {
                    Ok(flow) => flow,
                    Err(reason) => {
                        self.door.metrics.dropped(reason, message.datagrams().count() as u64);
                        continue;
                    }
                },
            };
            last = Some((key, flow));
            *place = Some((flow, message));
        }
        let mut counted = Counted::default();
        for at in 0..MESSAGES {
            let Some((id, first)) = waiting.get_mut(at).and_then(Option::take) else { continue };
            let Some((_, Flow { socket, up, transfer, .. })) = self.table.touch(id, millis) else { continue };
            let (mut run, mut over) = (Run::new(), 0);
            let Way { segmenting, pace, .. } = up;
            let mut send = |run: &Run<'_>| counted.add(socket.send_run(udp::Way::default(), run, segmenting));
            over += flow::feed(pace, first.datagrams(), &mut run, &mut send);
            for other in waiting.iter_mut().skip(at + 1).filter(|w| w.is_some_and(|(other, _)| other == id)) {
                if let Some((_, message)) = other.take() {
                    over += flow::feed(pace, message.datagrams(), &mut run, &mut send);
                }
            }
            if !run.is_empty() {
                send(&run);
            }
            counted.over += over;
            counted.settle(transfer, Direction::Upload);
        }
        counted.tell(&self.door, Direction::Upload);
    }

    /// The flow of a key, a new one if the gate and the limits allow it.
    fn flow(&mut self, key: Key, now: Instant, millis: u64) -> Result<FlowId, DropReason> {
        if let Some((known, _)) = self.table.find(&key, millis) {
            return Ok(known);
        }
        let draining = self.orders.draining.load(Ordering::Relaxed);
        let client = self.door.admit(key.client.ip(), now, draining)?;
        let place = client.place();
        let flows = client.flows().clone().into();
        let (door, buffers) = (self.door.clone(), self.buffers);
        let unreachable = |error: &io::Error| {
            let (listener, node) = (&door.name, place.node.name());
            let reason = if is_ours(error) { DropReason::OpenFiles } else { DropReason::NodeUnreachable };
            tracing::debug!(listener, node, %reason, %error, "No socket for a flow.");
            reason
        };
        let open = || {
            let address = place.node.data_address(place.ip, key.port).ok_or(DropReason::NodeUnreachable)?;
            let socket = UdpSocket::connect(address, buffers).map_err(|error| unreachable(&error))?;
            let node = place.node.name().to_owned();
            let (up, down) = door.paces(key.client.ip(), &place.node);
            let transfer = door.post(key.client, &node);
            let (up, down) = (Way::new(up), Way::new(down));
            Ok(Flow { socket, door: door.clone(), client, node, transfer, up, down })
        };
        let id = self.table.admit(key, millis, Some(&flows), &door.limit, open)?;
        let added = match self.table.get(id) {
            Some((_, flow)) => self.poller.add(&flow.socket, u64::from(id) as usize),
            None => Ok(()),
        };
        if let Err(error) = added {
            self.table.remove(id, FlowOutcome::Drained);
            return Err(unreachable(&error));
        }
        self.orders.flows.fetch_add(1, Ordering::Relaxed);
        door.metrics.flow_opened();
        Ok(id)
    }

    /// Takes what a node sent to one flow. True when there may be more.
    fn take_from_node(&mut self, id: FlowId, batch: &mut Batch, now: Instant) -> bool {
        let millis = self.millis(now);
        for _ in 0..TURN {
            let Some((key, flow)) = self.table.touch(id, millis) else { return false };
            let count = match flow.socket.receive(batch) {
                Ok(count) => count,
                Err(error) => return self.failed(&error),
            };
            let Some(listening) = self.listening.get(usize::from(key.port)) else { return false };
            let way = udp::Way { to: Some(key.client), from: key.local };
            let (mut counted, mut run, mut over) = (Counted::default(), Run::new(), 0);
            let Way { segmenting, pace, .. } = &mut flow.down;
            let mut send = |run: &Run<'_>| counted.add(listening.send_run(way, run, segmenting));
            for message in batch.messages() {
                match check(&message) {
                    Ok(()) => over += flow::feed(pace, message.datagrams(), &mut run, &mut send),
                    Err(reason) => self.door.metrics.dropped(reason, 1),
                }
            }
            if !run.is_empty() {
                send(&run);
            }
            counted.over += over;
            counted.settle(&flow.transfer, Direction::Download);
            counted.tell(&self.door, Direction::Download);
            if count < MESSAGES {
                return false;
            }
        }
        true
    }

    /// A receive failed. True when there may still be something: an ICMP error stood before it.
    fn failed(&self, error: &io::Error) -> bool {
        if is_icmp(error) {
            self.door.metrics.icmp_errors(1);
            return true;
        }
        if error.kind() != io::ErrorKind::WouldBlock {
            tracing::debug!(listener = self.door.name, %error, "Datagrams could not be received.");
        }
        false
    }

    /// Ends the flows that are idle or whose gate has closed, in one of the steps of a round.
    fn sweep(&mut self, now: Instant) {
        let (millis, draining) = (self.millis(now), self.orders.draining.load(Ordering::Relaxed));
        let idle = if draining { self.door.flow_idle.min(DRAIN_IDLE) } else { self.door.flow_idle };
        self.table.set_idle(self::millis(idle));
        let (door, begin) = (&self.door, self.begin);
        let most = self.table.places().div_ceil(STEPS as usize);
        let swept = self.table.sweep(millis, most, |_, flow, last| {
            flow.client.data_moved(begin + Duration::from_millis(last));
            door.has_closed(&flow.client, now, draining)
        });
        self.end(swept.ended, millis);
        self.count_lost();
    }

    /// Counts what the kernel threw away since the last time, as nobody came for it.
    fn count_lost(&mut self) {
        for (socket, before) in self.listening.iter().zip(&mut self.lost) {
            let Ok(now) = socket.lost() else { continue };
            let lost = now.wrapping_sub(std::mem::replace(before, now));
            if lost > 0 {
                self.door.metrics.dropped(DropReason::ReceiveFull, lost.into());
            }
        }
    }

    fn end(&self, ended: Vec<Ended<Flow>>, now: u64) {
        for ended in ended {
            flow::tell(&ended, now);
            self.orders.flows.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The number of a port's socket at the poller: those of flows never come that far.
fn of_port(port: usize) -> usize {
    usize::MAX - 1 - port
}

fn port_of(number: usize) -> Option<usize> {
    let port = of_port(number);
    (port <= usize::from(u16::MAX)).then_some(port)
}

/// Whether a message can be sent on at all.
fn check(message: &Message<'_>) -> Result<(), DropReason> {
    match () {
        () if message.truncated => Err(DropReason::Truncated),
        () if message.bytes.is_empty() => Err(DropReason::Empty),
        () => Ok(()),
    }
}

/// What became of the sends of one batch; told in one go.
#[derive(Debug, Default)]
struct Counted {
    datagrams: u64,
    bytes: u64,
    /// Bytes of the flow in hand.
    of_flow: u64,
    full: u64,
    failed: u64,
    /// Those that the caps did not let pass.
    over: u64,
    icmp: u64,
}

impl Counted {
    fn add(&mut self, sent: Sent) {
        self.datagrams += sent.datagrams as u64;
        self.bytes += sent.bytes as u64;
        self.of_flow += sent.bytes as u64;
        match sent.why {
            Some(Unsent::Full) => self.full += sent.dropped as u64,
            _ => self.failed += sent.dropped as u64,
        }
        self.icmp += u64::from(sent.icmp);
    }

    /// Adds what was counted since the last time to a direction of its flow.
    fn settle(&mut self, transfer: &Transfer, direction: Direction) {
        transfer.counts().add(direction, std::mem::take(&mut self.of_flow));
    }

    fn tell(&self, door: &DataDoor, direction: Direction) {
        door.metrics.relayed(direction, self.datagrams, self.bytes);
        let dropped = [
            (DropReason::SendFull, self.full),
            (DropReason::SendFailed, self.failed),
            (DropReason::Bandwidth, self.over),
        ];
        for (reason, n) in dropped {
            if n > 0 {
                door.metrics.dropped(reason, n);
            }
        }
        if self.icmp > 0 {
            door.metrics.icmp_errors(self.icmp);
        }
    }
}
