//! What the demo is played on: two nodes, a gateway with a fresh certificate, a client.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{Result, files, nominal::StandIn, screen::Screen};
use crate::{
    config::Config,
    gateway::Gateway,
    node::{
        Node, NodeOptions,
        client::{Client, insecure_tls},
    },
};

/// A token of the right shape. The demo nodes ask for this one, as real nodes ask for theirs.
pub(super) const TOKEN: &str = "ATM3_ACsGh7NRzGA2-ANT6j6mT3O4UYw48JKSstgxg2y8PunjPYAAEc-5aMrqwWI9XCbMaE2Kxk_3MTA";

/// All that runs; it ends when this drops.
pub(super) struct Stage {
    pub(super) screen: Screen,
    pub(super) dir: tempfile::TempDir,
    pub(super) photos: PathBuf,
    pub(super) gateway: Gateway,
    pub(super) https: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) control: SocketAddr,
    pub(super) data: SocketAddr,
    /// By name; a node that died is gone.
    pub(super) nodes: Vec<(&'static str, Node)>,
    /// What stands for the nominal path of each node.
    pub(super) stand_ins: Vec<(&'static str, StandIn)>,
}

impl Stage {
    pub(super) async fn set(screen: Screen) -> Result<Stage> {
        let dir = tempfile::Builder::new().prefix("fallgate-demo-").tempdir()?;
        let photos = files::make(dir.path())?;
        let (mut nodes, mut stand_ins) = (Vec::new(), Vec::new());
        for name in ["alpha", "beta"] {
            let root = dir.path().join(name);
            std::fs::create_dir(&root)?;
            let options = NodeOptions { root, name: name.into(), token: Some(TOKEN.into()), ..NodeOptions::default() };
            nodes.push((name, Node::start(SocketAddr::from(([127, 0, 0, 1], 0)), options).await?));
            stand_ins.push((name, StandIn::start(name).await?));
        }
        certificate(dir.path(), "gateway")?;
        certificate(dir.path(), "client")?;
        let listed: Vec<_> = nodes
            .iter()
            .zip(&stand_ins)
            .map(|((name, node), (_, stand_in))| {
                let (http, tcp, udp) = (node.address().port(), stand_in.tcp.port(), stand_in.udp.port());
                format!("{{ name: {name}, host: 127.0.0.1, ports: {{ http: {http}, tcp: {tcp}, udp: {udp} }} }}")
            })
            .collect();
        let yaml = format!(
            r#"version: 1
listeners:
  - {{ name: fallback-https, protocol: https, address: "127.0.0.1:0", upstream: demo, tls: {{ cert_file: gateway.crt, key_file: gateway.key }} }}
  - {{ name: fallback-http, protocol: http, address: "127.0.0.1:0", upstream: demo }}
  - {{ name: control, protocol: tcp, address: "127.0.0.1:0", upstream: demo }}
  - {{ name: data, protocol: udp, address: "127.0.0.1:0", upstream: demo }}
upstreams:
  - {{ name: demo, nodes: [{}] }}
access_log: {{ path: access.log }}
admin: {{ address: "127.0.0.1:0" }}
"#,
            listed.join(", ")
        );
        std::fs::write(dir.path().join("fallgate.yaml"), &yaml)?;
        let gateway = Gateway::start(Config::from_yaml(&yaml, dir.path())?, None).await?;
        let addresses = gateway.addresses().await;
        let find =
            |name: &str| addresses.iter().find(|(n, _)| n == name).map(|(_, a)| *a).ok_or("a listener is missing");
        let (https, http) = (find("fallback-https")?, find("fallback-http")?);
        let (control, data) = (find("control")?, find("data")?);
        Ok(Stage { screen, dir, photos, https, http, control, data, gateway, nodes, stand_ins })
    }

    /// A client of one of the two ports.
    pub(super) fn client(&self, tls: bool, token: &str) -> Result<Client> {
        let address = if tls { self.https } else { self.http };
        let tls = if tls { Some(insecure_tls()?) } else { None };
        Ok(Client { tls, token: token.into(), user: "demo".into(), resume: true, ..Client::new(address) })
    }

    /// The node that has the session, by name.
    pub(super) fn node_of(&self, session: &str) -> &'static str {
        let has = |(_, node): &&(&'static str, Node)| node.log().iter().any(|seen| seen.session == session);
        self.nodes.iter().find(has).map_or("no node", |(name, _)| name)
    }
}

fn certificate(dir: &Path, name: &str) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let cert = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    std::fs::write(dir.join(format!("{name}.crt")), cert.pem())?;
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem())?;
    Ok(())
}
