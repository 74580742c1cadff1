//! The sockets of a listener of data and its threads. Both outlive reloads: an address keeps the number of its sockets,
//! or the kernel would deal out running flows anew.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;

use super::{DataDoor, worker::Worker};
use crate::{
    config::ListenerConfig,
    net::udp::{Buffers, Poller, UdpSocket, Waker},
};

/// Threads of one listener where the config leaves it to us. More would rarely find work: one moves over 10 Gbit/s.
const MOST_THREADS: usize = 8;

/// The sockets of a listener of data, bound and not read yet.
#[derive(Debug)]
pub struct DataSockets {
    bound: SocketAddr,
    buffers: Buffers,
    /// For each thread one socket for each port.
    threads: Vec<(Poller, Vec<UdpSocket>)>,
}

impl DataSockets {
    /// Binds every port of the address, once for each thread.
    ///
    /// # Errors
    /// A port is taken, or there are not enough descriptors.
    pub fn open(config: &ListenerConfig) -> io::Result<DataSockets> {
        let threads = match config.workers {
            Some(workers) => workers as usize,
            None => thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS),
        };
        let size = usize::try_from(config.receive_buffer).unwrap_or(usize::MAX);
        let buffers = Buffers { receive: size, send: size };
        let mut opened: Vec<(Poller, Vec<UdpSocket>)> = Vec::new();
        for _ in 0..threads {
            opened.push((Poller::new()?, Vec::new()));
        }
        let mut bound = None;
        for address in config.address.all() {
            let mut address = address;
            for (_, sockets) in &mut opened {
                let socket = UdpSocket::listen(address, threads > 1, buffers)?;
                // A port that the system chose is shared from the second socket on.
                address = socket.local_address()?;
                bound.get_or_insert(address);
                sockets.push(socket);
            }
        }
        let bound = bound.ok_or(io::ErrorKind::InvalidInput)?;
        warn_of_small(&config.name, buffers, &opened);
        Ok(DataSockets { bound, buffers, threads: opened })
    }

    /// The first address bound.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }
}

/// A burst that the kernel has no room for is lost, and nobody but the kernel knows.
fn warn_of_small(listener: &str, wanted: Buffers, opened: &[(Poller, Vec<UdpSocket>)]) {
    let first = opened.first().and_then(|(_, sockets)| sockets.first());
    let Some(Ok(got)) = first.map(UdpSocket::buffers) else { return };
    if got.receive < wanted.receive || got.send < wanted.send {
        tracing::warn!(
            listener,
            wanted = wanted.receive,
            receive = got.receive,
            send = got.send,
            "The system caps receive_buffer; raise net.core.rmem_max and net.core.wmem_max."
        );
    }
}

/// What the threads of a listener are told.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) door: ArcSwap<DataDoor>,
    pub(super) draining: AtomicBool,
    pub(super) stop: AtomicBool,
    /// Flows open now, of all threads.
    pub(super) flows: AtomicUsize,
}

/// A listener of data with its threads. Dropping it ends them, and all its flows.
#[derive(Debug)]
pub struct DataListener {
    orders: Arc<Orders>,
    threads: Vec<(Waker, JoinHandle<()>)>,
}

impl DataListener {
    /// Starts the threads.
    pub fn start(sockets: DataSockets, door: Arc<DataDoor>) -> DataListener {
        let orders = Arc::new(Orders {
            door: ArcSwap::new(door.clone()),
            draining: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            flows: AtomicUsize::new(0),
        });
        let mut threads = Vec::new();
        for (poller, listening) in sockets.threads {
            let waker = poller.waker();
            let worker = Worker::new(poller, listening, sockets.buffers, orders.clone());
            match thread::Builder::new().name(format!("data-{}", door.name)).spawn(move || worker.run()) {
                Ok(thread) => threads.push((waker, thread)),
                // Its socket closes, and the kernel deals its clients to the others.
                Err(error) => tracing::error!(listener = door.name, %error, "A thread for datagrams could not start."),
            }
        }
        DataListener { orders, threads }
    }

    /// Later flows go by this door.
    pub fn set_door(&self, door: Arc<DataDoor>) {
        self.orders.door.store(door);
        self.wake();
    }

    /// From now on only clients with a control connection open may open flows, and flows end with the last one.
    pub fn drain(&self) {
        self.orders.draining.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Flows open now.
    pub fn flows(&self) -> usize {
        self.orders.flows.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        self.threads.iter().for_each(|(waker, _)| waker.wake());
    }
}

impl Drop for DataListener {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.wake();
        for (_, thread) in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
