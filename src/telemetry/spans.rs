//! Spans for a collector of OpenTelemetry, each made when what it tells of is over.
//!
//! A span is made from the access record, with the times at which it began and ended. So nothing is kept or counted
//! for it while a transfer runs, it says what the record says, and the lines of the log know nothing of it. The requests
//! of a session come before the session itself, and find their parent by the session's label: so two sessions of one id have
//! one trace and one span id, and the requests of both are below it. A build without the
//! feature `otlp` has all of this but the [`Exporter`], and opens none.

use std::{sync::Arc, time::Instant};

use super::{Operation, Reason, Record, otlp::Exporter};

/// Why no spans can be sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SpansError(pub(super) String);

/// Where spans go, if anywhere. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Spans(Option<Arc<Exporter>>);

/// One request of a session, with what its span says of it.
#[derive(Debug, Clone, Copy)]
pub struct RequestSpan<'a> {
    /// The label of its session, as the log shows it.
    pub session: &'a str,
    /// What was asked for.
    pub operation: Operation,
    /// The node that it went to.
    pub node: &'a str,
    /// What the node answered; 0 when it did not.
    pub status: u16,
    /// Why it failed, if it did.
    pub reason: Option<Reason>,
    /// When it was passed on, after what its head and its turn may have waited for.
    pub begin: Instant,
}

impl Spans {
    /// Sends to this collector, or to nobody. What cannot be sent is dropped; nobody ever waits for a collector.
    pub fn open(endpoint: Option<&str>) -> Result<Spans, SpansError> {
        endpoint.map(|endpoint| Exporter::open(endpoint).map(Arc::new)).transpose().map(Spans)
    }

    /// The span of what a record tells.
    pub fn record(&self, record: &Record) {
        if let Some(exporter) = &self.0 {
            exporter.record(record);
        }
    }

    /// The span of a request, as a child of its session's.
    pub fn request(&self, request: &RequestSpan<'_>) {
        if let Some(exporter) = &self.0 {
            exporter.request(request);
        }
    }

    /// Sends what is left, for no longer than two seconds. Blocks: for the end of the process.
    pub fn finish(&self) {
        if let Some(exporter) = &self.0 {
            exporter.finish();
        }
    }
}
