//! Several gateways with one Redis.

mod scripts;
