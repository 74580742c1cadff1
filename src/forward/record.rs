//! What one tunnel or request has to say for itself when it is over.

use std::{net::SocketAddr, time::Instant};

use super::policy::Rule;
use crate::telemetry::{AccessLog, Reason, Record, TunnelOutcome};

/// The story of one tunnel or request, told as it goes. It holds neither credentials nor paths: the path of a fallback
/// request is a credential too.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) kind: Kind,
    pub(super) client: SocketAddr,
    pub(super) user: Option<String>,
    /// Host and port; nothing where they could not be read.
    pub(super) target: Option<String>,
    /// What was connected to.
    pub(super) address: Option<SocketAddr>,
    /// Whether that is the parent proxy.
    pub(super) parent: bool,
    pub(super) rule: Option<Rule>,
    /// The policy would have refused and only reports.
    pub(super) reported: bool,
    pub(super) status: Option<u16>,
    pub(super) reason: Option<Reason>,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
    pub(super) begin: Instant,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tunnel,
    Request,
}

impl Story {
    pub(super) fn new(kind: Kind, client: SocketAddr) -> Story {
        Story {
            kind,
            client,
            user: None,
            target: None,
            address: None,
            parent: false,
            rule: None,
            reported: false,
            status: None,
            reason: None,
            uploaded: 0,
            downloaded: 0,
            begin: Instant::now(),
        }
    }

    /// Writes it down.
    pub(super) fn tell(&self, log: &AccessLog, listener: &str, policy: &str, outcome: TunnelOutcome) {
        let kind = match self.kind {
            Kind::Tunnel => "tunnel",
            Kind::Request => "request",
        };
        let record = Record::new(kind)
            .field("listener", listener)
            .field("client", self.client.ip().to_string())
            .field("client_port", self.client.port())
            .field("user", self.user.as_deref())
            .field("target", self.target.as_deref())
            .field("address", self.address.map(|address| address.to_string()))
            .field("parent", self.parent)
            .field("policy", policy)
            .field("rule", self.rule.map(|rule| rule.to_string()))
            .field("reported", self.reported)
            .field("status", self.status)
            .field("outcome", outcome.as_str())
            .field("reason", self.reason.map(Reason::as_str))
            .field("bytes_uploaded", self.uploaded)
            .field("bytes_downloaded", self.downloaded)
            .field("seconds", (self.begin.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        log.write(&record);
    }
}
