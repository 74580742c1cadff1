//! What the others tell, put where it belongs here.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{Away, Replicas, lock};
use crate::shared::redis::{Found, Lives, Mirror, News, ReplicaId};
use crate::{
    fallback::Session,
    gateway::running::Run,
    shared::{ControlNews, Key},
    telemetry::{Outcome, Reason},
};

/// How often the others hear whose data moves here: a control connection is not idle as long as it does.
const MOVED: Duration = Duration::from_secs(10);
/// A session is told again before this part of the time has gone by for which it is kept.
const AGAIN: u32 = 4;

/// The Redis tells this gateway by this.
#[derive(Debug)]
pub(super) struct OfRedis(pub(super) Weak<Run>);

impl OfRedis {
    fn with(&self, what: impl FnOnce(&Arc<Run>, &Replicas)) {
        if let Some(run) = self.0.upgrade()
            && let Some(replicas) = run.replicas.get()
        {
            what(&run, replicas);
        }
    }
}

impl Mirror for OfRedis {
    fn synced(&self, found: Found) -> Vec<News> {
        let mut all = Vec::new();
        self.with(|run, replicas| all = synced(run, replicas, found));
        all
    }

    fn label_key(&self) -> (u64, u64) {
        self.0.upgrade().map_or((0, 0), |run| run.parts.sessions.label_key())
    }

    fn heard(&self, from: ReplicaId, news: News) {
        self.with(|run, replicas| heard(run, replicas, from, news));
    }

    fn live(&self, live: &[ReplicaId]) {
        self.with(|run, replicas| {
            *lock(&replicas.live) = live.to_vec();
            run.settle(replicas, live);
            run.tell_ends(replicas);
            run.tell_again(replicas);
        });
    }

    fn gone(&self, key: Key) {
        self.with(|run, _| run.parts.sessions.ended_there(key, Outcome::Done));
    }

    fn back(&self, key: Key) {
        self.with(|run, replicas| {
            let session = run.parts.sessions.of(key);
            let shared =
                session.as_ref().and_then(|session| Some((session, session.shared(replicas.redis.me(), false)?)));
            if let Some((session, shared)) = shared {
                let (session, busy) = (Box::new(shared), session.is_busy());
                replicas.redis.tell(News::Session { session, busy, new: true, lives: Lives::No });
            }
        });
    }

    fn lost(&self) {
        self.with(|run, replicas| {
            *lock(&replicas.away) = Away::Yes;
            // Nobody tells when they are through.
            run.parts.sessions.all().iter().for_each(|session| session.only(&[]));
        });
    }
}

/// Everything is read: what the others have is mirrored, and what this one has is told.
fn synced(run: &Arc<Run>, replicas: &Replicas, found: Found) -> Vec<News> {
    let me = replicas.redis.me();
    *lock(&replicas.live) = found.replicas.clone();
    {
        let mut away = lock(&replicas.away);
        if matches!(*away, Away::Yes) {
            *away = Away::Until(Instant::now());
        }
    }
    if let Some(key) = found.label_key {
        run.parts.sessions.set_label_key(key);
    }
    for shared in found.sessions.iter().filter(|shared| !is_over(run, replicas, shared.state.key)) {
        run.bring_guest(replicas, shared);
    }
    let generation = run.generation();
    let mut pins: HashMap<_, _> = HashMap::new();
    for pin in found.pins {
        let _ = pins.insert((pin.upstream.clone(), pin.hash), pin);
    }
    let mut all = Vec::new();
    for upstream in generation.upstreams.values() {
        for own in upstream.pins() {
            // The later one holds; what is told of it is as old as it is.
            match pins.get(&(own.upstream.clone(), own.hash)) {
                Some(other) if other.set >= own.set => {}
                _ => {
                    pins.remove(&(own.upstream.clone(), own.hash));
                    all.push(News::Pin(own));
                }
            }
        }
        all.extend(upstream.controls().into_iter().map(|control| News::Control(upstream.name().to_owned(), control)));
    }
    for pin in pins.into_values() {
        generation.upstreams.get(&pin.upstream).into_iter().for_each(|upstream| upstream.bring_pin(&pin));
    }
    let told: HashSet<_> = found.controls.iter().map(|(from, name, news)| (*from, name.clone(), news.number)).collect();
    let gone: Vec<_> = {
        let mut controls = lock(&replicas.controls);
        controls.extract_if(|at, _| !told.contains(at)).collect()
    };
    drop(gone);
    found.controls.into_iter().for_each(|(from, upstream, news)| control(run, replicas, from, upstream, news));
    let (sessions, idle) = (run.parts.sessions.all(), run.config().timeouts.session_idle);
    all.extend(sessions.iter().filter_map(|session| told_again(session, me, idle)));
    all
}

/// Whether a session that others take for live has ended; the news of that may have been lost with the Redis, so it is told
/// again.
fn is_over(run: &Run, replicas: &Replicas, key: Key) -> bool {
    if let Some(outcome) = run.parts.sessions.how_ended(key) {
        replicas.ends.was_missed(key, outcome);
    }
    replicas.ends.is_over(key)
}

fn told_again(session: &Session, me: ReplicaId, session_idle: Duration) -> Option<News> {
    let shared = session.shared(me, false).filter(|shared| shared.state.open)?;
    let lives = match session.idle_for() < session_idle {
        false => Lives::No,
        true if session.client_keeps() && shared.home == me => Lives::AtHome,
        true => Lives::NotIdle,
    };
    Some(News::Session { session: Box::new(shared), busy: session.is_busy(), new: false, lives })
}

