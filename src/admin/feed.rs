//! The event stream: once a second what is open and how all is, made once for all who watch and only while somebody does.
//!
//! A stream gets the whole table first and then what has changed. One that could not be written to in time skips moments
//! and gets the whole table again, so that it never holds more than one moment back.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use serde_json::{Map, Value, json};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::ReusableBoxFuture;

use super::{Operated, server::Patience, transfers};
use crate::telemetry::Live;

/// From one moment to the next.
const TICK: Duration = Duration::from_secs(1);
/// At least so long after one moment comes the next, however many come and want to see something.
const SHORTEST: Duration = Duration::from_millis(250);
/// Streams at once.
const STREAMS: usize = 16;
/// Rows of the table that a stream carries; a page tells how many there are beyond.
const ROWS: usize = 2000;

/// What all streams are fed from.
#[derive(Debug)]
pub(super) struct Feed {
    moments: watch::Sender<Option<Arc<Moment>>>,
    places: Arc<Semaphore>,
    /// Somebody has come who should not have to wait.
    wanted: Notify,
}

/// All is as it was at one time.
#[derive(Debug)]
struct Moment {
    number: u64,
    at: Instant,
    status: Bytes,
    total: u64,
    rows: Vec<Map<String, Value>>,
    whole: OnceLock<Bytes>,
    /// What differs from the moment before.
    changes: Bytes,
}

impl Feed {
    pub(super) fn new() -> Feed {
        Feed { moments: watch::Sender::new(None), places: Arc::new(Semaphore::new(STREAMS)), wanted: Notify::new() }
    }

    /// Samples rates, and makes moments while somebody watches, for as long as it is polled.
    pub(super) async fn run(&self, live: &Live, operated: &Arc<dyn Operated>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before: Option<Arc<Moment>> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.wanted.notified() => {
                    let past = before.as_ref().map_or(SHORTEST, |moment| moment.at.elapsed());
                    tokio::time::sleep(SHORTEST.saturating_sub(past)).await;
                }
            }
            live.sample(Instant::now());
            if self.moments.receiver_count() == 0 {
                self.moments.send_replace(None);
                continue;
            }
            let (live, operated) = (live.clone(), operated.clone());
            let last = before.clone();
            // Some thousand rows take milliseconds, which belong to transfers.
            let made =
                tokio::task::spawn_blocking(move || Arc::new(Moment::now(&live, operated.as_ref(), last.as_deref())));
            if let Ok(moment) = made.await {
                before = Some(moment.clone());
                self.moments.send_replace(Some(moment));
            }
        }
    }

    /// A stream for one more who watches; nothing when there are as many as there may be.
    pub(super) fn stream(&self, patience: Patience) -> Option<Stream> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        let mut moments = self.moments.subscribe();
        // What was made for others may be of long ago.
        let is_fresh = moments.borrow_and_update().as_ref().is_some_and(|moment| moment.at.elapsed() < TICK);
        if is_fresh {
            moments.mark_changed();
        } else {
            self.wanted.notify_one();
        }
        let next = ReusableBoxFuture::new(next(moments));
        Some(Stream { next, seen: None, out: None, patience, _permit: permit })
    }
}

impl Moment {
    fn now(live: &Live, operated: &dyn Operated, before: Option<&Moment>) -> Moment {
        let open = live.transfers();
        let total = open.len() as u64;
        let as_map = |row| match serde_json::to_value(row) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        let rows: Vec<_> = transfers::first(open, ROWS).into_iter().map(as_map).collect();
        let changes = changes(before.map_or(&[], |before| &before.rows), &rows);
        let table = json!({ "total": total, "full": false, "changed": changes.0, "gone": changes.1 });
        Moment {
            number: before.map_or(0, |before| before.number + 1),
            at: Instant::now(),
            status: event("status", &serde_json::to_value(operated.status()).unwrap_or_default()),
            total,
            rows,
            whole: OnceLock::new(),
            changes: event("sessions", &table),
        }
    }

    fn whole(&self) -> &Bytes {
        let table = || json!({ "total": self.total, "full": true, "changed": self.rows, "gone": [] });
        self.whole.get_or_init(|| event("sessions", &table()))
    }
}

