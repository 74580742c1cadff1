//! What replicas say to each other and write down, as JSON. All that comes from a Redis may be anything: it is bounded, and
//! what is not sound is left out.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    super::{ControlNews, Key, PinState, SessionState},
    keys,
};
use crate::telemetry::Outcome;

/// The most bytes of one message, or of one value.
pub const MAX_MESSAGE: usize = 4 * 1024 * 1024;
/// The longest text in either, in bytes.
const MAX_TEXT: usize = 4096;

/// Tells one replica from all others, and from those before it at the same place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId([u8; 8]);

impl ReplicaId {
    /// One that no other has.
    pub fn new() -> ReplicaId {
        let mut id = [0; 8];
        if getrandom::fill(&mut id).is_err() {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let now = u64::try_from(now.as_nanos()).unwrap_or_default();
            id = (now ^ u64::from(std::process::id())).to_be_bytes();
        }
        ReplicaId(id)
    }
}

impl Default for ReplicaId {
    fn default() -> ReplicaId {
        ReplicaId::new()
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&keys::hex(&self.0))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicaId({self})")
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<ReplicaId, &'static str> {
        keys::bytes(text.as_bytes()).map(ReplicaId).ok_or("this is no replica")
    }
}

/// What one replica did of a session so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// Body bytes from the client.
    pub bytes_uploaded: u64,
    /// Body bytes to the client.
    pub bytes_downloaded: u64,
    /// Files that arrived whole.
    pub files: u64,
    /// Files that did not.
    pub files_failed: u64,
    /// Requests.
    pub requests: u64,
    /// Downloads that were not as long as they were announced.
    pub lengths_differ: u64,
    /// The size that the node announced last for the file that the client asks for next.
    pub announced: Option<u64>,
    /// Which file that is, counted from 1; 0 where it is not known.
    pub turn: u64,
}

impl Part {
    /// Both together; what was announced last is of the first.
    #[must_use]
    pub fn plus(&self, other: &Part) -> Part {
        self.with(other, u64::saturating_add)
    }

    /// What came since `before`; what was announced last stays.
    #[must_use]
    pub fn minus(&self, before: &Part) -> Part {
        self.with(before, u64::saturating_sub)
    }

    fn with(&self, other: &Part, of: impl Fn(u64, u64) -> u64) -> Part {
        Part {
            bytes_uploaded: of(self.bytes_uploaded, other.bytes_uploaded),
            bytes_downloaded: of(self.bytes_downloaded, other.bytes_downloaded),
            files: of(self.files, other.files),
            files_failed: of(self.files_failed, other.files_failed),
            requests: of(self.requests, other.requests),
            lengths_differ: of(self.lengths_differ, other.lengths_differ),
            announced: self.announced,
            turn: self.turn,
        }
    }
}

/// A live session, and what each replica did of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SharedSession {
    /// The session as it began: what was done of it is not in here.
    pub state: SessionState,
    /// Where it began.
    pub home: ReplicaId,
    /// What each replica did.
    pub parts: Vec<(ReplicaId, Part)>,
}

/// How sure it is that a session lives which is told again: others may have taken it to be over while this replica could
/// not tell anything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lives {
    /// It is over where anybody says so.
    #[default]
    No,
    /// It was not idle here.
    NotIdle,
    /// It was not, and its client's connection is here.
    AtHome,
}

/// What a replica tells all others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// A session lives: it is new, or is told again.
    Session {
        /// The session, with this replica's part alone.
        session: Box<SharedSession>,
        /// Whether a request of it is under way here.
        busy: bool,
        /// Whether a node has just accepted its start.
        new: bool,
        /// Whether it lives here whatever others have made of the silence of this replica.
        #[serde(skip)]
        lives: Lives,
    },
    /// A request of a session is under way here.
    Busy(Key),
    /// None is any more, and this is what was done of it here.
    Idle(Key, Part),
    /// A session is over.
    Ended(Key, Outcome),
    /// A start was refused.
    Refused(Key),
    /// An operator ends a session.
    Cancelled(Key),
    /// A pin is set.
    Pin(PinState),
    /// A pin is removed: of this upstream, by its hash.
    Unpin(String, u64),
    /// A control connection of this upstream has come about here, or ended.
    Control(String, ControlNews),
    /// Data of these clients moved lately: upstream and address.
    Data(Vec<(String, IpAddr)>),
    /// This replica ends.
    Bye,
}

/// What one replica publishes.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: ReplicaId,
    news: Vec<News>,
}

/// The news as one replica publishes them.
pub(super) fn message(from: ReplicaId, news: Vec<News>) -> Vec<u8> {
    value(&Message { from, news })
}

/// What was published: by whom, and what of it is sound; none where it is no message.
pub fn read_message(text: &[u8]) -> Option<(ReplicaId, Vec<News>)> {
    let message: Message = read(text)?;
    Some((message.from, message.news.into_iter().filter(is_sound).collect()))
}

/// A session as it was written down.
pub fn read_session(key: Key, text: &[u8]) -> Option<(SessionState, ReplicaId)> {
    let (state, home): (SessionState, ReplicaId) = read(text)?;
    (state.key == key && is_sound_session(&state)).then_some((state, home))
}

