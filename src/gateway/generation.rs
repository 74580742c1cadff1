//! All that one config amounts to, sockets apart.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    door::{Door, Ground},
    parts::Parts,
};
use crate::{
    admin::{Token, TokenError},
    config::{
        Balance, Config, ListenerConfig, NodePort, PolicyConfig, Protocol, Scheme, UnknownSession, UpstreamConfig,
    },
    forward::{Rules, RulesError},
    net::{
        dns::{DnsError, Resolver},
        probe::{Secret, SecretError},
        tls::{ServerTls, TlsError},
        tls_client::ClientTls,
    },
    telemetry::chain,
    upstream::{self, Checks, Discovery, Upstream},
};

/// A client of the nominal path is remembered at least so long after its last connection and datagram.
const KEEP_CLIENTS: Duration = Duration::from_mins(1);

/// So long a start waits for nodes to be looked up.
const FIRST_LOOKUPS: Duration = Duration::from_secs(5);

/// Why a valid config cannot be built: something that it names is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A listener's certificate, key or CA file is unusable.
    #[error("listener {listener}: {source}")]
    Tls {
        /// The listener.
        listener: String,
        /// Which file, and why.
        source: TlsError,
    },
    /// The certificates of an upstream's nodes cannot be verified.
    #[error("upstream {upstream}: {source}")]
    Roots {
        /// The upstream.
        upstream: String,
        /// Which file, and why.
        source: TlsError,
    },
    /// The listener names no upstream; the config's own rules keep that from happening.
    #[error("listener {listener}: there is no upstream {upstream}")]
    Upstream {
        /// The listener.
        listener: String,
        /// What it names.
        upstream: String,
    },
    /// The listener names no policy; the config's own rules keep that from happening.
    #[error("listener {listener}: there is no policy {policy}")]
    Policy {
        /// The listener.
        listener: String,
        /// What it names.
        policy: String,
    },
    /// The users of a policy are not known.
    #[error("policy {policy}: {source}")]
    Users {
        /// The policy.
        policy: String,
        /// Why not.
        source: RulesError,
    },
    /// The admin door's token is not known.
    #[error("admin.token_file: {path}: {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: TokenError,
    },
    /// The secret of doctors is not known.
    #[error("doctor.secret_file: {path} {source}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
    /// Names cannot be looked up.
    #[error("resolver: {0}")]
    Resolver(#[from] DnsError),
    /// More than one of these.
    #[error("{}", .0.iter().map(|problem| chain(problem)).collect::<Vec<_>>().join("\n"))]
    Several(Vec<BuildError>),
}

/// The doors and upstreams of one config.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) config: Config,
    pub(super) upstreams: HashMap<String, Arc<Upstream>>,
    /// By the listener's name, with the token that tells the door to take nothing new.
    pub(super) doors: HashMap<String, (Door, CancellationToken)>,
    /// What shows that an operator asks.
    pub(super) token: Option<Arc<Token>>,
    /// Only the running config's nodes are checked.
    _checks: Vec<Checks>,
    /// And only for that one nodes are looked up.
    _discoveries: Vec<Discovery>,
}

