//! Waiting for any of many sockets, edge-triggered: each change is told once.

use std::{io, os::fd::AsRawFd, sync::Arc, time::Duration};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};

use super::UdpSocket;

/// Sockets that one wait may tell of.
const EVENTS: usize = 256;
/// What a waker is known by.
const WOKEN: Token = Token(usize::MAX);

/// Sockets under numbers of the caller's choice.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<mio::Waker>,
}

/// Ends a poller's wait, from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<mio::Waker>);

impl Poller {
    /// Fails when the system has no descriptor left.
    pub fn new() -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WOKEN)?);
        Ok(Poller { poll, events: Events::with_capacity(EVENTS), waker })
    }

    /// What ends the wait of this poller.
    pub fn waker(&self) -> Waker {
        Waker(self.waker.clone())
    }

    /// Tells from now on when something comes for `socket`, until that closes. What is there already is told as well.
    pub fn add(&self, socket: &UdpSocket, number: usize) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(number), Interest::READABLE)
    }

    /// Waits until something comes or `patience` is over, and adds the numbers of the sockets it came for to `ready`.
    pub fn wait(&mut self, patience: Duration, ready: &mut Vec<usize>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        ready
            .extend(self.events.iter().map(|event| event.token()).filter(|token| *token != WOKEN).map(|token| token.0));
        Ok(())
    }
}

impl Waker {
    /// Ends the wait, or the next one.
    pub fn wake(&self) {
        // It fails only when the poller is gone, which needs no waking.
        let _ = self.0.wake();
    }
}
