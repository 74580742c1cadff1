//! The names of all keys. The prefix stands between braces, so that all of them are in one slot of a cluster, and a
//! script may touch several.

use super::{super::Key, record::ReplicaId};

/// How long it is remembered that a session is over, in milliseconds: longer than replicas are apart when they are.
pub(super) const GONE_FOR: &str = "3600000";
/// How long it is remembered that a start was refused, or a session ended by an operator, in milliseconds.
pub(super) const REFUSED_FOR: &str = "600000";

#[derive(Debug, Clone)]
pub(super) struct Keys(String);

impl Keys {
    pub(super) fn new(prefix: &str) -> Keys {
        Keys(format!("{{{prefix}}}:"))
    }

    pub(super) fn of(&self, name: &str) -> String {
        format!("{}{name}", self.0)
    }

    /// The channel of news.
    pub(super) fn channel(&self) -> String {
        self.of("news")
    }

    /// Nobody's: whether anything can be written.
    pub(super) fn look(&self) -> String {
        self.of("look")
    }

    /// The replicas by when they were heard of.
    pub(super) fn replicas(&self) -> String {
        self.of("replicas")
    }

    /// The ids of live sessions by when they are forgotten.
    pub(super) fn sessions(&self) -> String {
        self.of("sessions")
    }

    /// A session, and what each replica did of it.
    pub(super) fn session(&self, key: Key) -> String {
        self.of(&format!("session:{}", hex(&key.0)))
    }

    /// It is over.
    pub(super) fn gone(&self, key: Key) -> String {
        self.of(&format!("gone:{}", hex(&key.0)))
    }

    /// Its start was refused, or an operator ended it.
    pub(super) fn refused(&self, key: Key) -> String {
        self.of(&format!("refused:{}", hex(&key.0)))
    }

    /// What hides the ids of sessions in what is shown.
    pub(super) fn label(&self) -> String {
        self.of("label")
    }

    /// All pins.
    pub(super) fn pins(&self) -> String {
        self.of("pins")
    }

    /// All pins by when they were set.
    pub(super) fn pins_by_age(&self) -> String {
        self.of("pins:set")
    }

    /// The control connections of a replica.
    pub(super) fn controls(&self, replica: ReplicaId) -> String {
        self.of(&format!("controls:{replica}"))
    }
}

/// The bytes in hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes behind hex digits.
pub(super) fn bytes<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs: Option<Vec<u8>> =
        hex.chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect();
    pairs?.try_into().ok()
}
