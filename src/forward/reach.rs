//! From a target to a connection: the policy by name, the addresses, the policy by address, and dialling.
//!
//! Only an address that the policy has seen is connected to; the name is not looked up again, so it cannot change its
//! mind in between.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use super::{
    Door,
    parent::{self, ParentError},
    policy::{Ask, Refusal, Rule, Ruling, Verdict},
    record::Story,
    target::{Host, Target},
};
use crate::{
    config::ParentProxy,
    net::{
        dial::{DialError, dial},
        dns::DnsError,
        tcp,
    },
    telemetry::Reason,
};

/// A connection to the target, or to the parent that leads there.
pub(super) struct Reached<'a> {
    pub(super) stream: TcpStream,
    /// The parent, which has not been told anything yet.
    pub(super) parent: Option<&'a ParentProxy>,
}

/// Why a target was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    /// The policy says no.
    #[error("{} by {}", .0.reason, .0.rule)]
    Refused(Refusal),
    /// The name has no address.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// No address was connected to.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The parent was not reached, or would not.
    #[error("the parent proxy: {0}")]
    Parent(#[source] ParentError),
}

impl Unreached {
    /// The word.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Unreached::Refused(refusal) => refusal.reason,
            Unreached::Dns(_) => Reason::DnsFailed,
            Unreached::Dial(DialError::Refused(..)) => Reason::ConnectRefused,
            Unreached::Dial(DialError::Timeout) => Reason::ConnectTimeout,
            Unreached::Dial(DialError::Failed(..) | DialError::Nowhere) => Reason::ConnectFailed,
            Unreached::Parent(_) => Reason::ParentFailed,
        }
    }
}

impl Door {
    /// Connects to where a client may go. What decided, and what was connected to, goes into the story.
    pub(super) async fn reach(&self, target: &Target, story: &mut Story) -> Result<Reached<'_>, Unreached> {
        let own = self.shared.own.load_full();
        let (client, user) = (story.client.ip(), story.user.clone());
        let policy = &self.rules.policy;
        let ruling = policy.rule(Ask { client, user: user.as_deref(), target, own: &own });
        if let Some(refusal) = ruling.refusal() {
            return Err(refused(refusal, story));
        }
        if let Some(parent) = policy.parent_for(&target.host) {
            pass(ruling.unresolved(), story)?;
            let address = parent::reach(parent, &self.resolver, self.timeouts.connect).await;
            let (stream, address) = address.map_err(Unreached::Parent)?;
            (story.address, story.parent) = (Some(address), true);
            return Ok(Reached { stream, parent: Some(parent) });
        }
        let found = match &target.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolver.addresses(name.as_str()).await?,
        };
        let allowed = allowed(&ruling, found, target.port, story)?;
        let (stream, address) = dial(allowed, self.timeouts.connect).await?;
        tcp::keep_alive(&stream);
        let _ = stream.set_nodelay(true);
        story.address = Some(address);
        Ok(Reached { stream, parent: None })
    }
}

/// Those of the addresses that may be connected to.
fn allowed(
    ruling: &Ruling<'_>,
    found: Vec<IpAddr>,
    port: u16,
    story: &mut Story,
) -> Result<Vec<SocketAddr>, Unreached> {
    let mut allowed = Vec::with_capacity(found.len());
    let mut first: Option<Unreached> = None;
    for ip in found {
        match pass(ruling.addresses(&[ip]), story) {
            Ok(()) => allowed.push(SocketAddr::new(ip, port)),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    match first {
        Some(refusal) if allowed.is_empty() => Err(refusal),
        _ => Ok(allowed),
    }
}

fn pass(verdict: Verdict, story: &mut Story) -> Result<(), Unreached> {
    match verdict {
        Verdict::Pass(rule) => story.rule = Some(rule),
        Verdict::Report(refusal) => (story.rule, story.reported) = (Some(refusal.rule), true),
        Verdict::Refuse(refusal) => return Err(refused(refusal, story)),
    }
    Ok(())
}

fn refused(refusal: Refusal, story: &mut Story) -> Unreached {
    // What lets another address pass is told, not what refused this one.
    if !matches!(story.rule, Some(Rule::Allow(_))) {
        story.rule = Some(refusal.rule);
    }
    Unreached::Refused(refusal)
}
