//! What the nodes behind a gateway are set to.
//!
//! The commands of `asconfigurator` are those of the makers' own guides, and nothing else is printed as one:
//! `set_http_server_data` in "Configuring HTTP and HTTPS Fallback"
//! (<http://download.asperasoft.com/download/docs/entsrv/3.7.3/cs_admin_solaris/webhelp/general_external/dita/http_fallback.html>),
//! `set_node_data` with the keys of authorization in "User, group, and default configurations"
//! (<https://www.ibm.com/docs/en/ahts/4.4.x?topic=reference-user-group-default-configurations>). The elements of
//! `<protocol_options>` are in the public schema of the file (`docs/aspera.conf.xsd` of
//! <https://github.com/IBM/aspera-cli>); no guide that was found has a command for them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::reach::{self, End, Kind, leading, reach};
use crate::config::{Config, Protocol, Scheme, TokenKind, TokenLevel, UpstreamConfig};

/// What the nodes of an upstream are set to that have the same ports.
#[derive(Debug, Serialize)]
pub(super) struct Settings {
    pub(super) upstream: String,
    /// Their hosts.
    pub(super) nodes: Vec<String>,
    /// Commands, as they are typed; KEY is the operator's.
    pub(super) asconfigurator: Vec<String>,
    /// Elements of `aspera.conf`, each with where it stands.
    pub(super) aspera_conf: Vec<String>,
    /// Lines of `sshd_config`.
    pub(super) sshd_config: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// What the listeners of an upstream ask for.
struct Tokens {
    /// Any token.
    any: bool,
    /// One that is made with a key of the nodes.
    key: bool,
}

/// The settings of every upstream that a listener leads to.
pub(super) fn settings(config: &Config) -> Vec<Settings> {
    let mut all = Vec::new();
    for upstream in &config.upstreams {
        // The ports of each node, and then the nodes of the same ports.
        let mut ports: BTreeMap<usize, Vec<End>> = BTreeMap::new();
        for end in reach(config, upstream) {
            ports.entry(end.node).or_default().push(end);
        }
        let mut alike: Vec<(Vec<String>, Vec<End>)> = Vec::new();
        for ends in ports.into_values() {
            let Some(host) = ends.first().map(|end| end.host.clone()) else { continue };
            let same = |other: &[End]| {
                other.len() == ends.len() && other.iter().zip(&ends).all(|(a, b)| (a.kind, a.port) == (b.kind, b.port))
            };
            match alike.iter_mut().find(|(_, other)| same(other)) {
                Some((hosts, _)) => hosts.push(host),
                None => alike.push((vec![host], ends)),
            }
        }
        let fallbacks = leading(config, upstream).filter(|listener| listener.protocol.is_fallback());
        let asking: Vec<_> = fallbacks.map(|l| &l.admission).filter(|a| a.token != TokenLevel::Off).collect();
        let asks = Tokens {
            any: !asking.is_empty(),
            key: asking.iter().any(|admission| admission.kinds.contains(&TokenKind::Transfer)),
        };
        let several = upstream.nodes.len() != 1;
        for (nodes, ends) in alike {
            let mut settings = Settings::of(&upstream.name, nodes);
            for end in &ends {
                settings.end(end, upstream.scheme, &asks, several);
            }
            if let Some(data) = ends.iter().find(|end| end.kind == Kind::Data) {
                let listeners = leading(config, upstream).filter(|l| l.protocol == Protocol::Udp);
                for listener in listeners.filter(|listener| listener.address.first().port() != data.port) {
                    settings.notes.push(format!(
                        "the listener {} has port {} and the nodes {}: client and node agree on the number inside SSH, where the gateway cannot change it; give both the same",
                        listener.name, listener.address.first().port(), data.port
                    ));
                }
            }
            all.push(settings);
        }
        all.extend(told(config, upstream));
    }
    all
}

/// What nobody can print: a port that SRV records tell.
fn told(config: &Config, upstream: &UpstreamConfig) -> Option<Settings> {
    let discovery = upstream.discovery.as_ref()?;
    let (_, port) = reach::told(config, upstream)?;
    let note = format!(
        "the {} port of each node is what its SRV record tells; the firewalls here open any: write the one there is",
        port.as_str()
    );
    Some(Settings { notes: vec![note], ..Settings::of(&upstream.name, vec![discovery.dns.clone()]) })
}

impl Settings {
    /// Of these nodes, with nothing set.
    fn of(upstream: &str, nodes: Vec<String>) -> Settings {
        Settings {
            upstream: upstream.to_owned(),
            nodes,
            asconfigurator: Vec::new(),
            aspera_conf: Vec::new(),
            sshd_config: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn end(&mut self, end: &End, scheme: Scheme, tokens: &Tokens, several: bool) {
        let command = |keys: &str| format!("asconfigurator -x \"{keys}\"");
        match end.kind {
            Kind::Fallback => {
                let word = match scheme {
                    Scheme::Http => "http",
                    Scheme::Https => "https",
                };
                self.asconfigurator.push(command(&format!("set_http_server_data;enable_{word},true")));
                self.asconfigurator.push(command(&format!("set_http_server_data;{word}_port,{}", end.port)));
                if tokens.any {
                    for way in ["in", "out"] {
                        self.asconfigurator
                            .push(command(&format!("set_node_data;authorization_transfer_{way}_value,token")));
                    }
                    self.notes.push("the gateway looks at the shape of a token, the node verifies it".to_owned());
                }
                if tokens.key {
                    self.asconfigurator.push(command("set_node_data;token_encryption_key,KEY"));
                }
                if tokens.key && several {
                    self.notes.push(
                        "the KEY is the same on all nodes of the upstream: a session may meet any of them".to_owned(),
                    );
                }
                self.notes.push("restart asperacentral, asperanoded and asperahttpd after a change; `asuserdata -v` checks the file".to_owned());
            }
            Kind::Control => self.sshd_config.push(format!("Port {}", end.port)),
            Kind::Data => {
                let mut options = format!("<bind_udp_port>{}</bind_udp_port>", end.port);
                if end.count > 1 {
                    options += "<udp_port_reuse>false</udp_port_reuse>";
                    self.notes.push(format!(
                        "each transfer takes a data port of its own, from {} on, {} at once",
                        end.port, end.count
                    ));
                }
                self.aspera_conf.push(format!(
                    "<default><transfer><protocol_options>{options}</protocol_options></transfer></default>"
                ));
            }
        }
    }
}
