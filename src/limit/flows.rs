//! How many UDP flows may live at once, over all workers and for each client.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

/// Counts live flows against maxima that may change while it runs.
#[derive(Debug, Clone)]
pub struct FlowLimit {
    open: Arc<AtomicU32>,
    max: Arc<AtomicU32>,
    max_per_client: Arc<AtomicU32>,
}

/// The live flows of one client; all entries of a client share one.
///
/// It must not be made anew while flows live that were counted here: they would count no more.
#[derive(Debug, Clone, Default)]
pub struct ClientFlows(Arc<AtomicU32>);

/// Which maximum is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowsFull {
    /// That of all flows.
    Total,
    /// That of this client's.
    Client,
}

impl FlowLimit {
    /// Allows `max` flows at once, and to each client `max_per_client` of them.
    pub fn new(max: u32, max_per_client: u32) -> FlowLimit {
        let max_per_client = Arc::new(AtomicU32::new(max_per_client));
        FlowLimit { open: Arc::default(), max: Arc::new(AtomicU32::new(max)), max_per_client }
    }

    /// Changes the maxima; flows over a lower one live on.
    pub fn set_max(&self, max: u32, max_per_client: u32) {
        self.max.store(max, Ordering::Relaxed);
        self.max_per_client.store(max_per_client, Ordering::Relaxed);
    }

    /// How many flows there may be.
    pub fn max(&self) -> u32 {
        self.max.load(Ordering::Relaxed)
    }

    /// How many flows live now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Which maximum stands, at this moment, against one more flow of a client that has `of_client`.
    pub fn full(&self, of_client: u32) -> Option<FlowsFull> {
        match () {
            () if of_client >= self.max_per_client.load(Ordering::Relaxed) => Some(FlowsFull::Client),
            () if self.open() >= self.max.load(Ordering::Relaxed) => Some(FlowsFull::Total),
            () => None,
        }
    }

    /// A permit for one more flow of `client`, or which maximum is reached; the client's is looked at first.
    pub fn try_acquire(&self, client: &ClientFlows) -> Result<FlowPermit, FlowsFull> {
        let client = Place::take(&client.0, &self.max_per_client).ok_or(FlowsFull::Client)?;
        let total = Place::take(&self.open, &self.max).ok_or(FlowsFull::Total)?;
        Ok(FlowPermit { _client: client, _total: total })
    }
}

impl From<Arc<AtomicU32>> for ClientFlows {
    fn from(count: Arc<AtomicU32>) -> ClientFlows {
        ClientFlows(count)
    }
}

impl ClientFlows {
    /// How many flows of the client live now.
    pub fn open(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One live flow.
#[derive(Debug)]
pub struct FlowPermit {
    _client: Place,
    _total: Place,
}

/// One counted up, until it drops.
#[derive(Debug)]
struct Place(Arc<AtomicU32>);

impl Place {
    fn take(open: &Arc<AtomicU32>, max: &AtomicU32) -> Option<Place> {
        let max = max.load(Ordering::Relaxed);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (open < max).then_some(open + 1))
            .ok()
            .map(|_| Place(open.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_at_its_maximum_leaves_room_for_others() {
        let limit = FlowLimit::new(3, 2);
        let (one, other) = (ClientFlows::default(), ClientFlows::default());
        let held = (limit.try_acquire(&one), limit.try_acquire(&one));
        assert!(held.0.is_ok() && held.1.is_ok());
        assert_eq!(limit.try_acquire(&one).unwrap_err(), FlowsFull::Client);
        let third = limit.try_acquire(&other);
        assert!(third.is_ok());
        assert_eq!(limit.try_acquire(&other).unwrap_err(), FlowsFull::Total);
    }

    #[test]
    fn a_refused_flow_counts_nowhere_and_a_dropped_one_no_more() {
        let limit = FlowLimit::new(1, 5);
        let (one, other) = (ClientFlows::default(), ClientFlows::default());
        let held = limit.try_acquire(&one);
        assert!(limit.try_acquire(&other).is_err());
        assert_eq!((limit.open(), one.open(), other.open()), (1, 1, 0));
        drop(held);
        assert_eq!((limit.open(), one.open()), (0, 0));
    }

    #[test]
    fn flows_over_a_lowered_maximum_live_on_and_no_other_comes() {
        let limit = FlowLimit::new(2, 2);
        let client = ClientFlows::default();
        let held = (limit.try_acquire(&client), limit.try_acquire(&client));
        limit.set_max(1, 1);
        assert_eq!(limit.open(), 2);
        drop(held.0);
        assert!(limit.try_acquire(&client).is_err());
        drop(held.1);
        assert!(limit.try_acquire(&client).is_ok());
    }

    #[test]
    fn workers_at_once_never_get_more_than_there_is() {
        let limit = FlowLimit::new(50, 30);
        let clients = [ClientFlows::default(), ClientFlows::default()];
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (limit, clients) = (&limit, &clients);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for step in 0..2000 {
                        let client = &clients[(worker + step) % 2];
                        held.extend(limit.try_acquire(client).ok());
                        assert!(limit.open() <= 50 && client.open() <= 30);
                        if step % 7 == 0 {
                            held.clear();
                        }
                    }
                });
            }
        });
        assert_eq!((limit.open(), clients[0].open(), clients[1].open()), (0, 0, 0));
    }
}
