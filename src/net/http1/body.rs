//! How much of a request's body is still to come. Pure: no socket, no clock.

use std::io;

use super::{chunked::Chunked, head::Head};

/// The body of the current request, of which a part was given away.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    left: u64,
    /// Follows the framing, where that says how long the body is.
    chunks: Option<Chunked>,
}

impl Body {
    /// The body that a head announces.
    pub(super) fn of(head: &Head) -> Body {
        match head.is_chunked() {
            true => Body { left: u64::MAX, chunks: Some(Chunked::default()) },
            false => Body { left: head.content_length().unwrap_or(0), chunks: None },
        }
    }

    /// Bytes to come; `u64::MAX` as long as only the framing will tell.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Whether only the framing tells where the body ends.
    pub(super) fn is_chunked(&self) -> bool {
        self.chunks.is_some()
    }

    /// How much of `most` bytes the body may fill.
    pub(super) fn room(&self, most: usize) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX).min(most)
    }

    /// How many of `bytes`, which come next, belong to the body. They are counted off.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(chunks) = &mut self.chunks else {
            let n = self.room(bytes.len());
            self.left -= n as u64;
            return Ok(n);
        };
        let n = chunks.scan(bytes).map_err(|problem| io::Error::new(io::ErrorKind::InvalidData, problem))?;
        if chunks.is_done() {
            self.left = 0;
        }
        Ok(n)
    }
}
