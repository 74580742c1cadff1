//! TLS as somebody sees it who asks what a server can do: which handshake it takes, and which certificates it shows.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, ClientConfig, Error, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};

use super::{
    tls::{TlsError, roots_file},
    tls_client::{AnyNode, NodeTlsConn},
};

/// Why there was no handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHandshake {
    /// What came is not TLS.
    NotTls,
    /// The server takes no version that was offered.
    Version,
    /// The server, or this side, finds nothing in common.
    Incompatible,
    /// The connection ended.
    Closed,
    /// Nothing came in time.
    Silent,
}

/// What a handshake showed.
#[derive(Debug)]
pub struct Handshake {
    /// Such as `TLSv1_2`.
    pub version: String,
    /// The cipher suite.
    pub suite: String,
    /// The certificates as they came, the server's own first.
    pub chain: Vec<CertificateDer<'static>>,
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSeen {
    /// Its DNS names and addresses; without any its subject.
    pub names: Vec<String>,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

/// A client that takes TLS 1.2 and 1.3, and any certificate.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn modern() -> Result<Arc<ClientConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Settings(error.to_string()))?;
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyNode)).with_no_client_auth()))
}

/// Shakes hands. `name` is sent as the server name; without one none is.
///
/// # Errors
/// There is no handshake within `patience`.
pub async fn shake(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    name: Option<&str>,
    patience: Duration,
) -> Result<(NodeTlsConn, Handshake), NoHandshake> {
    let peer = stream.peer_addr().map_err(|_| NoHandshake::Closed)?;
    let named = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    let name = named.unwrap_or(ServerName::IpAddress(peer.ip().into()));
    let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
    let conn = match timeout(patience, connecting).await {
        Err(_) => return Err(NoHandshake::Silent),
        Ok(Err(error)) => return Err(told(&error)),
        Ok(Ok(conn)) => conn,
    };
    let (_, tls) = conn.get_ref();
    let handshake = Handshake {
        version: tls.protocol_version().map_or_else(String::new, |version| format!("{version:?}")),
        suite: tls.negotiated_cipher_suite().map_or_else(String::new, |suite| format!("{:?}", suite.suite())),
        chain: tls.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect(),
    };
    Ok((conn, handshake))
}

fn told(error: &io::Error) -> NoHandshake {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => NoHandshake::Version,
        Some(Error::InvalidMessage(_)) => NoHandshake::NotTls,
        Some(_) => NoHandshake::Incompatible,
        None => NoHandshake::Closed,
    }
}

/// What a certificate says of itself; `None` for what is none.
pub fn read_certificate(der: &[u8]) -> Option<CertificateSeen> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let names = alternative.into_iter().flat_map(|san| &san.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    if names.is_empty() {
        names.push(parsed.subject().to_string());
    }
    let validity = parsed.validity();
    Some(CertificateSeen {
        names,
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Whether an authority of this host stands behind a chain, for this name; the reason where none does.
///
/// # Errors
/// The chain is not trusted, or this host has no file of authorities.
pub fn verify(chain: &[CertificateDer<'static>], host: &str) -> Result<(), String> {
    let path = roots_file(None).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(&path).map_err(|error| error.to_string())?;
    roots.add_parsable_certificates(read.flatten());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let (leaf, rest) = chain.split_first().ok_or("there is no certificate")?;
    verifier.verify_server_cert(leaf, rest, &name, &[], UnixTime::now()).map(|_| ()).map_err(|error| error.to_string())
}
