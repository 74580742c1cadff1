//! Datagrams: who sends them at a rate, and who counts those that arrive. One thread is both, so neither waits for the
//! other.

use std::{
    fmt,
    io::IoSlice,
    net::SocketAddr,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use fallgate::net::udp::{Buffers, UdpSocket, Way};

use crate::{process::pause, wire};

/// The length of every datagram, in bytes.
pub(crate) const SIZE: usize = 1400;
/// Datagrams that are sent at once, save joined ones.
const GROUP: usize = 16;
/// Datagrams in one segmented send.
const JOINED: usize = 46;
/// The load never sends more than this late.
const LATE: Duration = Duration::from_millis(2);
const BUFFERS: Buffers = Buffers { receive: 64 << 20, send: 4 << 20 };

/// How datagrams come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) flows: usize,
    pub(crate) arrival: Arrival,
    /// Whether the node takes joined datagrams; if not, the kernel cuts what is sent to it, as it does at a network
    /// device without offload.
    pub(crate) node_joins: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// 16 of one flow, then 16 of the next.
    Bursts,
    /// 16 at once, each of another flow.
    Each,
    /// Never two at once, each of another flow.
    Spaced,
    /// 46 of one flow in one segmented send.
    Joined,
}

/// What came of a time of load.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) seconds: f64,
}

/// The node's socket.
#[derive(Debug)]
pub(crate) struct Sink {
    socket: UdpSocket,
    bytes: u64,
}

/// A load on its way through one proxy.
pub(crate) struct Load<'a> {
    shape: Shape,
    sockets: Vec<UdpSocket>,
    next: usize,
    datagrams: Vec<u8>,
    sink: &'a mut Sink,
}

impl Sink {
    pub(crate) fn open(address: SocketAddr) -> Sink {
        Sink { socket: UdpSocket::listen(address, false, BUFFERS).expect("the node's address"), bytes: 0 }
    }

    fn drain(&mut self) {
        self.bytes += wire::discard_datagrams(self.socket.as_raw_fd());
    }

    /// Waits until nothing more comes.
    fn settle(&mut self) {
        loop {
            let before = self.bytes;
            pause(Duration::from_millis(30));
            self.drain();
            if self.bytes == before {
                return;
            }
        }
    }
}

impl<'a> Load<'a> {
    /// Opens the flows: one datagram of each has arrived when this returns.
    pub(crate) fn open(to: SocketAddr, shape: Shape, sink: &'a mut Sink) -> Load<'a> {
        wire::join_received(sink.socket.as_raw_fd(), shape.node_joins);
        let buffers = Buffers { receive: 4096, send: BUFFERS.send };
        let sockets = (0..shape.flows).map(|_| UdpSocket::connect(to, buffers).expect("a socket")).collect();
        let load = Load { shape, sockets, next: 0, datagrams: vec![7; SIZE * JOINED], sink };
        for at in 0..load.sockets.len() {
            wire::send_many(load.sockets[at].as_raw_fd(), &load.datagrams[..SIZE], 1);
            if at % 64 == 0 {
                pause(Duration::from_millis(1));
            }
        }
        load.sink.settle();
        load
    }

    /// Offers `rate` datagrams in a second for `time`, and waits for the last.
    pub(crate) fn offer(&mut self, rate: f64, time: Duration) -> Outcome {
        self.sink.bytes = 0;
        let (mut sent, mut counted) = (0, 0.0);
        let mut begin = Instant::now();
        let start = begin;
        while start.elapsed() < time {
            let due = begin.elapsed().as_secs_f64() * rate;
            if counted <= due {
                let late = Duration::from_secs_f64((due - counted) / rate);
                begin += late.saturating_sub(LATE);
                let n = self.group();
                sent += n;
                counted += n as f64;
            }
            self.sink.drain();
        }
        let seconds = start.elapsed().as_secs_f64();
        self.sink.settle();
        Outcome { sent, received: self.sink.bytes / SIZE as u64, seconds }
    }

    /// Sends what comes at once; tells how many datagrams.
    fn group(&mut self) -> u64 {
        let one = &self.datagrams[..SIZE];
        let mut turn = || {
            self.next = (self.next + 1) % self.sockets.len();
            &self.sockets[self.next]
        };
        let sent = match self.shape.arrival {
            Arrival::Bursts => wire::send_many(turn().as_raw_fd(), one, GROUP),
            Arrival::Each => (0..GROUP).map(|_| wire::send_many(turn().as_raw_fd(), one, 1)).sum(),
            Arrival::Spaced => wire::send_many(turn().as_raw_fd(), one, 1),
            Arrival::Joined => {
                let parts = [IoSlice::new(&self.datagrams)];
                turn().send(Way::default(), 0, &parts, Some(SIZE as u16)).map_or(0, |()| JOINED)
            }
        };
        sent as u64
    }

    /// The most datagrams in a second of which not one in a thousand is lost.
    pub(crate) fn highest_rate(&mut self, trial: Duration) -> f64 {
        let free = self.offer(f64::from(u32::MAX), trial);
        if free.is_whole() {
            return free.rate();
        }
        let (mut low, mut high) = (0.0, free.rate());
        let mut next = 0.95 * free.received as f64 / free.seconds;
        for _ in 0..6 {
            let outcome = self.offer(next, trial);
            if outcome.is_whole() {
                low = outcome.rate().max(low);
            } else {
                high = next.min(high);
            }
            next = if low > 0.0 { (low + high.min(low * 1.3)) / 2.0 } else { next * 0.8 };
        }
        low
    }
}

impl Outcome {
    pub(crate) fn is_whole(&self) -> bool {
        (self.sent.saturating_sub(self.received)) as f64 <= self.sent as f64 / 1000.0
    }

    fn rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { sent, received, seconds } = self;
        write!(f, "{sent} sent in {seconds:.2} s, {received} arrived")
    }
}
