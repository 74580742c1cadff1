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
    for warning in config.warnings() {
        say(format_args!("warning: {warning}"));
    }
    let needed = files::needed(&config);
    if let Ok(limit) = files::hard_limit()
        && limit < needed
    {
        say(format_args!(
            "warning: limits: as many connections and flows as they allow may need {needed} open files, and the limit is {limit}\n  hint: raise it (LimitNOFILE= in a systemd unit) or lower max_connections and max_udp_flows",
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
