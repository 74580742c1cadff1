//! Who may reach what. Pure: knows no resolver and no socket.
//!
//! A target is ruled on twice: by its name before it is resolved, and by every address before one is connected to.
//! Nothing is allowed but by an entry of `allow`, and an entry of `deny` that fits wins over all of them.
//!
//! * An entry fits by name: by the name itself, by `*.example.com`, by `*`, or a literal address by its network.
//! * A network in `deny` also denies a name that has an address in it. One address is enough, and an address that
//!   hides in another (NAT64, 6to4, Teredo and their kin) counts.
//! * A network in `allow` also allows a name, when no entry allows it by name and all its addresses are in such networks.
//! * A private address, or one of the gateway's own listeners, needs a network of `allow_private_addresses` around it,
//!   and so does what hides in it; one such address among several refuses the whole name. The admin door is never met.
//!
//! `mode: report` lets pass what `allow` and `deny` refuse and says so. Private addresses and the admin door it protects
//! as ever: a rehearsal opens no door.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{
    address::{Class, OwnAddresses, forms},
    target::{Host, Target},
};
use crate::{
    config::{HostPattern, ParentProxy, PolicyConfig, PolicyMode, RuleConfig, host::canonical_network},
    telemetry::Reason,
};

/// A policy, ready to rule.
#[derive(Debug)]
pub struct Policy {
    /// Its networks of IPv4 are written as such.
    config: PolicyConfig,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The address of the client.
    pub client: IpAddr,
    /// The user, if the client has proven to be one.
    pub user: Option<&'a str>,
    /// Where it would go.
    pub target: &'a Target,
    /// What the gateway itself listens on now.
    pub own: &'a OwnAddresses,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// This entry of `allow`.
    Allow(usize),
    /// This entry of `deny`.
    Deny(usize),
    /// No entry.
    Default,
    /// An address is private.
    Private(Class),
    /// An address is that of a listener of the gateway.
    Own,
    /// An address is that of the admin door.
    Admin,
}

impl fmt::Display for Rule {
    /// As in `allow[0]`, `deny[2]`, `default`, `private[loopback]`, `own` and `admin`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Allow(index) => write!(f, "allow[{index}]"),
            Rule::Deny(index) => write!(f, "deny[{index}]"),
            Rule::Default => f.write_str("default"),
            Rule::Private(class) => write!(f, "private[{}]", class.as_str()),
            Rule::Own => f.write_str("own"),
            Rule::Admin => f.write_str("admin"),
        }
    }
}

/// Why a target may not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The word: `policy_denied` or `private_address`.
    pub reason: Reason,
    /// What decided.
    pub rule: Rule,
}

/// Whether a target may be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use]
pub enum Verdict {
    /// It may.
    Pass(Rule),
    /// It may because the policy only reports; this is what would have been.
    Report(Refusal),
    /// It may not.
    Refuse(Refusal),
}

/// What a policy says of one target, as far as its name goes.
#[derive(Debug, Clone, Copy)]
pub struct Ruling<'a> {
    policy: &'a Policy,
    ask: Ask<'a>,
    by_name: ByName,
}

#[derive(Debug, Clone, Copy)]
enum ByName {
    Allowed(usize),
    Denied(Rule),
    /// No entry fits by name, and a network of `allow` may yet.
    Open,
}

