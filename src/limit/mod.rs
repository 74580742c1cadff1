//! How much: permits that are given back when they drop. Knows no node and no door.

mod connections;

pub use connections::{ConnectionLimit, ConnectionPermit};
