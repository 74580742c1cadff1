//! `listeners[].tls`: certificates, versions and client certificates.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaf;

/// How a listener speaks TLS; one certificate is given by `cert_file` and `key_file`, several by `certificates`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain of the only certificate, PEM, the leaf first; no default.
    #[schemars(schema_with = "leaf::optional_file")]
    pub(super) cert_file: Option<PathBuf>,
    /// The private key of the only certificate, PEM; no default.
    #[schemars(schema_with = "leaf::optional_file")]
    pub(super) key_file: Option<PathBuf>,
    /// Several certificates, chosen by the name a client asks for; default empty. The first serves a client that names none.
    pub(super) certificates: Vec<CertificateConfig>,
    /// The oldest version that is spoken; default `1.2`.
    pub min_version: TlsVersion,
    /// Whether clients are asked for a certificate; default `off`.
    pub client_auth: ClientAuth,
    /// The authorities of client certificates, PEM, only with `client_auth: require`; no default.
    #[schemars(schema_with = "leaf::optional_file")]
    pub client_ca_file: Option<PathBuf>,
}

impl TlsConfig {
    /// All certificates, however they were given, the default one first; never empty in a validated configuration.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateConfig> {
        match (&self.cert_file, &self.key_file) {
            (Some(cert_file), Some(key_file)) => {
                vec![CertificateConfig { cert_file: cert_file.clone(), key_file: key_file.clone() }]
            }
            _ => self.certificates.clone(),
        }
    }

    /// Makes relative file names relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        let single = [&mut self.cert_file, &mut self.key_file, &mut self.client_ca_file];
        let several = self.certificates.iter_mut().flat_map(|c| [&mut c.cert_file, &mut c.key_file]);
        for file in single.into_iter().flatten().chain(several) {
            *file = base.join(&file);
        }
    }
}

/// One certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The certificate chain, PEM, the leaf first; required.
    #[schemars(schema_with = "leaf::file")]
    pub cert_file: PathBuf,
    /// The private key, PEM; required.
    #[schemars(schema_with = "leaf::file")]
    pub key_file: PathBuf,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; any certificate, or none, is let in unverified.
    Request,
    /// They are asked, and only a certificate of `client_ca_file` is let in.
    Require,
}
