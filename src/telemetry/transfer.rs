//! One transfer that is open: whose it is, where it goes, what it has moved and how fast.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};

use tokio_util::sync::CancellationToken;

use super::{
    labels::{Direction, Kind, Stage},
    live::Path,
    pace::{Pace, STILL},
};

/// What is known of a transfer when it begins.
#[derive(Debug, Clone)]
pub struct About {
    /// What it is.
    pub kind: Kind,
    /// What it is shown as; none: its kind and a number.
    pub id: Option<String>,
    /// The listener it came in by.
    pub listener: Arc<str>,
    /// The client's address.
    pub client: IpAddr,
    /// The transfer user, or that of the forward proxy.
    pub user: Option<String>,
    /// Which way its files go; none where bytes go both ways.
    pub direction: Option<Direction>,
    /// The upstream; none behind a forward proxy.
    pub upstream: Option<Arc<str>>,
    /// The node, where it is known already.
    pub node: Option<Arc<str>>,
    /// What a forward proxy was asked for: host and port.
    pub target: Option<String>,
    /// How many sources the client announced.
    pub sources: Option<u64>,
    /// When it began, where that was before it was posted.
    pub began: Option<SystemTime>,
    /// Ends it, where it can be ended by itself.
    pub cancel: Option<CancellationToken>,
}

impl About {
    /// What there is of everything: a kind and a client.
    pub fn new(kind: Kind, client: IpAddr) -> About {
        About {
            kind,
            id: None,
            listener: "".into(),
            client,
            user: None,
            direction: None,
            upstream: None,
            node: None,
            target: None,
            sources: None,
            began: None,
            cancel: None,
        }
    }
}

/// Bytes that were moved: those the receiving side's socket took.
#[derive(Debug, Default)]
pub struct Counts {
    upload: AtomicU64,
    download: AtomicU64,
}

impl Counts {
    /// Bytes from the client to the node.
    pub fn upload(&self) -> u64 {
        self.upload.load(Relaxed)
    }

    /// Bytes from the node to the client.
    pub fn download(&self) -> u64 {
        self.download.load(Relaxed)
    }

    /// The counter of one direction.
    pub fn of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::Upload => &self.upload,
            Direction::Download => &self.download,
        }
    }

    /// Adds bytes that were moved.
    pub fn add(&self, direction: Direction, bytes: u64) {
        self.of(direction).fetch_add(bytes, Relaxed);
    }
}

/// A transfer that is open.
#[derive(Debug)]
pub struct Transfer {
    number: u64,
    id: String,
    about: About,
    begin: Instant,
    started: SystemTime,
    counts: Arc<Counts>,
    files: AtomicU64,
    files_failed: AtomicU64,
    now: Mutex<Now>,
    pace: Mutex<Pace>,
}

/// What changes now and then.
#[derive(Debug)]
struct Now {
    stage: Stage,
    node: Option<Arc<str>>,
    file: Option<Moving>,
}

/// The file that is being moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// Its name as the client knows it.
    pub name: Arc<str>,
    /// What its request announced of it, in bytes.
    pub size: Option<u64>,
    /// Bytes of the transfer before it.
    before: u64,
}

