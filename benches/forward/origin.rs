//! The origin: what the proxies lead to. It takes wishes through tunnels, and plain requests.

use std::{io, net::SocketAddr, path::Path, path::PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Bytes of the small exchanges.
pub(crate) const SMALL: usize = 1024;
/// What is written or read at once, in bytes.
pub(crate) const PIECE: usize = 256 * 1024;
/// Bytes of a wish: what is wanted, and how many bytes.
pub(crate) const WISH: usize = 9;
/// So many bytes come, and are sent back.
pub(crate) const ECHO: u8 = b'e';
/// So many bytes come; one byte tells that all are here.
pub(crate) const UP: u8 = b'u';
/// So many bytes are sent.
pub(crate) const DOWN: u8 = b'd';

/// What all proxies share: a folder, the origin, and a runtime for origin and load.
pub(crate) struct Stage {
    dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) runtime: Runtime,
    pub(crate) without: Vec<String>,
    pub(crate) workers: usize,
    pub(crate) envoy: PathBuf,
}

impl Stage {
    pub(crate) fn new(without: Vec<String>, workers: usize, envoy: PathBuf) -> Stage {
        // Both ends of idle tunnels are here, and proxies inherit it.
        rlimit::increase_nofile_limit(u64::MAX).expect("a limit of open files");
        let dir = tempfile::tempdir().expect("a temporary folder");
        // Squid reads its config as a user of its own.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.path(), open).expect("a folder of our own");
        // One thread: all of this process has one processor.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream));
                }
            }
        });
        Stage { dir, address, runtime, without, workers: workers.max(1), envoy }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

/// Serves one connection to its end; whatever breaks ends it.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wish = [0; WISH];
    loop {
        stream.read_exact(&mut wish).await?;
        let size = u64::from_be_bytes(*wish.last_chunk().unwrap_or(&[0; 8]));
        match wish[0] {
            ECHO => {
                let mut bytes = vec![0; size as usize];
                stream.read_exact(&mut bytes).await?;
                stream.write_all(&bytes).await?;
            }
            UP => {
                discard(&mut stream, size).await?;
                stream.write_all(&[UP]).await?;
            }
            DOWN => give(&mut stream, size).await?,
            _ => return requests(stream, wish.to_vec()).await,
        }
    }
}

/// Answers requests without a body, of which some bytes have been read.
async fn requests(mut stream: TcpStream, mut head: Vec<u8>) -> io::Result<()> {
    let body = [b'x'; SMALL];
    loop {
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let stays = text.contains(" http/1.1\r\n") && !text.contains("\r\nconnection: close\r\n");
        let connection = if stays { "" } else { "Connection: close\r\n" };
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SMALL}\r\n{connection}\r\n").into_bytes();
        answer.extend(body);
        stream.write_all(&answer).await?;
        if !stays {
            return stream.shutdown().await;
        }
        head.clear();
    }
}

/// Reads so many bytes and throws them away.
pub(crate) async fn discard(stream: &mut TcpStream, size: u64) -> io::Result<()> {
    let mut space = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let most = left.min(PIECE as u64) as usize;
        match stream.read(&mut space[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => left -= n as u64,
        }
    }
    Ok(())
}

/// Writes so many bytes.
pub(crate) async fn give(stream: &mut TcpStream, size: u64) -> io::Result<()> {
    let piece = vec![7; PIECE];
    let mut left = size;
    while left > 0 {
        let n = left.min(PIECE as u64);
        stream.write_all(&piece[..n as usize]).await?;
        left -= n;
    }
    Ok(())
}
