//! Active health checks: one task per node, as long as the config that wants them is the running one.
//!
//! A TCP connect, or a GET whose status is expected. The first check runs at once; later ones are
//! spread by up to a tenth of the interval, so that the nodes of many gateways are not all asked in
//! the same instant.

use std::{sync::Arc, time::Duration};

use http_body_util::Empty;
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::AbortHandle};

use super::{Upstream, node::Node};
use crate::{
    config::{HealthCheckConfig, HttpCheckConfig},
    net::tls_client::ClientTls,
    telemetry::HealthResult,
};

/// The running checks of an upstream; dropping it ends them.
#[derive(Debug)]
pub struct Checks(Vec<AbortHandle>);

impl Checks {
    /// Starts a check for each node of the upstream; `tls` is how its nodes are spoken to over TLS.
    /// Must be called inside a runtime.
    pub fn start(config: &HealthCheckConfig, upstream: &Upstream, tls: Option<&ClientTls>) -> Checks {
        let spawn = |node: &Arc<Node>| tokio::spawn(run(node.clone(), config.clone(), tls.cloned())).abort_handle();
        Checks(upstream.nodes().iter().map(spawn).collect())
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

async fn run(node: Arc<Node>, config: HealthCheckConfig, tls: Option<ClientTls>) {
    loop {
        let result = match tokio::time::timeout(config.timeout, check(&node, config.http.as_ref(), tls.as_ref())).await
        {
            Ok(result) => result,
            Err(_) => Err("no answer in time".into()),
        };
        let label = if result.is_ok() { HealthResult::Ok } else { HealthResult::Failed };
        node.metrics()
            .health_checks
            .with_label_values(&[node.upstream(), node.name(), node.port_name(), label.as_str()])
            .inc();
        if let Err(error) = &result {
            tracing::debug!(upstream = node.upstream(), node = node.name(), %error, "Health check failed.");
        }
        // The first check decides alone: nobody should wait thresholds for a node's first word.
        let threshold = match (&result, node.is_known()) {
            (_, false) => 1,
            (Ok(()), _) => config.healthy_threshold,
            (Err(_), _) => config.unhealthy_threshold,
        };
        node.judge(result.is_ok(), threshold);
        tokio::time::sleep(config.interval + jitter(config.interval)).await;
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn check(node: &Node, http: Option<&HttpCheckConfig>, tls: Option<&ClientTls>) -> Result<(), Failed> {
    node.resolve().await?;
    let stream = TcpStream::connect(node.address().await?).await?;
    match (http, tls) {
        (None, _) => Ok(()),
        (Some(http), None) => get(TokioIo::new(stream), node, http).await,
        (Some(http), Some(tls)) => get(TokioIo::new(tls.connect(stream, node.host()).await?), node, http).await,
    }
}

async fn get<S>(stream: S, node: &Node, http: &HttpCheckConfig) -> Result<(), Failed>
where
    S: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(http.path.as_str()).header("host", node.authority()?).body(Empty::<Bytes>::new())?;
    let status = sender.send_request(request).await.map(|answer| answer.status().as_u16());
    connection.abort();
    let status = status?;
    if http.expected_status.contains(&status) { Ok(()) } else { Err(format!("status {status}").into()) }
}

fn jitter(interval: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the checks still run, just not spread.
    let _ = getrandom::fill(&mut byte);
    interval.mul_f64(f64::from(byte[0]) / 2550.0)
}
