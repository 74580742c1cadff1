//! What two processes tell each other after one has taken over: sessions go where they are asked for, and what ends in the
//! one is known to the other.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::bring::{Places, bring};
use crate::{
    fallback::Given,
    gateway::running::Run,
    net::passage::{News, Passage, Post},
    shared::{ControlNews, Key, SessionState},
    telemetry::Outcome,
    upstream::Control,
};

/// How long a request of a session waits for the one before it in the other process.
const TURN: Duration = Duration::from_secs(1);
/// Until then the other process has answered, or knows nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How often the old process gives away the sessions that nothing holds there.
const GIVE: Duration = Duration::from_millis(200);
/// How often the old process hears whose data moves: a control connection is not idle as long as it does.
const MOVED: Duration = Duration::from_secs(10);

/// What goes over.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// A control connection of an upstream.
    Control(String, ControlNews),
    /// Sessions that go on at the other end from now on.
    Moved(Vec<SessionState>),
    /// A node has accepted the start of a session.
    Opened(Box<SessionState>),
    /// A session is over.
    Ended(Key, Outcome),
    /// A session is asked for, by a number.
    Want(u64, Key),
    /// What there is of it.
    Give(u64, Given),
    /// Log files were moved away: new ones are to be opened.
    Reopen,
    /// Data of these clients moved lately: upstream and address.
    Data(Vec<(String, std::net::IpAddr)>),
}

/// Where the other process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It was there before this one.
    Older,
    /// It took over from this one.
    Newer,
}

/// The way to one other process.
#[derive(Debug)]
pub(super) struct Link {
    /// None once all is said.
    post: Mutex<Option<mpsc::UnboundedSender<Message>>>,
    asked: Mutex<HashMap<u64, (Key, oneshot::Sender<bool>)>>,
    tickets: AtomicU64,
    /// What the other process holds: it counts here as well.
    pub(super) held: Mutex<Held>,
    /// The listeners whose sessions come back to the other process and to no other.
    pub(super) serves: OnceLock<HashSet<String>>,
    /// The other process has ended.
    pub(super) over: CancellationToken,
    /// All that was to be said is said.
    pub(super) written: CancellationToken,
}

/// What is to be said.
pub(super) type Queue = mpsc::UnboundedReceiver<Message>;

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) sessions: HashMap<Key, (SessionState, Places)>,
    pub(super) controls: HashMap<(String, u64), Control>,
}

impl Link {
    pub(super) fn new(held: Held) -> (Arc<Link>, Queue) {
        let (post, queue) = mpsc::unbounded_channel();
        let link = Link {
            post: Mutex::new(Some(post)),
            asked: Mutex::default(),
            tickets: AtomicU64::new(0),
            held: Mutex::new(held),
            serves: OnceLock::new(),
            over: CancellationToken::new(),
            written: CancellationToken::new(),
        };
        (Arc::new(link), queue)
    }

    /// False when nothing more is said to that process.
    pub(super) fn tell(&self, message: Message) -> bool {
        lock(&self.post).as_ref().is_some_and(|post| post.send(message).is_ok())
    }

    /// Begins to talk to the process before this one, of what is queued already and all later.
    pub(super) fn connect_older(self: Arc<Self>, run: &Arc<Run>, queue: Queue, passage: Passage) -> io::Result<()> {
        let (news, post) = passage.split()?;
        tokio::spawn(write(queue, post, self.written.clone()));
        tokio::spawn(tell_data(Arc::downgrade(run), self.clone()));
        tokio::spawn(read(Arc::downgrade(run), self, Side::Older, news));
        Ok(())
    }

    /// Says no more once all is said.
    pub(super) fn end(&self) {
        lock(&self.post).take();
    }

    /// Asks for a session; if there is one it is here now. True when the other process knows anything of it.
    async fn want(&self, key: Key) -> bool {
        let (tell, told) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        lock(&self.asked).insert(ticket, (key, tell));
        if !self.tell(Message::Want(ticket, key)) {
            // It has ended, and perhaps said before that the session is here; that must be heard first.
            lock(&self.asked).remove(&ticket);
            let _ = timeout(PATIENCE, self.over.cancelled()).await;
            return false;
        }
        let known = tokio::select! {
            known = timeout(PATIENCE, told) => matches!(known, Ok(Ok(true))),
            () = self.over.cancelled() => false,
        };
        lock(&self.asked).remove(&ticket);
        known
    }

