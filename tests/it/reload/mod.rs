//! Another config for a gateway that runs: what of it holds, who notices, and what goes on untouched.

mod against;
mod flight;
mod keys;
mod watch;
