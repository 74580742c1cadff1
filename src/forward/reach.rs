//! From a target to a connection: the policy by name, the addresses, the policy by address, and dialling.
//!
//! Only an address that the policy has seen is connected to; the name is not looked up again, so it cannot change its
//! mind in between.

use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use super::{
    Door,
    address::OwnAddresses,
    outgoing::Leaving,
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
    pub(super) leaving: Leaving,
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
            story.parent = true;
            settle(ruling.unresolved(), story).map_err(|refusal| refused(refusal, story))?;
            let reached = parent::reach(parent, &self.resolver, &own, self.timeouts.connect).await;
            let (stream, address) = reached.map_err(Unreached::Parent)?;
            story.address = Some(address);
            return Ok(Reached { leaving: self.shared.outgoing.begin(&stream), stream, parent: Some(parent) });
        }
        let found = match &target.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.resolver.addresses(name.as_str()).await?,
        };
        let verdicts = verdicts(&ruling, found).map_err(|refusal| refused(refusal, story))?;
        let addresses = verdicts.iter().map(|(ip, _)| SocketAddr::new(*ip, target.port)).collect();
        let (stream, address) = match dial(addresses, self.timeouts.connect).await {
            Ok(dialled) => dialled,
            Err(error) => {
                // By what it would have passed.
                let _ = verdicts.first().map(|(_, verdict)| settle(*verdict, story));
                return Err(error.into());
            }
        };
        let leaving = self.shared.outgoing.begin(&stream);
        // Who is connected to by the same address as connects is this host, whatever its interfaces say.
        let is_here = stream.local_addr().is_ok_and(|near| near.ip() == address.ip());
        let verdict = verdicts.iter().find(|(ip, _)| *ip == address.ip()).map(|(_, verdict)| *verdict);
        let verdict = if is_here || verdict.is_none() {
            let here = OwnAddresses { local: vec![address.ip()], ..OwnAddresses::clone(&own) };
            policy.rule(Ask { client, user: user.as_deref(), target, own: &here }).addresses(&[address.ip()])
        } else {
            verdict.unwrap_or(Verdict::Refuse(Refusal { reason: Reason::PolicyDenied, rule: Rule::Default }))
        };
        settle(verdict, story).map_err(|refusal| refused(refusal, story))?;
        tcp::tune(&stream);
        story.address = Some(address);
        Ok(Reached { stream, leaving, parent: None })
    }
}

/// The addresses that may be connected to, with what lets them pass; those first that pass without a report.
fn verdicts(ruling: &Ruling<'_>, found: Vec<IpAddr>) -> Result<Vec<(IpAddr, Verdict)>, Refusal> {
    let mut pass = Vec::with_capacity(found.len());
    let mut why = None;
    for ip in found {
        match ruling.addresses(&[ip]) {
            // That somebody would lead back into the gateway is worth more to know than that an address is private.
            Verdict::Refuse(refusal) if matches!(refusal.rule, Rule::Admin | Rule::Own) => why = Some(refusal),
            Verdict::Refuse(refusal) => why = why.or(Some(refusal)),
            verdict => pass.push((ip, verdict)),
        }
    }
    pass.sort_by_key(|(_, verdict)| matches!(verdict, Verdict::Report(_)));
    match why {
        Some(refusal) if pass.is_empty() => Err(refusal),
        _ => Ok(pass),
    }
}

/// Notes what lets a target pass.
fn settle(verdict: Verdict, story: &mut Story) -> Result<(), Refusal> {
    match verdict {
        Verdict::Pass(rule) => story.rule = Some(rule),
        Verdict::Report(refusal) => (story.rule, story.reported) = (Some(refusal.rule), true),
        Verdict::Refuse(refusal) => return Err(refusal),
    }
    Ok(())
}

fn refused(refusal: Refusal, story: &mut Story) -> Unreached {
    story.rule = Some(refusal.rule);
    Unreached::Refused(refusal)
}
