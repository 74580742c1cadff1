//! Probes of doctors: told apart from data by their mark before any flow is looked for, and answered from where they came to.

use std::{
    io::IoSlice,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::DataDoor;
use crate::{
    net::{
        probe::{Heard, MARK, Secret},
        udp::{Message, UdpSocket, Way},
    },
    telemetry::ProbeResult,
};

/// What probes are answered by.
#[derive(Debug, Clone)]
pub struct Probes {
    /// What a doctor must know.
    pub secret: Arc<Secret>,
    /// Those that were answered lately, at any listener.
    pub heard: Arc<Mutex<Heard>>,
}

impl DataDoor {
    /// Whether this begins like a probe, where probes are answered at all. All that the data path pays for them.
    pub(super) fn is_probe(&self, message: &Message<'_>) -> bool {
        self.probes.is_some() && message.bytes.first_chunk() == Some(&MARK)
    }

    /// Answers the probes among the datagrams of a message; what else is there is met with silence.
    pub(super) fn answer(&self, socket: &UdpSocket, message: &Message<'_>) {
        let Some(probes) = &self.probes else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        for question in message.bytes.chunks(message.stride.max(1)) {
            // Whoever floods us with what is not signed has no thread wait for another.
            if !probes.secret.has_signed(question) {
                self.metrics.probe(ProbeResult::Forged);
                continue;
            }
            let taken = probes.heard.lock().unwrap_or_else(PoisonError::into_inner).take(&probes.secret, question, now);
            let result = match taken {
                Ok(nonce) => {
                    let answer = probes.secret.answer(&nonce, message.from, question.len());
                    let way = Way { to: Some(message.from), from: message.to };
                    // What the system does not send is lost, as on any way; the doctor asks again.
                    let _ = socket.send(way, 0, &[IoSlice::new(&answer)], None);
                    ProbeResult::Answered
                }
                Err(result) => result,
            };
            self.metrics.probe(result);
        }
    }
}
