//! The open-files limit: each connection needs a descriptor, and a second one towards its node; each flow one.

use crate::config::{Config, Protocol};

/// Descriptors that are in use whatever is served: listeners, logs, the runtime, health checks.
const BASE: u64 = 256;
/// Threads that a listener of data has at most where the config says nothing; each has its own sockets.
const THREADS: u64 = 8;

/// Raises this process's limit as far as it may go; returns the limit then in force.
pub fn raise_limit() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// How far this process's limit may be raised.
pub fn hard_limit() -> std::io::Result<u64> {
    rlimit::Resource::NOFILE.get_hard()
}

/// How many descriptors this process may have; none where there is no limit, or it is not known.
pub fn limit() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok().filter(|limit| *limit < rlimit::INFINITY)
}

/// How many descriptors this process has; 0 where that is not known.
pub fn open() -> u64 {
    // Reading the folder takes one for itself.
    std::fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1) as u64)
}

/// Descriptors that a config's maxima may need: two for a connection, one for a flow where there can be any, and one
/// for each port of data and each thread there.
pub fn needed(config: &Config) -> u64 {
    let data = config.listeners.iter().filter(|listener| listener.protocol == Protocol::Udp);
    let sockets = data.map(|data| u64::from(data.address.ports()) * data.workers.map_or(THREADS, u64::from));
    let ports: u64 = sockets.sum();
    let flows = if ports == 0 { 0 } else { u64::from(config.limits.max_udp_flows) };
    u64::from(config.limits.max_connections) * 2 + flows + ports + BASE
}
