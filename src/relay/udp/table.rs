//! The flow table of one worker: which flow a datagram belongs to, who may begin one, and when one ends.
//!
//! Knows no socket and no clock: times are milliseconds from any fixed moment, and what a flow holds is the
//! worker's. The kernel deals a client's datagrams always to the same worker, so nothing here is shared but the
//! counts of [`FlowLimit`].

use std::{
    collections::HashMap,
    hash::{Hash, Hasher, RandomState},
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use crate::{
    limit::{ClientFlows, FlowLimit, FlowPermit},
    telemetry::{DropReason, FlowOutcome},
};

/// What tells one flow from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The client's address and port; IPv4 as such, also where it came over IPv6.
    pub client: SocketAddr,
    /// The index of the port spoken to in the listener's range.
    pub port: u16,
    /// The address spoken to, where the socket tells it.
    pub local: Option<IpAddr>,
}

impl Hash for Key {
    /// In one piece: the hash of a few short ones costs several times as much.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let bits = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let mut bytes = [0; 36];
        bytes[..16].copy_from_slice(&bits(self.client.ip()));
        bytes[16..32].copy_from_slice(&bits(self.local.unwrap_or(Ipv6Addr::UNSPECIFIED.into())));
        bytes[32..34].copy_from_slice(&self.client.port().to_ne_bytes());
        bytes[34..].copy_from_slice(&self.port.to_ne_bytes());
        state.write(&bytes);
    }
}

/// The place of a flow, for the worker to find it again; stands for no other flow once that one has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowId {
    slot: u32,
    generation: u32,
}

impl From<FlowId> for u64 {
    fn from(id: FlowId) -> u64 {
        u64::from(id.generation) << 32 | u64::from(id.slot)
    }
}

