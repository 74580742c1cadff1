//! Clients of the nominal path: the node that each one's control connections are on, so that its data meets it.
//!
//! A client is an IP address, for that is all that a control connection and datagrams have in common. Looking one up
//! takes no lock: threads that move datagrams do it for every new flow, and for every stranger.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use super::{
    Node,
    elsewhere::{Numbers, Watched},
};

/// The bit that the number of a connection has which is another replica's.
pub(super) const MIRRORED: u64 = 1 << 63;

/// A node at one of its addresses.
#[derive(Debug, Clone)]
pub struct Place {
    /// The node.
    pub node: Arc<Node>,
    /// The address at which the client's connections meet it; a name may have several.
    pub ip: IpAddr,
}

/// What is known of one client address.
#[derive(Debug)]
pub struct Client {
    place: ArcSwap<Place>,
    /// Its control connections by their numbers, in the order of their coming.
    places: Mutex<Vec<(u64, Arc<Place>)>>,
    /// Control connections for which a node is being tried.
    trying: AtomicU32,
    controls: AtomicU32,
    flows: Arc<AtomicU32>,
    begin: Instant,
    /// When the last control connection ended, and when data last moved, in milliseconds since `begin`; 0 for never.
    left: AtomicU64,
    moved: AtomicU64,
}

impl Client {
    /// Where its data goes.
    pub fn place(&self) -> Arc<Place> {
        self.place.load_full()
    }

    /// Says where its connections are from now on.
    pub(super) fn move_to(&self, place: Place) {
        self.place.store(Arc::new(place));
    }

    /// Its control connections open now.
    pub fn controls(&self) -> u32 {
        // Whoever sees none also sees when the last one left.
        self.controls.load(Ordering::Acquire)
    }

    /// Its flows of data open now.
    pub fn open_flows(&self) -> u32 {
        self.flows.load(Ordering::Relaxed)
    }

    /// Counts its flows of data; who opens a flow raises it.
    pub fn flows(&self) -> &Arc<AtomicU32> {
        &self.flows
    }

    /// Whether it has a control connection at `now`, or had one less than `grace` before.
    pub fn is_open(&self, now: Instant, grace: Duration) -> bool {
        let had_one = || self.left.load(Ordering::Relaxed) > 0;
        self.controls() > 0 || (had_one() && self.since(&self.left, now) < grace)
    }

    /// Notes that data of the client moved at `now`.
    pub fn data_moved(&self, now: Instant) {
        self.moved.fetch_max(self.millis(now), Ordering::Relaxed);
    }

    /// When data of the client moved last; the beginning of the entry when it never did.
    pub fn last_data(&self) -> Instant {
        self.begin + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Whether anything ties it to its node, or is about to.
    pub(super) fn is_live(&self) -> bool {
        // In this order: an attempt becomes a connection before it ends.
        self.trying.load(Ordering::Acquire) > 0 || self.is_settled()
    }

    /// Whether anything of it is on its node.
    fn is_settled(&self) -> bool {
        self.controls() > 0 || self.open_flows() > 0
    }

    /// Whether it is live somewhere else than it was `seen`.
    fn has_moved(&self, seen: Option<&Arc<Place>>) -> bool {
        self.is_live() && !seen.is_some_and(|seen| Arc::ptr_eq(seen, &self.place()))
    }

    /// Whether it was heard of less than `keep` before `now`.
    fn is_fresh(&self, now: Instant, keep: Duration) -> bool {
        self.since(&self.left, now).min(self.since(&self.moved, now)) < keep
    }

    /// How long ago the last control connection ended and data moved, at `now`, each where it ever did.
    pub(super) fn heard(&self, now: Instant) -> [Option<Duration>; 2] {
        let since = |event: &AtomicU64| (event.load(Ordering::Relaxed) > 0).then(|| self.since(event, now));
        [since(&self.left), since(&self.moved)]
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.begin).as_millis()).unwrap_or(u64::MAX)
    }

    fn since(&self, event: &AtomicU64, now: Instant) -> Duration {
        Duration::from_millis(self.millis(now).saturating_sub(event.load(Ordering::Relaxed)))
    }

    /// A control connection has come about at this place.
    fn settle(&self, number: u64, place: &Arc<Place>) {
        self.places().push((number, place.clone()));
        self.place.store(place.clone());
        self.controls.fetch_add(1, Ordering::Release);
    }

    /// The control connection of this number has ended. The pin goes back to the latest that is left.
    fn leave(&self, number: u64, now: Instant) {
        let mut places = self.places();
        places.retain(|(other, _)| *other != number);
        if let Some((_, left)) = places.last() {
            self.place.store(left.clone());
        }
        drop(places);
        // The time is written first: nobody may see the gate closed in between.
        self.left.fetch_max(self.millis(now).max(1), Ordering::Relaxed);
        self.controls.fetch_sub(1, Ordering::Release);
    }

    /// Its control connections by their numbers, in the order of their coming.
    pub(super) fn places(&self) -> MutexGuard<'_, Vec<(u64, Arc<Place>)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a client is not let in as it was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotNow {
    /// There are as many clients as may be remembered, and none of them can be forgotten.
    Full,
    /// Another of its connections went elsewhere meanwhile.
    Moved,
}

/// All clients of an upstream.
#[derive(Debug)]
pub(super) struct Clients {
    table: papaya::HashMap<IpAddr, Arc<Client>>,
    /// Held by who adds or removes, so that no client is forgotten in the instant in which it comes back.
    change: Mutex<()>,
    max: AtomicU32,
    /// How long a client is kept that nothing ties to a node, in milliseconds; as the last pruning said.
    keep: AtomicU64,
    pub(super) numbers: Arc<Numbers>,
}

