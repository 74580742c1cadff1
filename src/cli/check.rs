//! `fallgate check`: everything that `run` reads, and no port.

use std::path::Path;

use super::{OK, USAGE, complain, say};
use crate::{config::Config, gateway::Gateway, net::files};

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
    if let Ok(limit) = files::hard_limit()
        && limit < files::needed(config.limits.max_connections)
    {
        say(format_args!(
            "warning: limits.max_connections: {} connections may need {} open files, and the limit is {limit}\n  hint: raise it (LimitNOFILE= in a systemd unit) or lower max_connections",
            config.limits.max_connections,
            files::needed(config.limits.max_connections),
        ));
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