impl From<u64> for FlowId {
    fn from(number: u64) -> FlowId {
        FlowId { slot: number as u32, generation: (number >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Flow<T> {
    key: Key,
    began: u64,
    last: u64,
    held: T,
    _permit: FlowPermit,
}

#[derive(Debug)]
struct Slot<T> {
    /// Counts the flows that were here.
    generation: u32,
    flow: Option<Flow<T>>,
}

/// A flow that is no more in the table. Its permit is given back.
#[derive(Debug)]
pub struct Ended<T> {
    /// Which one.
    pub key: Key,
    /// What it held.
    pub held: T,
    /// When it was admitted, in milliseconds.
    pub began: u64,
    /// When something last went either way, in milliseconds.
    pub last: u64,
    /// Why it ended.
    pub why: FlowOutcome,
}

/// What one step of a sweep found.
#[derive(Debug)]
pub struct Swept<T> {
    /// The flows that it ended.
    pub ended: Vec<Ended<T>>,
    /// The round is over: every flow that was there when it began was looked at.
    pub complete: bool,
}

/// The flows of one worker, each holding a `T`.
#[derive(Debug)]
pub struct Table<T> {
    /// Clients choose the keys, so the hash is keyed at random: SipHash-1-3, once for a message of many datagrams.
    index: HashMap<Key, u32, RandomState>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// Where the sweep goes on.
    cursor: usize,
    /// How long a flow may be idle, in milliseconds.
    idle: u64,
}

impl<T> Table<T> {
    /// An empty one, whose flows end when they were idle for `idle` milliseconds.
    pub fn new(idle: u64) -> Table<T> {
        Table { index: HashMap::default(), slots: Vec::new(), free: Vec::new(), cursor: 0, idle }
    }

    /// Changes how long a flow may be idle, in milliseconds.
    pub fn set_idle(&mut self, idle: u64) {
        self.idle = idle;
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The flow of a datagram that came at `now`, which is thereby active.
    pub fn find(&mut self, key: &Key, now: u64) -> Option<(FlowId, &mut T)> {
        let slot = *self.index.get(key)?;
        let place = self.slots.get_mut(slot as usize)?;
        let flow = place.flow.as_mut()?;
        flow.last = flow.last.max(now);
        Some((FlowId { slot, generation: place.generation }, &mut flow.held))
    }

    /// The flow at a place, active at `now`: for what comes from its node.
    pub fn touch(&mut self, id: FlowId, now: u64) -> Option<(&Key, &mut T)> {
        let place = self.slots.get_mut(id.slot as usize).filter(|place| place.generation == id.generation)?;
        let flow = place.flow.as_mut()?;
        flow.last = flow.last.max(now);
        Some((&flow.key, &mut flow.held))
    }

    /// The flow at a place.
    pub fn get(&self, id: FlowId) -> Option<(&Key, &T)> {
        let place = self.slots.get(id.slot as usize).filter(|place| place.generation == id.generation)?;
        place.flow.as_ref().map(|flow| (&flow.key, &flow.held))
    }

    /// When the flow at a place was admitted, and when something last went either way.
    pub fn times(&self, id: FlowId) -> Option<(u64, u64)> {
        let place = self.slots.get(id.slot as usize).filter(|place| place.generation == id.generation)?;
        place.flow.as_ref().map(|flow| (flow.began, flow.last))
    }

    /// All flows, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &Key, &T)> {
        self.slots.iter().zip(0u32..).filter_map(|(place, slot)| {
            let flow = place.flow.as_ref()?;
            Some((FlowId { slot, generation: place.generation }, &flow.key, &flow.held))
        })
    }

    /// Begins the flow of a datagram that came at `now` and belongs to none.
    ///
    /// `gate` counts the client's flows, and is none when the client's gate is closed. `open` makes what the flow
    /// holds; it is called last, so nothing is opened for a flow that may not be. Fails with the reason to drop the
    /// datagram for; the flows there are run on. Where the flow is there already, that is the one.
    pub fn admit(
        &mut self,
        key: Key,
        now: u64,
        gate: Option<&ClientFlows>,
        limit: &FlowLimit,
        open: impl FnOnce() -> Result<T, DropReason>,
    ) -> Result<FlowId, DropReason> {
        if let Some((id, _)) = self.find(&key, now) {
            return Ok(id);
        }
        let permit = limit.try_acquire(gate.ok_or(DropReason::GateClosed)?)?;
        self.put(Flow { key, began: now, last: now, held: open()?, _permit: permit })
    }

    /// Takes a flow over that ran elsewhere until now, since `began` and with something that went either way at `last`.
    pub fn bring(
        &mut self,
        key: Key,
        (began, last): (u64, u64),
        flows: &ClientFlows,
        limit: &FlowLimit,
        held: T,
    ) -> Result<FlowId, DropReason> {
        let permit = limit.try_acquire(flows)?;
        self.put(Flow { key, began, last, held, _permit: permit })
    }

    fn put(&mut self, flow: Flow<T>) -> Result<FlowId, DropReason> {
        let key = flow.key;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).map_err(|_| DropReason::TooManyFlows)?;
                self.slots.push(Slot { generation: 0, flow: None });
                slot
            }
        };
        let place = self.slots.get_mut(slot as usize).ok_or(DropReason::TooManyFlows)?;
        place.flow = Some(flow);
        self.index.insert(key, slot);
        Ok(FlowId { slot, generation: place.generation })
    }

    /// Ends the flow at a place.
    pub fn remove(&mut self, id: FlowId, why: FlowOutcome) -> Option<Ended<T>> {
        let place = self.slots.get_mut(id.slot as usize).filter(|place| place.generation == id.generation)?;
        let Flow { key, began, last, held, _permit } = place.flow.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.index.remove(&key);
        Some(Ended { key, held, began, last, why })
    }

    /// Ends all flows.
    pub fn remove_all(&mut self, why: FlowOutcome) -> Vec<Ended<T>> {
        let ids: Vec<_> = self.iter().map(|(id, ..)| id).collect();
        ids.into_iter().filter_map(|id| self.remove(id, why)).collect()
    }

    /// Looks at the next `most` places, at least one, and ends the flows there that are idle at `now` or whose
    /// client's gate is `closed`; that is also told when something last went either way.
    ///
    /// A round over all places takes several of these, so that datagrams need not wait for it.
    pub fn sweep(&mut self, now: u64, most: usize, mut closed: impl FnMut(&Key, &T, u64) -> bool) -> Swept<T> {
        let mut ended = Vec::new();
        let end = self.cursor.saturating_add(most.max(1)).min(self.slots.len());
        for at in self.cursor..end {
            let Some(Slot { generation, flow: Some(flow) }) = self.slots.get(at) else { continue };
            let why = if closed(&flow.key, &flow.held, flow.last) {
                FlowOutcome::GateClosed
            } else if now.saturating_sub(flow.last) >= self.idle {
                FlowOutcome::Idle
            } else {
                continue;
            };
            ended.extend(self.remove(FlowId { slot: at as u32, generation: *generation }, why));
        }
        let complete = end == self.slots.len();
        self.cursor = if complete { 0 } else { end };
        Swept { ended, complete }
    }

    /// How many places a whole round has to look at: the most flows there ever were at once.
    pub fn places(&self) -> usize {
        self.slots.len()
    }
}
