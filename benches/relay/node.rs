//! The node: a socket that counts datagrams, and a server that greets like SSH and throws away or sends bulk.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    thread,
};

use crate::{process, wire};

pub(crate) const BANNER: &[u8] = b"SSH-2.0-bench\r\n";
/// What the client says after the banner: whether it sends or wants to be sent to, and how much.
pub(crate) const UP: u8 = b'u';
pub(crate) const DOWN: u8 = b'd';
/// What is written at once, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;

/// The folder of the proxies and the node's TCP side. Its UDP side has the same address and is [`crate::load::Sink`].
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Stage {
    pub(crate) fn new() -> Stage {
        let dir = tempfile::tempdir().expect("a temporary folder");
        // A proxy without privileges reads its config here.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("a folder of our own");
        let address = free();
        let listener = TcpListener::bind(address).expect("a free port");
        thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| serve(stream)))));
        Stage { dir, address }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// An address that was free a moment ago for connections and for datagrams.
pub(crate) fn free() -> SocketAddr {
    loop {
        let address = process::free();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

/// Serves one connection to its end; whatever breaks ends it.
fn serve(mut stream: TcpStream) {
    let mut wish = [0; 9];
    if stream.write_all(BANNER).is_err() || stream.read_exact(&mut wish).is_err() {
        return;
    }
    let size = u64::from_be_bytes(*wish.last_chunk().unwrap_or(&[0; 8]));
    match wish[0] {
        UP => while wire::discard_stream(stream.as_raw_fd()).is_ok_and(|n| n > 0) {},
        _ => write(&mut stream, size),
    }
}

/// Writes so many bytes, as far as they are taken.
pub(crate) fn write(stream: &mut TcpStream, size: u64) {
    let piece = vec![7; PIECE];
    let mut left = usize::try_from(size).unwrap_or(usize::MAX);
    while left > 0 {
        let n = left.min(PIECE);
        if stream.write_all(piece.get(..n).unwrap_or_default()).is_err() {
            return;
        }
        left -= n;
    }
}
