//! One session: its id, its connection, and single requests.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use super::super::wire::{Pool, Stream, Wire};
use super::answer::Answer;
use super::request::{Heads, Next, Part};
use super::text::{self, Totals};
use super::{Client, ClientError};

/// File data goes out in writes of this size.
const PIECE: usize = 8 * 1024;
const CONNECT: Duration = Duration::from_secs(135);
const REGULAR: u32 = 0o100_644;

/// A session of a [`Client`], request by request.
#[derive(Debug)]
pub struct Session {
    pub(super) client: Client,
    pub(super) totals: Totals,
    id: String,
    pool: Arc<Pool>,
    wire: Option<Wire>,
    persistent: bool,
    connections: u64,
}

impl Session {
    pub(super) fn new(client: Client) -> Session {
        Session {
            client,
            totals: Totals::default(),
            id: Uuid::new_v4().to_string(),
            pool: Arc::default(),
            wire: None,
            persistent: false,
            connections: 0,
        }
    }

    /// The session id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// Whether the node asked for one connection for all requests.
    pub fn persistent(&self) -> bool {
        self.persistent
    }

    /// Whether that one connection is gone; nothing more can be sent then.
    pub fn lost(&self) -> bool {
        self.persistent && self.wire.is_none()
    }

    /// Begins an upload of these sources; the first one is announced as the next file.
    pub async fn start_put(&mut self, sources: &[&str]) -> Result<Answer, ClientError> {
        let first = sources.first().copied().unwrap_or_default();
        let name = first.rsplit('/').next().filter(|n| !n.is_empty());
        let next = Next { name: name.map(str::as_bytes), ..Next::default() };
        let sources: Vec<_> = sources.iter().map(|s| s.as_bytes().to_vec()).collect();
        self.start(true, &sources, b"/", sources.len() > 1, next).await
    }

    /// Begins a download of these sources.
    pub async fn start_get(&mut self, sources: &[&str]) -> Result<Answer, ClientError> {
        let sources: Vec<_> = sources.iter().map(|s| s.as_bytes().to_vec()).collect();
        self.start(false, &sources, b".", false, Next::default()).await
    }

    /// Sends a file; `next` is the name of the one after it.
    pub async fn put(&mut self, name: &[u8], body: &[u8], next: Option<&[u8]>) -> Result<Answer, ClientError> {
        let next = Next { name: next, ..Next::default() };
        let part = Part::Whole(body.len() as u64);
        let head = self.heads().file(name, part, REGULAR, next);
        self.raw(&head, body).await
    }

    /// Asks for a file, which is the `index`th of the session. The body comes only with status 200 and a length.
    pub async fn get(&mut self, name: &[u8], index: u64) -> Result<(Answer, Vec<u8>), ClientError> {
        let head = self.heads().get(name, index, Some(0));
        let mut wire = self.open(&head).await?;
        let answer = self.answer(&mut wire).await?;
        let mut body = Vec::new();
        let mut left = answer.length().filter(|_| answer.status == 200).unwrap_or(0);
        while left > 0 {
            let chunk = patient(self.client.silence, wire.chunk(left)).await?;
            body.extend_from_slice(chunk);
            let count = chunk.len();
            left -= count as u64;
            wire.consume(count);
        }
        self.release(wire).await?;
        Ok((answer, body))
    }

    /// Ends the session with `DONE` or `ERROR` and a code.
    pub async fn end(&mut self, reason: &str, code: u32) -> Result<Answer, ClientError> {
        self.end_with(reason, code, "").await
    }

    /// Sends a head and a body as they stand and reads the head of the answer.
    pub async fn raw(&mut self, head: &[u8], body: &[u8]) -> Result<Answer, ClientError> {
        let mut wire = self.open(head).await?;
        self.send(&mut wire, body).await?;
        let answer = self.answer(&mut wire).await?;
        self.release(wire).await?;
        Ok(answer)
    }

    pub(super) async fn end_with(&mut self, reason: &str, code: u32, description: &str) -> Result<Answer, ClientError> {
        let body = text::end(reason, code, description, &self.totals);
        let head = self.heads().end(body.len());
        self.raw(&head, &body).await
    }

