//! What is open now: every session, control connection, flow, tunnel and request of a forward proxy, with what it has
//! moved. The doors post it here and go on counting; whoever wants to see it looks ([`Live::transfers`]).
//!
//! Rates are made by whoever samples ([`Live::sample`]), so that counting costs an addition and no clock. What has ended
//! stays in the sums of its path: by listener, kind, upstream and node, which the config bounds. A path of which the
//! config names a part no more is forgotten once nothing is open on it ([`Live::forget`]).

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use super::{
    known::Known,
    labels::Kind,
    pace::{FIRST, Pace},
    transfer::{About, Transfer},
};

/// All that is open now. Cloning shares it.
#[derive(Clone, Default)]
pub struct Live(Arc<Inner>);

#[derive(Default)]
struct Inner {
    table: Mutex<Table>,
    number: AtomicU64,
    paces: Mutex<HashMap<Path, Pace>>,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Arc<Transfer>>,
    /// Bytes of what has ended, up and down.
    ended: HashMap<Path, (u64, u64)>,
}

/// The way of bytes through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The listener they came in by.
    pub listener: Arc<str>,
    /// What they belong to.
    pub kind: Kind,
    /// The upstream; none behind a forward proxy.
    pub upstream: Option<Arc<str>>,
    /// The node; none behind a forward proxy, and as long as none is chosen.
    pub node: Option<Arc<str>>,
}

/// What flows along a path.
#[derive(Debug, Clone)]
pub struct Flowing {
    /// The path.
    pub path: Path,
    /// How many transfers are open on it.
    pub open: u64,
    /// Bytes a second from clients.
    pub upload_rate: f64,
    /// Bytes a second to clients.
    pub download_rate: f64,
}

/// A transfer that is open until this drops, or is told to [end](Posted::end).
pub struct Posted {
    live: Live,
    transfer: Arc<Transfer>,
}

impl Live {
    /// Posts what has just begun.
    pub fn post(&self, about: About) -> Posted {
        let number = self.0.number.fetch_add(1, Relaxed) + 1;
        let transfer = Arc::new(Transfer::new(number, about));
        self.table().open.insert(number, transfer.clone());
        Posted { live: self.clone(), transfer }
    }

    /// All that is open, in no order.
    pub fn transfers(&self) -> Vec<Arc<Transfer>> {
        self.table().open.values().cloned().collect()
    }

    /// The one that is shown by this name.
    pub fn find(&self, id: &str) -> Option<Arc<Transfer>> {
        self.table().open.values().find(|transfer| transfer.id() == id).cloned()
    }

    /// Forgets the sums and rates of paths of which something is not known and on which nothing is open. True when nothing
    /// is left of what is not known, so that there is nothing more to forget until that changes.
    pub fn forget(&self, known: &Known) -> bool {
        // Nobody samples meanwhile, who would bring the sums back.
        let (mut paces, mut table) = (self.paces(), self.table());
        let open: HashSet<_> = table.open.values().map(|transfer| transfer.path()).collect();
        let stays = |path: &Path| known.path(path) || open.contains(path);
        table.ended.retain(|path, _| stays(path));
        paces.retain(|path, _| stays(path));
        open.iter().all(|path| known.path(path))
    }

    /// Takes the time of all rates: to be called about once a second.
    pub fn sample(&self, now: Instant) {
        let mut paces = self.paces();
        let (open, ended) = {
            let table = self.table();
            (table.open.values().cloned().collect::<Vec<_>>(), table.ended.clone())
        };
        // The first sample of a path is compared with nothing, from when the first that is open on it began; what has
        // ended since the samples before began not long ago.
        let recent = now.checked_sub(FIRST).unwrap_or(now);
        let mut sums: HashMap<_, _> = ended.into_iter().map(|(path, sum)| (path, (sum, recent))).collect();
        for transfer in &open {
            let (up, down) = transfer.sample(now);
            let (sum, begin) = sums.entry(transfer.path()).or_insert(((0, 0), now));
            (*sum, *begin) = ((sum.0 + up, sum.1 + down), transfer.begin().min(*begin));
        }
        for (path, ((up, down), begin)) in sums {
            paces.entry(path).or_insert_with(|| Pace::new(begin)).sample(now, up, down);
        }
    }

