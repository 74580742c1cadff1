//! TLS as somebody sees it who asks what a server can do: which handshake it takes, and which certificates it shows.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::aws_lc_rs::rand;
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, Error, RootCertStore, SignatureScheme,
    client::{ResolvesClientCert, WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    sign::CertifiedKey,
    version::TLS12,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    tls::{TlsError, roots_file},
    tls_client::{AnyNode, NodeTlsConn},
};

/// The ClientHello of ascp 3.9, with zeros for what is random.
const HELLO: &[u8; 233] =
    b"\x16\x03\x01\x00\xe4\x01\x00\x00\xe0\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\
    \x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x62\xc0\x30\xc0\x2c\xc0\x32\
    \xc0\x2e\xc0\x2f\xc0\x2b\xc0\x31\xc0\x2d\x00\xa5\x00\xa1\x00\x9f\x00\xa4\x00\xa0\x00\x9e\xc0\x28\xc0\x24\
    \xc0\x14\xc0\x0a\xc0\x2a\xc0\x26\xc0\x0f\xc0\x05\x00\x6b\x00\x69\x00\x68\x00\x39\x00\x37\x00\x36\xc0\x27\
    \xc0\x23\xc0\x13\xc0\x09\xc0\x29\xc0\x25\xc0\x0e\xc0\x04\x00\x67\x00\x3f\x00\x3e\x00\x33\x00\x31\x00\x30\
    \x00\x9d\x00\x9c\x00\x3d\x00\x35\x00\x3c\x00\x2f\x00\xff\x01\x00\x00\x55\x00\x0b\x00\x04\x03\x00\x01\x02\
    \x00\x0a\x00\x1c\x00\x1a\x00\x17\x00\x19\x00\x1c\x00\x1b\x00\x18\x00\x1a\x00\x16\x00\x0e\x00\x0d\x00\x0b\
    \x00\x0c\x00\x09\x00\x0a\x00\x23\x00\x00\x00\x0d\x00\x20\x00\x1e\x06\x01\x06\x02\x06\x03\x05\x01\x05\x02\
    \x05\x03\x04\x01\x04\x02\x04\x03\x03\x01\x03\x02\x03\x03\x02\x01\x02\x02\x02\x03\x00\x0f\x00\x01\x01";
/// Where that is.
const RANDOM: std::ops::Range<usize> = 11..43;

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

/// Remembers whether a server wanted a certificate of the client; none is given.
#[derive(Debug, Default)]
pub struct Wanted(AtomicBool);

impl Wanted {
    /// Whether one was wanted.
    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Wanted {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.store(true, Ordering::Relaxed);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A client that takes TLS 1.2, and 1.3 if that is wanted too, and any certificate; and what it hears of its own.
///
/// # Errors
/// The TLS library refuses its own defaults.
pub fn modern(newest: bool) -> Result<(Arc<ClientConfig>, Arc<Wanted>), TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = if newest { ALL_VERSIONS } else { &[&TLS12] };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| TlsError::Settings(error.to_string()))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyNode));
    let wanted = Arc::new(Wanted::default());
    Ok((Arc::new(builder.with_client_cert_resolver(wanted.clone())), wanted))
}

/// Whether a server goes on with a handshake that ascp begins, within `patience`: it has a version, a cipher and a
/// certificate for it, also one that this program has not.
pub async fn is_spoken_by_ascp(mut stream: TcpStream, patience: Duration) -> bool {
    let mut hello = *HELLO;
    let Some(Ok(())) = hello.get_mut(RANDOM).map(rand::fill) else { return false };
    let asking = async {
        stream.write_all(&hello).await?;
        let mut begin = [0; 6];
        stream.read_exact(&mut begin).await.map(|_| begin)
    };
    // A record of the handshake that begins with a ServerHello, and not an alert.
    matches!(timeout(patience, asking).await, Ok(Ok([22, 3, _, _, _, 2])))
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
