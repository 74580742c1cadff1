//! The old process's side: what it has is told, and then another's.

use std::{
    collections::BTreeMap,
    io,
    os::fd::AsFd,
    sync::{Arc, PoisonError},
    time::Duration,
};

use super::{
    UpgradeError,
    words::{self, Answer, Hello, Open, State},
};
use crate::{
    gateway::{listeners::Flows, running::Run},
    net::passage::Passage,
};

/// Until then the new process has read its config and built everything.
const BUILDING: Duration = Duration::from_secs(60);
/// Until then it has opened its doors, while nobody is served.
const TAKING: Duration = Duration::from_secs(10);
/// Until then the threads of a listener of data stand still.
const HALTING: Duration = Duration::from_secs(2);

/// Gives all that there is to the process at the other end. Blocks; on failure nothing has changed.
pub(in crate::gateway) fn give(run: &Arc<Run>, passage: &mut Passage) -> Result<(), UpgradeError> {
    passage.set_patience(BUILDING)?;
    greet(run, passage)?;
    let wanted = match words::receive(passage)?.0 {
        Answer::Ready(wanted) => wanted,
        Answer::Failed(why) => return Err(UpgradeError::Refused(why)),
        Answer::Taken => return Err(out_of_order()),
    };
    passage.set_patience(TAKING)?;
    // From here on nobody is served until the other process does, or this one again.
    let mut listeners = run.listeners();
    let flows = listeners.halt(&wanted, HALTING)?;
    let given = tell(run, passage, flows);
    if let Err(error) = given {
        run.parts.heard.lock().unwrap_or_else(PoisonError::into_inner).keep();
        listeners.go_on(&wanted);
        drop(listeners);
        run.links.forget_newer(run);
        return Err(error);
    }
    // Of a name that one has here which is nearly through, nobody can tell which one a session came by.
    let through = listeners.retiring();
    run.links.newer_serves(wanted.iter().filter(|name| !through.contains(*name)).cloned());
    listeners.hand_over(&wanted, &run.parts);
    Ok(())
}

fn greet(run: &Run, passage: &mut Passage) -> Result<(), UpgradeError> {
    let admin = run.admin_socket();
    let listeners = run.listeners();
    let held = listeners.held();
    let open = held.iter().map(|held| Open {
        name: held.config.name.clone(),
        protocol: held.config.protocol,
        address: held.config.address,
        threads: held.threads,
        sockets: held.sockets.len(),
    });
    let hello = Hello {
        version: words::VERSION,
        listeners: open.collect(),
        admin: admin.as_ref().map(|(address, _)| *address),
        label_key: run.parts.sessions.label_key(),
    };
    let sockets = held.iter().flat_map(|held| held.sockets.iter().copied());
    let files: Vec<_> = sockets.chain(admin.as_ref().map(|(_, socket)| socket.as_fd())).collect();
    Ok(words::send(passage, &hello, &files)?)
}

/// Tells what there is, and waits until the other process has taken it.
fn tell(run: &Arc<Run>, passage: &mut Passage, flows: Flows) -> Result<(), UpgradeError> {
    // Whatever happens from here on is told as news afterwards.
    run.links.begin_newer(run);
    let generation = run.generation();
    let upstreams = || generation.upstreams.values();
    let (refused, cancelled) = run.parts.sessions.refused();
    let (mut states, mut files) = (BTreeMap::new(), Vec::new());
    for (name, threads) in flows {
        let mut of_threads = Vec::new();
        for thread in threads {
            let (of_thread, sockets): (Vec<_>, Vec<_>) = thread.into_iter().unzip();
            of_threads.push(of_thread);
            files.extend(sockets);
        }
        states.insert(name, of_threads);
    }
    let shared = run.replicas.get().map(|replicas| (replicas.me(), replicas.sessions(run)));
    let sessions = match &shared {
        Some(_) => Vec::new(),
        None => [run.parts.sessions.states(), run.links.held()].concat(),
    };
    let state = State {
        sessions,
        shared,
        refused,
        cancelled,
        nodes: upstreams().flat_map(|upstream| upstream.node_states()).collect(),
        pins: upstreams().flat_map(|upstream| upstream.pins()).collect(),
        clients: upstreams().flat_map(|upstream| upstream.clients()).collect(),
        flows: states,
        heard: run.parts.heard.lock().unwrap_or_else(PoisonError::into_inner).give(),
    };
    let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    words::send(passage, &state, &files)?;
    match words::receive(passage)?.0 {
        Answer::Taken => Ok(()),
        Answer::Failed(why) => Err(UpgradeError::Refused(why)),
        Answer::Ready(_) => Err(out_of_order()),
    }
}

fn out_of_order() -> UpgradeError {
    UpgradeError::Lost(io::Error::new(io::ErrorKind::InvalidData, "it says what nobody has asked for"))
}
