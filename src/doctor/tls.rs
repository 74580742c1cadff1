//! TLS of a fallback port: whether ascp can speak it, and if not, who could; and what other clients think of the certificate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::net::TcpStream;

use super::{
    diagnosis::Diagnosis as D,
    exchange::exchange,
    finding::{Finding, Path},
    reach::{Fault, Place},
};
use crate::{
    net::{
        tls_client::NodeTlsConn,
        tls_look::{self, Handshake, NoHandshake},
    },
    node::client::insecure_tls,
};

/// Shakes hands as ascp does. On success tells of the certificates too.
pub(super) async fn shake(
    stream: TcpStream,
    place: &Place,
    path: Path,
    patience: Duration,
) -> Result<(NodeTlsConn, Vec<Finding>), NoHandshake> {
    let like_ascp = insecure_tls().map_err(|_| NoHandshake::Incompatible)?;
    let (conn, seen) = tls_look::shake(stream, like_ascp, None, patience).await?;
    let mut findings = vec![Finding::new(path, D::TlsOk, format!("{} with {}", version(&seen.version), seen.suite))];
    findings.extend(certificates(&seen, place, path));
    Ok((conn, findings))
}

/// Shakes hands once more, to be able to end a session.
pub(super) async fn again(stream: TcpStream, patience: Duration) -> Option<NodeTlsConn> {
    let like_ascp = insecure_tls().ok()?;
    tls_look::shake(stream, like_ascp, None, patience).await.ok().map(|(conn, _)| conn)
}

/// Why ascp's handshake failed, by what other handshakes meet. `stream` makes a connection for each.
pub(super) async fn why<F>(fault: NoHandshake, place: &Place, patience: Duration, stream: impl Fn() -> F) -> Fault
where
    F: Future<Output = Option<TcpStream>>,
{
    match fault {
        NoHandshake::NotTls => return Fault::new(D::NotTls, "what answers the handshake is not TLS"),
        NoHandshake::Silent if speaks_http(stream().await, patience).await => {
            return Fault::new(D::NotTls, "the port answers requests in the clear");
        }
        NoHandshake::Silent => return Fault::new(D::TlsSilent, format!("no answer in {}", super::ssh::secs(patience))),
        NoHandshake::Version | NoHandshake::Incompatible | NoHandshake::Closed => {}
    }
    let try_as = async |newest: bool, name: Option<&str>| {
        let (modern, wanted) = tls_look::modern(newest).ok()?;
        let shaken = tls_look::shake(stream().await?, modern, name, patience).await.map(|(_, seen)| seen);
        Some((shaken, wanted.is_wanted()))
    };
    let older = try_as(false, None).await;
    if let Some(hello) = stream().await
        && tls_look::is_spoken_by_ascp(hello, patience).await
    {
        return match older {
            Some((_, true)) => Fault::new(D::TlsWantsCertificate, "none was given, and the handshake ends"),
            _ => Fault::new(D::TlsOld, "the server goes on with the handshake that ascp begins"),
        };
    }
    match older {
        Some((Ok(seen), _)) => {
            return Fault::new(D::TlsUnspeakable, format!("only others come through, with {}", seen.suite));
        }
        _ => {
            if let Some((Ok(seen), _)) = try_as(true, None).await {
                return Fault::new(D::Tls13Only, format!("only {} is taken", version(&seen.version)));
            }
        }
    }
    match (try_as(true, Some(&place.host)).await, fault) {
        (Some((Ok(_), _)), _) => {
            Fault::new(D::TlsNeedsSni, format!("with the name {} a handshake comes through", place.host))
        }
        (_, NoHandshake::Closed) => Fault::new(D::TlsClosed, "the server closes in the handshake"),
        _ => Fault::new(D::TlsUnspeakable, "the server refuses every handshake that was tried"),
    }
}

/// Whether a server that waited for the end of a head takes a request in the clear.
async fn speaks_http(stream: Option<TcpStream>, patience: Duration) -> bool {
    let Some(mut stream) = stream else { return false };
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    exchange(&mut stream, (request, b""), patience).await.is_ok()
}

/// Whether a port that was asked in the clear speaks TLS.
pub(super) async fn is_spoken(stream: TcpStream, patience: Duration) -> bool {
    let Ok((modern, _)) = tls_look::modern(true) else { return false };
    tls_look::shake(stream, modern, None, patience).await.is_ok()
}

fn certificates(seen: &Handshake, place: &Place, path: Path) -> Vec<Finding> {
    let Some(leaf) = seen.chain.first().and_then(|leaf| tls_look::read_certificate(leaf)) else { return Vec::new() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    let names = leaf.names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let count = seen.chain.len();
    if now > leaf.not_after || now < leaf.not_before {
        let days = (now - leaf.not_after).max(leaf.not_before - now) / 86_400;
        return vec![Finding::new(path, D::CertificateExpired, format!("{names}: by {days} days"))];
    }
    let days = (leaf.not_after - now) / 86_400;
    let (diagnosis, more) = match tls_look::verify(&seen.chain, &place.host) {
        Ok(()) => (D::CertificateOk, String::new()),
        Err(error) if error.contains("not valid for") => (D::CertificateName, format!("; not {}", place.host)),
        Err(error) => (D::CertificateUntrusted, format!("; {error}")),
    };
    vec![Finding::new(path, diagnosis, format!("{names}, {days} days left, chain of {count}{more}"))]
}

/// `TLSv1_2` as people write it.
fn version(name: &str) -> String {
    name.replace("TLSv", "TLS ").replace('_', ".")
}
