//! What the gateway says about itself: metrics, the access log, diagnostics, and the closed set of
//! words that all three share.

pub mod access;
mod added;
mod answered;
mod behind;
mod chain;
mod families;
mod kept;
mod known;
pub mod labels;
mod limits;
mod live;
pub mod logging;
pub mod metrics;
mod nodes;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "otlp/none.rs"]
mod otlp;
mod pace;
mod record;
mod refusals;
mod series;
mod spans;
mod throttled;
mod transfer;

pub use access::AccessLog;
pub use added::{AddedLatency, WorkClock};
pub use chain::chain;
pub use families::Family;
pub use kept::KeptNow;
pub use known::Known;
pub use labels::{
    ControlOutcome, Direction, DropReason, Finding, FlowOutcome, HandshakeResult, HealthResult, Kind, Limit,
    LookupResult, NodeWait, Operation, Outcome, PickHow, ProbeResult, Reason, Scope, Stage, TunnelOutcome,
};
pub use live::{Flowing, Live, Path, Posted};
pub use metrics::Metrics;
pub use nodes::{LookupMetrics, NodeMetrics, UpstreamMetrics};
pub use record::Record;
pub use refusals::RefusalSeen;
pub use series::{ActiveGuard, DataMetrics, ListenerMetrics, ProbeMetrics, TunnelMetrics};
pub use spans::{RequestSpan, Spans, SpansError};
pub use transfer::{About, Counts, Moving, Transfer};
