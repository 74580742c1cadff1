//! TLS towards clients: certificates chosen without SNI, client certificates that may be anything,
//! and handshakes with a deadline.
//!
//! The fallback client sends no SNI and never resumes (docs/protocol.md, "TLS"), so there is always
//! a default certificate, and neither session ids nor tickets are kept.

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use thiserror::Error;

use super::{
    tcp::Conn,
    tls_files::{read_certificates, read_key},
};
use crate::config::{CertificateConfig, ClientAuth, TlsConfig, TlsVersion};

/// Has libraries that choose for themselves take the provider of everything else; the first call counts.
pub fn use_everywhere() {
    let _ = aws_lc_rs::default_provider().install_default();
}

/// A TLS connection with a client.
pub type TlsConn = tokio_rustls::server::TlsStream<Conn>;

/// Why TLS cannot be set up. Names the file, so that an operator knows which one to mend.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file could not be read or holds no PEM of the kind that is needed.
    #[error("cannot use {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key are not a pair.
    #[error("{} and {} are no pair: {reason}", cert.display(), key.display())]
    Pair {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library says.
        reason: String,
    },
    /// The TLS library refuses the settings.
    #[error("TLS settings are refused: {0}")]
    Settings(String),
}

/// What a listener needs to end TLS.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: tokio_rustls::TlsAcceptor,
    certificates: Arc<Certificates>,
}

impl Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("certificates", &self.certificates).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads every file that `config` names and builds the server side of TLS.
    pub fn build(config: &TlsConfig) -> Result<ServerTls, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = Arc::new(Certificates::read(&config.certificates(), &provider)?);
        let versions: &[&rustls::SupportedProtocolVersion] = match config.min_version {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let settings = |e: rustls::Error| TlsError::Settings(e.to_string());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions).map_err(settings)?;
        let builder = match config.client_auth {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::Request => builder.with_client_cert_verifier(Arc::new(AnyClient)),
            ClientAuth::Require => {
                let path = config.client_ca_file.as_deref().unwrap_or(Path::new(""));
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(read_roots(path)?), provider)
                    .build()
                    .map_err(|e| TlsError::File { path: path.to_owned(), reason: e.to_string() })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut server = builder.with_cert_resolver(certificates.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        Ok(ServerTls { acceptor: Arc::new(server).into(), certificates })
    }

    /// The certificates with the time each ends, for the expiry metric.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        self.certificates.0.iter().map(|c| (c.name.clone(), c.not_after)).collect()
    }

    /// Ends the handshake with a client, or fails after `deadline`.
    pub async fn accept(&self, conn: Conn, deadline: Duration) -> io::Result<TlsConn> {
        tokio::time::timeout(deadline, self.acceptor.accept(conn))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

#[derive(Debug)]
struct Certificate {
    /// The certificate file's name without its folder and extension.
    name: String,
    /// Unix seconds.
    not_after: i64,
    /// DNS names it is for, lower case; `*.` marks a wildcard.
    names: Vec<String>,
    key: Arc<CertifiedKey>,
}

/// The certificates of one listener; the first is the default.
#[derive(Debug)]
struct Certificates(Vec<Certificate>);

impl Certificates {
    fn read(configs: &[CertificateConfig], provider: &CryptoProvider) -> Result<Certificates, TlsError> {
        configs.iter().map(|c| Certificate::read(c, provider)).collect::<Result<_, _>>().map(Certificates)
    }

    /// By name among those whose key the client can verify; else the first that it can verify.
    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let usable = || self.0.iter().filter(|c| c.key.key.choose_scheme(schemes).is_some());
        name.and_then(|name| usable().find(|c| c.is_for(name)))
            .or_else(|| usable().next())
            .or(self.0.first())
            .map(|c| c.key.clone())
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}

impl Certificate {
    fn read(config: &CertificateConfig, provider: &CryptoProvider) -> Result<Certificate, TlsError> {
        let broken = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
        let chain = read_certificates(&config.cert_file)?;
        let key = read_key(&config.key_file)?;
        let leaf = chain.first().ok_or_else(|| broken(&config.cert_file, "no certificate in it".into()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf)
            .map_err(|e| broken(&config.cert_file, format!("no certificate: {e}")))?;
        let not_after = parsed.validity().not_after.timestamp();
        let names = match parsed.subject_alternative_name() {
            Ok(Some(san)) => san
                .value
                .general_names
                .iter()
                .filter_map(|n| match n {
                    x509_parser::extensions::GeneralName::DNSName(n) => Some(n.to_ascii_lowercase()),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        };
        let name =
            config.cert_file.file_stem().map_or_else(|| "certificate".into(), |s| s.to_string_lossy().into_owned());
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|e| TlsError::Pair {
            cert: config.cert_file.clone(),
            key: config.key_file.clone(),
            reason: e.to_string(),
        })?;
        Ok(Certificate { name, not_after, names, key: Arc::new(key) })
    }

    fn is_for(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(parent) => name.split_once('.').is_some_and(|(_, rest)| rest == parent),
            None => *own == name,
        })
    }
}

fn read_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots.add(certificate).map_err(|e| TlsError::File { path: path.to_owned(), reason: e.to_string() })?;
    }
    Ok(roots)
}

/// The file with the authorities of the nodes' certificates: the one that is named, else the
/// system's. It is read once here, so that whoever uses it will find it good.
pub(super) fn roots_file(named: Option<&Path>) -> Result<PathBuf, TlsError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None => openssl_probe::probe()
            .cert_file
            .ok_or_else(|| TlsError::Settings("the system has no file of authorities; name one in ca_file".into()))?,
    };
    if read_roots(&path)?.is_empty() {
        return Err(TlsError::File { path, reason: "no certificate in it".into() });
    }
    Ok(path)
}

/// Asks for a client certificate and takes whatever comes, or nothing.
///
/// The client of the fallback sends a certificate of its own making whenever it is asked
/// (docs/protocol.md, "TLS"); nothing is decided on it, so nothing is verified.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
