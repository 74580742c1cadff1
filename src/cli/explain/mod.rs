//! `fallgate explain`: what clients, nodes and firewalls are to be told so that they go with a configuration.
//!
//! It reads the configuration alone, and none of the files that it names; nothing here opens a port or contacts anyone.

mod clients;
mod nodes;
mod openings;
mod reach;
mod rules;
mod session;
mod text;

use std::{net::IpAddr, path::PathBuf};

use serde_json::{Value, json};

use super::{FAILED, USAGE, complain, print};
use crate::config::Config;
use openings::{Opening, Wall, openings};
use rules::Site;

/// What clients call the gateway when nobody has said it and no listener has an address of its own.
const GATEWAY: &str = "GATEWAY";

#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The config file (YAML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// What clients call the gateway: a name or an address.
    ///
    /// Otherwise the address of a listener, where one has an address of its own.
    #[arg(long, value_name = "NAME", value_parser = super::doctor::host)]
    host: Option<String>,
    /// An address of the gateway, for firewalls; can be repeated.
    ///
    /// It is that in the gateway's own network. Those that the config names are known.
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// All of it as one JSON object.
    #[arg(long)]
    json: bool,
    /// Only this, in a form that can be used as it is.
    #[arg(long, value_enum, conflicts_with = "json")]
    part: Option<Part>,
    /// Only what an application must do to make transfer specs.
    #[arg(long, conflicts_with_all = ["json", "part"])]
    session: bool,
}

/// A part of what is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Transfer specs, as JSON: an object whose keys are the upstreams.
    Spec,
    /// The port table, as Markdown.
    Ports,
    /// nftables: the firewall between the internet and the gateway.
    Outer,
    /// nftables: the firewall between the gateway and the networks inside.
    Inner,
    /// nftables: the gateway's own host.
    Host,
}

/// All that is told.
struct Explanation {
    host: String,
    gateway: Vec<IpAddr>,
    specs: Vec<clients::Spec>,
    calls: Vec<clients::Call>,
    nodes: Vec<nodes::Settings>,
    openings: Vec<Opening>,
    session: Vec<String>,
}

pub(super) fn explain(options: &Options) -> u8 {
    let config = match Config::load(&options.config) {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return USAGE;
        }
    };
    let all = Explanation::new(&config, options.host.as_deref(), &options.address);
    let said = match options.part {
        Some(Part::Ports) => Ok(text::ports(&all.openings)),
        Some(Part::Outer) => Ok(all.site().firewall(Wall::Outer)),
        Some(Part::Inner) => Ok(all.site().firewall(Wall::Inner)),
        Some(Part::Host) => Ok(all.site().host()),
        Some(Part::Spec) => pretty(&all.spec()),
        None if options.session => Ok(text::list(&all.session)),
        None if options.json => pretty(&all.json()),
        None => text::whole(&all, &options.config),
    };
    match said {
        Ok(text) => print(&format!("{}\n", text.trim_end())),
        Err(error) => {
            complain(&error);
            FAILED
        }
    }
}

fn pretty(value: &Value) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value)
}

impl Explanation {
    fn new(config: &Config, host: Option<&str>, addresses: &[IpAddr]) -> Explanation {
        let listeners = config.listeners.iter().map(|listener| listener.address.first().ip());
        let own = listeners.chain(config.admin.address.map(|admin| admin.ip())).map(|ip| ip.to_canonical());
        let mut gateway: Vec<_> = own.filter(|ip| !ip.is_unspecified() && !openings::is_local(*ip)).collect();
        gateway.extend(addresses.iter().map(IpAddr::to_canonical));
        gateway.sort_unstable();
        gateway.dedup();
        let other = gateway.first().map_or_else(|| GATEWAY.to_owned(), ToString::to_string);
        let names = clients::Names { said: host.map(str::to_owned), other };
        let specs = clients::specs(config, &names);
        Explanation {
            calls: clients::calls(config, &names),
            nodes: nodes::settings(config),
            openings: openings(config),
            session: session::lines(config, names.host(), &specs),
            specs,
            host: names.host().to_owned(),
            gateway,
        }
    }

    fn site(&self) -> Site<'_> {
        Site { openings: &self.openings, gateway: &self.gateway }
    }

    /// The transfer specs by upstream.
    fn spec(&self) -> Value {
        self.specs.iter().map(|spec| (spec.upstream.clone(), Value::Object(spec.keys.clone()))).collect()
    }

    fn json(&self) -> Value {
        let site = self.site();
        json!({
            "host": self.host,
            "transfer_specs": self.spec(),
            "ascp": self.calls,
            "nodes": self.nodes,
            "ports": self.openings.iter().map(text::row).collect::<Vec<_>>(),
            "nftables": {
                "outer": site.firewall(Wall::Outer),
                "inner": site.firewall(Wall::Inner),
                "host": site.host(),
            },
            "session": self.session,
        })
    }
}
