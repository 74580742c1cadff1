//! The exporter of spans: OTLP over HTTP, in batches, on a thread of its own.
//!
//! Spans wait in a queue of bounded length; what does not fit is dropped, as it is when the collector cannot be reached.
//! That is told once, and again only after it could be.

mod post;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{Protocol, RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor},
};

use super::{
    Record,
    spans::{RequestSpan, SpansError},
};

/// Spans that may wait to be sent.
const QUEUE: usize = 8192;
/// Spans that are sent together at most.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const DELAY: Duration = Duration::from_secs(2);
/// How long the end of the process may wait for the collector.
const LAST: Duration = Duration::from_secs(2);
/// What of a record its span says: nothing about who the client is, and no name of a file or host.
const ATTRIBUTES: &[&str] = &[
    "id",
    "listener",
    "upstream",
    "policy",
    "node",
    "direction",
    "status",
    "outcome",
    "reason",
    "code",
    "files",
    "files_failed",
    "requests",
    "bytes_uploaded",
    "bytes_downloaded",
    "waited_seconds",
];

/// Sends spans to one collector.
#[derive(Debug)]
pub(super) struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    /// Tells the traces of this process from those of others.
    key: u64,
}

impl Exporter {
    /// Begins to send to the collector at this URL.
    pub(super) fn open(endpoint: &str) -> Result<Exporter, SpansError> {
        let wrong = |error: &dyn std::fmt::Display| SpansError(error.to_string());
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(post::Post)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(post::TIMEOUT)
            // The next batch comes soon enough.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| wrong(&error))?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let telling = Telling { exporter, fails: AtomicBool::new(false) };
        let mut processor = BatchSpanProcessor::builder(telling).with_batch_config(config).build();
        let resource = Resource::builder()
            .with_service_name("fallgate")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        processor.set_resource(&resource.build());
        let key = getrandom::u64().map_err(|error| wrong(&error))? | 1;
        Ok(Exporter { processor, scope: InstrumentationScope::builder("fallgate").build(), key })
    }

    /// The span of what a record tells, from its beginning to now.
    pub(super) fn record(&self, record: &Record) {
        let end = SystemTime::now();
        let mut lasted = Duration::ZERO;
        let (mut label, mut kind) = (None, "record");
        let mut attributes = Vec::with_capacity(ATTRIBUTES.len());
        let mut status = Status::Unset;
        let values = record.values();
        for (name, value) in &values {
            match (*name, value.as_str()) {
                ("kind", Some(word)) => kind = kind_of(word),
                ("id", Some(word)) => label = Some(word),
                ("reason", Some(word)) => status = Status::error(word.to_owned()),
                ("outcome", Some(word @ ("error" | "lost" | "failed"))) if status == Status::Unset => {
                    status = Status::error(word.to_owned());
                }
                _ => {}
            }
            if *name == "seconds" {
                lasted = value.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or_default();
            }
            if ATTRIBUTES.contains(name) {
                attributes.extend(plain(value).map(|value| KeyValue::new(*name, value)));
            }
        }
        let ids = match label.and_then(|label| self.ids(label)) {
            Some(ids) => ids,
            None => (TraceId::from(u128::from(random()) << 64 | u128::from(random())), SpanId::from(random())),
        };
        let span =
            self.span(ids, SpanId::INVALID, (kind, SpanKind::Server), (end.checked_sub(lasted).unwrap_or(end), end));
        self.processor.on_end(SpanData { attributes, status, ..span });
    }

    /// The span of a request, as a child of its session's.
    pub(super) fn request(&self, request: &RequestSpan<'_>) {
        let Some((trace, parent)) = self.ids(request.session) else { return };
        let end = SystemTime::now();
        let begin = end.checked_sub(request.begin.elapsed()).unwrap_or(end);
        let name = (request.operation.as_str(), SpanKind::Client);
        let span = self.span((trace, SpanId::from(random())), parent, name, (begin, end));
        let mut attributes = vec![
            KeyValue::new("id", request.session.to_owned()),
            KeyValue::new("operation", request.operation.as_str()),
            KeyValue::new("node", request.node.to_owned()),
        ];
        if request.status != 0 {
            attributes.push(KeyValue::new("status", i64::from(request.status)));
        }
        attributes.extend(request.reason.map(|reason| KeyValue::new("reason", reason.as_str())));
        let status = request.reason.map_or(Status::Unset, |reason| Status::error(reason.as_str()));
        self.processor.on_end(SpanData { attributes, status, ..span });
    }

    /// Sends what is left.
    pub(super) fn finish(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(LAST) {
            tracing::warn!(%error, "The last spans were not delivered.");
        }
    }

    /// The trace of a session and the span that its requests are below: what is known of it at any time.
    fn ids(&self, label: &str) -> Option<(TraceId, SpanId)> {
        let number = u64::from_str_radix(label, 16).ok()?;
        let trace = u128::from(self.key) << 64 | u128::from(number);
        Some((TraceId::from(trace), SpanId::from(self.key.rotate_left(32) ^ number.rotate_left(8))))
    }

    fn span(
        &self,
        (trace, span): (TraceId, SpanId),
        parent: SpanId,
        (name, span_kind): (&'static str, SpanKind),
        (start_time, end_time): (SystemTime, SystemTime),
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// The name of a record's span.
fn kind_of(word: &str) -> &'static str {
    ["session", "control", "flow", "tunnel", "request"].into_iter().find(|kind| *kind == word).unwrap_or("record")
}

/// An id that is not zero.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default() | 1
}

fn plain(value: &serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::String(text) => Some(text.clone().into()),
        serde_json::Value::Bool(is) => Some((*is).into()),
        serde_json::Value::Number(number) => {
            number.as_i64().map(Value::from).or_else(|| number.as_f64().map(Value::from))
        }
        _ => None,
    }
}

/// Says when the collector cannot be reached, and when it can be again.
#[derive(Debug)]
struct Telling {
    exporter: opentelemetry_otlp::SpanExporter,
    fails: AtomicBool,
}

impl SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match (&result, self.fails.swap(result.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(%error, "Spans cannot be delivered; they are dropped."),
            (Ok(()), true) => tracing::info!("Spans are delivered again."),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
