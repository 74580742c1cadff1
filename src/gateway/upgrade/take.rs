//! The new process's side: what the old one has is taken over.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    TAKES_OVER,
    bring::Places,
    link::{Held, Link, Queue},
    words::{self, Answer, Hello, State},
};
use crate::{
    gateway::{
        generation::Generation,
        listeners::Prepared,
        running::Run,
        socket::{OfListener, Offered, OpenSockets},
    },
    net::{passage::Passage, udp::UdpSocket},
    relay::Handed,
    upstream::Upstream,
};

/// Until then the old process has said what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor(Passage);

/// A process that has told what it listens on.
#[derive(Debug)]
pub(in crate::gateway) struct Greeted {
    passage: Passage,
    pub(in crate::gateway) offered: Offered,
    /// What hides the ids of sessions.
    pub(in crate::gateway) label_key: (u64, u64),
}

impl Predecessor {
    /// The process that has started this one in order to be taken over from, if one has.
    pub fn find() -> io::Result<Option<Predecessor>> {
        if std::env::var_os(TAKES_OVER).is_none() {
            return Ok(None);
        }
        let passage = Passage::from_stdin()?;
        passage.set_patience(PATIENCE)?;
        Ok(Some(Predecessor(passage)))
    }

    /// Says why it is not taken over from. It goes on.
    pub fn refuse(mut self, why: String) {
        // It finds out in any case.
        let _ = words::send(&mut self.0, &Answer::Failed(why), &[]);
    }

    /// Another way to it, to say why it is not taken over from.
    pub fn share(&self) -> io::Result<Predecessor> {
        self.0.share().map(Predecessor)
    }

    /// Hears what it listens on. Blocks.
    pub(in crate::gateway) fn greet(mut self) -> io::Result<Greeted> {
        let (hello, files): (Hello, _) = words::receive(&mut self.0)?;
        if hello.version != words::VERSION {
            return Err(io::Error::other(format!("it speaks version {}, not {}", hello.version, words::VERSION)));
        }
        let (mut files, mut open) = (files.into_iter(), Vec::new());
        for listener in &hello.listeners {
            let sockets: Vec<_> = files.by_ref().take(listener.sockets).collect();
            let config = listener.config()?;
            open.push(OfListener { sockets: sockets_of(&config, listener.threads, sockets)?, config });
        }
        let admin = hello.admin.zip(files.next()).map(|(address, socket)| (address, socket.into()));
        let offered = Offered { open, admin, ..Offered::default() };
        Ok(Greeted { passage: self.0, offered, label_key: hello.label_key })
    }
}

/// A session or flow whose node this config does not have: it could not go on here.
fn homeless(state: &State, generation: &Generation) -> Option<String> {
    let has = |upstream: &Upstream, node: &str| upstream.nodes().iter().any(|known| known.name() == node);
    let is_here = |upstream: &str, node: &str| generation.upstreams.get(upstream).is_some_and(|it| has(it, node));
    let session = state.sessions.iter().find(|session| !is_here(&session.upstream, &session.node));
    let mut flows = state.flows.values().flatten().flatten();
    let flow = flows.find(|flow| !generation.upstreams.values().any(|upstream| has(upstream, &flow.node)));
    let told = |what: &str, node: &str| format!("a {what} is on node {node}, which the config does not have there");
    session.map(|it| told("session", &it.node)).or_else(|| flow.map(|it| told("flow", &it.node)))
}

fn sockets_of(
    config: &crate::config::ListenerConfig,
    threads: usize,
    mut sockets: Vec<OwnedFd>,
) -> io::Result<OpenSockets> {
    let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("listener {} has no sockets", config.name));
    if config.protocol != crate::config::Protocol::Udp {
        return sockets.pop().map(|socket| OpenSockets::Stream(socket.into())).ok_or_else(missing);
    }
    let ports = sockets.len().checked_div(threads).filter(|ports| *ports > 0).ok_or_else(missing)?;
    let mut all = Vec::new();
    let mut sockets = sockets.into_iter();
    for _ in 0..threads {
        all.push(sockets.by_ref().take(ports).map(UdpSocket::handed).collect::<io::Result<_>>()?);
    }
    Ok(OpenSockets::Data(all))
}

impl Greeted {
    /// All is built: the old process stands still from here on, and what it has is put where it belongs. Blocks.
    pub(in crate::gateway) fn take(mut self, run: &Arc<Run>, prepared: &mut Prepared) -> io::Result<Brought> {
        let taken = std::mem::take(&mut self.offered.taken);
        let names = taken.iter().map(|(there, _)| there.clone()).collect();
        words::send(&mut self.passage, &Answer::Ready(names), &[])?;
        let (state, files): (State, _) = words::receive(&mut self.passage)?;
        let mut held = Held::default();
        let generation = run.generation();
        for node in &state.nodes {
            generation.upstreams.get(&node.upstream).into_iter().for_each(|upstream| upstream.bring_node(node));
        }
        if let Some(why) = homeless(&state, &generation) {
            return Err(io::Error::other(why));
        }
        for pin in &state.pins {
            generation.upstreams.get(&pin.upstream).into_iter().for_each(|upstream| upstream.bring_pin(pin));
        }
        for client in &state.clients {
            let Some(upstream) = generation.upstreams.get(&client.upstream) else { continue };
            for (number, control) in upstream.bring_client(client) {
                held.controls.insert((client.upstream.clone(), number), control);
            }
        }
        run.parts.heard.lock().unwrap_or_else(PoisonError::into_inner).bring(state.heard);
        run.parts.sessions.bring_refused(&state.refused, &state.cancelled);
        if let Some((older, sessions)) = &state.shared
            && let Some(replicas) = run.replicas.get()
        {
            replicas.set_older(*older);
            sessions.iter().for_each(|shared| run.bring_guest(replicas, shared));
        }
        for session in state.sessions {
            if let Some(places) = Places::take(run, &session) {
                held.sessions.insert(session.key, (session, places));
            }
        }
        let mut files = files.into_iter();
        for (there, threads) in state.flows {
            let here = taken.iter().find(|(name, _)| *name == there).map(|(_, here)| here);
            let mut flows = Vec::new();
            for thread in threads {
                let sockets = files.by_ref().take(thread.len()).map(UdpSocket::handed);
                let of_thread = thread.into_iter().zip(sockets).map(|(state, socket)| Ok((state, socket?)));
                flows.push(of_thread.collect::<io::Result<Vec<Handed>>>()?);
            }
            here.into_iter().for_each(|here| prepared.bring(here, std::mem::take(&mut flows)));
        }
        let (link, queue) = run.links.begin_older(run, held);
        Ok(Brought { passage: self.passage, link, queue })
    }
}

/// All is put where it belongs, and the doors may open.
#[derive(Debug)]
pub(in crate::gateway) struct Brought {
    passage: Passage,
    link: Arc<Link>,
    queue: Queue,
}

impl Brought {
    /// The doors are open: the old process takes nothing any more.
    pub(in crate::gateway) fn taken(mut self, run: &Arc<Run>) -> io::Result<()> {
        words::send(&mut self.passage, &Answer::Taken, &[])?;
        self.link.connect_older(run, self.queue, self.passage)
    }
}
