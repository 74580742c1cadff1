//! The life of one client connection: head, user, target, and again; or a tunnel, which is the last thing that it is.

use std::{
    error::Error,
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    Door,
    answer::{self, Asked},
    auth,
    connect::{self, Tunnel},
    exchange::Kept,
    outgoing::Link,
    record::Story,
    request,
    target::Target,
};
use crate::{
    net::{
        Transport, forwarded,
        http1::{Airlock, DRAIN_BYTES, DRAIN_TIME, Drained, Head, HeadError, HeadProblem, Waits},
    },
    telemetry::{Kind, Operation, Reason, TunnelOutcome, chain},
};

/// How often it is looked, in a drain, whether an idle client has left.
const LOOK: Duration = Duration::from_millis(500);

/// What comes of one request.
pub(super) enum Next {
    /// The connection is sound and waits for the next request.
    Again(Airlock, After),
    /// It is a tunnel from now on.
    Tunnel(Tunnel),
    /// It is over.
    Over,
}

/// What a request leaves behind for the next one.
#[derive(Default)]
pub(super) struct After {
    /// The connection to the target.
    pub(super) kept: Option<Kept>,
    /// Who asked for what.
    pub(super) target: Option<(IpAddr, Target)>,
}

/// Why a request goes nowhere.
pub(super) struct Refused {
    pub(super) reason: Reason,
    /// For the operator.
    why: Option<Box<dyn Error + Send + Sync>>,
}

impl Refused {
    pub(super) fn new(reason: Reason) -> Refused {
        Refused { reason, why: None }
    }

    pub(super) fn because(reason: Reason, why: impl Error + Send + Sync + 'static) -> Refused {
        Refused { reason, why: Some(Box::new(why)) }
    }
}

/// Serves a connection to its end, or until it is a tunnel.
pub(super) async fn serve(
    mut door: Arc<Door>,
    transport: Transport,
    (peer, link): (SocketAddr, Option<Link>),
    now: impl Fn() -> Option<Arc<Door>> + Send + Sync,
) -> Option<Tunnel> {
    let is_tls = door.entrance.is_tls();
    let mut airlock = Airlock::for_proxy(transport);
    let (mut first, mut after) = (true, After::default());
    loop {
        let timeouts = &door.timeouts;
        let first_byte = match &after.kept {
            _ if first => timeouts.request_head,
            Some(kept) if kept.of_session => timeouts.session_idle,
            _ => timeouts.keep_alive,
        };
        let head = tokio::select! {
            biased;
            head = airlock.next_head(Waits { first_byte, head: timeouts.request_head }) => head,
            () = door.forsakes(&after), if !first => {
                airlock.close().await;
                return None;
            }
            () = door.shared.cut.cancelled() => {
                airlock.close().await;
                return None;
            }
        };
        let head = match head {
            Ok(head) => head,
            Err(error) => {
                door.refuse_head(airlock, &error, first).await;
                return None;
            }
        };
        first = false;
        door = now().unwrap_or(door);
        let client = match door.entrance.fronts().trusted() {
            [] => peer,
            trusted => match forwarded::of(&head, peer, is_tls, trusted).client {
                named if named == peer.ip() => peer,
                named => SocketAddr::new(named, 0),
            },
        };
        if link.is_some_and(|link| door.shared.outgoing.holds(link)) {
            let kind = if head.method() == b"CONNECT" { Kind::Tunnel } else { Kind::Request };
            door.refuse(airlock, &head, Box::new(Story::new(kind, client)), Refused::new(Reason::ProxyLoop)).await;
            return None;
        }
        // Boxed, as most of the time a connection is idle or a tunnel.
        let next = match head.method() {
            b"CONNECT" => Box::pin(connect::connect(door.clone(), airlock, head, client)).await,
            _ => Box::pin(request::request(&door, airlock, head, client, after.kept.take())).await,
        };
        match next {
            Next::Again(back, left) => (airlock, after) = (back, left),
            Next::Tunnel(tunnel) => return Some(tunnel),
            Next::Over => return None,
        }
    }
}

impl Door {
    /// Comes back when the gateway drains and a client that is idle is in the middle of no session.
    async fn forsakes(&self, after: &After) {
        self.drain.cancelled().await;
        let knows = |(client, target): &(IpAddr, Target)| self.recent.knows(*client, target, Instant::now());
        while after.target.as_ref().is_some_and(knows) {
            sleep(LOOK).await;
        }
    }

    /// Finds out who asks, and whether he may at all.
    pub(super) async fn identify(&self, head: &Head, story: &mut Story) -> Result<(), Refused> {
        if !self.rules.policy.admits(story.client.ip()) {
            return Err(Refused::new(Reason::ClientNotAllowed));
        }
        let Some(login) = &self.rules.login else { return Ok(()) };
        let given = head.field("proxy-authorization").and_then(auth::basic);
        let given = given.ok_or(Refused::new(Reason::AuthRequired))?;
        login.verify(&given, self.timeouts.request_head).await.map_err(Refused::new)?;
        story.user = Some(given.user);
        Ok(())
    }

