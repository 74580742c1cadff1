//! What all cases stand on: certificates, nodes that keep nothing, and a folder for configs.

use std::{net::SocketAddr, path::Path};

use fallgate::node::{Node, NodeOptions};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

/// The folder and the nodes; all of it is gone when it drops.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    /// A node that closes no connection but promises nothing.
    pub(crate) plain: SocketAddr,
    /// A node that offers one connection for the session.
    pub(crate) persistent: SocketAddr,
    _nodes: Vec<Node>,
    _runtime: tokio::runtime::Runtime,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key");
        certificate(dir.path(), "rsa", &rsa);
        certificate(dir.path(), "p256", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a P-256 key"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime for the nodes");
        let start = |persistent: Option<&str>| {
            let options = NodeOptions {
                root: dir.path().to_owned(),
                persistent: persistent.map(str::to_owned),
                sink: true,
                record: false,
                ..NodeOptions::default()
            };
            runtime.block_on(Node::start(SocketAddr::from(([127, 0, 0, 1], 0)), options)).expect("a node")
        };
        let nodes = vec![start(None), start(Some("1"))];
        let (plain, persistent) = (nodes[0].address(), nodes[1].address());
        Stage { dir, plain, persistent, _nodes: nodes, _runtime: runtime }
    }

    /// The folder; it holds `rsa` and `p256`, each as `.crt`, `.key`, and both in one as `.pem`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

fn certificate(dir: &Path, name: &str, key: &KeyPair) {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("sound names");
    let (crt, key) = (params.self_signed(key).expect("a certificate").pem(), key.serialize_pem());
    for (end, text) in [("crt", crt.clone()), ("key", key.clone()), ("pem", crt + &key)] {
        std::fs::write(dir.join(format!("{name}.{end}")), text).expect("a writable folder");
    }
}
