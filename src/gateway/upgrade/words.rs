//! What two processes say to each other while one takes over from the other. All of it is JSON; a field that one of
//! them does not know is left out or ignored.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::shared::redis::{ReplicaId, SharedSession};
use crate::{
    config::{ListenAddress, ListenerConfig, Protocol},
    net::{passage::Passage, probe::Nonce},
    shared::{ClientState, FlowState, Key, NodeState, PinState, SessionState},
};

/// Processes whose numbers differ do not understand each other.
pub(super) const VERSION: u32 = 1;

/// What the old process has; with its sockets in this order, that of the admin door last.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) listeners: Vec<Open>,
    pub(super) admin: Option<SocketAddr>,
    /// What hides the ids of sessions.
    pub(super) label_key: (u64, u64),
}

/// A listener that is open.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) address: ListenAddress,
    pub(super) threads: usize,
    pub(super) sockets: usize,
}

impl Open {
    /// The listener as far as its socket goes.
    pub(super) fn config(&self) -> serde_json::Result<ListenerConfig> {
        let parts = serde_json::json!({"name": self.name, "protocol": self.protocol, "address": self.address});
        serde_json::from_value(parts)
    }
}

/// What the new process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It has built everything, and wants the sockets of these listeners.
    Ready(Vec<String>),
    /// Its doors are open.
    Taken,
    /// It cannot run, for this reason.
    Failed(String),
}

/// What there is in the old process; with the sockets of its flows in this order.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) sessions: Vec<SessionState>,
    /// The sessions that replicas share, with which one this process is; these are given to nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shared: Option<(ReplicaId, Vec<SharedSession>)>,
    pub(super) refused: Vec<Key>,
    pub(super) cancelled: Vec<Key>,
    pub(super) nodes: Vec<NodeState>,
    pub(super) pins: Vec<PinState>,
    pub(super) clients: Vec<ClientState>,
    /// By listener, for each thread.
    pub(super) flows: BTreeMap<String, Vec<Vec<FlowState>>>,
    /// The questions of doctors that were answered lately: when each came, in Unix milliseconds, and its nonce.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) heard: Vec<(u64, Nonce)>,
}

pub(super) fn send<T: Serialize>(passage: &mut Passage, message: &T, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    passage.send(&serde_json::to_vec(message)?, files)
}

pub(super) fn receive<T: DeserializeOwned>(passage: &mut Passage) -> io::Result<(T, Vec<OwnedFd>)> {
    let (text, files) = passage.receive()?;
    Ok((serde_json::from_slice(&text)?, files))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::upgrade::link::Message;

    const STATE: &str = r#"{"sessions":[{"key":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16],"listener":"plain","upstream":"u","node":"n1","client":"127.0.0.1","direction":"upload","user":null,"sources":1,"began":1,"open":true,"node_keeps":false,"client_keeps":false,"bytes_uploaded":1,"bytes_downloaded":0,"files":1,"files_failed":0,"requests":2,"lengths_differ":0,"announced":null,"turn":0,"waited":0}],"refused":[],"cancelled":[],"nodes":[{"upstream":"u","node":"n1","drained":true,"ports":[["http",false],["tcp",true]]}],"pins":[{"upstream":"u","hash":7,"node":"n1","set":1}],"clients":[{"upstream":"u","client":"::1","place":{"node":"n1","ip":"127.0.0.1"},"controls":[{"number":1,"place":{"node":"n1","ip":"127.0.0.1"}}],"left":null,"moved":5}],"flows":{"data":[[{"client":"127.0.0.1:5","port":0,"local":null,"node":"n1","age":5,"idle":5,"uploaded":1,"downloaded":1}],[]]}}"#;
    const HELLO: &str = r#"{"version":1,"listeners":[{"name":"plain","protocol":"http","address":"127.0.0.1:0","threads":1,"sockets":1}],"admin":"127.0.0.1:9","label_key":[1,2]}"#;

    /// What comes of these bytes, whatever they were meant to be.
    fn hear(text: &[u8]) {
        let (mut there, here) = Passage::pair().unwrap();
        let mut here = Passage::of(here);
        for _ in 0..4 {
            there.send(text, &[]).unwrap();
        }
        if let Ok((hello, _)) = receive::<Hello>(&mut here) {
            hello.listeners.iter().for_each(|open| drop(open.config()));
        }
        let _ = receive::<Answer>(&mut here);
        let _ = receive::<State>(&mut here);
        let _ = serde_json::from_slice::<Message>(&here.receive().unwrap().0);
    }

    #[test]
    fn what_is_said_is_understood() {
        let state: State = serde_json::from_str(STATE).unwrap();
        assert_eq!(serde_json::to_string(&state).unwrap(), STATE);
        let hello: Hello = serde_json::from_str(HELLO).unwrap();
        assert_eq!(serde_json::to_string(&hello).unwrap(), HELLO);
        assert_eq!(hello.listeners[0].config().unwrap().name, "plain");
    }

    #[test]
    fn a_field_that_nobody_knows_is_no_error() {
        let more = HELLO.replace("\"version\"", "\"colour\":\"red\",\"version\"");
        assert!(serde_json::from_str::<Hello>(&more).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            hear(&bytes);
        }

        #[test]
        fn a_message_with_a_part_that_is_wrong_is_a_message_or_an_error(
            which in any::<bool>(),
            at in any::<proptest::sample::Index>(),
            length in 0_usize..8,
            instead in "[0-9a-z\"{}\\[\\],:.-]{0,20}",
        ) {
            let text = if which { STATE } else { HELLO };
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            hear([&text[..at], &instead, &text[end..]].concat().as_bytes());
        }
    }
}
