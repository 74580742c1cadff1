//! What an operator sees of the gateway: metrics, and what Prometheus and Grafana make of them.

mod added;
mod metrics;
mod records;
pub(crate) mod stage;
