//! TLS towards clients: which certificate, which version, whose certificate back, and how it ends.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;

use crate::support::{
    Plan, Sandbox, TOKEN, Wire, certificate, uuid,
    wire::{end, start, start_body},
};

const FILES: &str = "cert_file: tls.crt, key_file: tls.key";

/// Verifies nothing, and offers only these signatures.
#[derive(Debug)]
struct Offers(Vec<SignatureScheme>);

impl ServerCertVerifier for Offers {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

const ECDSA: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256];
const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA256];
const V12: &rustls::SupportedProtocolVersion = &rustls::version::TLS12;
const V13: &rustls::SupportedProtocolVersion = &rustls::version::TLS13;

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client(
    version: &'static rustls::SupportedProtocolVersion,
    schemes: &[SignatureScheme],
    own: Option<Own>,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Offers(schemes.to_vec())));
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    };
    config.enable_sni = true;
    Arc::new(config)
}

/// Certificate and key of NAME.crt and NAME.key.
fn own(dir: &Path, name: &str) -> Own {
    let chain = CertificateDer::pem_file_iter(dir.join(format!("{name}.crt"))).unwrap().map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap())
}

fn leaf(dir: &Path, name: &str) -> Vec<u8> {
    own(dir, name).0[0].to_vec()
}

