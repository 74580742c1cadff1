//! Faults the node commits on request, and the little language that names them.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The kind of request a fault waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `session_start`
    Start,
    /// upload of a file
    Put,
    /// download of a file
    Get,
    /// `session_end`
    End,
    /// `create_dir`
    Dir,
    /// `mgmt_msg`
    Msg,
}

/// What the node does instead of, or around, its normal answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The normal answer, perhaps with more fields.
    Normal,
    /// `403`: reads the whole body, then answers with this status.
    Status(u16),
    /// `early:413`: answers before the body is read, then closes.
    Early(u16),
    /// `drain:413`: answers before the body is read, then reads the body.
    Drain(u16),
    /// `raw:TEXT`: reads the body, sends these bytes, closes. `\r \n \t \\ \xNN` are understood.
    Raw(Vec<u8>),
    /// `fin@N`: closes after N body bytes were read (put) or written (get).
    Fin(u64),
    /// `rst@N`: resets the connection after N body bytes.
    Rst(u64),
    /// `stall@N[:S]`: stops after N body bytes for S seconds (600), then closes.
    Stall(u64, Duration),
    /// `delay:S`: waits before it goes on as normal.
    Delay(Duration),
    /// `102:S`: sends `102 Processing` every five seconds for S seconds once the request is read, then answers as normal.
    Processing(Duration),
    /// `closeafter`: answers as normal, then closes.
    CloseAfter,
}

/// One fault: `WHEN[:N]=ACTION[,Field: value]...`, for example `put:2=403` or `start=403,x-real-mgmt-error: 25`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of request it is for.
    pub verb: Verb,
    /// Only the Nth request of that kind, counted from 1 since the faults were set; `None` for all.
    pub nth: Option<u64>,
    /// What happens.
    pub action: Action,
    /// Field lines to add to the answer.
    pub fields: Vec<String>,
}

/// A fault description that could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a fault: {0:?}")]
pub struct FaultError(String);

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Fault, FaultError> {
        parse(text).ok_or_else(|| FaultError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Fault> {
    let (when, what) = text.split_once('=')?;
    let (verb, nth) = match when.split_once(':') {
        Some((verb, n)) => (verb, Some(n.parse().ok().filter(|&n| n > 0)?)),
        None => (when, None),
    };
    let verb = match verb {
        "start" => Verb::Start,
        "put" => Verb::Put,
        "get" => Verb::Get,
        "end" => Verb::End,
        "dir" => Verb::Dir,
        "msg" => Verb::Msg,
        _ => return None,
    };
    let (action, fields) = match what.strip_prefix("raw:") {
        Some(raw) => (Action::Raw(unescape(raw)?), Vec::new()),
        None => {
            let mut parts = what.split(',').map(str::trim);
            let action = action(parts.next()?)?;
            (action, parts.map(str::to_owned).collect())
        }
    };
    let bad = |f: &String| !f.contains(':') || f.contains(['\r', '\n']);
    (!fields.iter().any(bad)).then_some(Fault { verb, nth, action, fields })
}

fn action(text: &str) -> Option<Action> {
    match text {
        "normal" => return Some(Action::Normal),
        "closeafter" => return Some(Action::CloseAfter),
        _ => {}
    }
    if let Some((word, rest)) = text.split_once('@') {
        let (count, pause) = match rest.split_once(':') {
            Some((count, pause)) if word == "stall" => (count, seconds(pause)?),
            Some(_) => return None,
            None => (rest, Duration::from_secs(600)),
        };
        let count = count.parse().ok()?;
        return match word {
            "fin" => Some(Action::Fin(count)),
            "rst" => Some(Action::Rst(count)),
            "stall" => Some(Action::Stall(count, pause)),
            _ => None,
        };
    }
    match text.split_once(':') {
        Some(("early", code)) => status(code).map(Action::Early),
        Some(("drain", code)) => status(code).map(Action::Drain),
        Some(("delay", time)) => seconds(time).map(Action::Delay),
        Some(("102", time)) => seconds(time).map(Action::Processing),
        Some(_) => None,
        None => status(text).map(Action::Status),
    }
}

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|code| (100..=999).contains(code))
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match rest.next()? {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

/// The faults in force and how many requests of each kind came since they were set.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    faults: Vec<Fault>,
    counts: [AtomicU64; 6],
}

impl Plan {
    pub(crate) fn new(faults: Vec<Fault>) -> Plan {
        Plan { faults, counts: Default::default() }
    }

    /// Counts a request and gives the fault that is meant for it.
    pub(crate) fn next(&self, verb: Verb) -> Option<&Fault> {
        if self.faults.is_empty() {
            return None;
        }
        let count = self.counts.get(verb as usize)?;
        let nth = count.fetch_add(1, Ordering::Relaxed) + 1;
        let due = |f: &&Fault| f.verb == verb && f.nth.is_none_or(|n| n == nth);
        self.faults.iter().find(due)
    }
}
