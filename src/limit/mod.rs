//! How much and how often: permits that are given back when they drop, and rates. Knows no node and no door.

mod client;
mod connections;
mod flows;
mod permits;
mod rate;

pub use client::ClientKey;
pub use connections::{ConnectionLimit, ConnectionPermit};
pub use flows::{ClientFlows, FlowLimit, FlowPermit, FlowsFull};
pub use permits::{Claim, Permit, Permits};
pub use rate::RateLimit;
