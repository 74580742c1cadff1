//! The parent proxy: another proxy that is asked instead of the target.

use std::{io, net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::target::Target;
use crate::{
    config::ParentProxy,
    net::{
        dial::{DialError, dial},
        dns::{DnsError, Resolver},
        http1::{AnswerHead, AnswerProblem},
        tcp,
    },
};

/// How long a parent may take to connect to a target; a proxy's own time for that is often a minute, and who waits at
/// the other end gives up sooner.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a parent does not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParentError {
    /// Its name has no address.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// It was not connected to.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// It closed or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It does not answer.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It does not speak HTTP.
    #[error(transparent)]
    Answer(#[from] AnswerProblem),
    /// It would not.
    #[error("it answered {0}")]
    Status(u16),
}

/// Connects to a parent. Its address is the operator's own choice, no client's; no policy is asked.
pub(super) async fn reach(
    parent: &ParentProxy,
    resolver: &Resolver,
    patience: Duration,
) -> Result<(TcpStream, SocketAddr), ParentError> {
    let found = match parent.host().parse() {
        Ok(ip) => vec![ip],
        Err(_) => resolver.addresses(parent.host()).await?,
    };
    let addresses = found.into_iter().map(|ip| SocketAddr::new(ip, parent.port())).collect();
    let (stream, address) = dial(addresses, patience).await?;
    tcp::keep_alive(&stream);
    let _ = stream.set_nodelay(true);
    Ok((stream, address))
}

/// Has a parent connect to the target. What it sent behind its answer is the target's.
pub(super) async fn connect(
    stream: &mut TcpStream,
    parent: &ParentProxy,
    target: &Target,
) -> Result<Bytes, ParentError> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(value) = authorization(parent) {
        request.push_str(&format!("Proxy-Authorization: {value}\r\n"));
    }
    request.push_str("\r\n");
    let asking = async {
        stream.write_all(request.as_bytes()).await?;
        let (mut said, mut seen) = (BytesMut::new(), 0);
        loop {
            let Some(end) = AnswerHead::end(&said, &mut seen)? else {
                if stream.read_buf(&mut said).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                continue;
            };
            seen = 0;
            let head = AnswerHead::parse(said.split_to(end).freeze())?;
            match head.status() {
                _ if head.is_interim() => {}
                200..300 => return Ok(said.freeze()),
                status => return Err(ParentError::Status(status)),
            }
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or(Err(ParentError::Silent))
}

/// What the parent is told of who asks.
pub(super) fn authorization(parent: &ParentProxy) -> Option<String> {
    let (user, password) = parent.credentials()?;
    Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}