    /// The other process has this session from now on: it counts here as long as that one says.
    pub(super) fn hold(&self, run: &Run, state: &SessionState) {
        if let Some(places) = Places::take(run, state) {
            let before = lock(&self.held).sessions.insert(state.key, (state.clone(), places));
            drop(before);
        }
    }

    fn places_of(&self, key: Key) -> Option<Places> {
        lock(&self.held).sessions.remove(&key).map(|(_, places)| places)
    }
}

/// Has a session brought here from the other processes, but for the one that asks.
pub(super) async fn fetch(run: &Run, key: Key, asks: Option<Side>) {
    for side in [Side::Newer, Side::Older] {
        let link = run.links.at(side).load_full().filter(|_| asks != Some(side));
        if let Some(link) = link
            && link.want(key).await
        {
            return;
        }
    }
}

pub(super) async fn write(mut queue: Queue, mut post: Post, written: CancellationToken) {
    let _written = written.drop_guard();
    while let Some(message) = queue.recv().await {
        let Ok(text) = serde_json::to_vec(&message) else { continue };
        if post.send(&text).await.is_err() {
            return;
        }
    }
}

pub(super) async fn read(run: Weak<Run>, link: Arc<Link>, side: Side, mut news: News) {
    while let Ok(Some(text)) = news.next().await {
        let Some(run) = run.upgrade() else { break };
        match serde_json::from_slice(&text) {
            Ok(message) => hear(&run, &link, side, message),
            Err(error) => tracing::debug!(%error, "Another process says what is not understood."),
        }
    }
    if let Some(run) = run.upgrade() {
        is_over(&run, &link, side);
    }
    link.over.cancel();
}

fn hear(run: &Arc<Run>, link: &Arc<Link>, side: Side, message: Message) {
    match message {
        Message::Control(upstream, news) => {
            let at = (upstream, news.number);
            let control = news.place.and_then(|place| {
                let generation = run.generation();
                generation.upstreams.get(&at.0)?.bring_control(news.client, &place)
            });
            let before = match control {
                Some(control) if !lock(&link.held).controls.contains_key(&at) => {
                    lock(&link.held).controls.insert(at, control)
                }
                Some(again) => Some(again),
                None => lock(&link.held).controls.remove(&at),
            };
            drop(before);
        }
        Message::Moved(sessions) => {
            for state in sessions {
                let _ = bring(run, &state, link.places_of(state.key));
            }
        }
        Message::Opened(state) => {
            link.hold(run, &state);
            run.kept.opened(&state);
            run.links.pass_on(side, Message::Opened(state));
        }
        Message::Ended(key, outcome) => {
            let ended = lock(&link.held).sessions.remove(&key);
            if let Some((state, places)) = ended {
                // Where its partial files are matters to whoever picks a node next.
                places.ended(&state, outcome == Outcome::Done);
            }
            run.kept.ended(key);
            // Who is told of the ends here has heard of it then.
            if !run.parts.sessions.ended_elsewhere(key, outcome) {
                run.links.pass_on(side, Message::Ended(key, outcome));
            }
        }
        Message::Want(ticket, key) => {
            let (run, link) = (run.clone(), link.clone());
            tokio::spawn(async move {
                // It is on its way before anybody can miss it here: whoever gives all that is left looks after that.
                let give = |state: &SessionState| {
                    link.hold(&run, state);
                    let given = link.tell(Message::Give(ticket, Given::Session(Box::new(state.clone()))));
                    if !given {
                        drop(link.places_of(key));
                    }
                    given
                };
                let mut given = run.parts.sessions.give(key, TURN, give).await;
                if given == Given::Unknown {
                    fetch(&run, key, Some(side)).await;
                    // By that, or by itself meanwhile, it may have come here.
                    given = run.parts.sessions.give(key, TURN, give).await;
                }
                if !matches!(given, Given::Session(_)) {
                    link.tell(Message::Give(ticket, given));
                }
            });
        }
        Message::Give(ticket, given) => {
            let asked = lock(&link.asked).remove(&ticket);
            // A session is brought before anything else is heard, and whether somebody still waits for it or not: with the
            // end of the other process what is known of it here would go on instead.
            match (&given, &asked) {
                (Given::Session(state), _) => {
                    bring(run, state, link.places_of(state.key));
                }
                (Given::Refused, Some((key, _))) => run.parts.sessions.bring_refused(&[*key], &[]),
                (Given::Cancelled, Some((key, _))) => run.parts.sessions.bring_refused(&[], &[*key]),
                _ => {}
            }
            if let Some((_, tell)) = asked {
                let _ = tell.send(given != Given::Unknown);
            }
        }
        Message::Reopen => {
            run.parts.access_log.reopen();
            run.links.pass_on(side, Message::Reopen);
        }
        Message::Data(clients) => {
            let (generation, now) = (run.generation(), Instant::now());
            for (upstream, ip) in clients {
                let client = generation.upstreams.get(&upstream).and_then(|upstream| upstream.client(ip));
                client.into_iter().for_each(|client| client.data_moved(now));
            }
        }
    }
}

