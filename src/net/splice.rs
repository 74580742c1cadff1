//! A pipe that carries bytes from one TCP stream to another inside the kernel, by splice(2).

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::retry_on_intr,
    pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice},
};
use tokio::{io::Interest, net::TcpStream};

/// A pipe with the count of what it holds.
///
/// It is filled only when empty, so a call that would block tells of its stream and never of the pipe, and the
/// readiness that tokio keeps of the stream stays true.
#[derive(Debug)]
pub struct Pipe {
    /// Bytes go in here.
    mouth: OwnedFd,
    /// And come out here.
    spout: OwnedFd,
    room: usize,
    held: usize,
}

impl Pipe {
    /// Opens a pipe for `room` bytes, or for as many as the kernel grants: a user without privileges may not have more
    /// in one pipe than /proc/sys/fs/pipe-max-size, nor in all of them than pipe-user-pages-soft.
    pub fn open(room: usize) -> io::Result<Pipe> {
        let (spout, mouth) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut granted = fcntl_getpipe_size(&mouth)?;
        let mut wanted = room;
        while wanted > granted {
            match fcntl_setpipe_size(&mouth, wanted) {
                Ok(size) => granted = size,
                Err(_) => wanted /= 2,
            }
        }
        Ok(Pipe { mouth, spout, room: granted, held: 0 })
    }

    /// How many bytes it takes at most.
    pub fn room(&self) -> usize {
        self.room
    }

    /// How many bytes are in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes in what has come from a stream, `most` bytes at most, and tells how many the pipe holds now. None: the stream
    /// has ended.
    /// A pipe that holds bytes takes no more.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing has come; `InvalidInput` when such a stream cannot be spliced; else the stream broke.
    pub fn fill(&mut self, from: &TcpStream, most: usize) -> io::Result<usize> {
        if self.held == 0 {
            self.held = from.try_io(Interest::READABLE, || {
                Ok(retry_on_intr(|| splice(from, None, &self.mouth, None, self.room.min(most), flags()))?)
            })?;
        }
        Ok(self.held)
    }

    /// Gives to a stream what it will take of the bytes held, and tells how many.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when the stream takes none now; else it broke.
    pub fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        if self.held == 0 {
            return Ok(0);
        }
        let n = to.try_io(Interest::WRITABLE, || {
            Ok(retry_on_intr(|| splice(&self.spout, None, to, None, self.held, flags()))?)
        })?;
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = self.held.saturating_sub(n);
        Ok(n)
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const ALL: usize = usize::MAX;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    #[test]
    fn a_pipe_has_the_room_asked_for_or_what_the_kernel_grants() {
        assert_eq!(Pipe::open(256 * 1024).unwrap().room(), 256 * 1024);
        assert!(Pipe::open(1 << 40).unwrap().room() >= 4096);
    }

    #[tokio::test]
    async fn a_pipe_takes_what_has_come_gives_it_on_and_sees_the_end() {
        let (mut near, from) = pair().await;
        let (to, mut far) = pair().await;
        let mut pipe = Pipe::open(64 * 1024).unwrap();
        from.writable().await.unwrap();
        assert_eq!(pipe.fill(&from, ALL).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        near.write_all(b"hello").await.unwrap();
        from.readable().await.unwrap();
        assert_eq!(pipe.fill(&from, 2).unwrap(), 2);
        assert_eq!(pipe.fill(&from, ALL).unwrap(), 2, "full until drained");
        to.writable().await.unwrap();
        assert_eq!((pipe.drain(&to).unwrap(), pipe.held()), (2, 0));
        assert_eq!(pipe.fill(&from, ALL).unwrap(), 3);
        assert_eq!((pipe.drain(&to).unwrap(), pipe.held()), (3, 0));
        let mut got = [0; 5];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        drop(near);
        loop {
            from.readable().await.unwrap();
            match pipe.fill(&from, ALL) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                end => break assert_eq!(end.unwrap(), 0),
            }
        }
    }
}
