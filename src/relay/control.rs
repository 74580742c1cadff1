//! Control connections: SSH from the client to a node, relayed and never ended.
//!
//! The client falls back to HTTP at once when this port refuses or closes, and hangs for ever when it accepts and stays
//! silent (docs/protocol.md, "Around the fallback"). So a node must show its banner before the client hears anything, and
//! where no node does the connection is closed.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{self, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::record::Told;
use crate::{
    config::{Config, ListenerConfig, NodePort},
    limit::{Bandwidth, Flow, Guest},
    net::{
        proxy_protocol::{self, Fronts},
        ssh::{self, NoBanner},
        tcp,
    },
    telemetry::{
        About, AccessLog, ControlOutcome, Counts, Kind, ListenerMetrics, Live, Metrics, Outcome, Posted, Reason,
    },
    tunnel::{self, PipePool, Terms, Why},
    upstream::{Attempt, Control, Upstream},
};

/// Nodes are tried for no longer than this many times `banner_timeout`.
const TRIES: u32 = 3;

/// What the doors of all generations share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Pipes for bulk.
    pub pipes: PipePool,
    /// How fast bytes may go.
    pub bandwidth: Bandwidth,
    /// Where the record of each connection goes.
    pub access_log: AccessLog,
    /// Where each is shown as long as it stands.
    pub live: Live,
    /// Cancelled: every connection is cut.
    pub cut: CancellationToken,
}

/// What a listener of control connections of one config generation does with one.
#[derive(Debug)]
pub struct ControlDoor {
    name: String,
    upstream: Arc<Upstream>,
    fronts: Fronts,
    head_timeout: Duration,
    banner_timeout: Duration,
    idle: Duration,
    send_proxy_protocol: bool,
    metrics: Arc<ListenerMetrics>,
    shared: Shared,
    drain: CancellationToken,
    /// What a refused connection has moved.
    nothing: Counts,
}

/// A connection that a node has answered.
struct Met {
    control: Control,
    node: TcpStream,
    /// The banner, with what came before and behind it.
    banner: Bytes,
}

impl ControlDoor {
    /// Builds the door of a listener; opens no socket. New connections are refused once `drain` is cancelled.
    pub fn build(
        config: &ListenerConfig,
        top: &Config,
        upstream: Arc<Upstream>,
        metrics: &Metrics,
        shared: Shared,
        drain: CancellationToken,
    ) -> ControlDoor {
        ControlDoor {
            name: config.name.clone(),
            upstream,
            fronts: Fronts::new(config),
            head_timeout: top.timeouts.request_head,
            banner_timeout: config.banner_timeout,
            idle: config.idle,
            send_proxy_protocol: config.send_proxy_protocol,
            metrics: metrics.listener(&config.name),
            shared,
            drain,
            nothing: Counts::default(),
        }
    }

    /// The listener's series.
    pub fn metrics(&self) -> &ListenerMetrics {
        &self.metrics
    }

    /// Serves one accepted connection to its end.
    pub async fn serve(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, mut guest: Guest) {
        let _active = self.metrics.connection();
        let (peer, begin) = (tcp::canonical(peer), Instant::now());
        let client = match self.fronts.client(&mut stream, peer, self.head_timeout).await {
            Ok(client) => client,
            Err(error) => {
                self.metrics.refusal(Reason::ProxyProtocol);
                tracing::debug!(listener = self.name, reason = %Reason::ProxyProtocol, %error, "No PROXY header.");
                return;
            }
        };
        if client != peer
            && let Err(reason) = guest.name(client.ip())
        {
            return self.refuse(client, reason, begin);
        }
        let to = stream.local_addr().map_or(client, tcp::canonical);
        let met = self.shared.cut.run_until_cancelled(self.meet(client, to)).await;
        let met = match met.unwrap_or(Err(Reason::Draining)) {
            Ok(met) => met,
            Err(reason) => return self.refuse(client, reason, begin),
        };
        self.carry(stream, client, met, begin).await;
    }

    /// Finds a node that answers with its banner.
    async fn meet(&self, client: SocketAddr, to: SocketAddr) -> Result<Met, Reason> {
        if self.drain.is_cancelled() {
            return Err(Reason::Draining);
        }
        let deadline = time::Instant::now() + self.banner_timeout * TRIES;
        let (mut tried, mut reason) = (Vec::new(), Reason::NoNode);
        loop {
            let left = deadline.saturating_duration_since(time::Instant::now());
            let Ok(attempt) = self.upstream.pick_control(client.ip(), &mut tried, left.min(self.banner_timeout)).await
            else {
                return Err(reason);
            };
            let node = attempt.node().clone();
            match timeout_at(deadline, self.greet(&attempt, client, to)).await {
                Ok(Ok((stream, banner))) => return Ok(Met { control: attempt.met(), node: stream, banner }),
                Ok(Err(why)) => reason = why,
                Err(_) => return Err(reason),
            }
            tried.push(node);
        }
    }