impl Generation {
    /// Builds doors and upstreams; health and leases of nodes that stay where they are go on.
    pub(super) fn build(config: Config, parts: &Parts, before: Option<&Generation>) -> Result<Generation, BuildError> {
        check(&config)?;
        let discoverer = discoverer(&config)?;
        let upstreams: HashMap<_, _> = config
            .upstreams
            .iter()
            .map(|u| {
                let old = before.and_then(|b| b.upstreams.get(&u.name));
                let (old, checked) = (old.map(Arc::as_ref), checked_ports(&config, u));
                let upstream = match &discoverer {
                    Some(resolver) if u.discovery.is_some() => {
                        let maker = (&*balanced(&config, u), &checked[..], resolver.clone(), &parts.metrics);
                        Upstream::discovered(maker, old)
                    }
                    _ => Upstream::build(&balanced(&config, u), &checked, old, &parts.metrics),
                };
                (u.name.clone(), Arc::new(upstream))
            })
            .collect();
        let policies = policies(&config)?;
        let resolver = resolver(&config)?;
        let secret = secret(&config)?;
        let mut doors = HashMap::new();
        for listener in &config.listeners {
            let drain = before.and_then(|b| b.drain_of(listener)).unwrap_or_default();
            let config_of = |name: &String| config.upstreams.iter().find(|u| u.name == *name);
            let upstream = listener.upstream.as_ref().and_then(|u| config_of(u).zip(upstreams.get(u).cloned()));
            let policy = listener.policy.as_ref().and_then(|p| policies.get(p).cloned()).zip(resolver.clone());
            let door = Door::build(
                listener,
                &config,
                Ground { upstream, policy, secret: secret.clone() },
                parts,
                drain.clone(),
            )?;
            doors.insert(listener.name.clone(), (door, drain));
        }
        let (mut checks, mut discoveries) = (Vec::new(), Vec::new());
        for upstream in &config.upstreams {
            let tls = node_tls(upstream)?;
            if let Some(built) = upstreams.get(&upstream.name) {
                let of_it = Checks::start(&upstream.health_check, built, tls, is_proxied(&config, upstream));
                match &upstream.discovery {
                    Some(_) => discoveries.push(Discovery::start(built.clone(), of_it)),
                    None => checks.push(of_it),
                }
            }
        }
        let token = token(&config)?;
        Ok(Generation { config, upstreams, doors, token, _checks: checks, _discoveries: discoveries })
    }

    /// The token of a listener whose socket stays: connections of all its doors hear of a drain.
    fn drain_of(&self, listener: &ListenerConfig) -> Option<CancellationToken> {
        let before = self.config.listeners.iter().find(|before| listener.keeps_socket_of(before))?;
        self.doors.get(&before.name).map(|(_, drain)| drain.clone())
    }

    /// Lets what outlives a reload go by this config.
    pub(super) fn take_over(&self) {
        self.upstreams.values().for_each(|upstream| upstream.take_over());
    }

    /// Forgets clients of the nominal path that were not heard of for longer than any of its gates stays open.
    pub(super) fn prune_clients(&self, now: Instant) {
        let graces = self.config.listeners.iter().map(|listener| listener.gate_grace);
        let keep = graces.fold(KEEP_CLIENTS, Duration::max);
        self.upstreams.values().for_each(|upstream| upstream.prune_clients(now, keep));
    }

    /// Waits until the nodes of every upstream were looked up once, whatever came of it, but no longer than a start may take.
    pub(super) async fn looked_up(&self) {
        let all = async {
            for upstream in self.upstreams.values() {
                upstream.looked_up().await;
            }
        };
        let _ = tokio::time::timeout(FIRST_LOOKUPS, all).await;
    }

    /// Whether every upstream has nodes, or had.
    pub(super) fn has_nodes(&self) -> bool {
        self.upstreams.values().all(|upstream| upstream.is_known() || !upstream.nodes().is_empty())
    }

    /// Whether the first check of every node has ended.
    pub(super) fn is_known(&self) -> bool {
        self.upstreams.values().all(|u| u.is_known())
    }
}

/// The ports of an upstream's nodes whose health matters: those that listeners lead to. Data has no check of its own.
fn checked_ports(config: &Config, upstream: &UpstreamConfig) -> Vec<NodePort> {
    let leads = |to: fn(Protocol) -> bool| {
        config.listeners.iter().any(|l| l.upstream.as_ref() == Some(&upstream.name) && to(l.protocol))
    };
    let fallback = leads(Protocol::is_fallback).then(|| upstream.scheme.port());
    let control = leads(|protocol| protocol == Protocol::Tcp).then_some(NodePort::Tcp);
    fallback.into_iter().chain(control).collect()
}

/// How an upstream balances. Where requests of sessions that are not known go by the bare hash, starts go by that too, and
/// no node comes slowly.
fn balanced<'a>(config: &Config, upstream: &'a UpstreamConfig) -> Cow<'a, UpstreamConfig> {
    let routes = config.listeners.iter().any(|listener| {
        listener.upstream.as_ref() == Some(&upstream.name)
            && listener.admission.unknown_session == UnknownSession::Route
    });
    if routes && upstream.balance == Balance::Hash {
        Cow::Owned(UpstreamConfig { slow_start: None, ..upstream.clone() })
    } else {
        Cow::Borrowed(upstream)
    }
}

