//! The operator's door: health and metrics for machines, an API and a status page for people, over plain HTTP.
//!
//! `server` takes connections, `gatekeeper` (a pure core) says who may have what, `routes` who answers; `transfers` and
//! `view` show what is open, `feed` sends it on once a second, `page` is what a browser makes of it. What is to be done goes
//! to whoever is [`Operated`] here: this door knows how to ask, not how a gateway works.

mod feed;
mod gatekeeper;
mod openapi;
mod page;
mod routes;
mod server;
mod transfers;
pub mod view;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{
    gatekeeper::{Token, TokenError},
    openapi::description,
    server::{Running, listen, start},
};

/// What an operator watches and commands here.
#[async_trait]
pub trait Operated: Send + Sync + 'static {
    /// Whether new sessions are welcome.
    fn readiness(&self) -> Readiness;

    /// What shows that an operator asks; none, and nobody may command.
    fn token(&self) -> Option<Arc<Token>>;

    /// The whole of it at this moment.
    fn status(&self) -> view::Status;

    /// The config that holds now, passwords masked.
    fn config(&self) -> serde_json::Value;

    /// Ends what is shown by this name.
    fn cancel(&self, id: &str) -> Cancelled;

    /// Lets nothing new go to the node of this name, or again; `upstream` tells apart nodes of one name.
    fn drain_node(&self, name: &str, upstream: Option<&str>, drain: bool) -> NodeDrain;

    /// Changes what can be changed while it runs, until the next reload: a config of nothing but that. What it says is
    /// for the operator.
    async fn change(&self, change: serde_json::Value) -> Result<String, Rejected>;

    /// Reads the config anew. What it says is for the operator.
    async fn reload(&self) -> Result<String, Rejected>;

    /// Has another process take over, of the program as it is installed now. What it says is for the operator.
    async fn upgrade(&self) -> Result<String, Rejected>;

    /// Begins to end. What it says is for the operator.
    fn drain(&self) -> String;
}

/// Whether new sessions are welcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// They are. What does not go as it should meanwhile is named, if anything.
    Ready(Vec<&'static str>),
    /// They are not, and this is why.
    NotReady(&'static str),
}

/// What became of the wish to end something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It ends.
    Done,
    /// There is nothing of this name.
    Unknown,
    /// It cannot be ended by itself.
    Cannot,
}

/// What became of the wish to drain a node, or to end that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeDrain {
    /// It is so now, with so many sessions on it.
    Done(usize),
    /// There is no such node.
    Unknown,
    /// Several upstreams have a node of this name.
    Several,
    /// The config drains it, and alone can end that.
    ByConfig,
}

/// Why a change or a new config is not applied: every problem, each with its path and a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected(pub Vec<String>);
