//! What the gateway says about itself: metrics, the access log, diagnostics, and the closed set of
//! words that all three share.

pub mod access;
mod added;
mod chain;
mod families;
pub mod labels;
mod limits;
pub mod logging;
pub mod metrics;
mod refusals;
mod series;
mod throttled;

pub use access::{AccessLog, Record};
pub use added::{AddedLatency, WorkClock};
pub use chain::chain;
pub use families::Family;
pub use labels::{
    ControlOutcome, Direction, DropReason, Finding, FlowOutcome, HandshakeResult, HealthResult, Limit, Operation,
    Outcome, PickHow, Reason, Scope, TunnelOutcome,
};
pub use metrics::Metrics;
pub use refusals::RefusalSeen;
pub use series::{ActiveGuard, DataMetrics, ListenerMetrics, TunnelMetrics};
