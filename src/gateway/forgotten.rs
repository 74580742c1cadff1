//! The end of what a reload took out of the config, or the DNS, in metrics and sums.

use std::{collections::HashSet, time::SystemTime};

use super::{generation::Generation, running::Run};
use crate::telemetry::Known;

/// How far that has come.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// The last reload, whatever came of it, and how often nodes came or went by then, of which nothing is left to be
    /// forgotten.
    through: Option<((bool, SystemTime), u64)>,
}

impl Forgotten {
    /// Forgets what the running config does not name and nothing uses any more; `retiring` are the listeners that close
    /// once they are through. Costs nothing as long as there is nothing to forget.
    pub(super) fn forget(&mut self, run: &Run, retiring: HashSet<String>) {
        let generation = run.generation();
        let last = (run.last_reload(), generation.upstreams.values().map(|upstream| upstream.node_changes()).sum());
        if self.through == Some(last) {
            return;
        }
        let closing = !retiring.is_empty();
        // One that is just coming has series already.
        let _still: Vec<_> = generation.upstreams.values().map(|upstream| upstream.hold_still()).collect();
        let known = known(&generation, retiring);
        let (metrics, live) = (run.parts.metrics.forget(&known), run.parts.live.forget(&known));
        self.through = (metrics && live && !closing).then_some(last);
    }
}

/// All that may have series.
fn known(generation: &Generation, retiring: HashSet<String>) -> Known {
    let mut known = Known { listeners: retiring, ..Known::default() };
    for listener in &generation.config.listeners {
        known.listeners.insert(listener.name.clone());
        if let Some((door, _)) = generation.doors.get(&listener.name) {
            known.certificates.extend(door.certificates().into_iter().map(|(name, _)| (listener.name.clone(), name)));
        }
    }
    known.upstreams.extend(generation.upstreams.keys().cloned());
    for node in generation.upstreams.values().flat_map(|upstream| upstream.nodes().to_vec()) {
        let (upstream, name) = (node.upstream().to_owned(), node.name().to_owned());
        let port = |port: &crate::config::NodePort| (upstream.clone(), name.clone(), port.as_str().to_owned());
        known.ports.extend(node.checked().iter().map(port));
        known.nodes.insert((upstream, name));
    }
    known
}
