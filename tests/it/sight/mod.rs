//! What an operator sees of the gateway: metrics, and what Prometheus and Grafana make of them.

mod added;
mod metrics;
pub(crate) mod stage;
