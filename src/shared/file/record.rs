//! One record of the file: its key, and the plain data as JSON.

use serde::Serialize;

use super::super::{Key, PinState, SessionState};

/// The session that a record tells of; none where it tells of none, or of one that does not belong under this key.
pub fn session(name: &[u8], value: &[u8]) -> Option<SessionState> {
    serde_json::from_slice(value).ok().filter(|session: &SessionState| session.key.0 == name)
}

/// The pin that a record tells of; none where it tells of none, or of one that does not belong under this key.
pub fn pin(name: &[u8], value: &[u8]) -> Option<PinState> {
    serde_json::from_slice(value).ok().filter(|pin: &PinState| pin_name(&pin.upstream, pin.hash) == name)
}

/// The key of a session's record.
pub fn session_name(key: Key) -> Vec<u8> {
    key.0.to_vec()
}

/// The key of a pin's record.
pub fn pin_name(upstream: &str, hash: u64) -> Vec<u8> {
    [&hash.to_be_bytes(), upstream.as_bytes()].concat()
}

/// The value of a record.
pub fn value(state: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and addresses can always be written.
    serde_json::to_vec(state).unwrap_or_default()
}
