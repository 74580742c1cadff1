//! TLS towards nodes, for what the gateway asks of them itself (health checks).

use std::{io, net::IpAddr, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::net::TcpStream;

use super::tls::{TlsError, roots_file};
use crate::config::UpstreamTlsConfig;

/// A TLS connection with a node.
pub type NodeTlsConn = tokio_rustls::client::TlsStream<TcpStream>;

/// How TLS is spoken to the nodes of one upstream.
#[derive(Clone)]
pub struct ClientTls {
    connector: tokio_rustls::TlsConnector,
    server_name: Option<String>,
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl ClientTls {
    /// Reads the authorities and builds the client side of TLS.
    pub fn build(config: &UpstreamTlsConfig) -> Result<ClientTls, TlsError> {
        let settings = |e: rustls::Error| TlsError::Settings(e.to_string());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(settings)?;
        let client = if config.verify {
            let path = roots_file(config.ca_file.as_deref())?;
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(&path)
                .map_err(|e| TlsError::File { path: path.clone(), reason: e.to_string() })?;
            roots.add_parsable_certificates(certificates.flatten());
            builder.with_root_certificates(roots).with_no_client_auth()
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyNode)).with_no_client_auth()
        };
        Ok(ClientTls { connector: Arc::new(client).into(), server_name: config.server_name.clone() })
    }

    /// Shakes hands with a node. An address as the name means no SNI.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> io::Result<NodeTlsConn> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = match name.parse::<IpAddr>() {
            Ok(ip) => ServerName::IpAddress(ip.into()),
            Err(_) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
        };
        self.connector.connect(name, stream).await
    }
}

/// Takes any certificate: what `verify: off` asks for.
#[derive(Debug)]
pub(super) struct AnyNode;

impl ServerCertVerifier for AnyNode {
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
