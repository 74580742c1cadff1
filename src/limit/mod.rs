//! How much and how often: permits that are given back when they drop, rates, the line of
//! those who wait, and the pace of bytes. Knows no node and no door.

mod bandwidth;
mod client;
mod connections;
mod flows;
mod guest;
mod maxima;
mod permits;
mod rate;
mod sessions;
mod tunnels;
mod waiting;

pub use bandwidth::{Bandwidth, CapName, Flow, Round, Shaper, Told};
pub use client::ClientKey;
pub use connections::{Connecting, ConnectionLimit, ConnectionPermit};
pub use flows::{ClientFlows, FlowLimit, FlowPermit, FlowsFull};
pub use guest::{Guest, Places};
pub use maxima::{Full, Maxima, OfListener, SharedMaximum};
pub use permits::{Claim, Permit, Permits};
pub use rate::{Pace, RateLimit};
pub use sessions::{Freed, SessionLimit, SessionPermit};
pub use tunnels::{TunnelLimit, TunnelPermit};
pub use waiting::{Place, RoomFull, TooLong, Turn, Unserved, WaitingRoom};
