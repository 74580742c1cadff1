//! The HTTP engine: pingora carries an admitted request to its node and the answer back.
//!
//! The engine meets no request that the airlock, the grammar and the session table did not let
//! through, and it ends no client connection: it works on a loan (`net::http1::Lent`). So what is
//! here is only how the two heads differ, what is counted, and what a failure is called.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::{
    ErrorSource, ErrorType,
    apps::HttpServerApp,
    protocols::http::ServerSession,
    server::configuration::ServerConf,
    upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy},
};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};
use tokio::sync::watch;

use super::{
    cause::told,
    exchange::Exchange,
    headers::{Headers, Problem},
    node_conn::Connector,
    sessions::Sessions,
    stream::EngineStream,
};
use crate::{
    config::{ListenerConfig, UpstreamConfig},
    limit::Bandwidth,
    net::http1::Lent,
    telemetry::{AddedLatency, Direction, Operation, Reason},
};

/// What of an answer's body that nobody reads is taken from a node before it is given up, in bytes.
const UNREAD_BODY: usize = 1024 * 1024;
/// How many interim answers a node may send before its final one. At one every five seconds, as a slow
/// node sends them, they last for more than an hour.
const INTERIM_ANSWERS: usize = 1000;

/// The engine of one config generation.
pub(super) struct Engine {
    proxy: Arc<HttpProxy<Carrier>>,
    bandwidth: Bandwidth,
    listener: Arc<str>,
    added: AddedLatency,
    /// Never fires: the gateway drains connections itself.
    shutdown: watch::Receiver<bool>,
    _never: watch::Sender<bool>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

impl Engine {
    /// Builds the engine of a listener for its upstream.
    pub(super) fn new(
        listener: &ListenerConfig,
        upstream: &UpstreamConfig,
        bandwidth: Bandwidth,
        added: AddedLatency,
        sessions: Arc<Sessions>,
    ) -> Engine {
        let conf = ServerConf {
            max_retries: 1,
            // The engine speaks no TLS here, and must not look for the system's authorities.
            ca_file: Some("/dev/null".to_owned()),
            ..ServerConf::default()
        };
        let carrier = Carrier {
            headers: Headers {
                node_target: listener.node_target,
                scheme: upstream.scheme,
                guard: listener.guard.clone(),
            },
            exchanges: AtomicU64::new(0),
            sessions,
        };
        let (never, shutdown) = watch::channel(false);
        let proxy = Arc::new(http_proxy(&Arc::new(conf), carrier));
        Engine { proxy, bandwidth, listener: listener.name.as_str().into(), added, shutdown, _never: never }
    }

    /// Carries one exchange; afterwards the exchange tells what became of it.
    pub(super) async fn carry(&self, loan: Lent, exchange: Arc<Exchange>) {
        let caps = (self.bandwidth.clone(), self.listener.clone());
        let stream = EngineStream::new(loan, exchange.clone(), caps, self.added.clone());
        let mut session = ServerSession::new_http1(Box::new(stream));
        session.set_connection_user_context(Some(Box::new(exchange)));
        self.proxy.process_new_http(session, &self.shutdown).await;
    }
}

/// The phases of one request.
struct Carrier {
    headers: Headers,
    /// Numbers the exchanges, so that the engine's own pool never finds one's connection for another.
    exchanges: AtomicU64,
    sessions: Arc<Sessions>,
}

impl Carrier {
    /// Other replicas know a session before its client can ask one of them.
    async fn begin_shared(&self, exchange: &Exchange) {
        let Some(session) = exchange.session.as_ref().filter(|_| exchange.is_start()) else { return };
        let fate = exchange.fate();
        if matches!(fate.status, 200 | 201) && !fate.node_refused {
            let _ = self.sessions.begin_shared(session, fate.node_keeps, fate.client_keeps).await;
        }
    }
}

fn never_ends(what: &'static str) -> Box<pingora_core::Error> {
    pingora_core::Error::explain(ErrorType::InvalidHTTPHeader, what).into_up()
}

/// What the phases of one request share.
#[derive(Default)]
struct Ctx {
    exchange: Option<Arc<Exchange>>,
    passes_body: bool,
    unread: usize,
    interim: usize,
}

impl Ctx {
    fn exchange(&self) -> pingora_core::Result<&Arc<Exchange>> {
        self.exchange
            .as_ref()
            .ok_or_else(|| pingora_core::Error::explain(ErrorType::InternalError, "a request without its exchange"))
    }

    fn fail(&self, reason: Reason, detail: impl ToString) {
        if let Some(exchange) = &self.exchange {
            exchange.fail(reason, detail.to_string());
        }
    }
}

#[async_trait]
impl ProxyHttp for Carrier {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::default()
    }

    /// No downstream modules: nothing is compressed.
    fn init_downstream_modules(&self, _: &mut pingora_core::modules::http::HttpModules) {}

