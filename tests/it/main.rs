//! The gateway under test: real sockets, real TLS, real peers. One binary, because the engine links slowly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so")]

mod admission;
mod answers;
mod grammar;
mod house;
mod lifecycle;
mod persistence;
mod records;
mod routing;
mod streaming;
mod support;
mod tls;
mod transfer;
