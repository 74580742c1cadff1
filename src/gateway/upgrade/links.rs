//! The processes that this one talks to: the one before it, and the one that took over.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, Weak},
};

use arc_swap::ArcSwapOption;
use tokio::time::timeout;

use super::link::{Held, Link, Message, PATIENCE, Queue, Side, fetch, give, give_idle, lock, read, write};
use crate::{
    fallback,
    gateway::running::Run,
    net::passage::Passage,
    shared::{ControlNews, Key, SessionState},
};

/// The processes that this one talks to.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Links {
    older: ArcSwapOption<Link>,
    newer: ArcSwapOption<Link>,
    /// What is to be told to the newer process, until the passage there is free for it.
    queue: Mutex<Option<Queue>>,
}

impl Links {
    /// Sessions that the older process carries.
    pub(in crate::gateway) fn sessions_held(&self) -> usize {
        self.older.load().as_ref().map_or(0, |link| lock(&link.held).sessions.len())
    }

    /// From now on what happens here is kept for the process that takes over.
    pub(super) fn begin_newer(&self, run: &Arc<Run>) {
        let (link, queue) = Link::new(Held::default());
        self.newer.store(Some(link));
        *lock(&self.queue) = Some(queue);
        run.watch_controls();
        self.listen(run);
    }

    /// Nobody takes over.
    pub(super) fn forget_newer(&self, run: &Arc<Run>) {
        self.newer.store(None);
        run.watch_controls();
        *lock(&self.queue) = None;
        self.listen(run);
    }

    /// Begins to talk to the process that has taken over.
    pub(in crate::gateway) fn connect_newer(&self, run: &Arc<Run>, passage: Passage) -> std::io::Result<()> {
        let (news, post) = passage.split()?;
        if let Some((link, queue)) = self.newer.load_full().zip(lock(&self.queue).take()) {
            tokio::spawn(write(queue, post, link.written.clone()));
            tokio::spawn(read(Arc::downgrade(run), link.clone(), Side::Newer, news));
            tokio::spawn(give_idle(Arc::downgrade(run), link));
        }
        Ok(())
    }

    /// From now on what is not known here is asked of the process before, which goes on holding so much. It hears of it
    /// once the passage there is free.
    pub(super) fn begin_older(&self, run: &Arc<Run>, held: Held) -> (Arc<Link>, Queue) {
        let (link, queue) = Link::new(held);
        self.older.store(Some(link.clone()));
        self.listen(run);
        (link, queue)
    }

    /// From now on the newer process serves these listeners, and no other one does.
    pub(super) fn newer_serves(&self, listeners: impl Iterator<Item = String>) {
        if let Some(link) = &*self.newer.load() {
            let _ = link.serves.set(listeners.collect());
        }
    }

    /// Whether there is a process that takes over.
    pub(in crate::gateway) fn has_newer(&self) -> bool {
        self.newer.load().is_some()
    }

    /// A control connection of an upstream has come about or ended here.
    pub(in crate::gateway) fn tell_control(&self, upstream: &str, news: &ControlNews) {
        if let Some(link) = &*self.newer.load() {
            link.tell(Message::Control(upstream.to_owned(), news.clone()));
        }
    }

    /// What becomes of a session here.
    pub(in crate::gateway) fn tell(&self, news: fallback::News<'_>) {
        let message = || match news {
            fallback::News::Opened(state) => Message::Opened(Box::new(state.clone())),
            fallback::News::Ended(key, outcome) => Message::Ended(key, outcome),
        };
        for link in [&self.older, &self.newer] {
            if let Some(link) = &*link.load() {
                link.tell(message());
            }
        }
    }

    /// Log files were moved away: all processes open new ones.
    pub(in crate::gateway) fn reopen(&self) {
        for link in [&self.older, &self.newer] {
            if let Some(link) = &*link.load() {
                link.tell(Message::Reopen);
            }
        }
    }

    /// What one process says is said to the other one as well.
    pub(super) fn pass_on(&self, from: Side, message: Message) {
        let other = match from {
            Side::Older => &self.newer,
            Side::Newer => &self.older,
        };
        if let Some(link) = &*other.load() {
            link.tell(message);
        }
    }

    /// The sessions that the older process holds, and those before it.
    pub(in crate::gateway) fn held(&self) -> Vec<SessionState> {
        let older = self.older.load_full();
        older.map_or_else(Vec::new, |link| lock(&link.held).sessions.values().map(|(state, _)| state.clone()).collect())
    }

    /// Waits until the older process has ended.
    pub(in crate::gateway) async fn older_is_over(&self) {
        if let Some(link) = self.older.load_full() {
            link.over.cancelled().await;
        }
    }

    /// Gives everything that nothing holds here to the process that took over, if there is one.
    pub(in crate::gateway) fn give_all(&self, run: &Run) {
        if let Some(link) = self.newer.load_full() {
            give(run, &link, |_| true);
        }
    }

    /// Ends the talk with the process that took over, and waits until it has heard everything.
    pub(in crate::gateway) async fn finish_newer(&self, run: &Run) {
        let Some(link) = self.newer.load_full() else { return };
        self.newer.store(None);
        run.parts.sessions.ask_elsewhere(None);
        run.watch_controls();
        link.end();
        // It is the system's then, and arrives even when this process has ended.
        let _ = timeout(PATIENCE, link.written.cancelled()).await;
    }

    /// Has sessions asked for elsewhere as long as there is an elsewhere.
    pub(super) fn listen(&self, run: &Arc<Run>) {
        // Replicas ask each other by another way, and the other process is one.
        let alone = (self.older.load().is_none() && self.newer.load().is_none()) || run.replicas.get().is_some();
        let others: Box<dyn fallback::Elsewhere> = Box::new(Others(Arc::downgrade(run)));
        run.parts.sessions.ask_elsewhere((!alone).then_some(others));
    }

    /// Whether another process carries this session.
    fn have(&self, key: Key) -> bool {
        let has = |link: &ArcSwapOption<Link>| {
            link.load().as_ref().is_some_and(|link| lock(&link.held).sessions.contains_key(&key))
        };
        has(&self.older) || has(&self.newer)
    }

    pub(super) fn at(&self, side: Side) -> &ArcSwapOption<Link> {
        match side {
            Side::Older => &self.older,
            Side::Newer => &self.newer,
        }
    }
}

/// The processes that this one talks to, as its doors know them.
struct Others(Weak<Run>);

impl fallback::Elsewhere for Others {
    fn has(&self, key: Key) -> bool {
        self.0.upgrade().is_some_and(|run| run.links.have(key))
    }

    fn fetch(&self, key: Key) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let run = self.0.clone();
        Box::pin(async move {
            if let Some(run) = run.upgrade() {
                fetch(&run, key, None).await;
            }
        })
    }
}
