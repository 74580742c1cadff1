//! `fallgate check`: everything that `run` reads, and no port. Of others it asks name servers alone, where they are to tell of
//! nodes.

use std::path::PathBuf;

use super::{OK, USAGE, against, ask::Url, complain, say};
use crate::{config::Config, gateway::Gateway, net::files};

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The config file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Compare with the gateway at this admin door.
    ///
    /// Such as `http://127.0.0.1:9180`. What would change there is told, and nothing is changed.
    #[arg(long, value_name = "URL")]
    against: Option<Url>,
    /// The token for that admin door: a file with one line.
    ///
    /// Not needed over loopback.
    #[arg(long, value_name = "FILE", requires = "against")]
    token_file: Option<PathBuf>,
}

/// Whether the Redis that replicas share can be used, where one is named.
fn check_state(config: &Config) -> Result<Option<String>, Box<dyn std::error::Error>> {
    if config.state.redis().is_none() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(Gateway::check_state(config))?)
}

pub(super) fn check(options: &Options) -> u8 {
    let path = &options.config;
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
    match check_state(&config) {
        Ok(None) => {}
        Ok(Some(why)) => say(format_args!(
            "warning: state.redis: {why}\n  hint: with on_unavailable: local a gateway begins without it and goes on by itself once it is there"
        )),
        Err(error) => {
            complain(error.as_ref());
            return USAGE;
        }
    }
    for warning in config.warnings().iter().map(ToString::to_string).chain(unfound(&config)) {
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
    let found = match config.upstreams.iter().filter(|u| u.discovery.is_some()).count() {
        0 => String::new(),
        names => format!(", and those of {}", counted(names, "name")),
    };
    say(format_args!(
        "{} is good: {}, {}, {}{found}",
        path.display(),
        counted(config.listeners.len(), "listener"),
        counted(config.upstreams.len(), "upstream"),
        counted(nodes, "node"),
    ));
    match &options.against {
        Some(url) => against::compare(&config, url, options.token_file.as_deref()),
        None => OK,
    }
}

fn counted(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

/// Upstreams whose nodes are not found in the DNS now.
fn unfound(config: &Config) -> Vec<String> {
    if config.upstreams.iter().all(|upstream| upstream.discovery.is_none()) {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map(|runtime| runtime.block_on(Gateway::unfound(config))).unwrap_or_default()
}
