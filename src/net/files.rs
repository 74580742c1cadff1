//! The open-files limit: each connection needs a descriptor, and a second one towards its node.

/// Descriptors that are in use whatever is served: listeners, logs, the runtime, health checks.
const BASE: u64 = 256;

/// Raises this process's limit as far as it may go; returns the limit then in force.
pub fn raise_limit() -> std::io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// How far this process's limit may be raised.
pub fn hard_limit() -> std::io::Result<u64> {
    rlimit::Resource::NOFILE.get_hard()
}

/// Descriptors that `connections` at once may need.
pub fn needed(connections: u32) -> u64 {
    u64::from(connections) * 2 + BASE
}