    /// What flows along which path, as sampled last; a path with nothing open and nothing moving is left out.
    pub fn flowing(&self) -> Vec<Flowing> {
        let mut open: HashMap<Path, u64> = HashMap::new();
        for transfer in self.transfers() {
            *open.entry(transfer.path()).or_default() += 1;
        }
        let paces = self.paces();
        let rates = |path: &Path| paces.get(path).map_or((0.0, 0.0), Pace::rates);
        let moving = paces.iter().filter(|(_, pace)| pace.is_moving()).map(|(path, _)| path);
        let mut paths: Vec<_> = open.keys().chain(moving).cloned().collect();
        paths.sort();
        paths.dedup();
        let flowing = |path: Path| {
            let (upload_rate, download_rate) = rates(&path);
            Flowing { open: open.get(&path).copied().unwrap_or(0), upload_rate, download_rate, path }
        };
        paths.into_iter().map(flowing).collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paces(&self) -> MutexGuard<'_, HashMap<Path, Pace>> {
        self.0.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for Posted {
    type Target = Arc<Transfer>;

    fn deref(&self) -> &Arc<Transfer> {
        &self.transfer
    }
}

impl Posted {
    /// It goes on, but is shown and summed up elsewhere.
    pub fn hide(&self) {
        self.live.table().open.remove(&self.transfer.number());
    }

    /// It is shown again.
    pub fn show(&self) {
        self.live.table().open.insert(self.transfer.number(), self.transfer.clone());
    }

    /// It is over, though somebody may still hold it.
    pub fn end(&self) {
        let (path, counts) = (self.transfer.path(), self.transfer.counts());
        let mut table = self.live.table();
        if table.open.remove(&self.transfer.number()).is_none() {
            return;
        }
        let sum = table.ended.entry(path).or_default();
        *sum = (sum.0 + counts.upload(), sum.1 + counts.download());
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Live")
    }
}

impl fmt::Debug for Posted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Posted({})", self.transfer.id())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Direction;

    fn about(listener: &str) -> About {
        About { listener: listener.into(), ..About::new(Kind::Tunnel, "192.0.2.1".parse().unwrap()) }
    }

    #[test]
    fn a_path_that_is_known_no_more_is_forgotten_when_nothing_is_open_on_it() {
        let (live, start) = (Live::default(), Instant::now());
        let known = Known { listeners: ["new".to_owned()].into(), ..Known::default() };
        let (new, old, last) = (live.post(about("new")), live.post(about("old")), live.post(about("old")));
        [&new, &old].iter().for_each(|transfer| transfer.counts().add(Direction::Upload, 1_000_000));
        drop((new, old));
        live.sample(start + Duration::from_secs(1));
        let flowing = || live.flowing().iter().map(|f| f.path.listener.to_string()).collect::<Vec<_>>();
        assert!(!live.forget(&known), "one is open on it");
        assert_eq!((flowing(), live.table().ended.len()), (vec!["new".to_owned(), "old".to_owned()], 2));
        drop(last);
        assert!(live.forget(&known));
        live.sample(start + Duration::from_secs(2));
        assert_eq!((flowing(), live.table().ended.len()), (vec!["new".to_owned()], 1));
        assert_eq!(live.paces().len(), 1);
    }

    #[test]
    fn what_has_ended_is_gone_and_its_bytes_stay_in_the_sum_of_its_path() {
        let (live, start) = (Live::default(), Instant::now());
        let (a, b) = (live.post(about("egress")), live.post(about("egress")));
        a.counts().add(Direction::Upload, 1_000_000);
        assert_eq!(live.find(a.id()).unwrap().id(), a.id());
        drop(a);
        assert_eq!(live.transfers().len(), 1);
        live.sample(start + Duration::from_secs(1));
        let flowing = live.flowing();
        assert_eq!((flowing.len(), flowing[0].open), (1, 1));
        assert!((900_000.0..1_100_000.0).contains(&flowing[0].upload_rate), "{flowing:?}");
        assert_eq!(flowing[0].download_rate, 0.0);
        drop(b);
        (2..200).for_each(|second| live.sample(start + Duration::from_secs(second)));
        assert!(live.flowing().is_empty(), "nothing is open and nothing moves");
    }
}
