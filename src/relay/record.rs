//! The access records of the nominal path.

use std::{net::SocketAddr, time::Duration};

use crate::telemetry::{Counts, Kind, Reason, Record};

/// What one control connection or flow has to say for itself.
pub(super) struct Told<'a> {
    pub(super) kind: Kind,
    pub(super) id: Option<&'a str>,
    pub(super) listener: &'a str,
    pub(super) client: SocketAddr,
    pub(super) upstream: &'a str,
    pub(super) node: Option<&'a str>,
    pub(super) outcome: &'static str,
    pub(super) reason: Option<Reason>,
    pub(super) counts: &'a Counts,
    pub(super) lasted: Duration,
}

impl Told<'_> {
    pub(super) fn record(&self) -> Record {
        let record = Record {
            id: self.id.map(str::to_owned),
            client_port: Some(self.client.port()),
            upstream: Some(self.upstream.to_owned()),
            node: self.node.map(str::to_owned),
            bytes_uploaded: self.counts.upload(),
            bytes_downloaded: self.counts.download(),
            ..Record::new(self.kind, self.listener, self.client.ip(), self.outcome, self.lasted)
        };
        record.because(self.reason)
    }
}
