//! The way from one process of the gateway to the next: messages with open descriptors, over a pair of Unix sockets.
//!
//! While one process takes over from the other both wait for each other ([`Passage`]); what comes after is news, which
//! nobody waits for ([`Passage::split`]).

use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Descriptors that go with one call; the system allows 253.
const AT_ONCE: usize = 128;
/// The longest message, in bytes: some 500 for each of a million sessions and flows.
const LONGEST: usize = 512 * 1024 * 1024;
/// The most descriptors of one message.
const MOST: usize = 200_000;
/// Lengths stand before a message: of its bytes, and of its descriptors.
const HEAD: usize = 8;

/// One end, used by a thread that may wait.
#[derive(Debug)]
pub struct Passage(UnixStream);

impl Passage {
    /// Two ends. The second is for another process, which finds it where its standard input is.
    pub fn pair() -> io::Result<(Passage, OwnedFd)> {
        let (here, there) = UnixStream::pair()?;
        Ok((Passage(here), there.into()))
    }

    /// The end that another process was given.
    pub fn of(end: OwnedFd) -> Passage {
        Passage(end.into())
    }

    /// The end that this process was started with as its standard input, which is empty from now on.
    pub fn from_stdin() -> io::Result<Passage> {
        let given = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(Passage::of(given))
    }

    /// The same end once more.
    pub fn share(&self) -> io::Result<Passage> {
        self.0.try_clone().map(Passage)
    }

    /// Ends what the other end and this one wait for.
    pub fn close(&self) {
        // Who is gone already waits for nothing.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    /// Says how long one step of the other end may take; then it fails as timed out.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(patience))?;
        self.0.set_write_timeout(Some(patience))
    }

    /// Sends a message with descriptors, which stay open here.
    pub fn send(&mut self, text: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.write_all(&head(text.len(), files.len())?)?;
        self.0.write_all(text)?;
        files.chunks(AT_ONCE).try_for_each(|some| self.send_files(some))
    }

    fn send_files(&self, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // They need a byte to travel with.
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL)
        })?;
        if sent == 1 { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Waits for a message; what came with it is closed in programs that this one starts.
    ///
    /// # Errors
    /// As `read`; the end of the other process is an unexpected end of file.
    pub fn receive(&mut self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut lengths = [0; HEAD];
        self.0.read_exact(&mut lengths)?;
        let (bytes, count) = lengths_of(lengths)?;
        let mut text = vec![0; bytes];
        self.0.read_exact(&mut text)?;
        let mut files = Vec::new();
        while files.len() < count {
            self.receive_files(AT_ONCE.min(count - files.len()), &mut files)?;
        }
        Ok((text, files))
    }

    /// Waits for a batch, which has so many.
    fn receive_files(&self, wanted: usize, files: &mut Vec<OwnedFd>) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut byte = [0];
        let got = rustix::io::retry_on_intr(|| {
            let into = &mut [IoSliceMut::new(&mut byte)];
            rustix::net::recvmsg(&self.0, into, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        if got.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = files.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                files.extend(some);
            }
        }
        // Who has too few descriptors left gets some or none, and no error either.
        let is_whole = !got.flags.contains(ReturnFlags::CTRUNC) && files.len() - before == wanted;
        if is_whole { Ok(()) } else { Err(io::Error::other("descriptors were lost on the way")) }
    }

    /// The end for those who do not wait; must be called inside a runtime.
    pub fn split(self) -> io::Result<(News, Post)> {
        self.0.set_read_timeout(None)?;
        self.0.set_write_timeout(None)?;
        self.0.set_nonblocking(true)?;
        let (read, write) = tokio::net::UnixStream::from_std(self.0)?.into_split();
        Ok((News(read), Post(write)))
    }
}

/// What comes from the other process.
#[derive(Debug)]
pub struct News(tokio::net::unix::OwnedReadHalf);

/// What goes there.
#[derive(Debug)]
pub struct Post(tokio::net::unix::OwnedWriteHalf);

impl News {
    /// Waits for the next message; nothing once the other process has ended. Not to be cancelled in between.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut lengths = [0; HEAD];
        match self.0.read_exact(&mut lengths).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            result => result?,
        };
        let mut text = vec![0; lengths_of(lengths)?.0];
        self.0.read_exact(&mut text).await?;
        Ok(Some(text))
    }
}

