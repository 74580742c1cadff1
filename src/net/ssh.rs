//! The first line of an SSH server: how a control port shows that it is alive.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::shortage::is_ours;

/// The most that is read in search of the banner, in bytes. A line has up to 255 (RFC 4253, 4.2), and a server may send
/// other lines before it.
const MAX: usize = 4096;

/// What a server has sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Banner {
    /// A line that begins with `SSH-`.
    Here,
    /// It may still come.
    NotYet,
    /// Too much else came first.
    Absent,
}

/// Looks for the banner in what a server has sent.
pub fn look(sent: &[u8]) -> Banner {
    match sent.split(|b| *b == b'\n').any(|line| line.starts_with(b"SSH-")) {
        true => Banner::Here,
        false if sent.len() >= MAX => Banner::Absent,
        false => Banner::NotYet,
    }
}

/// Why there is no banner.
#[derive(Debug, thiserror::Error)]
pub enum NoBanner {
    /// The connection ended or broke before it.
    #[error("the node closed before its SSH banner")]
    Closed(#[source] Option<std::io::Error>),
    /// Something else came.
    #[error("the node does not speak SSH")]
    NotSsh,
}

impl NoBanner {
    /// Whether it tells anything about the server: not if we had no descriptor or port left to reach it.
    pub fn is_of_the_far_side(&self) -> bool {
        !matches!(self, NoBanner::Closed(Some(error)) if is_ours(error))
    }
}

/// Reads until the banner has begun, and gives all that was read. Waits for as long as the server takes.
///
/// # Errors
/// The server closed, broke off, or sent 4 KiB of something else.
pub async fn read_banner<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, NoBanner> {
    let mut sent = Vec::with_capacity(256);
    loop {
        match look(&sent) {
            Banner::Here => return Ok(sent),
            Banner::Absent => return Err(NoBanner::NotSsh),
            Banner::NotYet => {}
        }
        match stream.read_buf(&mut sent).await {
            Ok(0) if sent.is_empty() => return Err(NoBanner::Closed(None)),
            Ok(0) => return Err(NoBanner::NotSsh),
            Ok(_) => {}
            Err(error) => return Err(NoBanner::Closed(Some(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn the_banner_is_found_behind_other_lines_and_in_pieces() {
        let mut pieces = in_pieces(&[b"Welcome\r\nSS", b"H-2.0-OpenSSH_9.2\r\nmore"]).await;
        assert_eq!(read_banner(&mut pieces).await.unwrap(), b"Welcome\r\nSSH-2.0-OpenSSH_9.2\r\nmore");
    }

    #[tokio::test]
    async fn what_is_not_ssh_is_told_from_what_is_closed() {
        let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice();
        assert!(matches!(read_banner(&mut { http }).await, Err(NoBanner::NotSsh)));
        assert!(matches!(read_banner(&mut [].as_slice()).await, Err(NoBanner::Closed(None))));
        let endless = vec![b'x'; 2 * MAX];
        assert!(matches!(read_banner(&mut endless.as_slice()).await, Err(NoBanner::NotSsh)));
    }

    /// A reader that gives these pieces one by one.
    async fn in_pieces(pieces: &[&[u8]]) -> impl AsyncRead + Unpin {
        let (mut write, read) = tokio::io::duplex(64 * 1024);
        for piece in pieces {
            tokio::io::AsyncWriteExt::write_all(&mut write, piece).await.unwrap();
        }
        read
    }

    proptest! {
        #[test]
        fn a_banner_is_seen_wherever_its_line_begins(before in "[a-z\r\n]{0,200}", after in any::<Vec<u8>>()) {
            let sent = [before.as_bytes(), b"\nSSH-", &after].concat();
            prop_assert_eq!(look(&sent), Banner::Here);
        }

        #[test]
        fn no_bytes_are_waited_for_without_end(sent in proptest::collection::vec(any::<u8>(), MAX..MAX + 10)) {
            prop_assert_ne!(look(&sent), Banner::NotYet);
        }
    }
}
