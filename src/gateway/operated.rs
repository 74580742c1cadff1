//! What operators can do to a running gateway.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{ReloadError, overview, running::Run};
use crate::{
    admin::{Cancelled, NodeDrain, Operated, Rejected, Token, view::Status},
    config::ConfigError,
    telemetry::{Kind, chain},
};

#[async_trait]
impl Operated for Run {
    fn why_not_ready(&self) -> Option<&'static str> {
        match () {
            () if self.is_draining() => Some("draining"),
            () if !self.generation().is_known() => Some("nodes not checked yet"),
            () => None,
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
        let Some(transfer) = self.parts.live.find(id) else { return Cancelled::Unknown };
        let ends = match transfer.about().kind {
            Kind::Session => self.parts.sessions.cancel(id),
            _ => transfer.cancel(),
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