    /// Waits for what an answer needs, as long as the client waits for the answer. One that is still sending its body is
    /// not watched.
    pub(super) async fn while_awaited<T>(
        &self,
        airlock: &mut Airlock,
        work: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        tokio::select! {
            biased;
            done = work => done,
            () = poll_fn(|cx| airlock.poll_left(cx)) => Err(Refused::new(Reason::ClientLost)),
            () = self.shared.cut.cancelled() => Err(Refused::new(Reason::Draining)),
        }
    }

    /// While the gateway drains, only sessions that run may go on.
    pub(super) fn admit(&self, story: &Story, target: &Target) -> Result<(), Refused> {
        let runs = || self.recent.knows(story.client.ip(), target, story.begin);
        if self.drain.is_cancelled() && !runs() { Err(Refused::new(Reason::Draining)) } else { Ok(()) }
    }

    /// Answers a request that goes nowhere, and writes it down.
    pub(super) async fn refuse(
        &self,
        mut airlock: Airlock,
        head: &Head,
        mut story: Box<Story>,
        refused: Refused,
    ) -> Next {
        let Refused { reason, why } = refused;
        story.reason = Some(reason);
        self.metrics.refusal(reason);
        let (listener, client) = (self.name.as_str(), story.client.ip());
        let (target, rule) = (story.target.as_deref(), story.rule.map(tracing::field::display));
        let why = why.as_deref().map(|why| tracing::field::display(chain(why)));
        let failed = matches!(answer::status(reason), 500 | 502 | 504);
        let what = if failed { "A target was not reached." } else { "A request is refused." };
        tracing::info!(listener, %client, target, rule, %reason, why, "{what}");
        let (operation, is_tunnel) = match story.kind {
            Kind::Tunnel => (Operation::Connect, true),
            _ => (Operation::Absolute, false),
        };
        if reason == Reason::ClientLost {
            self.over(&story, TunnelOutcome::ClientLost);
            airlock.close().await;
            return Next::Over;
        }
        // A client that is still sending does not hear an answer; one that waits to be asked for its body sends none.
        let is_sound = if is_tunnel {
            // What was meant for the tunnel must not be taken for a request. Who is to log in has sent nothing yet.
            answer::status(reason) == 407 && airlock.body_left() == 0 && !airlock.is_ahead()
        } else if head.field("expect").is_some() {
            airlock.body_left() == 0
        } else {
            airlock.drain(DRAIN_BYTES, self.timeouts.body_idle, DRAIN_TIME).await == Drained::Whole
        };
        let close = !is_sound || !request::stays(head) || self.drain.is_cancelled();
        let asked = if request::is_start(head.target()) { Asked::Start } else { Asked::Other };
        story.status = Some(answer::status(reason));
        self.metrics.request(operation, answer::status(reason));
        let said = airlock.answer(&answer::refusal(reason, asked, close), self.timeouts.request_head).await;
        let outcome = match reason {
            Reason::Cancelled => TunnelOutcome::Cancelled,
            // It had begun, or it would be shown nowhere.
            Reason::Draining if story.id.is_some() => TunnelOutcome::Drained,
            _ if failed => TunnelOutcome::Failed,
            _ => TunnelOutcome::Refused,
        };
        self.over(&story, outcome);
        if close || said.is_err() {
            airlock.close().await;
            return Next::Over;
        }
        Next::Again(airlock, After::default())
    }

    /// Writes a story down when it is over.
    pub(super) fn over(&self, story: &Story, outcome: TunnelOutcome) {
        if story.kind == Kind::Tunnel {
            self.tunnels.ended(outcome);
        }
        story.tell(&self.shared.access_log, &self.name, self.rules.policy.name(), outcome);
    }

    /// There is no head: an answer where one can be read, then the end.
    async fn refuse_head(&self, mut airlock: Airlock, error: &HeadError, first: bool) {
        let reason = match error {
            HeadError::Done if !first || airlock.has_ended() => return airlock.close().await,
            HeadError::Done | HeadError::Timeout => Reason::HeadTimeout,
            HeadError::Io(_) => Reason::ClientLost,
            HeadError::Problem(HeadProblem::TooLarge | HeadProblem::TooManyFields) => Reason::HeadTooLarge,
            HeadError::Problem(_) => Reason::BadHead,
        };
        self.metrics.refusal(reason);
        tracing::debug!(listener = self.name, %reason, %error, "No request could be read.");
        if reason != Reason::ClientLost {
            let text = answer::refusal(reason, Asked::Other, true);
            let _ = airlock.answer(&text, self.timeouts.request_head).await;
            self.metrics.request(Operation::Other, answer::status(reason));
        }
        airlock.close().await;
    }
}
