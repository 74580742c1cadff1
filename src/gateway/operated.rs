//! What operators can do to a running gateway.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{ReloadError, overview, running::Run};
use crate::{
    admin::{Cancelled, NodeDrain, Operated, Readiness, Rejected, Token, view::Status},
    config::ConfigError,
    telemetry::{Kind, chain},
};

#[async_trait]
impl Operated for Run {
    fn readiness(&self) -> Readiness {
        match () {
            () if self.is_draining() => Readiness::NotReady("draining"),
            () if self.parts.shortage.is_on() => Readiness::NotReady("open_files"),
            () if !self.generation().is_known() => Readiness::NotReady("nodes not checked yet"),
            () => Readiness::Ready(self.lacks()),
        }
    }

    fn token(&self) -> Option<Arc<Token>> {
        self.generation().token.clone()
    }

    fn status(&self) -> Status {
        overview::status(self)
    }

    fn config(&self) -> Value {
        Run::config(self).shown()
    }

    fn cancel(&self, id: &str) -> Cancelled {
        let ends = match self.parts.live.find(id) {
            Some(transfer) if transfer.about().kind != Kind::Session => transfer.cancel(),
            Some(_) => self.parts.sessions.cancel(id),
            // It may be shown at another replica.
            None if self.parts.sessions.cancel(id) => true,
            None => return Cancelled::Unknown,
        };
        if ends {
            tracing::info!(id, "An operator ends it.");
            Cancelled::Done
        } else {
            Cancelled::Cannot
        }
    }

    fn drain_node(&self, name: &str, upstream: Option<&str>, drain: bool) -> NodeDrain {
        let generation = self.generation();
        let upstreams = generation.upstreams.values().filter(|it| upstream.is_none_or(|wanted| it.name() == wanted));
        let nodes: Vec<_> = upstreams.flat_map(|it| it.nodes().iter().filter(|node| node.name() == name)).collect();
        match nodes[..] {
            [] => NodeDrain::Unknown,
            [node] if node.set_drain(drain) => NodeDrain::Done(node.sessions()),
            [_] => NodeDrain::ByConfig,
            _ => NodeDrain::Several,
        }
    }

    async fn change(&self, change: Value) -> Result<String, Rejected> {
        let problems = match Run::change(self, &change).await {
            Ok(()) => {
                tracing::warn!(%change, "An operator has changed the running config.");
                return Ok("It holds until the next reload.".to_owned());
            }
            Err(problems) => problems,
        };
        Err(Rejected(problems.iter().map(ToString::to_string).collect()))
    }

    async fn reload(&self) -> Result<String, Rejected> {
        match self.reload_file().await {
            Ok(kept) if kept.is_empty() => Ok("The new config is applied.".to_owned()),
            Ok(kept) => Ok(format!("The new config is applied, but {} needs a restart.", kept.join(", "))),
            Err(ReloadError::Config(ConfigError::Invalid { problems, .. })) => {
                Err(Rejected(problems.iter().map(ToString::to_string).collect()))
            }
            Err(other) => Err(Rejected(chain(&other).lines().map(str::to_owned).collect())),
        }
    }

    async fn upgrade(&self) -> Result<String, Rejected> {
        let Some(run) = self.me.upgrade() else { return Err(Rejected(Vec::new())) };
        // It goes on though nobody waits for the answer any more.
        match tokio::spawn(async move { run.upgrade().await }).await {
            Ok(Ok(pid)) => Ok(format!("Process {pid} has taken over. This one carries what it has to its end.")),
            Ok(Err(error)) => Err(Rejected(vec![chain(&error)])),
            Err(error) => Err(Rejected(vec![chain(&error)])),
        }
    }

    fn drain(&self) -> String {
        tracing::warn!("An operator ends the gateway.");
        self.stop.cancel();
        let open = self.parts.live.transfers().len();
        format!("It takes nothing new from now on, and stops when what is open is over: {open} now.")
    }
}

impl Run {
    /// What does not go as it should, though sessions are served.
    fn lacks(&self) -> Vec<&'static str> {
        let all = [
            (self.kept_state().is_some_and(|now| !now.is_well), "state"),
            (!self.parts.access_log.is_well(), "access_log"),
            (!self.last_reload().0, "config"),
        ];
        all.into_iter().filter_map(|(lacks, word)| lacks.then_some(word)).collect()
    }
}