    /// Connects to the node and waits for its banner.
    async fn greet(&self, attempt: &Attempt, client: SocketAddr, to: SocketAddr) -> Result<(TcpStream, Bytes), Reason> {
        let node = attempt.node();
        let Ok(mut pending) = timeout(self.banner_timeout, node.pending(NodePort::Tcp)).await else {
            return Err(Reason::NodeUnreachable);
        };
        // While we waited for a place others may have found it down.
        if !node.is_up(NodePort::Tcp) && !attempt.is_last_resort() {
            return Err(Reason::NodeUnreachable);
        }
        let mut has_connected = false;
        let greeting = async {
            let address = attempt.address().ok_or(NoBanner::Closed(None))?;
            let mut stream = TcpStream::connect(address).await.map_err(|error| NoBanner::Closed(Some(error)))?;
            has_connected = true;
            pending.opened();
            tcp::tune(&stream);
            if self.send_proxy_protocol {
                let header = proxy_protocol::header(client, to);
                stream.write_all(&header).await.map_err(|error| NoBanner::Closed(Some(error)))?;
            }
            let banner = ssh::read_banner(&mut stream).await?;
            Ok::<_, NoBanner>((stream, Bytes::from(banner)))
        };
        let greeted = timeout(self.banner_timeout, greeting).await;
        let (reason, error): (Reason, Box<dyn std::error::Error>) = match greeted {
            Ok(Ok(met)) => {
                pending.connected();
                return Ok(met);
            }
            // A server that sheds load closes early; that alone does not take the node down, its checks may.
            Ok(Err(error)) if has_connected => {
                drop(pending);
                (Reason::NodeNotSsh, error.into())
            }
            Ok(Err(error)) => {
                // Out of descriptors or ports is our own trouble, not the node's.
                if error.is_of_the_far_side() {
                    pending.failed();
                }
                (Reason::NodeUnreachable, error.into())
            }
            Err(late) => {
                pending.failed();
                (if has_connected { Reason::NodeSilent } else { Reason::NodeUnreachable }, late.into())
            }
        };
        let (upstream, name) = (node.upstream(), node.name());
        tracing::warn!(listener = self.name, upstream, node = name, %reason, %error, "A node did not answer.");
        Err(reason)
    }

    /// Relays until both sides are through.
    async fn carry(&self, stream: TcpStream, client: SocketAddr, met: Met, begin: Instant) {
        let Met { control, node, banner } = met;
        let known = control.client().clone();
        let transfer = self.post(client, &control);
        let cancel = transfer.about().cancel.clone().unwrap_or_default();
        let counts = transfer.counts().clone();
        let bandwidth = self.shared.bandwidth.clone();
        let flow = Flow {
            listener: self.name.as_str().into(),
            client: client.ip().into(),
            session: Some(bandwidth.number()),
            node: Some(control.node().full_name()),
        };
        let terms = Terms {
            elsewhere: Some(Arc::new(move || Some(known.last_data().into()))),
            cancel,
            counts: counts.clone(),
            pipes: Some(self.shared.pipes.clone()),
            caps: Some(Box::new((bandwidth, flow))),
            first_to_client: banner,
            ..Terms::new(self.idle)
        };
        let end = tunnel::counted(&counts, &self.metrics, tunnel::join(stream, node, terms)).await;
        let outcome = match end.why {
            Why::Closed => ControlOutcome::Closed,
            Why::Idle => ControlOutcome::Idle,
            Why::ClientLost => ControlOutcome::ClientLost,
            Why::NodeLost => ControlOutcome::NodeLost,
            Why::Cancelled if self.shared.cut.is_cancelled() => ControlOutcome::Drained,
            Why::Cancelled => ControlOutcome::Cancelled,
        };
        self.metrics.control_finished(outcome);
        let told = Told {
            id: Some(transfer.id()),
            node: Some(control.node().name()),
            outcome: outcome.as_str(),
            counts: &counts,
            ..self.told(client, begin)
        };
        self.shared.access_log.write(&told.record());
    }

    /// Shows a connection for as long as the result lives.
    fn post(&self, client: SocketAddr, control: &Control) -> Posted {
        self.shared.live.post(About {
            listener: self.name.as_str().into(),
            upstream: Some(self.upstream.name().into()),
            node: Some(control.node().name().into()),
            cancel: Some(self.shared.cut.child_token()),
            ..About::new(Kind::Control, client.ip())
        })
    }

    /// Closes at once, so that the client falls back.
    fn refuse(&self, client: SocketAddr, reason: Reason, begin: Instant) {
        self.metrics.refusal(reason);
        tracing::info!(listener = self.name, client = %client.ip(), %reason, "A control connection is refused.");
        let told = Told { reason: Some(reason), ..self.told(client, begin) };
        self.shared.access_log.write(&told.record());
    }

    /// What there is to say of a connection that met no node.
    fn told(&self, client: SocketAddr, begin: Instant) -> Told<'_> {
        Told {
            kind: Kind::Control,
            id: None,
            listener: &self.name,
            client,
            upstream: self.upstream.name(),
            node: None,
            outcome: Outcome::Refused.as_str(),
            reason: None,
            counts: &self.nothing,
            lasted: begin.elapsed(),
        }
    }
}