impl Post {
    /// Sends a message.
    pub async fn send(&mut self, text: &[u8]) -> io::Result<()> {
        self.0.write_all(&head(text.len(), 0)?).await?;
        self.0.write_all(text).await
    }
}

fn head(bytes: usize, files: usize) -> io::Result<[u8; HEAD]> {
    if bytes > LONGEST || files > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too much for one message"));
    }
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&(bytes as u32).to_be_bytes());
    head[4..].copy_from_slice(&(files as u32).to_be_bytes());
    Ok(head)
}

fn lengths_of(head: [u8; HEAD]) -> io::Result<(usize, usize)> {
    let number = u64::from_be_bytes(head);
    let (bytes, files) = ((number >> 32) as usize, (number & 0xffff_ffff) as usize);
    if bytes > LONGEST || files > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a message of this gateway"));
    }
    Ok((bytes, files))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_and_are_the_same_sockets() {
        let (mut here, there) = Passage::pair().unwrap();
        let mut there = Passage::of(there);
        let sockets: Vec<_> = (0..300).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let sending = std::thread::spawn(move || {
            let files: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            here.send(b"all of them", &files).unwrap();
            here.send(b"none", &[]).unwrap();
        });
        let (text, files) = there.receive().unwrap();
        assert_eq!((text.as_slice(), files.len()), (b"all of them".as_slice(), 300));
        for (file, address) in files.into_iter().zip(addresses) {
            let socket = TcpListener::from(file);
            assert_eq!(socket.local_addr().unwrap(), address);
            let _client = TcpStream::connect(address).unwrap();
            socket.accept().unwrap();
        }
        assert_eq!(there.receive().unwrap().0, b"none");
        sending.join().unwrap();
        assert_eq!(there.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn descriptors_that_are_lost_on_the_way_are_an_error_and_nobody_waits_for_them() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        for (announced, comes) in [(200, 100), (100, 99), (1, 0), (100, 101), (200, 200), (100, 200)] {
            let (here, there) = Passage::pair().unwrap();
            let mut there = Passage::of(there);
            there.set_patience(Duration::from_secs(10)).unwrap();
            (&here.0).write_all(&head(0, announced).unwrap()).unwrap();
            let files = vec![socket.as_fd(); comes];
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            assert!(comes == 0 || control.push(SendAncillaryMessage::ScmRights(&files)));
            // What does not fit where it is received is cut off, as what is more than the process may have.
            rustix::net::sendmsg(&here.0, &[IoSlice::new(b"+")], &mut control, SendFlags::NOSIGNAL).unwrap();
            assert_eq!(there.receive().unwrap_err().kind(), io::ErrorKind::Other, "{announced} {comes}");
        }
    }

    #[tokio::test]
    async fn news_goes_both_ways_and_ends_with_the_other_side() {
        let (here, there) = Passage::pair().unwrap();
        let ((mut news, mut post), other) = (here.split().unwrap(), Passage::of(there));
        let (mut others_news, mut others_post) = other.split().unwrap();
        post.send(b"one").await.unwrap();
        others_post.send(b"two").await.unwrap();
        assert_eq!(others_news.next().await.unwrap().unwrap(), b"one");
        assert_eq!(news.next().await.unwrap().unwrap(), b"two");
        drop((others_news, others_post));
        assert_eq!(news.next().await.unwrap(), None);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

        #[test]
        fn any_bytes_are_messages_or_an_error(bytes in proptest::collection::vec(0_u8..4, 0..200)) {
            let (here, there) = Passage::pair().unwrap();
            let mut there = Passage::of(there);
            (&here.0).write_all(&bytes).unwrap();
            drop(here);
            // It ends: where the bytes do, or where they are none of a message.
            while there.receive().is_ok() {}
        }
    }

    #[test]
    fn what_is_no_message_is_refused_before_room_is_made_for_it() {
        let (here, there) = Passage::pair().unwrap();
        let mut there = Passage::of(there);
        (&here.0).write_all(&[0xff; HEAD]).unwrap();
        assert_eq!(there.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
