//! Tests of the node and the client against each other.

mod faults;
mod heads;
mod resume;
mod trips;

use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::client::Client;
use super::{Node, NodeOptions};

/// A directory that goes away with the test.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Scratch {
        let path = std::env::temp_dir().join(format!("fallgate-node-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(path.join("node")).unwrap();
        fs::create_dir_all(path.join("out")).unwrap();
        Scratch(path)
    }
}

impl Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) async fn node(scratch: &Scratch, options: NodeOptions) -> (Node, Client) {
    let options = NodeOptions { root: scratch.join("node"), ..options };
    let node = Node::start(any_port(), options).await.unwrap();
    let client = Client::new(node.address());
    (node, client)
}

pub(super) fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A tree with awkward names; gives its files relative to `at`.
pub(super) fn plant(at: &Path) -> Vec<(String, Vec<u8>)> {
    let big: Vec<u8> = (0..700_001_u32).map(|i| (i % 251) as u8).collect();
    let files = [
        ("t/sp ace", b"one".to_vec()),
        ("t/per%20cent", b"two".to_vec()),
        ("t/é", b"three".to_vec()),
        ("t/sub/漢字", big),
        ("t/sub/trailing ", b"five".to_vec()),
        ("t/-lead", b"six".to_vec()),
        ("t/zero", Vec::new()),
    ];
    fs::create_dir_all(at.join("t/sub")).unwrap();
    fs::create_dir_all(at.join("t/hollow")).unwrap();
    for (name, body) in &files {
        fs::write(at.join(name), body).unwrap();
    }
    files.map(|(n, b)| (n.to_owned(), b)).to_vec()
}
