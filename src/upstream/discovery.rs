//! Looking up the nodes of an upstream, as long as the config that wants them is the running one.
//!
//! The next lookup comes when the answer holds no longer, at the latest after `interval` and at the earliest after a second.
//! While name servers cannot say anything all stays as it is: whether nodes can serve their checks find out. Where they say
//! that there is nothing, the nodes go once that has been so for `hold`.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Upstream,
    discovered::Discovered,
    health::Checks,
    made::{self, Found, MAX_NODES},
};
use crate::{
    config::DiscoveryConfig,
    net::dns::{DnsError, Resolver},
    telemetry::{LookupResult, chain},
};

/// No name is looked up more often; also how often it is seen whether nodes that are gone are through.
const LEAST: Duration = Duration::from_secs(1);

/// The running lookups of an upstream, with the checks of its nodes; dropping it ends them.
#[derive(Debug)]
pub struct Discovery(AbortHandle);

impl Discovery {
    /// Starts looking up; the first time at once, or when the upstream takes over from one before it, with which it has nodes
    /// in common. Must be called inside a runtime.
    pub fn start(upstream: Arc<Upstream>, checks: Checks) -> Discovery {
        Discovery(tokio::spawn(run(upstream, checks)).abort_handle())
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(upstream: Arc<Upstream>, mut checks: Checks) {
    let Some(discovered) = &upstream.discovered else { return };
    let mut lookup = Lookups { upstream: &upstream, discovered, nothing_since: None, last: LookupResult::Found };
    discovered.begun.cancelled().await;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            () = sleep_until(next) => {
                upstream.leave_out();
                next = Instant::now() + lookup.next().await;
                discovered.looked_up.cancel();
            }
            () = discovered.changed.notified() => {}
            () = sleep(LEAST), if upstream.has_gone() => upstream.leave_out(),
        }
        checks.follow(&upstream);
    }
}

/// What an upstream was told so far.
struct Lookups<'a> {
    upstream: &'a Upstream,
    discovered: &'a Discovered,
    /// Since when the name servers say that there is nothing.
    nothing_since: Option<Instant>,
    last: LookupResult,
}

impl Lookups<'_> {
    /// Looks up once; how long it is until the next time.
    async fn next(&mut self) -> Duration {
        let discovery = &self.discovered.maker.discovery;
        let (result, why, wait) = match look_up(&self.discovered.maker.resolver, discovery).await {
            Ok(answer) => {
                self.nothing_since = None;
                self.upstream.learn(&answer.found, answer.missing.is_none());
                let result = if answer.missing.is_none() { LookupResult::Found } else { LookupResult::Failed };
                (result, answer.missing.unwrap_or_default(), discovery.interval.min(answer.ttl))
            }
            Err(DnsError::NotFound) => {
                let since = *self.nothing_since.get_or_insert_with(Instant::now);
                let left = discovery.hold.map(|hold| hold.saturating_sub(since.elapsed()));
                if left.is_some_and(|left| left.is_zero()) {
                    self.upstream.learn(&[], true);
                }
                let wait =
                    left.filter(|left| !left.is_zero()).map_or(discovery.interval, |left| left.min(discovery.interval));
                (LookupResult::Nothing, chain(&DnsError::NotFound), wait)
            }
            Err(error) => {
                self.nothing_since = None;
                (LookupResult::Failed, chain(&error), discovery.interval)
            }
        };
        self.note(result, &why);
        wait.max(LEAST)
    }

    /// Counts, and says what is news.
    fn note(&mut self, result: LookupResult, why: &str) {
        self.discovered.lookups.ended(result);
        self.discovered.over.lacks.store(result != LookupResult::Found, Ordering::Relaxed);
        if std::mem::replace(&mut self.last, result) == result {
            return;
        }
        let (upstream, name) = (self.upstream.name(), &self.discovered.maker.discovery.dns);
        let nodes = self.upstream.nodes().len();
        match result {
            LookupResult::Found => tracing::info!(upstream, name, nodes, "The nodes are found again."),
            LookupResult::Nothing => {
                let hold = self.discovered.maker.discovery.hold;
                tracing::warn!(
                    upstream,
                    name,
                    nodes,
                    ?hold,
                    "There are no nodes behind the name; those known are held."
                );
            }
            LookupResult::Failed => {
                tracing::warn!(upstream, name, nodes, error = why, "The nodes cannot be looked up; those known go on.");
            }
        }
    }
}

/// What one lookup said.
struct Told {
    found: Vec<Found>,
    ttl: Duration,
    missing: Option<String>,
}

async fn look_up(resolver: &Resolver, discovery: &DiscoveryConfig) -> Result<Told, DnsError> {
    let (all, told) = if discovery.is_srv() {
        let answer = resolver.services(&discovery.dns).await?;
        let (all, found) = (answer.found.len(), made::of_services(answer.found));
        (all, Told { found, ttl: answer.ttl, missing: answer.missing })
    } else {
        let answer = resolver.all_addresses(&discovery.dns).await?;
        let (all, found) = (answer.found.len(), made::of_addresses(&answer.found));
        (all, Told { found, ttl: answer.ttl, missing: answer.missing })
    };
    if all > MAX_NODES {
        tracing::debug!(name = discovery.dns, all, most = MAX_NODES, "More nodes are told of than there may be.");
    }
    // What there is of one family can be no node: of the other one that was not told.
    if told.found.is_empty() && told.missing.is_none() { Err(DnsError::NotFound) } else { Ok(told) }
}

/// How many nodes are found now.
///
/// # Errors
/// The name servers say that there are none, or cannot say.
pub async fn count(resolver: &Resolver, discovery: &DiscoveryConfig) -> Result<usize, DnsError> {
    let found = look_up(resolver, discovery).await?.found.len();
    if found == 0 { Err(DnsError::NotFound) } else { Ok(found) }
}
