//! The one request that an exporter makes: a POST in the clear, on a connection of its own, on the exporter's thread.

use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};

/// How long a request may take as a whole, but for the name of the collector.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read; nothing in it matters but its status.
const MAX_ANSWER: usize = 64 * 1024;

/// Makes requests; each blocks its thread.
#[derive(Debug)]
pub(super) struct Post;

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(Response::builder().status(post(&request)?).body(Bytes::new())?)
    }
}

/// The status of the answer.
fn post(request: &Request<Bytes>) -> io::Result<u16> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let uri = request.uri();
    let (authority, path) = (uri.authority().ok_or_else(|| bad("no host"))?, uri.path());
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let deadline = Instant::now() + TIMEOUT;
    let mut stream = connect((host, authority.port_u16().unwrap_or(80)), deadline)?;
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n").into_bytes();
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(format!("Content-Length: {}\r\n\r\n", request.body().len()).as_bytes());
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&head)?;
    stream.write_all(request.body())?;
    let mut answer = Vec::new();
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") && answer.len() < MAX_ANSWER {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => break,
            n => answer.extend_from_slice(&piece[..n]),
        }
    }
    let line = answer.split(|b| *b == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let status = line.and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok());
    status.ok_or_else(|| bad("the answer is not HTTP"))
}

/// The first of its addresses that answers.
fn connect(to: (&str, u16), deadline: Instant) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in to.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// How much time there is still.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
