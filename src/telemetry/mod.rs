//! What the gateway says about itself: metrics, the access log, diagnostics, and the closed set of
//! words that all three share.

pub mod access;
mod chain;
mod families;
pub mod labels;
pub mod logging;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "otlp/none.rs"]
mod otlp;
mod series;
mod spans;
mod throttled;

pub use access::{AccessLog, Record};
pub use chain::chain;
pub use families::Family;
pub use labels::{
    ControlOutcome, Direction, DropReason, Finding, FlowOutcome, HandshakeResult, HealthResult, Operation, Outcome,
    PickHow, Reason, Scope, TunnelOutcome,
};
pub use metrics::Metrics;
pub use series::{ActiveGuard, DataMetrics, ListenerMetrics, TunnelMetrics};
pub use spans::{RequestSpan, Spans, SpansError};