impl Policy {
    /// The policy of a config.
    #[must_use]
    pub fn new(mut config: PolicyConfig) -> Policy {
        let plain = |networks: &mut Vec<IpNet>| networks.iter_mut().for_each(|n| *n = canonical_network(*n));
        let hosts = |hosts: &mut Vec<HostPattern>| {
            for host in hosts {
                if let HostPattern::Network(network) = host {
                    *network = canonical_network(*network);
                }
            }
        };
        for rule in config.allow.iter_mut().chain(&mut config.deny) {
            plain(&mut rule.clients);
            hosts(&mut rule.hosts);
        }
        plain(&mut config.auth.allow_from);
        plain(&mut config.allow_private_addresses);
        hosts(&mut config.no_parent);
        Policy { config }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether a client from there may ask at all; where not, the word is `client_not_allowed`, in either mode.
    #[must_use]
    pub fn admits(&self, client: IpAddr) -> bool {
        is_within(client.to_canonical(), &self.config.auth.allow_from)
    }

    /// Whether clients must say who they are.
    #[must_use]
    pub fn asks_for_user(&self) -> bool {
        self.config.auth.users_file.is_some()
    }

    /// The parent that is asked for this host; nothing where the connection is made from here.
    ///
    /// A name is looked for among names: a network of `no_parent` is only met by a literal address.
    #[must_use]
    pub fn parent_for(&self, host: &Host) -> Option<&ParentProxy> {
        let direct = self.config.no_parent.iter().any(|pattern| fits(pattern, host, false));
        self.config.parent.as_ref().filter(|_| !direct)
    }

    /// Rules on a target by its name.
    #[must_use]
    pub fn rule<'a>(&'a self, ask: Ask<'a>) -> Ruling<'a> {
        let host = &ask.target.host;
        let found = |rules: &[RuleConfig], hidden| {
            rules.iter().position(|rule| concerns(rule, &ask) && rule.hosts.iter().any(|p| fits(p, host, hidden)))
        };
        let by_name = if let Some(index) = found(&self.config.deny, true) {
            ByName::Denied(Rule::Deny(index))
        } else if let Some(index) = found(&self.config.allow, false) {
            ByName::Allowed(index)
        } else if matches!(host, Host::Name(_)) && self.config.allow.iter().any(|rule| has_network(rule, &ask)) {
            ByName::Open
        } else {
            ByName::Denied(Rule::Default)
        };
        Ruling { policy: self, ask, by_name }
    }

    /// Why an address may not be connected to in any mode.
    fn protects(&self, ip: IpAddr, port: u16, own: &OwnAddresses) -> Option<Refusal> {
        let is_named = |ip: &IpAddr| self.config.allow_private_addresses.iter().any(|network| network.contains(ip));
        let refusal = |rule| Some(Refusal { reason: Reason::PrivateAddress, rule });
        if own.is_admin(ip, port) {
            return refusal(Rule::Admin);
        }
        let forms = forms(ip);
        if own.is_listener(ip, port) && !forms.iter().all(is_named) {
            return refusal(Rule::Own);
        }
        let unnamed = forms.into_iter().filter(|form| !is_named(form)).find_map(Class::of);
        unnamed.and_then(|class| refusal(Rule::Private(class)))
    }
}

impl Ruling<'_> {
    /// The refusal that no address can change, so that the name need not be resolved.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match (self.by_name, self.policy.config.mode) {
            (ByName::Denied(rule), PolicyMode::Enforce) => Some(Refusal { reason: Reason::PolicyDenied, rule }),
            _ => None,
        }
    }

    /// The verdict when one of these addresses is to be connected to: all that the name has, or the literal one.
    ///
    /// Only an address that was in the list of a verdict that lets pass may be connected to.
    pub fn addresses(&self, addresses: &[IpAddr]) -> Verdict {
        let (policy, ask) = (self.policy, &self.ask);
        if let Some(refusal) = addresses.iter().find_map(|ip| policy.protects(*ip, ask.target.port, ask.own)) {
            return Verdict::Refuse(refusal);
        }
        let hosts: Vec<Host> = addresses.iter().map(|ip| Host::from(*ip)).collect();
        let network = |rules: &[RuleConfig], host: &Host, hidden| {
            rules
                .iter()
                .position(|rule| concerns(rule, ask) && networks(rule).any(|pattern| fits(pattern, host, hidden)))
        };
        if let Some(index) = hosts.iter().find_map(|host| network(&policy.config.deny, host, true)) {
            return self.denied(Rule::Deny(index));
        }
        match self.by_name {
            ByName::Allowed(index) => Verdict::Pass(Rule::Allow(index)),
            ByName::Denied(rule) => self.denied(rule),
            ByName::Open => {
                let allowed: Option<Vec<_>> =
                    hosts.iter().map(|host| network(&policy.config.allow, host, false)).collect();
                match allowed.as_deref() {
                    Some([first, ..]) => Verdict::Pass(Rule::Allow(*first)),
                    _ => self.denied(Rule::Default),
                }
            }
        }
    }

    /// The verdict when a parent is asked, which alone learns the addresses of a name. A literal address is judged here.
    pub fn unresolved(&self) -> Verdict {
        match (&self.ask.target.host, self.by_name) {
            (Host::Ip(ip), _) => self.addresses(&[*ip]),
            (_, ByName::Allowed(index)) => Verdict::Pass(Rule::Allow(index)),
            (_, ByName::Denied(rule)) => self.denied(rule),
            (_, ByName::Open) => self.denied(Rule::Default),
        }
    }

    fn denied(&self, rule: Rule) -> Verdict {
        let refusal = Refusal { reason: Reason::PolicyDenied, rule };
        match self.policy.config.mode {
            PolicyMode::Enforce => Verdict::Refuse(refusal),
            PolicyMode::Report => Verdict::Report(refusal),
        }
    }
}

/// Whether an entry is about this client, user and port.
fn concerns(rule: &RuleConfig, ask: &Ask<'_>) -> bool {
    (rule.ports.is_empty() || rule.ports.iter().any(|ports| ports.contains(ask.target.port)))
        && (rule.users.is_empty() || ask.user.is_some_and(|user| rule.users.iter().any(|named| named == user)))
        && is_within(ask.client.to_canonical(), &rule.clients)
}

fn networks(rule: &RuleConfig) -> impl Iterator<Item = &HostPattern> {
    rule.hosts.iter().filter(|pattern| matches!(pattern, HostPattern::Network(_)))
}

fn has_network(rule: &RuleConfig, ask: &Ask<'_>) -> bool {
    concerns(rule, ask) && networks(rule).next().is_some()
}

/// Whether a host is one of a pattern's; of an address also what hides in it, if `hidden`.
fn fits(pattern: &HostPattern, host: &Host, hidden: bool) -> bool {
    match (pattern, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Name(named), Host::Name(name)) => name.as_str() == named,
        (HostPattern::Below(parent), Host::Name(name)) => {
            name.as_str().strip_suffix(parent.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
        (HostPattern::Network(network), Host::Ip(ip)) if hidden => forms(*ip).iter().any(|ip| network.contains(ip)),
        (HostPattern::Network(network), Host::Ip(ip)) => network.contains(ip),
        _ => false,
    }
}

/// Whether an address is in one of these networks, of which none means all.
fn is_within(ip: IpAddr, networks: &[IpNet]) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(&ip))
}