/// The certificate that a client of this name gets; an IP address as name sends no SNI.
async fn shown(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> std::io::Result<Vec<u8>> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await?;
    Ok(tls.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

/// Whether a whole session goes through.
async fn works(address: SocketAddr, config: Arc<ClientConfig>) -> bool {
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let Ok(tls) = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await else { return false };
    let (mut wire, id) = (Wire::over(tls), uuid());
    // With TLS 1.3 a client learns only afterwards that its certificate was refused.
    if !wire.try_send(&start(address, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await {
        return false;
    }
    wire.try_head().await.is_some_and(|r| r.status == 200) && wire.ask(&end(address, &id, "DONE")).await.status == 200
}

/// A sandbox whose https listener has these TLS keys, made after the files of `prepare`.
async fn with_tls(keys: &str, prepare: impl FnOnce(&Path)) -> (Sandbox, SocketAddr) {
    let sandbox = Plan::new().start().await;
    prepare(sandbox.dir.path());
    sandbox.gateway.reload(sandbox.config(|y| y.replace(FILES, keys))).await.unwrap();
    let address = sandbox.address("tls").await;
    (sandbox, address)
}

const BOTH: &str = "certificates: [{cert_file: rsa.crt, key_file: rsa.key}, {cert_file: tls.crt, key_file: tls.key}]";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_either_version_gets_the_kind_of_certificate_that_it_can_verify() {
    let rsa = |dir: &Path| certificate(dir, "rsa", &rcgen::PKCS_RSA_SHA256);
    let (sandbox, address) = with_tls(BOTH, rsa).await;
    let dir = sandbox.dir.path();
    for version in [V12, V13] {
        let both = [ECDSA, RSA].concat();
        for (schemes, name) in [(ECDSA, "tls"), (RSA, "rsa"), (&both, "rsa")] {
            assert_eq!(shown(address, client(version, schemes, None), "127.0.0.1").await.unwrap(), leaf(dir, name));
            assert!(works(address, client(version, schemes, None)).await, "{version:?} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_chooses_its_certificate_and_no_name_or_an_unknown_one_gets_the_first() {
    let named = |dir: &Path| {
        for (file, name) in [("one", "one.example"), ("two", "*.two.example")] {
            let key = rcgen::KeyPair::generate().unwrap();
            let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
            std::fs::write(dir.join(format!("{file}.crt")), cert.pem()).unwrap();
            std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).unwrap();
        }
    };
    let keys = "certificates: [{cert_file: one.crt, key_file: one.key}, {cert_file: two.crt, key_file: two.key}, {cert_file: tls.crt, key_file: tls.key}]";
    let (sandbox, address) = with_tls(keys, named).await;
    for (name, file) in [
        ("one.example", "one"),
        ("ONE.Example", "one"),
        ("a.two.example", "two"),
        ("a.b.two.example", "one"),
        ("two.example", "one"),
        ("localhost", "tls"),
        ("nobody.example", "one"),
        ("127.0.0.1", "one"),
    ] {
        let got = shown(address, client(V12, ECDSA, None), name).await.unwrap();
        assert_eq!(got, leaf(sandbox.dir.path(), file), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_are_ignored_taken_or_demanded() {
    let made = |dir: &Path| {
        certificate(dir, "self", &rcgen::PKCS_ECDSA_P256_SHA256);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(dir.join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        std::fs::write(dir.join("good.crt"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        std::fs::write(dir.join("good.key"), key.serialize_pem()).unwrap();
    };
    for (keys, without, selfmade, signed) in [
        ("client_auth: off", true, true, true),
        ("client_auth: request", true, true, true),
        ("client_auth: require, client_ca_file: ca.crt", false, false, true),
    ] {
        let (sandbox, address) = with_tls(&format!("{FILES}, {keys}"), made).await;
        let dir = sandbox.dir.path();
        for version in [V12, V13] {
            assert_eq!(works(address, client(version, ECDSA, None)).await, without, "{keys}");
            assert_eq!(works(address, client(version, ECDSA, Some(own(dir, "self")))).await, selfmade, "{keys}");
            assert_eq!(works(address, client(version, ECDSA, Some(own(dir, "good")))).await, signed, "{keys}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn min_version_1_3_refuses_1_2_and_counts_it() {
    let (sandbox, address) = with_tls(&format!("{FILES}, min_version: '1.3'"), |_| {}).await;
    assert!(works(address, client(V13, ECDSA, None)).await);
    assert!(shown(address, client(V12, ECDSA, None), "localhost").await.is_err());
    until(&sandbox, "tls_handshakes_total", ("result", "failed"), 1.0).await;
}

async fn until(sandbox: &Sandbox, family: &str, label: (&str, &str), value: f64) {
    let begin = Instant::now();
    while sandbox.metrics().await.sum(family, &[label, ("listener", "tls")]) != value {
        assert!(begin.elapsed() < Duration::from_secs(10), "{family} {label:?} never became {value}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_notify_is_answered_at_once() {
    let sandbox = Plan::new().listener("persistent_connection: off").start().await;
    let address = sandbox.address("tls").await;
    let id = uuid();
    for (version, request) in [
        (V12, start(address, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))),
        (V13, end(address, &id, "DONE")),
        (V12, Vec::new()),
    ] {
        let mut wire = Wire::tls(address, client(version, ECDSA, None)).await;
        if !request.is_empty() {
            assert_eq!(wire.ask(&request).await.status, 200);
        }
        let begin = Instant::now();
        wire.finish().await;
        assert_eq!(wire.rest().await, b"");
        assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_dropped_in_time_and_counted() {
    let sandbox = Plan::new().top("timeouts: {tls_handshake: 300ms}").start().await;
    let address = sandbox.address("tls").await;
    let id = uuid();
    for (n, bytes) in [end(address, &id, "ERROR"), vec![0x55; 3000]].iter().enumerate() {
        let mut wire = Wire::plain(address).await;
        wire.try_send(bytes).await;
        wire.rest().await;
        until(&sandbox, "refusals_total", ("reason", "tls_handshake"), n as f64 + 1.0).await;
    }
    let begin = Instant::now();
    Wire::plain(address).await.rest().await;
    let mut slow = Wire::plain(address).await;
    slow.try_send(&[0x16, 3, 1]).await;
    slow.rest().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    until(&sandbox, "refusals_total", ("reason", "tls_timeout"), 2.0).await;
    until(&sandbox, "tls_handshakes_total", ("result", "timeout"), 2.0).await;
    until(&sandbox, "connections_active", ("listener", "tls"), 0.0).await;
    assert_eq!(sandbox.all_seen(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_named_in_the_error() {
    let sandbox = Plan::new().start().await;
    let dir = sandbox.dir.path();
    certificate(dir, "other", &rcgen::PKCS_ECDSA_P256_SHA256);
    std::fs::write(dir.join("text.pem"), "hello").unwrap();
    std::fs::write(dir.join("junk.pem"), "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n").unwrap();
    for (keys, names) in [
        ("cert_file: no.crt, key_file: tls.key", &["no.crt"][..]),
        ("cert_file: tls.crt, key_file: no.key", &["no.key"]),
        ("cert_file: text.pem, key_file: tls.key", &["text.pem"]),
        ("cert_file: junk.pem, key_file: tls.key", &["junk.pem"]),
        ("cert_file: tls.crt, key_file: text.pem", &["text.pem"]),
        ("cert_file: tls.crt, key_file: other.key", &["tls.crt", "other.key"]),
        ("cert_file: tls.crt, key_file: tls.key, client_auth: require, client_ca_file: no.ca", &["no.ca"]),
        ("cert_file: tls.crt, key_file: tls.key, client_auth: require, client_ca_file: text.pem", &["text.pem"]),
        ("cert_file: tls.crt, key_file: tls.key, client_auth: require, client_ca_file: junk.pem", &["junk.pem"]),
    ] {
        let error = sandbox.gateway.reload(sandbox.config(|y| y.replace(FILES, keys))).await.unwrap_err().to_string();
        assert!(names.iter().all(|n| error.contains(n)) && error.starts_with("listener tls: "), "{keys}: {error}");
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}