/// The other process has ended.
fn is_over(run: &Arc<Run>, link: &Arc<Link>, side: Side) {
    let Held { sessions, controls } = std::mem::take(&mut *lock(&link.held));
    // It ended with sessions that it did not give: those that need no connection of its go on here, where clients come.
    let goes_on = |state: &SessionState| side == Side::Older && state.open && !state.client_keeps;
    for (state, places) in sessions.into_values().filter(|(state, _)| goes_on(state)) {
        bring(run, &state, Some(places));
    }
    // Nobody is asked any more once all is here.
    let at = run.links.at(side);
    if at.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
        at.store(None);
        run.links.listen(run);
    }
    tracing::info!(
        control_connections = controls.len(),
        "{}",
        match side {
            Side::Older => "The process before this one has ended.",
            Side::Newer => "The process that took over has ended.",
        }
    );
}

/// Gives away the sessions that nothing holds here, for as long as somebody takes them; those of a listener that only
/// this process has come back to it.
pub(super) async fn give_idle(run: Weak<Run>, link: Arc<Link>) {
    loop {
        let Some(run) = run.upgrade().filter(|_| !link.over.is_cancelled()) else { return };
        give(&run, &link, |listener| link.serves.get().is_some_and(|serves| serves.contains(listener)));
        drop(run);
        sleep(GIVE).await;
    }
}

pub(super) fn give(run: &Run, link: &Link, goes: impl Fn(&str) -> bool) {
    // The other process has them already.
    if run.replicas.get().is_some() {
        return;
    }
    run.parts.sessions.give_idle(goes, |sessions| {
        sessions.iter().for_each(|state| link.hold(run, state));
        let keys: Vec<_> = sessions.iter().map(|state| state.key).collect();
        let is_given = link.tell(Message::Moved(sessions));
        if !is_given {
            keys.into_iter().for_each(|key| drop(link.places_of(key)));
        }
        is_given
    });
}

/// Tells whose data moves, of those whose control connections the other process has.
pub(super) async fn tell_data(run: Weak<Run>, link: Arc<Link>) {
    loop {
        sleep(MOVED).await;
        let Some(run) = run.upgrade().filter(|_| !link.over.is_cancelled()) else { return };
        let recently = Instant::now().checked_sub(MOVED);
        let mut clients: Vec<_> = {
            let held = lock(&link.held);
            let all = held.controls.iter().map(|((upstream, _), control)| (upstream, control.ip(), control.client()));
            let moved = all.filter(|(_, _, client)| recently.is_none_or(|then| client.last_data() >= then));
            moved.map(|(upstream, ip, _)| (upstream.clone(), ip)).collect()
        };
        clients.sort();
        clients.dedup();
        drop(run);
        if !clients.is_empty() {
            let _ = link.tell(Message::Data(clients));
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
