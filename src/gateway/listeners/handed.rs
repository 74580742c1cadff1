//! Listeners that go to another process with their sockets.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Listener, Listeners, Open, retire};
use crate::{config::ListenerConfig, gateway::parts::Parts, relay::Handed};

/// A listener and its sockets.
pub(in crate::gateway) struct Held<'a> {
    pub(in crate::gateway) config: &'a ListenerConfig,
    /// Threads that read datagrams; one for connections.
    pub(in crate::gateway) threads: usize,
    /// For each thread one for each port.
    pub(in crate::gateway) sockets: Vec<BorrowedFd<'a>>,
}

/// The flows of each listener of data by its name: for each thread its own.
pub(in crate::gateway) type Flows = BTreeMap<String, Vec<Vec<Handed>>>;

impl Listener {
    fn held(&self) -> Held<'_> {
        let (threads, sockets) = match &self.open {
            Open::Stream(accepting) => (1, accepting.socket().into_iter().map(AsFd::as_fd).collect()),
            Open::Data(data) => {
                let sockets = data.sockets().iter().flat_map(|ports| ports.iter().map(AsFd::as_fd));
                (data.sockets().len(), sockets.collect())
            }
        };
        Held { config: &self.configured, threads, sockets }
    }
}

impl Listeners {
    /// All that are open and of the running config.
    pub(in crate::gateway) fn held(&self) -> Vec<Held<'_>> {
        self.open.values().map(Listener::held).collect()
    }

    /// Has all of these take nothing more, and tells their flows. Blocks for a moment; on failure all go on.
    pub(in crate::gateway) fn halt(&mut self, which: &[String], patience: Duration) -> io::Result<Flows> {
        let mut flows = Flows::new();
        for (name, listener) in self.open.iter().filter(|(name, _)| which.contains(name)) {
            match &listener.open {
                Open::Stream(accepting) => accepting.halt(),
                Open::Data(data) => match data.halt(patience) {
                    Ok(of_data) => drop(flows.insert(name.clone(), of_data)),
                    Err(error) => {
                        self.go_on(which);
                        return Err(error);
                    }
                },
            }
        }
        Ok(flows)
    }

    /// Ends the standstill.
    pub(in crate::gateway) fn go_on(&mut self, which: &[String]) {
        for (_, listener) in self.open.iter_mut().filter(|(name, _)| which.contains(name)) {
            match &mut listener.open {
                Open::Stream(accepting) => accepting.go_on(),
                Open::Data(data) => data.go_on(),
            }
        }
    }

    /// Another process has the sockets of these; what began on them goes on here. The others are through once what began on
    /// them is over.
    pub(in crate::gateway) fn hand_over(&mut self, which: &[String], parts: &Arc<Parts>) {
        let now = Instant::now();
        let all = std::mem::take(&mut self.open);
        for (name, listener) in all {
            if !which.contains(&name) {
                listener.drain();
                let parts = parts.clone();
                self.gone.spawn(retire(name, listener, now, parts));
                continue;
            }
            match listener.open {
                Open::Data(data) => data.hand_over(),
                Open::Stream(_) => {
                    let mut listener = listener;
                    listener.stop();
                    self.open.insert(name, listener);
                }
            }
        }
    }
}