    pub(super) fn heads(&self) -> Heads<'_> {
        Heads { host: &self.client.host, tls: self.client.tls.is_some(), session: &self.id }
    }

    pub(super) async fn start(
        &mut self,
        upload: bool,
        sources: &[Vec<u8>],
        destination: &[u8],
        must_be_dir: bool,
        next: Next<'_>,
    ) -> Result<Answer, ClientError> {
        let body = text::start(&text::Start {
            session: &self.id,
            upload,
            token: &self.client.token,
            sources,
            destination,
            must_be_dir,
            tls: self.client.tls.is_some(),
            resume: self.client.resume,
            user: &self.client.user,
        });
        let head = self.heads().start(body.len(), next);
        let mut wire = self.open(&head).await?;
        self.send(&mut wire, &body).await?;
        let answer = self.answer(&mut wire).await?;
        let accepted = matches!(answer.status, 200 | 201);
        self.persistent = accepted && answer.number("x-persistent-connection") != 0;
        self.release(wire).await?;
        Ok(answer)
    }

    /// A connection on which `head` has been sent.
    pub(super) async fn open(&mut self, head: &[u8]) -> Result<Wire, ClientError> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None if self.persistent => {
                return Err(ClientError::Lost(io::ErrorKind::NotConnected.into()));
            }
            None => self.connect().await?,
        };
        patient(self.client.silence, wire.send(head)).await?;
        Ok(wire)
    }

    async fn connect(&mut self) -> Result<Wire, ClientError> {
        let connecting = timeout(CONNECT, TcpStream::connect(self.client.address));
        let tcp = match connecting.await {
            Ok(tcp) => tcp.map_err(ClientError::Connect)?,
            Err(_) => return Err(ClientError::Connect(io::ErrorKind::TimedOut.into())),
        };
        self.connections += 1;
        tcp.set_nodelay(!self.client.nagle).map_err(ClientError::Connect)?;
        let stream = match &self.client.tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::from(self.client.address.ip());
                let connector = TlsConnector::from(Arc::clone(config));
                let tls = connector.connect(name, tcp).await;
                Stream::Tls(Box::new(tls.map_err(ClientError::Connect)?.into()))
            }
        };
        Ok(Wire::new(stream, Arc::clone(&self.pool)))
    }

    /// Sends body bytes in writes of 8 KiB.
    pub(super) async fn send(&self, wire: &mut Wire, body: &[u8]) -> Result<(), ClientError> {
        for piece in body.chunks(PIECE) {
            patient(self.client.silence, wire.send(piece)).await?;
        }
        Ok(())
    }

    /// Reads the final answer; 100 and 102 before it only restart the wait.
    pub(super) async fn answer(&self, wire: &mut Wire) -> Result<Answer, ClientError> {
        let mut interim = 0;
        loop {
            let head = patient(self.client.silence, wire.head()).await?;
            let eof = || ClientError::Lost(io::ErrorKind::UnexpectedEof.into());
            let answer = Answer::parse(&head.ok_or_else(eof)?, interim)?;
            if matches!(answer.status, 100 | 102) {
                interim += 1;
            } else if answer.fields.is_empty() {
                return Err(ClientError::BadAnswer("no header field"));
            } else {
                return Ok(answer);
            }
        }
    }

    /// Keeps the connection of a persistent session; closes any other, and with TLS waits for the node to close as well.
    pub(super) async fn release(&mut self, mut wire: Wire) -> Result<(), ClientError> {
        if self.persistent {
            self.wire = Some(wire);
        } else if wire.is_tls() {
            // The node may have closed already.
            let _ = timeout(self.client.silence, wire.finish()).await;
            let closed = timeout(self.client.silence, wire.wait_for_close()).await;
            closed.map_err(|_| ClientError::NotClosed)?;
        }
        Ok(())
    }
}

/// Waits for something on the wire, but not longer than the client's patience.
pub(super) async fn patient<T>(silence: Duration, what: impl Future<Output = io::Result<T>>) -> Result<T, ClientError> {
    match timeout(silence, what).await {
        Ok(result) => result.map_err(ClientError::Lost),
        Err(_) => Err(ClientError::Silent),
    }
}
