//! The gateway under test: real sockets, real TLS, real peers. One binary, because the engine links slowly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on has failed, and says so"
)]
#![allow(
    missing_docs,
    dead_code,
    reason = "test names are the documentation; not every module uses all of the sandbox"
)]

mod admin;
mod admission;
mod answer_corpus;
mod answers;
mod bandwidth;
mod cli;
mod control;
mod crash;
mod data;
mod data_churn;
mod data_hostile;
mod data_ranges;
mod discovery;
mod docs;
mod doctor;
mod exhaustion;
mod explain;
mod flood;
mod forward;
mod forwarded;
mod grammar;
mod guard;
mod hold;
mod hostile;
mod house;
mod interop;
mod lifecycle;
mod limits;
mod logs;
mod namespaces;
mod node_tls;
mod nodes;
#[cfg(feature = "otlp")]
mod otlp;
mod path_mtu;
mod persistence;
mod readme;
mod records;
mod reload;
mod replicas;
mod resume;
mod routing;
mod secrets;
mod service;
mod sight;
mod silence;
mod simulation;
mod soak;
mod state;
mod stop;
mod streaming;
mod support;
mod tls;
mod transfer;
mod trying;
mod tunnel;
mod upgrade;
mod usage;
