//! Several gateways with one Redis: requests of one session may come to any of them.

mod away;
mod balancer;
mod closed;
mod cluster;
mod nominal;
mod real;
mod sessions;

pub(super) use balancer::Balancer;
pub(super) use cluster::{Client, Cluster, Plan, redis_of};