/// Rows that are new, or the fields that differ of those that are not; and the names of those that are gone.
fn changes(before: &[Map<String, Value>], now: &[Map<String, Value>]) -> (Vec<Map<String, Value>>, Vec<Value>) {
    let mut known: HashMap<&str, &Map<String, Value>> = before.iter().filter_map(|row| Some((id(row)?, row))).collect();
    let mut changed = Vec::new();
    for row in now {
        match id(row).and_then(|id| known.remove(id)) {
            None => changed.push(row.clone()),
            Some(old) => {
                let differs = |(name, value): &(&String, &Value)| old.get(*name) != Some(*value);
                let fields: Map<_, _> =
                    row.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect();
                if !fields.is_empty() {
                    let id = row.get("id").map(|id| ("id".to_owned(), id.clone()));
                    changed.push(id.into_iter().chain(fields).collect());
                }
            }
        }
    }
    (changed, known.into_keys().map(Value::from).collect())
}

fn id(row: &Map<String, Value>) -> Option<&str> {
    row.get("id")?.as_str()
}

/// One event: its data has no line break, for JSON has none outside of texts, where it is escaped.
fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

type Moments = watch::Receiver<Option<Arc<Moment>>>;

async fn next(mut moments: Moments) -> (Option<Arc<Moment>>, Moments) {
    loop {
        if moments.changed().await.is_err() {
            return (None, moments);
        }
        let moment = moments.borrow_and_update().clone();
        if moment.is_some() {
            return (moment, moments);
        }
    }
}

/// The body of one event stream. It is asked for more only when what it gave before has gone out.
pub(super) struct Stream {
    next: ReusableBoxFuture<'static, (Option<Arc<Moment>>, Moments)>,
    /// The number of the moment that was sent last.
    seen: Option<u64>,
    /// The table of a moment whose status has been sent.
    out: Option<Bytes>,
    patience: Patience,
    _permit: OwnedSemaphorePermit,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.patience.renew();
        if let Some(table) = self.out.take() {
            return Poll::Ready(Some(Ok(Frame::data(table))));
        }
        let (moment, moments) = std::task::ready!(self.next.poll(cx));
        let Some(moment) = moment else { return Poll::Ready(None) };
        self.next.set(next(moments));
        let follows = self.seen.is_some_and(|seen| seen + 1 == moment.number);
        self.out = Some(if follows { moment.changes.clone() } else { moment.whole().clone() });
        self.seen = Some(moment.number);
        Poll::Ready(Some(Ok(Frame::data(moment.status.clone()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Row = Map<String, Value>;

    fn row(id: u8, bytes: u8) -> Row {
        let Value::Object(row) = json!({ "id": format!("s{id}"), "bytes": bytes, "user": "anna" }) else { panic!() };
        row
    }

    /// What a page makes of a table and what has changed in it.
    fn apply(table: &mut HashMap<String, Row>, changed: Vec<Row>, gone: &[Value]) {
        for patch in changed {
            table.entry(id(&patch).unwrap().to_owned()).or_default().extend(patch);
        }
        gone.iter().for_each(|id| drop(table.remove(id.as_str().unwrap())));
    }

    proptest! {
        #[test]
        fn changes_make_of_the_table_before_the_table_now(tables in prop::collection::vec(prop::collection::btree_map(0u8..8, 0u8..3, 0..8), 1..6)) {
            let (mut shown, mut before) = (HashMap::new(), Vec::new());
            for table in tables {
                let now: Vec<_> = table.into_iter().map(|(id, bytes)| row(id, bytes)).collect();
                let (changed, gone) = changes(&before, &now);
                apply(&mut shown, changed, &gone);
                let all: HashMap<_, _> = now.iter().map(|row| (id(row).unwrap().to_owned(), row.clone())).collect();
                prop_assert_eq!(&shown, &all);
                before = now;
            }
        }
    }

    #[test]
    fn of_a_row_that_is_known_only_what_differs_is_sent() {
        let (changed, gone) = changes(&[row(1, 1), row(2, 2)], &[row(1, 5), row(2, 2)]);
        assert_eq!(Value::from_iter(changed), json!([{ "id": "s1", "bytes": 5 }]));
        assert!(gone.is_empty());
    }
}
