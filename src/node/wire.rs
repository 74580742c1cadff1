//! One connection, plain or TLS, and the read buffer its heads and bodies come out of.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::head::Head;

/// The longest head that is read.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// The size of the buffer for bodies.
pub(super) const LARGE: usize = 256 * 1024;
const SMALL: usize = 16 * 1024;
const SPARE: usize = 64;

/// Takes a lock; a thread that died holding it does not matter for what is kept here.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Large buffers that wait for their next use.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer of `LARGE` bytes.
    pub(super) fn take(&self) -> Vec<u8> {
        let spare = locked(&self.0).pop();
        spare.unwrap_or_else(|| vec![0; LARGE])
    }

    /// Gives a buffer back.
    pub(super) fn give(&self, buffer: Vec<u8>) {
        let mut spare = locked(&self.0);
        if buffer.len() == LARGE && spare.len() < SPARE {
            spare.push(buffer);
        }
    }
}

/// The transport below a connection.
#[derive(Debug)]
pub(super) enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with its read buffer.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    pool: Arc<Pool>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

impl Wire {
    /// Wraps a connected stream.
    pub(super) fn new(stream: Stream, pool: Arc<Pool>) -> Wire {
        Wire { stream, buffer: vec![0; SMALL], start: 0, end: 0, pool }
    }

    /// The TCP socket below.
    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Whether TLS is on.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// How many received bytes wait in the buffer.
    pub(super) fn buffered(&self) -> usize {
        self.end - self.start
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let got = match &mut self.stream {
            Stream::Plain(tcp) => tcp.read(room).await?,
            Stream::Tls(tls) => tls.read(room).await?,
        };
        self.end += got;
        Ok(got)
    }

    /// Reads a head up to and including its empty line; `None` when the other side closed before the first byte.
    pub(super) async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut seen = 0;
        loop {
            let held = self.buffer.get(self.start..self.end).unwrap_or_default();
            let from = seen.min(held.len());
            if let Some(at) = super::head::find(held.get(from..).unwrap_or_default(), b"\r\n\r\n") {
                let length = from + at + 4;
                let raw = held.get(..length).unwrap_or_default().to_vec();
                self.start += length;
                return Ok(Some(Head::new(raw)));
            }
            seen = held.len().saturating_sub(3);
            if held.len() >= MAX_HEAD {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "head is too long"));
            }
            self.make_room();
            if self.read_more().await? == 0 {
                return if self.buffered() == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    /// The next piece of a body of which `left` bytes are to come: at least one byte, not more than `left`.
    /// Follow it with [`Wire::consume`].
    pub(super) async fn chunk(&mut self, left: u64) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if left > self.buffer.len() as u64 && self.buffer.len() < LARGE {
                self.buffer = self.pool.take();
            }
            if self.read_more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = self.buffered().min(most);
        Ok(self.buffer.get(self.start..self.start + length).unwrap_or_default())
    }

    /// Marks `count` bytes of the last piece as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Sends all of `bytes`.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.write_all(bytes).await,
            Stream::Tls(tls) => {
                tls.write_all(bytes).await?;
                tls.flush().await
            }
        }
    }

    /// Ends the sending side in good order: close_notify when there is TLS, then FIN.
    pub(super) async fn finish(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(tcp) => tcp.shutdown().await,
            Stream::Tls(tls) => tls.shutdown().await,
        }
    }

    /// Reads until the other side closes, throwing away what comes.
    pub(super) async fn wait_for_close(&mut self) {
        self.start = 0;
        loop {
            self.end = 0;
            match self.read_more().await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}
