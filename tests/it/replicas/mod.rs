//! Several gateways with one Redis: requests of one session may come to any of them.

mod apart;
mod away;
mod balancer;
mod closed;
mod cluster;
mod limits;
mod nominal;
mod real;
mod scripts;
mod sessions;
mod shares;

pub(super) use balancer::Balancer;
pub(super) use cluster::{Client, Cluster, Plan, redis_of, tried};
