//! TLS as servers have it that ascp cannot speak to, and certificates as other clients see them.

use std::{
    path::Path as File,
    process::{Command, Stdio},
    sync::Arc,
};

use fallgate::doctor::Path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Seat,
    paths::answers,
    run::{free, run},
};
use crate::support::{certificate, peer::Peer, programs::is_here, secrets};

/// A TLS server with its own settings, which closes after the handshake.
async fn tls_server(server: rustls::ServerConfig) -> Peer {
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    Peer::start(move |stream: TcpStream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut bytes = [0; 4096];
            let _ = stream.read(&mut bytes).await;
            let _ = stream.write_all(b"HTTP/1.1 403 F\r\nx-real-mgmt-error: 19\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.shutdown().await;
        }
    })
    .await
}

type Pair = (Vec<rustls::pki_types::CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>);

fn pair(pem: &str, key: &str) -> Pair {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect();
    (chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
}

fn server(versions: &[&'static rustls::SupportedProtocolVersion], pem: &str, key: &str) -> rustls::ServerConfig {
    let (chain, key) = pair(pem, key);
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_ascp_cannot_speak_is_told_by_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "p256", &rcgen::PKCS_ECDSA_P256_SHA256);
    certificate(dir.path(), "ed", &rcgen::PKCS_ED25519);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let both = rustls::ALL_VERSIONS;
    let newest = tls_server(server(&[&rustls::version::TLS13], &read("p256.crt"), &read("p256.key"))).await;
    let edward = tls_server(server(both, &read("ed.crt"), &read("ed.key"))).await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let expired = params.self_signed(&key).unwrap().pem();
    let expired = tls_server(server(both, &expired, &key.serialize_pem())).await;
    let good = tls_server(server(both, &read("p256.crt"), &read("p256.key"))).await;
    let silent = Peer::start(|mut stream: TcpStream| async move {
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink).await;
    })
    .await;
    let clear = answers("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    for (peer, expected) in [
        (&newest, "tls_13_only"),
        (&edward, "tls_unspeakable"),
        (&expired, "tls_ok certificate_expired fallback_ok"),
        (&good, "tls_ok certificate_untrusted fallback_ok"),
        (&silent, "tls_silent"),
        (&clear, "not_tls"),
    ] {
        let words = Seat::new().await.https(peer.address).words(Path::Https).await.join(" ");
        assert!(words.starts_with(expected), "{expected}: {words}");
    }
    assert_eq!(Seat::new().await.http(good.address).words(Path::Http).await, ["is_tls"]);
}

/// The words of a TLS port that is asked for by its name.
async fn named(name: &str, peer: &Peer) -> String {
    let mut seat = Seat::new().await.https(peer.address);
    seat.question.host = name.to_owned();
    seat.words(Path::Https).await.join(" ")
}

#[derive(Debug)]
struct OnlyNamed(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for OnlyNamed {
    fn resolve(&self, hello: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        hello.server_name().map(|_| self.0.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_a_name_and_one_with_ciphers_of_its_own_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "p256", &rcgen::PKCS_ECDSA_P256_SHA256);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (chain, key) = pair(&read("p256.crt"), &read("p256.key"));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let certified = rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).unwrap();
    let wants_a_name = rustls::ServerConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OnlyNamed(Arc::new(certified))));
    assert_eq!(named("localhost", &tls_server(wants_a_name).await).await, "tls_needs_sni");
    let mut odd = provider;
    odd.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("CHACHA20"));
    let odd = rustls::ServerConfig::builder_with_provider(Arc::new(odd))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    assert_eq!(named("localhost", &tls_server(odd).await).await, "tls_unspeakable");
}

/// What ascp has and this program has not is told by the handshake that ascp begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_what_is_old_is_told_from_one_that_ascp_cannot_speak_to() {
    if !is_here("openssl", &["version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "own", &rcgen::PKCS_ECDSA_P256_SHA256);
    for (keys, expected) in [
        ("-tls1_1 -cipher DEFAULT:@SECLEVEL=0", "tls_old"),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", "tls_old"),
        ("-cipher ECDHE-ECDSA-AES128-SHA", "tls_old"),
        ("-groups X25519", "tls_unspeakable"),
        ("-tls1_3", "tls_13_only"),
        ("-Verify 1", "tls_wants_certificate"),
    ] {
        let at = free();
        let port = at.port().to_string();
        let own = ["s_server", "-accept", &port, "-4", "-cert", "own.crt", "-key", "own.key", "-www"];
        let arguments: Vec<_> = own.into_iter().chain(keys.split(' ')).collect();
        let _server = run("openssl", &arguments, dir.path(), at.port()).await;
        assert_eq!(Seat::new().await.https(at).words(Path::Https).await, [expected], "{keys}");
    }
}

/// The words of `fallgate doctor`, which finds the authorities of its host in this file.
async fn by_command(authorities: &File, host: &'static str, at: std::net::SocketAddr) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let (dead, port) = (free().port().to_string(), at.port().to_string());
    command.args(["doctor", "--json", "--timeout", "2s", "--host", host, "--https-port", &port]);
    command.args(["--http-port", &dead, "--ssh-port", &dead, "--udp-port", &dead]);
    command.env("SSL_CERT_FILE", authorities).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    secrets::none_in("stdout", &output.stdout);
    secrets::none_in("stderr", &output.stderr);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_path = told["findings"].as_array().unwrap().iter().filter(|finding| finding["path"] == "https");
    of_path.map(|finding| finding["diagnosis"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_judged_by_the_authorities_of_this_host_and_by_its_names() {
    let dir = tempfile::tempdir().unwrap();
    let of_authority = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let authority = params.self_signed(&of_authority).unwrap();
    let file = dir.path().join("authorities.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::from_params(&params, &of_authority)).unwrap();
    let both = tls_server(server(rustls::ALL_VERSIONS, &leaf.pem(), &key.serialize_pem())).await;
    assert_eq!(by_command(&file, "localhost", both.address).await[..2], ["tls_ok", "certificate_ok"]);
    assert_eq!(by_command(&file, "127.0.0.1", both.address).await[..2], ["tls_ok", "certificate_name"]);
    certificate(dir.path(), "other", &rcgen::PKCS_ECDSA_P256_SHA256);
    let other = dir.path().join("other.crt");
    assert_eq!(by_command(&other, "localhost", both.address).await[..2], ["tls_ok", "certificate_untrusted"]);
}
