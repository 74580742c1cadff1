//! TLS towards nodes: whom the gateway trusts, which name it asks for, and the target in between.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fallgate::node::NodeOptions;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::PrivateKeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, noise,
    peer::Peer,
    uuid,
    wire::{Reply, end, put, start, start_body},
};

/// An authority and what it signs.
struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

/// Shows one certificate to everybody and notes for which name.
#[derive(Debug)]
struct Shows {
    key: Arc<CertifiedKey>,
    asked: Arc<Mutex<Vec<Option<String>>>>,
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.asked.lock().unwrap().push(hello.server_name().map(str::to_owned));
        Some(self.key.clone())
    }
}

type Asked = Arc<Mutex<Vec<Option<String>>>>;

impl Authority {
    fn new() -> Authority {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// The server's side of TLS with a certificate for `name`, and the names it was asked for.
    fn acceptor(&self, name: &str) -> (TlsAcceptor, Asked) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let chain = vec![params.signed_by(&key, &self.issuer).unwrap().der().clone()];
        let provider = aws_lc_rs::default_provider();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider).unwrap());
        let asked = Asked::default();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shows { key, asked: asked.clone() }));
        (TlsAcceptor::from(Arc::new(config)), asked)
    }
}

/// One node that speaks TLS, in an upstream with these keys; `more` changes the config further.
async fn behind_tls(
    acceptor: TlsAcceptor,
    authority: &Authority,
    tls: &str,
    more: impl Fn(String) -> String,
) -> (Sandbox, SocketAddr) {
    let options = NodeOptions { tls: Some(acceptor), ..NodeOptions::default() };
    let plan = Plan::new().node(options).listener("persistent_connection: force");
    let sandbox = plan.upstream("health_check: {interval: 1h}").start().await;
    over_tls(&sandbox, authority, tls, more).await;
    let host = sandbox.address("plain").await;
    (sandbox, host)
}

/// From now on the sandbox speaks TLS to its nodes.
async fn over_tls(sandbox: &Sandbox, authority: &Authority, tls: &str, more: impl Fn(String) -> String) {
    std::fs::write(sandbox.dir.path().join("ca.pem"), &authority.pem).unwrap();
    let upstream = format!("name: u, scheme: https, tls: {{{tls}}}, nodes");
    let change = |y: String| more(y.replace("name: u, nodes", &upstream).replace("ports: {http:", "ports: {https:"));
    sandbox.gateway.reload(sandbox.config(change)).await.unwrap();
}

fn same(yaml: String) -> String {
    yaml
}

