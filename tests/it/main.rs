//! The gateway under test: real sockets, real TLS, real peers. One binary, because the engine links slowly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends there and says why")]

mod house;
mod interop;
mod support;
mod transfer;
