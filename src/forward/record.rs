//! What one tunnel or request has to say for itself when it is over.

use std::{net::SocketAddr, time::Instant};

use tokio_util::sync::CancellationToken;

use super::policy::Rule;
use crate::telemetry::{About, AccessLog, Kind, Live, Posted, Reason, Record, TunnelOutcome};

/// The story of one tunnel or request, told as it goes. It holds neither credentials nor paths: the path of a fallback
/// request is a credential too.
#[derive(Debug)]
pub(super) struct Story {
    /// A tunnel or a request.
    pub(super) kind: Kind,
    /// What it is shown as, once it is.
    pub(super) id: Option<String>,
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

impl Story {
    pub(super) fn new(kind: Kind, client: SocketAddr) -> Story {
        Story {
            kind,
            id: None,
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
        let record = Record {
            id: self.id.clone(),
            client_port: Some(self.client.port()),
            user: self.user.clone(),
            target: self.target.clone(),
            address: self.address,
            parent: Some(self.parent),
            policy: Some(policy.to_owned()),
            rule: self.rule.map(|rule| rule.to_string()),
            reported: Some(self.reported),
            status: self.status,
            bytes_uploaded: self.uploaded,
            bytes_downloaded: self.downloaded,
            ..Record::new(self.kind, listener, self.client.ip(), outcome.as_str(), self.begin.elapsed())
        };
        log.write(&record.because(self.reason));
    }

    /// What is shown of it while it is open; `cancel` ends it, where it can be ended.
    pub(super) fn post(&mut self, live: &Live, listener: &str, cancel: CancellationToken) -> Posted {
        let posted = live.post(About {
            listener: listener.into(),
            user: self.user.clone(),
            target: self.target.clone(),
            cancel: Some(cancel),
            ..About::new(self.kind, self.client.ip())
        });
        self.id = Some(posted.id().to_owned());
        posted
    }
}
