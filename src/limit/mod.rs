//! How much: permits that are given back when they drop. Knows no node and no door.

mod connections;
mod flows;

pub use connections::{ConnectionLimit, ConnectionPermit};
pub use flows::{ClientFlows, FlowLimit, FlowPermit, FlowsFull};
