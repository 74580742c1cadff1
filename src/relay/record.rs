//! The access records of the nominal path.

use std::{net::IpAddr, time::Duration};

use crate::telemetry::{Reason, Record};

/// What one control connection or flow has to say for itself.
pub(super) struct Told<'a> {
    pub(super) kind: &'static str,
    pub(super) listener: &'a str,
    pub(super) client: IpAddr,
    pub(super) client_port: u16,
    pub(super) upstream: &'a str,
    pub(super) node: Option<&'a str>,
    pub(super) outcome: &'static str,
    pub(super) reason: Option<Reason>,
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
    pub(super) lasted: Duration,
}

impl Told<'_> {
    pub(super) fn record(&self) -> Record {
        Record::new(self.kind)
            .field("listener", self.listener)
            .field("client", self.client.to_string())
            .field("client_port", self.client_port)
            .field("upstream", self.upstream)
            .field("node", self.node)
            .field("outcome", self.outcome)
            .field("reason", self.reason.map(Reason::as_str))
            .field("bytes_uploaded", self.uploaded)
            .field("bytes_downloaded", self.downloaded)
            .field("seconds", (self.lasted.as_secs_f64() * 1000.0).round() / 1000.0)
    }
}