/// A part of a session as it was written down.
pub fn read_part(text: &[u8]) -> Option<Part> {
    read(text)
}

/// A pin as it was written down.
pub fn read_pin(text: &[u8]) -> Option<PinState> {
    read(text).filter(is_sound_pin)
}

/// A control connection as it was written down.
pub fn read_control(text: &[u8]) -> Option<(String, ControlNews)> {
    read::<(String, ControlNews)>(text).filter(|(upstream, news)| is_sound_control(upstream, news))
}

fn read<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Option<T> {
    if text.len() > MAX_MESSAGE { None } else { serde_json::from_slice(text).ok() }
}

/// The text of a value.
pub(super) fn value(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and addresses can always be written.
    serde_json::to_vec(value).unwrap_or_default()
}

fn is_sound(news: &News) -> bool {
    match news {
        News::Session { session, .. } => is_sound_session(&session.state) && session.parts.len() <= 1,
        News::Pin(pin) => is_sound_pin(pin),
        News::Unpin(upstream, _) => is_short(upstream),
        News::Control(upstream, control) => is_sound_control(upstream, control),
        News::Data(clients) => clients.iter().all(|(upstream, _)| is_short(upstream)),
        News::Busy(_) | News::Idle(..) | News::Ended(..) | News::Refused(_) | News::Cancelled(_) | News::Bye => true,
    }
}

fn is_sound_session(state: &SessionState) -> bool {
    let names = [&state.listener, &state.upstream, &state.node];
    names.into_iter().chain(state.user.as_ref()).all(|text| is_short(text))
}

fn is_sound_pin(pin: &PinState) -> bool {
    is_short(&pin.upstream) && is_short(&pin.node)
}

fn is_sound_control(upstream: &str, news: &ControlNews) -> bool {
    is_short(upstream) && news.place.as_ref().is_none_or(|place| is_short(&place.node))
}

fn is_short(text: &str) -> bool {
    text.len() <= MAX_TEXT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SESSION: &str = r#"{"key":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],"listener":"plain","upstream":"u","node":"n1","client":"127.0.0.1","direction":"upload","user":null,"sources":1,"began":1,"open":true,"node_keeps":false,"client_keeps":false,"bytes_uploaded":1,"bytes_downloaded":0,"files":1,"files_failed":0,"requests":2,"lengths_differ":0,"announced":null,"turn":0,"waited":0}"#;

    fn all() -> Vec<News> {
        let key = Key([7; 16]);
        let part = Part { requests: 3, announced: Some(5), ..Part::default() };
        let state = serde_json::from_str(SESSION).unwrap();
        let (home, client) = (ReplicaId([1; 8]), IpAddr::from([127, 0, 0, 1]));
        let shared = SharedSession { state, home, parts: vec![(home, part)] };
        vec![
            News::Session { session: Box::new(shared), busy: true, new: true, lives: Lives::No },
            News::Busy(key),
            News::Idle(key, part),
            News::Ended(key, Outcome::Done),
            News::Refused(key),
            News::Cancelled(key),
            News::Pin(PinState { upstream: "u".into(), hash: 7, node: "n1".into(), set: 1 }),
            News::Unpin("u".into(), 7),
            News::Control("u".into(), ControlNews { client, number: 1, place: None }),
            News::Data(vec![("u".into(), client)]),
            News::Bye,
        ]
    }

    #[test]
    fn what_is_said_is_understood() {
        let me = ReplicaId::new();
        assert_eq!(read_message(&message(me, all())), Some((me, all())));
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let long = "x".repeat(MAX_TEXT + 1);
        let said = vec![News::Unpin(long.clone(), 1), News::Bye];
        let me = ReplicaId::new();
        assert_eq!(read_message(&message(me, said)), Some((me, vec![News::Bye])));
        assert_eq!(read_pin(&value(&PinState { upstream: long, hash: 7, node: "n1".into(), set: 1 })), None);
        assert_eq!(read_part(" ".repeat(MAX_MESSAGE + 1).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_understood_or_left_out(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (read_message(&bytes), read_session(Key([1; 16]), &bytes), read_part(&bytes));
            let _ = (read_pin(&bytes), read_control(&bytes));
        }

        #[test]
        fn a_message_with_a_part_that_is_wrong_is_understood_or_left_out(
            at in any::<proptest::sample::Index>(),
            length in 0_usize..8,
            instead in "[0-9a-z\"{}\\[\\],:.-]{0,20}",
        ) {
            let text = message(ReplicaId([3; 8]), all());
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            let _ = read_message(&[&text[..at], instead.as_bytes(), &text[end..]].concat());
        }

        #[test]
        fn a_part_is_what_came_since_the_one_before(a in any::<[u32; 6]>(), b in any::<[u32; 6]>()) {
            let part = |[up, down, files, failed, requests, differ]: [u32; 6]| Part {
                bytes_uploaded: up.into(),
                bytes_downloaded: down.into(),
                files: files.into(),
                files_failed: failed.into(),
                requests: requests.into(),
                lengths_differ: differ.into(),
                ..Part::default()
            };
            prop_assert_eq!(part(a).plus(&part(b)).minus(&part(a)), part(b));
        }
    }
}