async fn begin(host: SocketAddr) -> (Wire, String, Reply) {
    let (mut wire, id) = (Wire::plain(host).await, uuid());
    let reply = wire.ask(&start(host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
    (wire, id, reply)
}

async fn whole_session(host: SocketAddr) {
    let (mut wire, id, reply) = begin(host).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(wire.ask(&put(host, &id, "a", &noise(300_000, 1))).await.status, 201);
    assert_eq!(wire.ask(&end(host, &id, "DONE")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_known_by_its_authority_and_name_and_an_address_is_not_asked_for() {
    for (certificate, node, tls, asked) in [
        ("127.0.0.1", "127.0.0.1", "ca_file: ca.pem", None),
        ("localhost", "localhost", "ca_file: ca.pem", Some("localhost")),
        ("node.example", "127.0.0.1", "ca_file: ca.pem, server_name: node.example", Some("node.example")),
        ("127.0.0.1", "localhost", "ca_file: ca.pem, server_name: 127.0.0.1", None),
    ] {
        let authority = Authority::new();
        let (acceptor, names) = authority.acceptor(certificate);
        let more = |y: String| y.replace("host: 127.0.0.1", &format!("host: {node}"));
        let (sandbox, host) = behind_tls(acceptor, &authority, tls, more).await;
        whole_session(host).await;
        let names = names.lock().unwrap().clone();
        assert!(!names.is_empty() && names.iter().all(|n| n.as_deref() == asked), "{certificate} {tls}: {names:?}");
        assert_eq!(sandbox.seen(1).len(), 3);
        assert_eq!(sandbox.seen(1)[1].body_bytes, 300_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_the_wrong_certificate_is_refused_unless_nobody_looks() {
    let (right, other) = (Authority::new(), Authority::new());
    for (signed_by, certificate, tls, is_wrong) in [
        (&other, "127.0.0.1", "ca_file: ca.pem", true),
        (&right, "127.0.0.2", "ca_file: ca.pem", true),
        (&right, "node.example", "ca_file: ca.pem, server_name: other.example", true),
        (&right, "127.0.0.1", "", true),
        (&right, "127.0.0.1", "ca_file: ca.pem", false),
        (&other, "whoever.example", "verify: off", false),
        (&other, "whoever.example", "verify: off, server_name: somebody.example", false),
    ] {
        let (acceptor, names) = signed_by.acceptor(certificate);
        let (sandbox, host) = behind_tls(acceptor, &right, tls, same).await;
        if !is_wrong {
            whole_session(host).await;
            let sni = names.lock().unwrap()[0].clone();
            assert_eq!(sni.as_deref(), tls.contains("somebody").then_some("somebody.example"));
            continue;
        }
        let (mut wire, id, reply) = begin(host).await;
        assert_eq!((reply.status, reply.word()), (502, "node_unreachable"), "{certificate} {tls}");
        assert!(reply.field("x-real-mgmt-error").is_some());
        assert_eq!(sandbox.all_seen(), [], "the token is shown to nobody");
        assert_eq!(wire.ask(&end(host, &id, "ERROR")).await.status, 200);
        assert_eq!(sandbox.records(1).await[0]["reason"], "node_unreachable");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_never_ends_its_handshake_is_given_up_after_connect() {
    let silent = Peer::start(crate::support::peer::keep).await;
    let plan = Plan::new().peer(silent.address).top("timeouts: {connect: 500ms}");
    let sandbox = plan.upstream("node_grace: 0s, health_check: {interval: 1h}").start().await;
    over_tls(&sandbox, &Authority::new(), "ca_file: ca.pem", same).await;
    let begun = Instant::now();
    let (_, _, reply) = begin(sandbox.address("plain").await).await;
    assert_eq!((reply.status, reply.word()), (502, "node_unreachable"));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_reaches_a_node_in_the_form_that_is_asked_for() {
    let id = "5a1c1b4e-0000-4000-8000-0123456789ab";
    let targets = [
        format!("http://H.x:81/aspera/http/{id}/file/a%2Fb/{}.ashttp", uuid()),
        format!("https://H.x:81/aspera/https/{id}/file/a%20%c3%A9b/{}.ashttp", uuid()),
        format!("/aspera/https/{id}/mgmt_msg//{}.ashttp", uuid()),
    ];
    let targets = [targets[0].replace("%2F", "//"), targets[1].clone(), targets[2].clone()];
    for over_tls_too in [false, true] {
        let word = if over_tls_too { "https" } else { "http" };
        for form in ["received", "node_scheme", "origin_form"] {
            let authority = Authority::new();
            let (acceptor, _) = authority.acceptor("127.0.0.1");
            let options = NodeOptions { tls: over_tls_too.then_some(acceptor), ..NodeOptions::default() };
            let keys =
                format!("persistent_connection: force, node_target: {form}, admission: {{unknown_session: route}}");
            let sandbox =
                Plan::new().node(options).listener(&keys).upstream("health_check: {interval: 1h}").start().await;
            if over_tls_too {
                over_tls(&sandbox, &authority, "ca_file: ca.pem", same).await;
            }
            let mut wire = Wire::plain(sandbox.address("plain").await).await;
            for target in &targets {
                wire.ask(format!("PUT {target} HTTP/1.1\r\nHost: H.x:81\r\nContent-Length: 0\r\n\r\n").as_bytes())
                    .await;
            }
            let path = |t: &str| t[t.find("/aspera").unwrap()..].to_owned();
            let made = |t: &String| match form {
                "received" => t.clone(),
                "origin_form" => path(t),
                _ => {
                    let front = if t.starts_with('/') { String::new() } else { format!("{word}://H.x:81") };
                    let rest = path(t).replacen("/aspera/https/", "/aspera/http/", 1);
                    format!("{front}{}", rest.replacen("/aspera/http/", &format!("/aspera/{word}/"), 1))
                }
            };
            let seen = sandbox.seen(1);
            assert_eq!(seen.len(), targets.len(), "{word} {form}");
            for (seen, target) in seen.iter().zip(&targets) {
                let line = String::from_utf8_lossy(&seen.head).lines().next().unwrap().to_owned();
                assert_eq!(line, format!("PUT {} HTTP/1.1", made(target)), "{word} {form}");
            }
        }
    }
}

/// A peer that answers each request over TLS with 200, or with 500 when it is asked for `/bad`.
async fn checked(acceptor: TlsAcceptor) -> Peer {
    Peer::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut tls) = acceptor.accept(stream).await else { return };
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                if !matches!(tls.read_buf(&mut bytes).await, Ok(n) if n > 0) {
                    return;
                }
            }
            let status = if bytes.starts_with(b"GET /bad ") { "500 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_by_request_go_over_tls_and_verify_as_sessions_do() {
    let (right, other) = (Authority::new(), Authority::new());
    for (signed_by, certificate, tls, path, result) in [
        (&right, "127.0.0.1", "ca_file: ca.pem", "/good", "ok"),
        (&right, "127.0.0.1", "ca_file: ca.pem", "/bad", "failed"),
        (&right, "node.example", "ca_file: ca.pem, server_name: node.example", "/good", "ok"),
        (&right, "127.0.0.2", "ca_file: ca.pem", "/good", "failed"),
        (&other, "127.0.0.1", "ca_file: ca.pem", "/good", "failed"),
        (&other, "whoever.example", "verify: off", "/good", "ok"),
    ] {
        let (acceptor, names) = signed_by.acceptor(certificate);
        let peer = checked(acceptor).await;
        let sandbox = Plan::new().peer(peer.address).start().await;
        let check = format!("health_check: {{interval: 50ms, http: {{path: {path}}}}}");
        over_tls(&sandbox, &right, tls, |y| y.replace("scheme: https,", &format!("scheme: https, {check},"))).await;
        let begin = Instant::now();
        let up = if result == "ok" { 1.0 } else { 0.0 };
        loop {
            let metrics = sandbox.metrics().await;
            let checks = metrics.sum("health_checks_total", &[("port", "https"), ("result", result)]);
            let is_up = metrics.sum("node_up", &[("node", "n1"), ("port", "https")]);
            if checks >= 2.0 && is_up == up {
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "{certificate} {tls} {path}: {}", metrics.0);
        }
        let sni = names.lock().unwrap().first().cloned().flatten();
        assert_eq!(sni.is_some(), tls.contains("server_name"), "{certificate} {tls}");
    }
}
