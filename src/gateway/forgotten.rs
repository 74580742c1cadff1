//! The end of what a reload took out of the config, in metrics and sums.

use std::{collections::HashSet, time::SystemTime};

use super::{generation::Generation, running::Run};
use crate::telemetry::Known;

/// How far that has come.
#[derive(Debug, Default)]
pub(super) struct Forgotten {
    /// The last reload, whatever came of it, of which nothing is left to be forgotten.
    through: Option<(bool, SystemTime)>,
}

impl Forgotten {
    /// Forgets what the running config does not name and nothing uses any more; `retiring` are the listeners that close
    /// once they are through. Costs nothing as long as there is nothing to forget.
    pub(super) fn forget(&mut self, run: &Run, retiring: HashSet<String>) {
        let last = run.last_reload();
        if self.through == Some(last) {
            return;
        }
        let closing = !retiring.is_empty();
        let known = known(&run.generation(), retiring);
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
    for node in generation.upstreams.values().flat_map(|upstream| upstream.nodes()) {
        let (upstream, name) = (node.upstream().to_owned(), node.name().to_owned());
        let port = |port: &crate::config::NodePort| (upstream.clone(), name.clone(), port.as_str().to_owned());
        known.ports.extend(node.checked().iter().map(port));
        known.nodes.insert((upstream, name));
    }
    known
}