impl Transfer {
    pub(super) fn new(number: u64, mut about: About) -> Transfer {
        let started = about.began.unwrap_or_else(SystemTime::now);
        let (now, age) = (Instant::now(), started.elapsed().unwrap_or_default());
        let begin = now.checked_sub(age).unwrap_or(now);
        let id = about.id.take().unwrap_or_else(|| format!("{}-{number}", about.kind));
        let now = Now { stage: Stage::Open, node: about.node.take(), file: None };
        Transfer {
            number,
            id,
            about,
            begin,
            started,
            counts: Arc::default(),
            files: AtomicU64::new(0),
            files_failed: AtomicU64::new(0),
            now: Mutex::new(now),
            pace: Mutex::new(Pace::new(begin)),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// What log and pages call it; of a session a short keyed hash of its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What was known of it when it began.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// When it began.
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// The same by the clock on the wall.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// What it has moved.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Counts the end of a file.
    pub fn file_ended(&self, ok: bool) {
        let counter = if ok { &self.files } else { &self.files_failed };
        counter.fetch_add(1, Relaxed);
    }

    /// Counts files that went well, and that did not, before it was posted.
    pub fn add_files(&self, files: u64, failed: u64) {
        self.files.fetch_add(files, Relaxed);
        self.files_failed.fetch_add(failed, Relaxed);
    }

    /// Files that went well, and that did not.
    pub fn files(&self) -> (u64, u64) {
        (self.files.load(Relaxed), self.files_failed.load(Relaxed))
    }

    /// How far it has come.
    pub fn stage(&self) -> Stage {
        self.now().stage
    }

    /// Notes how far it has come.
    pub fn set_stage(&self, stage: Stage) {
        self.now().stage = stage;
    }

    /// The node it is on.
    pub fn node(&self) -> Option<Arc<str>> {
        self.now().node.clone()
    }

    /// Puts it on a node.
    pub fn set_node(&self, node: Arc<str>) {
        self.now().node = Some(node);
    }

    /// The file that is being moved, and how much of it has been.
    pub fn file(&self) -> Option<(Moving, u64)> {
        let file = self.now().file.clone()?;
        let moved = self.bytes().saturating_sub(file.before);
        Some((file, moved))
    }

    /// Seconds until the rest of the file has moved at the present rate; none where nobody can know.
    pub fn eta(&self) -> Option<f64> {
        let (file, moved) = self.file()?;
        let (left, (up, down)) = (file.size?.saturating_sub(moved), self.rates());
        match left {
            0 => Some(0.0),
            _ if up + down < STILL => None,
            _ => Some((left as f64 / (up + down)).ceil()),
        }
    }

    /// Notes the file that is being moved from now on.
    pub fn set_file(&self, name: &str, size: Option<u64>) {
        let before = self.bytes();
        self.now().file = Some(Moving { name: name.into(), size, before });
    }

    /// Notes how long the file is, once that is known.
    pub fn set_file_size(&self, size: u64) {
        if let Some(file) = &mut self.now().file {
            file.size = Some(size);
        }
    }

    /// Bytes a second up and down, as sampled last.
    pub fn rates(&self) -> (f64, f64) {
        self.pace().rates()
    }

    /// When something last moved, as the samples saw it; at first its beginning.
    pub fn moved(&self) -> SystemTime {
        self.started + self.pace().moved().saturating_duration_since(self.begin)
    }

    /// Ends it. False where it cannot be ended by itself.
    pub fn cancel(&self) -> bool {
        if let Some(token) = &self.about.cancel {
            token.cancel();
        }
        self.about.cancel.is_some()
    }

    pub(super) fn path(&self) -> Path {
        Path {
            listener: self.about.listener.clone(),
            kind: self.about.kind,
            upstream: self.about.upstream.clone(),
            node: self.node(),
        }
    }

    pub(super) fn sample(&self, now: Instant) -> (u64, u64) {
        let bytes = (self.counts.upload(), self.counts.download());
        self.pace().sample(now, bytes.0, bytes.1);
        bytes
    }

    fn bytes(&self) -> u64 {
        self.counts.upload() + self.counts.download()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_has_moved_what_the_transfer_has_moved_since_it_began() {
        let transfer = Transfer::new(7, About::new(Kind::Session, "192.0.2.1".parse().unwrap()));
        assert_eq!(transfer.id(), "session-7");
        transfer.counts().add(Direction::Upload, 100);
        transfer.set_file("a/b", Some(50));
        transfer.counts().add(Direction::Upload, 20);
        let (file, moved) = transfer.file().unwrap();
        assert_eq!((&*file.name, file.size, moved), ("a/b", Some(50), 20));
        assert!(!transfer.cancel(), "nothing to cancel it by");
    }

    #[test]
    fn a_file_has_an_eta_where_its_size_was_announced_and_bytes_move() {
        let transfer = Transfer::new(7, About::new(Kind::Session, "192.0.2.1".parse().unwrap()));
        let begin = transfer.begin();
        assert_eq!(transfer.eta(), None, "there is no file");
        transfer.set_file("a", None);
        transfer.counts().add(Direction::Upload, 1000);
        transfer.sample(begin + Duration::from_secs(1));
        assert_eq!(transfer.eta(), None, "of unknown size");
        transfer.set_file("b", Some(10_000));
        let rate = transfer.rates().0;
        assert_eq!(transfer.eta(), Some((10_000.0 / rate).ceil()));
        transfer.counts().add(Direction::Upload, 10_000);
        assert_eq!(transfer.eta(), Some(0.0));
    }
}
