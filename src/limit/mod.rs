//! How much: permits that are given back when they drop. Knows no node and no door.

mod connections;
mod flows;
mod tunnels;

pub use connections::{ConnectionLimit, ConnectionPermit};
pub use flows::{ClientFlows, FlowLimit, FlowPermit, FlowsFull};
pub use tunnels::{TunnelLimit, TunnelPermit};
