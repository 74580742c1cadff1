//! Several gateways with one Redis.

mod limits;
mod scripts;
mod shares;
