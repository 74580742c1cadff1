//! Active health checks: one task per node, as long as the config that wants them is the running one.
//!
//! Of the fallback's port a TCP connect, or a GET whose status is expected; of the control port an SSH banner. The first
//! check runs at once; later ones are spread by up to a tenth of the interval, so that the nodes of many gateways are not
//! all asked in the same instant.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::Empty;
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::AbortHandle};

use super::{Upstream, node::Node};
use crate::{
    config::{HealthCheckConfig, HttpCheckConfig, NodePort},
    net::{proxy_protocol, shortage::is_ours, ssh, tls_client::ClientTls},
    telemetry::HealthResult,
};

/// The running checks of an upstream's nodes; dropping it ends them.
#[derive(Debug)]
pub struct Checks {
    config: HealthCheckConfig,
    tls: Option<ClientTls>,
    proxied: bool,
    running: Vec<(Arc<Node>, Vec<AbortHandle>)>,
}

impl Checks {
    /// Starts checks for each node of the upstream; `tls` is how its nodes are spoken to over TLS, and `proxied`
    /// whether control connections to them begin with a PROXY header.
    /// Must be called inside a runtime.
    pub fn start(config: &HealthCheckConfig, upstream: &Upstream, tls: Option<ClientTls>, proxied: bool) -> Checks {
        let mut checks = Checks { config: config.clone(), tls, proxied, running: Vec::new() };
        checks.follow(upstream);
        checks
    }

    /// Starts those of nodes that have come, and ends those of nodes that went.
    pub(super) fn follow(&mut self, upstream: &Upstream) {
        let nodes = upstream.nodes();
        self.running.retain(|(node, tasks)| {
            let stays = nodes.iter().any(|other| Arc::ptr_eq(other, node));
            if !stays {
                tasks.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        for node in nodes.iter() {
            if !self.running.iter().any(|(other, _)| Arc::ptr_eq(other, node)) {
                self.running.push((node.clone(), self.check(node)));
            }
        }
    }

    fn check(&self, node: &Arc<Node>) -> Vec<AbortHandle> {
        let of_port = |port: &NodePort| {
            tokio::spawn(run(node.clone(), *port, self.config.clone(), self.tls.clone(), self.proxied)).abort_handle()
        };
        let mut tasks: Vec<_> = node.checked().iter().map(of_port).collect();
        tasks.push(tokio::spawn(look_up(node.clone(), self.config.interval)).abort_handle());
        tasks
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.running.iter().flat_map(|(_, tasks)| tasks).for_each(AbortHandle::abort);
    }
}

/// Keeps the addresses of a node known. By itself, for a check of a node whose address is known waits for no name server.
async fn look_up(node: Arc<Node>, interval: Duration) {
    loop {
        if let Err(error) = node.resolve().await {
            tracing::debug!(upstream = node.upstream(), node = node.name(), %error, "A name was not found.");
        }
        tokio::time::sleep(interval).await;
    }
}

async fn run(node: Arc<Node>, port: NodePort, config: HealthCheckConfig, tls: Option<ClientTls>, proxied: bool) {
    loop {
        let checked = check(&node, port, &config, tls.as_ref(), proxied);
        let result = match tokio::time::timeout(config.timeout, checked).await {
            Ok(result) => result,
            Err(_) => Err("no answer in time".into()),
        };
        if let Err(error) = &result
            && error.downcast_ref::<io::Error>().is_some_and(is_ours)
        {
            // It tells nothing of the node.
            let (upstream, name, port) = (node.upstream(), node.name(), port.as_str());
            tracing::debug!(upstream, node = name, port, %error, "A node could not be checked.");
            tokio::time::sleep(config.interval).await;
            continue;
        }
        let label = if result.is_ok() { HealthResult::Ok } else { HealthResult::Failed };
        node.metrics().checked(port, label);
        if let Err(error) = &result {
            let (upstream, name, port) = (node.upstream(), node.name(), port.as_str());
            tracing::debug!(upstream, node = name, port, %error, "Health check failed.");
        }
        // The first check decides alone: nobody should wait thresholds for a node's first word.
        let threshold = match (&result, node.is_port_known(port)) {
            (_, false) => 1,
            (Ok(()), _) => config.healthy_threshold,
            (Err(_), _) => config.unhealthy_threshold,
        };
        node.judge(port, result.is_ok(), threshold, Instant::now());
        tokio::time::sleep(config.interval + jitter(config.interval, dice())).await;
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn check(
    node: &Node,
    port: NodePort,
    config: &HealthCheckConfig,
    tls: Option<&ClientTls>,
    proxied: bool,
) -> Result<(), Failed> {
    let mut stream = TcpStream::connect(node.address(port).await?).await?;
    if port == NodePort::Tcp && proxied {
        // Else such a node would wait for it, and show no banner.
        stream.write_all(&proxy_protocol::local()).await?;
    }
    match (port, &config.http, tls) {
        (NodePort::Tcp, ..) if config.banner => Ok(ssh::read_banner(&mut stream).await.map(drop)?),
        (NodePort::Tcp | NodePort::Udp, ..) | (_, None, _) => Ok(()),
        (_, Some(http), None) => get(TokioIo::new(stream), node, port, http).await,
        (_, Some(http), Some(tls)) => {
            get(TokioIo::new(tls.connect(stream, node.host()).await?), node, port, http).await
        }
    }
}

async fn get<S>(stream: S, node: &Node, port: NodePort, http: &HttpCheckConfig) -> Result<(), Failed>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(http.path.as_str()).header("host", node.authority(port)?).body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await.map(|answer| answer.status().as_u16());
    connection.abort();
    let status = status?;
    if http.expected_status.contains(&status) { Ok(()) } else { Err(format!("status {status}").into()) }
}

/// How much longer than the interval it is until the next check: up to a tenth of it, as the dice fall.
fn jitter(interval: Duration, dice: u8) -> Duration {
    interval.mul_f64(f64::from(dice) / (10.0 * f64::from(u8::MAX)))
}

/// Any number; without randomness the checks still run, just not spread.
fn dice() -> u8 {
    let mut byte = [0];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_spread_evenly_over_a_tenth_of_the_interval() {
        let interval = Duration::from_secs(10);
        let all: Vec<_> = (0..=u8::MAX).map(|dice| jitter(interval, dice)).collect();
        assert_eq!((all[0], all[255]), (Duration::ZERO, Duration::from_secs(1)));
        let step = Duration::from_secs(1) / 255;
        for pair in all.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart.abs_diff(step) < Duration::from_micros(1), "{apart:?}");
        }
    }

    #[test]
    fn the_dice_do_not_always_fall_alike() {
        let first = dice();
        assert!((0..200).any(|_| dice() != first));
    }
}