/// Whether the nodes' control connections begin with a PROXY header.
fn is_proxied(config: &Config, upstream: &UpstreamConfig) -> bool {
    config
        .listeners
        .iter()
        .any(|listener| listener.upstream.as_ref() == Some(&upstream.name) && listener.send_proxy_protocol)
}

/// Reads everything that the config names.
///
/// # Errors
/// Any of it will not do; then all that will not is reported.
pub(super) fn check(config: &Config) -> Result<(), BuildError> {
    let tls = config.listeners.iter().filter_map(|listener| {
        let source = ServerTls::build(listener.tls.as_ref()?).err()?;
        Some(BuildError::Tls { listener: listener.name.clone(), source })
    });
    let roots = config.upstreams.iter().filter_map(|upstream| node_tls(upstream).err());
    let users = config.policies.iter().filter_map(|policy| rules(policy).err());
    let others =
        [token(config).err(), secret(config).err(), resolver(config).err().or_else(|| discoverer(config).err())];
    let mut problems: Vec<_> = tls.chain(roots).chain(users).chain(others.into_iter().flatten()).collect();
    match (problems.pop(), problems.is_empty()) {
        (None, _) => Ok(()),
        (Some(only), true) => Err(only),
        (Some(last), false) => {
            problems.push(last);
            Err(BuildError::Several(problems))
        }
    }
}

/// Each upstream whose nodes are not found now, with the reason. Name servers are asked, as long as `resolver.timeout` each.
pub(super) async fn unfound(config: &Config) -> Vec<String> {
    let Ok(Some(resolver)) = discoverer(config) else { return Vec::new() };
    let mut problems = Vec::new();
    for upstream in &config.upstreams {
        let Some(discovery) = &upstream.discovery else { continue };
        if let Err(error) = upstream::count_discovered(&resolver, discovery).await {
            problems.push(format!(
                "upstreams[{}].discovery.dns: no nodes are found by {}: {error}\n  hint: a gateway starts all the same, but is not ready until there are nodes",
                upstream.name, discovery.dns
            ));
        }
    }
    problems
}

/// The token of the admin door, if there is one.
fn token(config: &Config) -> Result<Option<Arc<Token>>, BuildError> {
    let read = |path: &PathBuf| Token::read(path).map_err(|source| BuildError::Token { path: path.clone(), source });
    config.admin.token_file.as_ref().map(read).transpose().map(|token| token.map(Arc::new))
}

/// What a doctor must know, if one is answered.
fn secret(config: &Config) -> Result<Option<Arc<Secret>>, BuildError> {
    let read = |path: &PathBuf| Secret::read(path).map_err(|source| BuildError::Secret { path: path.clone(), source });
    config.doctor.secret_file.as_ref().map(read).transpose().map(|secret| secret.map(Arc::new))
}

/// The policies with their users, by name.
fn policies(config: &Config) -> Result<HashMap<String, Arc<Rules>>, BuildError> {
    config.policies.iter().map(|policy| Ok((policy.name.clone(), Arc::new(rules(policy)?)))).collect()
}

fn rules(policy: &PolicyConfig) -> Result<Rules, BuildError> {
    Rules::build(policy).map_err(|source| BuildError::Users { policy: policy.name.clone(), source })
}

/// What forward proxies look names up with, if there are any.
fn resolver(config: &Config) -> Result<Option<Arc<Resolver>>, BuildError> {
    let is_needed = config.listeners.iter().any(|listener| listener.protocol == Protocol::ForwardProxy);
    Ok(is_needed.then(|| Resolver::build(&config.resolver)).transpose()?.map(Arc::new))
}

/// What nodes are looked up with, if any are.
fn discoverer(config: &Config) -> Result<Option<Arc<Resolver>>, BuildError> {
    let is_needed = config.upstreams.iter().any(|upstream| upstream.discovery.is_some());
    Ok(is_needed.then(|| Resolver::fresh(&config.resolver)).transpose()?.map(Arc::new))
}

/// How the nodes of an upstream are spoken to over TLS, if they are.
fn node_tls(upstream: &UpstreamConfig) -> Result<Option<ClientTls>, BuildError> {
    if upstream.scheme == Scheme::Http {
        return Ok(None);
    }
    ClientTls::build(&upstream.tls.clone().unwrap_or_default())
        .map(Some)
        .map_err(|source| BuildError::Roots { upstream: upstream.name.clone(), source })
}
