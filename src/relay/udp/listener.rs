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
    time::Duration,
};

use arc_swap::ArcSwap;

use super::{DataDoor, halt::Halt, worker::Worker};
use crate::{
    config::ListenerConfig,
    net::udp::{Buffers, Poller, UdpSocket, Waker},
    shared::FlowState,
};

/// Threads of one listener where the config leaves it to us. More would rarely find work: one moves over 10 Gbit/s.
const MOST_THREADS: usize = 8;

/// The sockets of a listener of data, bound and not read yet.
#[derive(Debug)]
pub struct DataSockets {
    bound: SocketAddr,
    buffers: Buffers,
    /// For each thread one socket for each port.
    threads: Vec<Listening>,
    /// Flows that ran in another process until now, for each thread.
    flows: Vec<Vec<Handed>>,
}

/// What a thread listens on, for each port one socket.
pub(super) type Listening = (Poller, Arc<[UdpSocket]>);

/// A flow with its socket towards the node.
pub type Handed = (FlowState, UdpSocket);

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
        let threads: Vec<_> = opened.into_iter().map(|(poller, sockets)| (poller, sockets.into())).collect();
        warn_of_small(&config.name, buffers, &threads);
        Ok(DataSockets { bound, buffers, threads, flows: Vec::new() })
    }

    /// Takes sockets over that another process has opened: for each thread one for each port, as many as there are.
    ///
    /// # Errors
    /// There is none, or no descriptor is left.
    pub fn handed(config: &ListenerConfig, sockets: Vec<Vec<UdpSocket>>) -> io::Result<DataSockets> {
        let first = sockets.first().and_then(|ports| ports.first()).ok_or(io::ErrorKind::InvalidInput)?;
        let bound = first.local_address()?;
        let size = usize::try_from(config.receive_buffer).unwrap_or(usize::MAX);
        let threads = sockets.into_iter().map(|ports| Ok((Poller::new()?, ports.into()))).collect::<io::Result<_>>()?;
        Ok(DataSockets { bound, buffers: Buffers { receive: size, send: size }, threads, flows: Vec::new() })
    }

    /// Takes sockets over that a service manager has opened: for each thread one for each port, as many as there are.
    ///
    /// # Errors
    /// One is no socket that listens, or no descriptor is left.
    pub fn adopt(config: &ListenerConfig, sockets: Vec<Vec<std::net::UdpSocket>>) -> io::Result<DataSockets> {
        let size = usize::try_from(config.receive_buffer).unwrap_or(usize::MAX);
        let buffers = Buffers { receive: size, send: size };
        let adopt = |ports: Vec<_>| ports.into_iter().map(|socket| UdpSocket::adopt(socket, buffers)).collect();
        DataSockets::handed(config, sockets.into_iter().map(adopt).collect::<io::Result<_>>()?)
    }

    /// Brings the flows that ran on these sockets until now, for each thread.
    pub fn bring(&mut self, flows: Vec<Vec<Handed>>) {
        self.flows = flows;
    }

    /// The first address bound.
    pub fn bound(&self) -> SocketAddr {
        self.bound
    }
}

/// A burst that the kernel has no room for is lost, and nobody but the kernel knows.
fn warn_of_small(listener: &str, wanted: Buffers, opened: &[Listening]) {
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
    pub(super) halt: Halt,
    /// Flows open now, of all threads.
    pub(super) flows: AtomicUsize,
}

/// A listener of data with its threads. Dropping it ends them, and all its flows.
#[derive(Debug)]
pub struct DataListener {
    orders: Arc<Orders>,
    sockets: Vec<Arc<[UdpSocket]>>,
    threads: Vec<(Waker, JoinHandle<()>)>,
}

impl DataListener {
    /// Starts the threads.
    pub fn start(sockets: DataSockets, door: Arc<DataDoor>) -> DataListener {
        let orders = Arc::new(Orders {
            door: ArcSwap::new(door.clone()),
            draining: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            halt: Halt::default(),
            flows: AtomicUsize::new(0),
        });
        let (mut threads, mut kept, mut flows) = (Vec::new(), Vec::new(), sockets.flows.into_iter());
        for (poller, listening) in sockets.threads {
            let waker = poller.waker();
            kept.push(listening.clone());
            let flows = flows.next().unwrap_or_default();
            let worker = Worker::new((poller, listening), flows, sockets.buffers, orders.clone());
            match thread::Builder::new().name(format!("data-{}", door.name)).spawn(move || worker.run()) {
                Ok(thread) => threads.push((waker, thread)),
                // Its socket closes, and the kernel deals its clients to the others.
                Err(error) => tracing::error!(listener = door.name, %error, "A thread for datagrams could not start."),
            }
        }
        DataListener { orders, sockets: kept, threads }
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

    /// Its sockets: for each thread one for each port.
    pub fn sockets(&self) -> &[Arc<[UdpSocket]>] {
        &self.sockets
    }

    /// Has the threads stand still, and tells their flows, so that another process can go on with them. Datagrams wait in
    /// the system's buffers meanwhile.
    ///
    /// Blocks for a moment. Fails when a thread does not answer within `patience`, and when no descriptor is left to share the
    /// socket of a flow; then all go on.
    pub fn halt(&self, patience: Duration) -> io::Result<Vec<Vec<Handed>>> {
        let told = self.orders.halt.begin();
        self.wake();
        let threads: Vec<_> = self.threads.iter().filter_map(|_| told.recv_timeout(patience).ok()).collect();
        if threads.len() < self.threads.len() {
            self.go_on();
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut flows: Vec<Vec<Handed>> = self.sockets.iter().map(|_| Vec::new()).collect();
        for (sockets, of_thread) in threads {
            let of_thread = of_thread.inspect_err(|_| self.go_on())?;
            let at = self.sockets.iter().position(|known| Arc::ptr_eq(known, &sockets));
            if let Some(flows) = at.and_then(|at| flows.get_mut(at)) {
                *flows = of_thread;
            }
        }
        Ok(flows)
    }

    /// Ends the standstill: all is as it was.
    pub fn go_on(&self) {
        self.orders.halt.end(false);
    }

    /// Ends the threads, which stand still: another process goes on with their flows.
    pub fn hand_over(self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.orders.halt.end(true);
    }

    fn wake(&self) {
        self.threads.iter().for_each(|(waker, _)| waker.wake());
    }
}

impl Drop for DataListener {
    fn drop(&mut self) {
        self.orders.stop.store(true, Ordering::Relaxed);
        self.orders.halt.end(self.orders.halt.is_handed());
        self.wake();
        for (_, thread) in self.threads.drain(..) {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}