    fn on_connection_reuse(&self, session: &mut Session, ctx: &mut Ctx, context: Box<dyn std::any::Any + Send + Sync>) {
        ctx.exchange = context.downcast::<Arc<Exchange>>().ok().map(|e| *e);
        // Whoever lent the connection watches for stalls, in all directions, and drops the exchange then.
        session.set_keepalive(Some(0));
        session.set_read_timeout(None);
        session.set_write_timeout(None);
        session.set_close_on_response_before_downstream_finish(false);
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> pingora_core::Result<Box<HttpPeer>> {
        let exchange = ctx.exchange()?;
        let connector =
            Connector { slot: exchange.node_slot(), has_body: exchange.head.content_length().is_some_and(|n| n > 0) };
        // The connection is there already, wherever it leads to.
        let mut peer = HttpPeer::new(SocketAddr::from(([0, 0, 0, 0], 0)), false, String::new());
        peer.options.custom_l4 = Some(Arc::new(connector));
        peer.options.idle_timeout = Some(Duration::ZERO);
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
        peer.group_key = self.exchanges.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> pingora_core::Result<()> {
        self.headers.to_node(request, ctx.exchange()?)
    }

    async fn request_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> pingora_core::Result<()> {
        if let (Some(body), Ok(exchange)) = (body, ctx.exchange())
            && exchange.call.operation == Operation::File
        {
            exchange.moved(Direction::Upload, body.len());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _: &mut Session,
        answer: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> pingora_core::Result<()> {
        let exchange = ctx.exchange()?.clone();
        // The version is that of whoever answers the client, whatever the node speaks.
        answer.set_version(http::Version::HTTP_11);
        if exchange.is_answer_too_large() {
            return Err(never_ends("the head of the node's answer is too large"));
        }
        if answer.status.as_u16() == 101 {
            // There is no other protocol to switch to, whatever was asked for.
            return Err(
                pingora_core::Error::explain(ErrorType::InvalidHTTPHeader, "the node switches protocols").into_up()
            );
        }
        if answer.status.is_informational() {
            ctx.interim += 1;
            if ctx.interim > INTERIM_ANSWERS {
                return Err(never_ends("the node does not come to its answer"));
            }
            // The client takes any 1xx but 100 and 102 for the answer itself.
            if !matches!(answer.status.as_u16(), 100 | 102) {
                *answer = ResponseHeader::build(102, None)?;
            }
            // It has no body, whatever it says.
            answer.remove_header("content-length");
            answer.remove_header("transfer-encoding");
            return Ok(());
        }
        match self.headers.to_client(answer, &exchange) {
            Ok(passes_body) => {
                ctx.passes_body = passes_body;
                self.begin_shared(&exchange).await;
                exchange.answer_begins();
                if passes_body {
                    exchange.body_begins();
                    exchange
                        .note_size(answer.headers.get("content-length").and_then(|v| v.to_str().ok()?.parse().ok()));
                }
                Ok(())
            }
            Err(Problem::Refused(reason, detail)) => {
                exchange.fail(reason, detail.to_owned());
                Err(pingora_core::Error::explain(ErrorType::InvalidHTTPHeader, detail).into_up())
            }
            Err(Problem::Engine(error)) => Err(error),
        }
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        ctx: &mut Ctx,
    ) -> pingora_core::Result<Option<Duration>> {
        let exchange = ctx.exchange()?.clone();
        if ctx.passes_body {
            exchange.moved(Direction::Download, body.as_ref().map_or(0, Bytes::len));
        } else if let Some(bytes) = body.take() {
            ctx.unread += bytes.len();
            if ctx.unread > UNREAD_BODY {
                return Err(never_ends("the node does not stop answering"));
            }
        }
        Ok(None)
    }

    /// What is sent twice is not for the engine to say.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        _: &mut Session,
        mut error: Box<pingora_core::Error>,
        _: &mut Ctx,
        _: bool,
    ) -> Box<pingora_core::Error> {
        error.set_retry(false);
        error
    }

    /// Writes nothing: the connection answers, once it has its loan back.
    async fn fail_to_proxy(&self, _: &mut Session, error: &pingora_core::Error, ctx: &mut Ctx) -> FailToProxy {
        let reason = match (error.esource(), error.etype()) {
            (ErrorSource::Downstream, _) => Reason::ClientLost,
            (ErrorSource::Upstream, ErrorType::InvalidHTTPHeader) => match &ctx.exchange {
                Some(exchange) => self.headers.unreadable(exchange),
                None => Reason::NodeBadAnswer,
            },
            (ErrorSource::Upstream, ErrorType::WriteTimedout | ErrorType::ReadTimedout) => Reason::Stalled,
            (ErrorSource::Upstream, _) => Reason::NodeLost,
            _ => Reason::Internal,
        };
        ctx.fail(reason, told(error));
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    async fn logging(&self, _: &mut Session, error: Option<&pingora_core::Error>, ctx: &mut Ctx) {
        if let Some(exchange) = &ctx.exchange {
            exchange.note(|r| r.whole = error.is_none() && r.status != 0);
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &pingora_core::Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Ctx, _: &pingora_core::Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
