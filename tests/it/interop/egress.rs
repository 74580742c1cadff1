//! The real client through a forward proxy (`-x`): to nodes themselves and to the fallback door of another gateway.

use std::{net::SocketAddr, path::Path, sync::Arc};

use fallgate::{
    config::Config,
    gateway::Gateway,
    node::{Node, NodeOptions},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Ascp, folder, is_here, one_node, source,
    tree::{self, assert_same},
};
use crate::support::{Metrics, Plan, Sandbox, Watch, certificate, eventually, loopback, secrets, sweep};

/// A gateway that is a forward proxy and nothing else.
pub(super) struct Egress {
    watch: Watch,
    gateway: Gateway,
    pub(super) address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Egress {
    /// With the keys of its policy, in flow form.
    pub(super) async fn start(policy: &str) -> Egress {
        Egress::with(policy, "").await
    }

    /// And with more keys of its listener. There is a certificate `tls`.
    pub(super) async fn with(policy: &str, listener: &str) -> Egress {
        let dir = tempfile::tempdir().unwrap();
        certificate(dir.path(), "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
        // Of "anna", whose password is "one".
        let hash = bcrypt::hash("one", 4).unwrap();
        std::fs::write(dir.path().join("users"), format!("anna:{hash}\n")).unwrap();
        let text = format!(
            "version: 1\nlisteners:\n  - {{name: egress, protocol: forward_proxy, address: '127.0.0.1:0', policy: p{listener}}}\npolicies:\n  - {{name: p, {policy}}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n"
        );
        let config = Config::from_yaml(&text, dir.path()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        secrets::keep_login("anna", "one");
        let (gateway, watch) = sweep::gateway(config, dir.path()).await;
        let address = gateway.addresses().await[0].1;
        Egress { watch, gateway, address, dir }
    }

    /// To this machine and nowhere else.
    pub(super) async fn open() -> Egress {
        Egress::start(HERE).await
    }

    pub(super) async fn metrics(&self) -> Metrics {
        Metrics::scrape(self.gateway.admin_address().unwrap()).await
    }

    /// The access log's lines, once there are at least `n`.
    pub(super) async fn records(&self, n: usize) -> Vec<serde_json::Value> {
        let path = self.dir.path().join("access.log");
        eventually("access records", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<_> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// A policy that allows what these tests run.
pub(super) const HERE: &str = "allow: [{hosts: [127.0.0.0/8, localhost]}], allow_private_addresses: [127.0.0.0/8]";

impl Ascp {
    fn through(self, egress: &Egress) -> Ascp {
        self.options(&["-x", &egress.address.to_string()])
    }
}

/// A tree goes up and comes back, through the proxy to `port`, and lands below `root`.
async fn there_and_back(what: &str, sandbox: &Sandbox, egress: &Egress, listener: &str, port: u16, root: &Path) {
    let wanted = tree::plain();
    let name = format!("tree-{port}");
    let from = folder(sandbox, "source").join(&name);
    tree::write(&from, &wanted);
    let sent = Ascp::put(sandbox, listener, &[&from]).await.straight(port).through(egress).run().await;
    sent.must_be_ok(&format!("{what}, put"));
    assert_same(&tree::read(&root.join("up").join(&name)), &wanted, &format!("{what}, put"));
    let back = folder(sandbox, &format!("back-{port}"));
    let ascp = Ascp::get(sandbox, listener, &[&format!("/up/{name}")], &back).await;
    ascp.straight(port).through(egress).run().await.must_be_ok(&format!("{what}, get"));
    assert_same(&tree::read(&back.join(&name)), &tree::files_of(&wanted), &format!("{what}, get"));
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_sessions_run_to_the_fallback_door_of_another_gateway() {
    if !is_here() {
        return;
    }
    for persistence in ["force", "off"] {
        let plan = one_node().listener(&format!("persistent_connection: {persistence}"));
        let sandbox = plan.start().await;
        let root = sandbox.dir.path().join("n1");
        for listener in ["tls", "plain"] {
            let egress = Egress::open().await;
            let port = sandbox.address(listener).await.port();
            let what = format!("{listener}, {persistence}");
            there_and_back(&what, &sandbox, &egress, listener, port, &root).await;
            seen_by(&egress, &what, listener == "tls", persistence == "force").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_sessions_run_to_a_node_itself() {
    if !is_here() {
        return;
    }
    let sandbox = Plan::new().start().await;
    for persistent in [true, false] {
        for listener in ["tls", "plain"] {
            let root = folder(&sandbox, &format!("{listener}-{persistent}"));
            let options = NodeOptions {
                root: root.clone(),
                persistent: persistent.then(|| "1".to_owned()),
                tls: (listener == "tls").then(|| acceptor(sandbox.dir.path())),
                ..NodeOptions::default()
            };
            let node = Node::start(loopback(0), options).await.unwrap();
            let egress = Egress::open().await;
            let what = format!("{listener}, persistent {persistent}");
            there_and_back(&what, &sandbox, &egress, listener, node.address().port(), &root).await;
            seen_by(&egress, &what, listener == "tls", persistent).await;
            // What the node hears is what it would hear without a proxy.
            for seen in node.log() {
                let head = String::from_utf8_lossy(&seen.head).to_ascii_lowercase();
                assert!(!head.contains("proxy-") && head.contains(" http"), "{head}");
                assert!(head.lines().next().unwrap().contains(" http"), "{head}");
            }
        }
    }
}

/// Two sessions: over TLS as tunnels, else as requests; with persistence one connection each.
async fn seen_by(egress: &Egress, what: &str, is_tls: bool, is_persistent: bool) {
    let records = egress.records(2).await;
    let kind = if is_tls { "tunnel" } else { "request" };
    for record in &records {
        assert_eq!((&record["kind"], &record["outcome"]), (&kind.into(), &"closed".into()), "{what}: {record}");
        assert!(matches!(record["status"].as_u64(), Some(200 | 201)), "{what}: {record}");
        assert_eq!(record["rule"], "allow[0]", "{what}: {record}");
        assert!(!record.to_string().contains("/aspera/"), "{what}: {record}");
    }
    let metrics = egress.metrics().await;
    let connections = metrics.sum("connections_total", &[]);
    assert_eq!(connections == 2.0, is_persistent, "{what}: {connections} connections");
    assert_eq!(metrics.sum("refusals_total", &[]), 0.0, "{what}: {}", metrics.0);
    if is_tls {
        assert_eq!(metrics.sum("tunnels_total", &[("outcome", "closed")]), records.len() as f64, "{what}");
    }
}

fn acceptor(dir: &Path) -> TlsAcceptor {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_file(dir.join("tls.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("tls.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

const HTTP: (u32, &str) = (47, "Error establishing HTTP connection (check HTTP port and firewall)");

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_target_is_refused_reads_it() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let file = source(&sandbox, "file", b"x");
    for (policy, reason, plain) in [
        ("allow: []", "policy_denied", (37, "Authorization failure")),
        ("allow: [{hosts: ['*']}]", "private_address", (37, "Authorization failure")),
        ("auth: {allow_from: [192.0.2.0/24]}", "client_not_allowed", (37, "Authorization failure")),
        // This one was given no credentials to show.
        (&format!("auth: {{users_file: users}}, {HERE}"), "auth_required", (19, "Authentication failure")),
    ] {
        for (listener, told) in [("tls", HTTP), ("plain", plain)] {
            let egress = Egress::start(policy).await;
            let port = sandbox.address(listener).await.port();
            let ascp = Ascp::put(&sandbox, listener, &[&file]).await;
            ascp.straight(port).through(&egress).run().await.must_fail(
                &format!("{reason}, {listener}"),
                told.0,
                told.1,
            );
            // The start, and the end that comes all the same.
            let refused = egress.metrics().await.sum("refusals_total", &[("reason", reason)]);
            assert_eq!(refused, 2.0, "{reason}, {listener}");
        }
    }
    assert!(sandbox.seen(1).is_empty(), "the node was asked");
}

/// It asks for NTLM first, is told Basic, and goes on by that.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_given_user_and_password_logs_in_to_the_proxy() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let file = source(&sandbox, "file", b"x");
    for (listener, (code, text)) in [("tls", HTTP), ("plain", (19, "Authentication failure"))] {
        for (password, is_right) in [("one", true), ("another-one", false)] {
            let egress = Egress::start(&format!("auth: {{users_file: users}}, {HERE}")).await;
            let ascp = Ascp::put(&sandbox, listener, &[&file]).await.through(&egress).login("anna", password);
            let report = ascp.run().await;
            let what = format!("{listener}, {password}");
            let records = egress.records(2).await;
            let has = |key: &str, word: &str| records.iter().any(|record| record[key] == word);
            assert_eq!(has("user", "anna"), is_right, "{what}: {records:?}");
            assert_eq!(has("reason", "auth_failed"), !is_right, "{what}: {records:?}");
            match is_right {
                true => report.must_be_ok(&what),
                false => report.must_fail(&what, code, text),
            }
        }
    }
    // In the clear it asks also where no login is wanted, without a proxy and by one that lets everybody through.
    let direct = Ascp::put(&sandbox, "plain", &[&file]).await.login("anna", "one");
    direct.run().await.must_be_ok("without a proxy");
    let egress = Egress::open().await;
    let open = Ascp::put(&sandbox, "plain", &[&file]).await.through(&egress).login("anna", "one");
    open.run().await.must_be_ok("by a proxy that asks for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_target_is_not_there_reads_it() {
    if !is_here() {
        return;
    }
    let sandbox = one_node().start().await;
    let file = source(&sandbox, "file", b"x");
    let closed = crate::support::peer::DeadPort::new();
    for listener in ["tls", "plain"] {
        let egress = Egress::open().await;
        let ascp = Ascp::put(&sandbox, listener, &[&file]).await.straight(closed.address.port());
        ascp.through(&egress).run().await.must_fail(listener, HTTP.0, HTTP.1);
        assert_eq!(egress.metrics().await.sum("refusals_total", &[("reason", "connect_refused")]), 2.0);
    }
}
