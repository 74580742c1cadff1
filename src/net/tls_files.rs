//! Certificates and keys in files, and what may help where one will not do.

use std::path::Path;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error as PemError, PemObject as _},
};

use super::tls::TlsError;
use crate::config::hint_of_file;

/// How files are called that have certificates and keys.
const ENDINGS: [&str; 4] = ["crt", "pem", "key", "cer"];

/// The certificates of a PEM file, in their order; none where it has none.
///
/// # Errors
/// It cannot be read, or it is broken.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| broken(path, &error))
}

/// The first private key of a PEM file.
///
/// # Errors
/// It cannot be read, it is broken, or it has none that can be used.
pub(super) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        PemError::NoItemsFound => no_key(path),
        error => broken(path, &error),
    })
}

fn broken(path: &Path, error: &PemError) -> TlsError {
    let reason = match error {
        PemError::Io(error) => {
            let hint = hint_of_file(path, error, &ENDINGS);
            error.to_string() + &hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default()
        }
        other => other.to_string(),
    };
    TlsError::File { path: path.to_owned(), reason }
}

fn no_key(path: &Path) -> TlsError {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let hint = if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        "it is under a passphrase, and nobody is there to type it: openssl pkey -in KEY -out KEY.plain"
    } else if text.contains("BEGIN CERTIFICATE") {
        "it has a certificate; the key is in a file of its own"
    } else {
        "a PEM file with a key is wanted, as `openssl genpkey` writes it"
    };
    TlsError::File { path: path.to_owned(), reason: format!("no private key in it\n  hint: {hint}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_will_not_do_is_told_with_what_helps() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("gate.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        write("gate.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        write("notes.txt", "a word\n");
        let at = |name: &str| dir.path().join(name);
        for (told, hint) in [
            (read_certificates(&at("gat.crt")).unwrap_err(), "hint: did you mean \"gate.crt\"?".to_owned()),
            (
                read_key(&at("tls.pem")).unwrap_err(),
                format!("hint: in {} there is gate.crt, gate.key", dir.path().display()),
            ),
            (read_key(&at("no/tls.key")).unwrap_err(), format!("hint: there is no folder {}", at("no").display())),
            (read_key(&at("gate.crt")).unwrap_err(), "hint: it has a certificate".to_owned()),
            (read_key(&at("gate.key")).unwrap_err(), "hint: it is under a passphrase".to_owned()),
            (read_key(&at("notes.txt")).unwrap_err(), "hint: a PEM file with a key is wanted".to_owned()),
        ] {
            assert!(told.to_string().contains(&hint), "{told}");
        }
        assert!(read_certificates(&at("notes.txt")).unwrap().is_empty());
    }
}
