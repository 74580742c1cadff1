//! `fallgate check`: everything that `run` reads, and no port.

use std::path::Path;

use super::{OK, USAGE, complain, say};
use crate::{config::Config, gateway::Gateway};

pub(super) fn check(path: &Path) -> u8 {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return USAGE;
        }
    };
    if let Err(error) = Gateway::check(&config) {
        complain(&error);
        return USAGE;
    }
    let nodes: usize = config.upstreams.iter().map(|u| u.nodes.len()).sum();
    say(format_args!(
        "{} is good: {} listeners, {} upstreams, {nodes} nodes",
        path.display(),
        config.listeners.len(),
        config.upstreams.len(),
    ));
    OK
}
