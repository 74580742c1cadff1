//! The question of a doctor: an upload to a session that there is not, told by its signed name. It is answered here, and no
//! session is looked for, no node reached. Without the secret, and with a name that is not signed, too old or was here
//! before, it is a request as any other.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{Door, grammar::Call};
use crate::{
    net::{
        http1::{Airlock, Drained, Head},
        probe::{
            Heard, Nonce, Secret,
            way::{Ask, BREAK, LONGEST, MOST_BODY, ROW, Told, without_question},
        },
    },
    telemetry::{Operation, ProbeMetrics, ProbeResult},
};

/// Questions that are being answered at the same time; one more is a request as any other.
const AT_ONCE: usize = 64;
/// How much longer than asked a connection is kept: the next question is on its way for a while.
const ON_THE_WAY: Duration = Duration::from_secs(10);

/// What outlives a reload: how many are answered now.
#[derive(Debug, Clone)]
pub struct ProbeRoom(Arc<Semaphore>);

impl Default for ProbeRoom {
    fn default() -> ProbeRoom {
        ProbeRoom(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// What probes are answered by.
#[derive(Debug, Clone)]
pub struct Probes {
    /// What a doctor must know.
    pub secret: Arc<Secret>,
    /// Those that were answered lately, at any listener.
    pub heard: Arc<Mutex<Heard>>,
    /// Those that are answered now, at any listener.
    pub room: ProbeRoom,
}

/// The probes of one listener.
#[derive(Debug)]
pub(super) struct OfListener {
    probes: Probes,
    metrics: ProbeMetrics,
}

/// A question that is to be answered.
pub(super) struct Asked<'a> {
    by: &'a OfListener,
    nonce: Nonce,
    ask: Ask,
    head: Vec<u8>,
    /// The client reads one answer on this connection.
    closes: bool,
    _place: OwnedSemaphorePermit,
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("ask", &self.ask).finish_non_exhaustive()
    }
}

impl OfListener {
    pub(super) fn new(probes: Probes, metrics: ProbeMetrics) -> OfListener {
        OfListener { probes, metrics }
    }

    /// The question that a request asks, if it does and is to be answered.
    pub(super) fn asked(&self, call: &Call, head: &Head) -> Option<Asked<'_>> {
        let may_be = call.operation == Operation::File && !call.fetches;
        if !may_be || head.content_length().is_none_or(|length| length > MOST_BODY) {
            return None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let Probes { secret, heard, room } = &self.probes;
        let taken = heard.lock().unwrap_or_else(PoisonError::into_inner).take_name(secret, &call.name, now)?;
        let place = || room.0.clone().try_acquire_owned().map_err(|_| ProbeResult::TooMany);
        match taken.and_then(|(nonce, ask)| Ok((nonce, ask, place()?))) {
            Ok((nonce, ask, place)) => {
                let closes = head.has_token("connection", "close");
                Some(Asked { by: self, nonce, ask, head: without_question(head.raw()), closes, _place: place })
            }
            Err(result) => {
                self.metrics.count(result);
                None
            }
        }
    }
}

impl Asked<'_> {
    /// The client asks too often.
    pub(super) fn refused(self) {
        self.by.metrics.count(ProbeResult::TooMany);
    }

    /// Does what is asked; gives how long the connection is to be kept for another question; none where it is to be closed.
    ///
    /// # Errors
    /// The body did not come to its end in two minutes, or the client takes no answer.
    pub(super) async fn answer(self, door: &Door, airlock: &mut Airlock) -> io::Result<Option<Duration>> {
        let limit = door.timeouts.body_idle;
        let begin = airlock.head_whole();
        airlock.take_in(1, LONGEST).await?;
        let first = begin.elapsed();
        if airlock.drain(MOST_BODY, LONGEST, LONGEST).await != Drained::Whole {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let last = begin.elapsed();
        for _ in 0..self.ask.notices {
            sleep(self.ask.spacing).await;
            airlock.notice(limit).await?;
        }
        sleep(self.ask.silence).await;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let told = Told { head: self.head, first: millis(first), last: millis(last) };
        let body = self.by.probes.secret.tell(&self.nonce, &told);
        let (one, other) = body.split_at(if self.ask.halves { body.len() / 2 } else { body.len() });
        airlock.answer(&[head(body.len(), self.closes).as_bytes(), one].concat(), limit).await?;
        if !other.is_empty() {
            sleep(BREAK).await;
            airlock.answer(other, limit).await?;
        }
        self.by.metrics.count(ProbeResult::Answered);
        door.metrics.request(Operation::Other, 200);
        let idle = if self.ask.idle.is_zero() { Duration::ZERO } else { self.ask.idle + ON_THE_WAY };
        Ok((!self.closes).then_some(idle))
    }
}

fn head(length: usize, closes: bool) -> String {
    let connection = if closes { "close" } else { "keep-alive" };
    let row: String = ROW.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{row}Connection: {connection}\r\nContent-Length: {length}\r\n\r\n")
}
