//! What the node received, for tests to look at.

use std::sync::Mutex;

use super::wire::locked;

/// One request as the node saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The connection it came on, counted from 1.
    pub connection: u64,
    /// The session id in its path.
    pub session: String,
    /// `session_start`, `file`, `create_dir`, `mgmt_msg`, `session_end`, or what else stood there.
    pub operation: String,
    /// The method.
    pub method: String,
    /// The head, byte for byte, with the empty line.
    pub head: Vec<u8>,
    /// The body of `session_start`, `mgmt_msg` and `session_end`; empty for the others.
    pub body: Vec<u8>,
    /// How many body bytes were read (put), or are to be sent (get).
    pub body_bytes: u64,
}

/// The list of requests, in the order in which their heads came in.
#[derive(Debug)]
pub(crate) struct Recorder {
    on: bool,
    list: Mutex<Vec<Seen>>,
}

impl Recorder {
    pub(crate) fn new(on: bool) -> Recorder {
        Recorder { on, list: Mutex::default() }
    }

    /// Notes a request; the number it returns is for [`Recorder::update`].
    pub(crate) fn add(&self, seen: impl FnOnce() -> Seen) -> Option<usize> {
        if !self.on {
            return None;
        }
        let mut list = locked(&self.list);
        list.push(seen());
        Some(list.len() - 1)
    }

    /// Notes what became of the body.
    pub(crate) fn update(&self, entry: Option<usize>, body: &[u8], body_bytes: u64) {
        let Some(entry) = entry else { return };
        if let Some(seen) = locked(&self.list).get_mut(entry) {
            seen.body_bytes = body_bytes;
            if seen.body.is_empty() {
                seen.body.extend_from_slice(body);
            }
        }
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        locked(&self.list).clone()
    }
}