impl Clients {
    pub(super) fn new(max: u32) -> Clients {
        Clients {
            table: papaya::HashMap::new(),
            change: Mutex::default(),
            max: AtomicU32::new(max),
            keep: AtomicU64::new(0),
            numbers: Arc::default(),
        }
    }

    pub(super) fn resize(&self, max: u32) {
        self.max.store(max, Ordering::Relaxed);
    }

    pub(super) fn find(&self, ip: IpAddr) -> Option<Arc<Client>> {
        self.table.pin().get(&ip).cloned()
    }

    /// A control connection of this client is about to be tried at `place`; until it drops the client is not forgotten.
    ///
    /// Other connections of the client go there from now on, save when something of it is settled elsewhere. `seen` is
    /// where the client was when `place` was chosen.
    pub(super) fn attempt(
        &self,
        ip: IpAddr,
        place: &Place,
        seen: Option<&Arc<Place>>,
        now: Instant,
    ) -> Result<Trying, NotNow> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.entry(ip, place, now)?;
        if client.has_moved(seen) {
            return Err(NotNow::Moved);
        }
        if !client.is_settled() {
            client.move_to(place.clone());
        }
        Ok(self.trying(client))
    }

    /// A client as another process knows it, save its control connections: where it was last, when the last of these
    /// left and when data moved. One that is here already stays as it is.
    pub(super) fn bring(
        &self,
        ip: IpAddr,
        place: &Place,
        left: Option<Instant>,
        moved: Option<Instant>,
    ) -> Option<Trying> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = left.into_iter().chain(moved).min().unwrap_or_else(Instant::now);
        // Zero stands for never.
        let begin = begin.checked_sub(Duration::from_millis(1)).unwrap_or(begin);
        let client = self.entry(ip, place, begin).ok()?;
        if let Some(left) = left {
            client.left.fetch_max(client.millis(left), Ordering::Relaxed);
        }
        if let Some(moved) = moved {
            client.data_moved(moved);
        }
        Some(self.trying(client))
    }

    /// All clients.
    pub(super) fn all(&self) -> Vec<(IpAddr, Arc<Client>)> {
        self.table.pin().iter().map(|(ip, client)| (*ip, client.clone())).collect()
    }

    fn trying(&self, client: Arc<Client>) -> Trying {
        client.trying.fetch_add(1, Ordering::Relaxed);
        Trying { client, numbers: self.numbers.clone() }
    }

    /// The entry of a client without a control connection, at `place`; where it is if others have moved it since it was
    /// `seen`.
    pub(super) fn visit(
        &self,
        ip: IpAddr,
        place: Place,
        seen: Option<&Arc<Place>>,
        now: Instant,
    ) -> Result<Arc<Client>, NotNow> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.entry(ip, &place, now)?;
        if !client.has_moved(seen) {
            client.move_to(place);
        }
        client.data_moved(now);
        Ok(client)
    }

    /// Forgets clients that nothing ties to a node and that were not heard of for `keep`.
    pub(super) fn prune(&self, now: Instant, keep: Duration) {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep.store(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.table.pin().retain(|_, client| client.is_live() || client.is_fresh(now, keep));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.table.pin().len()
    }

    /// The entry; a new one is at `place`. Only under the lock.
    fn entry(&self, ip: IpAddr, place: &Place, now: Instant) -> Result<Arc<Client>, NotNow> {
        let table = self.table.pin();
        if let Some(client) = table.get(&ip) {
            return Ok(client.clone());
        }
        if table.len() >= self.max.load(Ordering::Relaxed) as usize {
            let keep = Duration::from_millis(self.keep.load(Ordering::Relaxed));
            table.retain(|_, client| client.is_live() || client.is_fresh(now, keep));
            if table.len() >= self.max.load(Ordering::Relaxed) as usize {
                return Err(NotNow::Full);
            }
        }
        let client = Arc::new(Client {
            place: ArcSwap::from_pointee(place.clone()),
            places: Mutex::default(),
            trying: AtomicU32::new(0),
            controls: AtomicU32::new(0),
            flows: Arc::default(),
            begin: now,
            left: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        });
        table.insert(ip, client.clone());
        Ok(client)
    }
}

/// A control connection for which a node is being tried, until it drops. It opens no gate.
#[derive(Debug)]
pub(super) struct Trying {
    client: Arc<Client>,
    numbers: Arc<Numbers>,
}

impl Trying {
    /// The node has answered: the client is there from now on.
    pub(super) fn met(self, ip: IpAddr, place: Place) -> Entered {
        let place = Arc::new(place);
        let number = self.numbers.next();
        self.client.settle(number, &place);
        let watched = self.numbers.begin(ip, number, &place);
        Entered { client: self.client.clone(), ip, number, _watched: Some(watched) }
    }

    /// The client is there by a connection of another replica, of which nobody is told anew.
    pub(super) fn met_elsewhere(self, ip: IpAddr, place: Place) -> Entered {
        let number = self.numbers.next() | MIRRORED;
        self.client.settle(number, &Arc::new(place));
        Entered { client: self.client.clone(), ip, number, _watched: None }
    }

    /// The client.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        self.client.trying.fetch_sub(1, Ordering::Release);
    }
}

/// One control connection of a client, until it drops.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) client: Arc<Client>,
    pub(super) ip: IpAddr,
    number: u64,
    _watched: Option<Watched>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.client.leave(self.number, Instant::now());
    }
}

#[cfg(test)]
mod tests;