fn heard(run: &Arc<Run>, replicas: &Replicas, from: ReplicaId, news: News) {
    if !matches!(news, News::Bye) {
        let mut live = lock(&replicas.live);
        if let Err(at) = live.binary_search(&from) {
            live.insert(at, from);
        }
    }
    let sessions = &run.parts.sessions;
    let of = |key| sessions.of(key).or_else(|| replicas.ends.of(key));
    match news {
        News::Session { session: shared, busy, new, .. } => {
            let key = shared.state.key;
            if replicas.ends.is_over(key) {
                return;
            }
            // One that begins anew, or goes on after all, is not the one that has ended.
            if new {
                sessions.renew(&shared.state);
            } else if !busy && is_over(run, replicas, key) {
                return;
            }
            run.bring_guest(replicas, &shared);
            if let Some(session) = of(key) {
                session.set_busy_at(from, busy);
                if !new {
                    session.tell_busy();
                }
            }
        }
        News::Busy(key) => of(key).into_iter().for_each(|session| session.set_busy_at(from, true)),
        News::Idle(key, part) => {
            if let Some(session) = of(key) {
                session.add_part(from, &part);
                session.set_busy_at(from, false);
            }
        }
        News::Ended(key, outcome) => sessions.ended_there(key, outcome),
        News::Refused(key) => sessions.bring_refused(&[key], &[]),
        News::Cancelled(key) => sessions.cancelled_there(key),
        News::Pin(pin) => {
            run.generation().upstreams.get(&pin.upstream).into_iter().for_each(|upstream| upstream.bring_pin(&pin));
        }
        News::Unpin(upstream, hash) => {
            run.generation().upstreams.get(&upstream).into_iter().for_each(|upstream| upstream.forget_pin(hash));
        }
        News::Control(upstream, news) => control(run, replicas, from, upstream, news),
        News::Data(clients) => {
            let (generation, now) = (run.generation(), Instant::now());
            for (upstream, ip) in clients {
                let client = generation.upstreams.get(&upstream).and_then(|upstream| upstream.client(ip));
                client.into_iter().for_each(|client| client.data_moved(now));
            }
        }
        News::Bye => {
            let live = {
                let mut live = lock(&replicas.live);
                live.retain(|replica| *replica != from);
                live.clone()
            };
            run.settle(replicas, &live);
        }
    }
}

/// A control connection of another replica has come about or ended.
fn control(run: &Run, replicas: &Replicas, from: ReplicaId, upstream: String, news: ControlNews) {
    if *lock(&replicas.older) == Some(from) {
        return;
    }
    let at = (from, upstream, news.number);
    let is_known = lock(&replicas.controls).contains_key(&at);
    let before = match news.place {
        Some(_) if is_known => None,
        Some(place) => {
            let generation = run.generation();
            let upstream = generation.upstreams.get(&at.1);
            let control = upstream.and_then(|upstream| upstream.mirror_control(news.client, &place));
            control.and_then(|control| lock(&replicas.controls).insert(at, control))
        }
        None => lock(&replicas.controls).remove(&at),
    };
    drop(before);
}

impl Run {
    /// Only these replicas live: what others had of connections is gone, and their sessions are shown by one of these.
    fn settle(&self, replicas: &Replicas, live: &[ReplicaId]) {
        let gone: Vec<_> = {
            let mut controls = lock(&replicas.controls);
            controls.extract_if(|(replica, _, _), _| !live.contains(replica)).collect()
        };
        drop(gone);
        let me = replicas.redis.me();
        for session in self.parts.sessions.all() {
            let Some(home) = session.home() else { continue };
            session.only(live);
            let shown_here = replicas.home_of(home) == me;
            if shown_here == session.is_guest() {
                session.set_guest(!shown_here);
            }
            // The connection that its client keeps was there.
            if shown_here && session.client_keeps() && home != me && !live.contains(&home) && !session.is_busy() {
                self.parts.sessions.finish(&session, Outcome::Lost, Some(Reason::ClientLost));
            }
        }
    }

    /// Tells now and then of the sessions that are shown or under way here, so that they are kept, and of the clients whose
    /// data moves here.
    fn tell_again(&self, replicas: &Replicas) {
        let now = Instant::now();
        let (sessions, data) = {
            let mut told = lock(&replicas.told);
            let pace = super::terms(&self.config()).session_ttl / AGAIN;
            let is_due = |last: Instant, pace| now.saturating_duration_since(last) >= pace;
            let due = (is_due(told.sessions, pace), is_due(told.data, MOVED));
            if due.0 {
                told.sessions = now;
            }
            if due.1 {
                told.data = now;
            }
            due
        };
        if sessions {
            let all = self.parts.sessions.all();
            let mine = all.iter().filter(|session| !session.is_guest() || session.is_busy());
            let idle = self.config().timeouts.session_idle;
            let told = mine.filter_map(|session| told_again(session, replicas.redis.me(), idle));
            told.for_each(|news| replicas.redis.tell(news));
        }
        if data {
            replicas.ends.prune();
            // Their home tells of them more often than that, while it knows them.
            if !replicas.is_settling() {
                self.parts.sessions.forget_guests(super::terms(&self.config()).session_ttl);
            }
            let recently = now.checked_sub(MOVED);
            let mut clients: Vec<_> = {
                let controls = lock(&replicas.controls);
                let all = controls.iter().map(|((_, upstream, _), control)| (upstream, control.ip(), control.client()));
                let moved = all.filter(|(_, _, client)| recently.is_none_or(|then| client.last_data() >= then));
                moved.map(|(upstream, ip, _)| (upstream.clone(), ip)).collect()
            };
            clients.sort();
            clients.dedup();
            if !clients.is_empty() {
                replicas.redis.tell(News::Data(clients));
            }
        }
    }
}
