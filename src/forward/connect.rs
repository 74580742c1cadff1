//! CONNECT: the client and its target, joined.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::net::TcpStream;

use super::{
    Door, answer,
    connection::{Next, Refused},
    outgoing::Leaving,
    parent,
    reach::Unreached,
    recent::Connected,
    record::Story,
    target,
};
use crate::{
    limit::{Flow, TunnelLimit, TunnelPermit},
    net::{
        Transport,
        http1::{Airlock, Head},
    },
    telemetry::{ActiveGuard, Kind, Operation, Reason, TunnelOutcome},
    tunnel::{self, Terms, Why},
};

/// A tunnel whose client has been told that it stands.
pub(super) struct Tunnel {
    door: Arc<Door>,
    client: Transport,
    /// What the client sent before it was told.
    from_client: Bytes,
    target: TcpStream,
    /// What the target said before it was joined.
    from_target: Bytes,
    story: Box<Story>,
    held: Held,
}

/// Answers a CONNECT; what comes of it is a tunnel, if the client may have one.
pub(super) async fn connect(door: Arc<Door>, mut airlock: Airlock, head: Head, client: SocketAddr) -> Next {
    let mut story = Box::new(Story::new(Kind::Tunnel, client));
    let preparing = prepare(&door, &head, &mut story);
    let prepared = door.while_awaited(&mut airlock, preparing).await;
    let (target, from_target, held) = match prepared {
        Ok(prepared) => prepared,
        Err(refused) => return door.refuse(airlock, &head, story, refused).await,
    };
    door.metrics.request(Operation::Connect, 200);
    story.status = Some(200);
    if airlock.answer(answer::ESTABLISHED, door.timeouts.request_head).await.is_err() {
        story.reason = Some(Reason::ClientLost);
        door.metrics.refusal(Reason::ClientLost);
        door.over(&story, TunnelOutcome::ClientLost);
        return Next::Over;
    }
    let (client, from_client) = airlock.into_parts();
    Next::Tunnel(Tunnel { door, client, from_client, target, from_target, story, held })
}

/// What a tunnel holds as long as it stands.
type Held = (Option<TunnelPermit>, ActiveGuard, Connected, Leaving);

type Prepared = (TcpStream, Bytes, Held);

async fn prepare(door: &Door, head: &Head, story: &mut Story) -> Result<Prepared, Refused> {
    door.identify(head, story).await?;
    let target = target::connect(head.target()).map_err(|error| Refused::because(error.reason(), error))?;
    story.target = Some(target.to_string());
    if head.has_control() {
        return Err(Refused::new(Reason::BadName));
    }
    // What would be a body, and what would be the first bytes through the tunnel, nobody can tell apart.
    if head.is_chunked() || head.content_length().is_some_and(|length| length > 0) {
        return Err(Refused::new(Reason::BadRequest));
    }
    door.admit(story, &target)?;
    let permit = door.shared.tunnels.try_acquire(&door.of_listener, story.client.ip().into());
    let permit = match permit {
        Ok(permit) => Some(permit),
        // A fallback session is one tunnel after the other; a limit must not end it between two of them.
        Err(_) if door.recent.resumes(story.client.ip(), &target, story.begin) => None,
        Err(full) => return Err(Refused::new(TunnelLimit::reason(full))),
    };
    let connected = door.recent.begin(story.client.ip(), &target);
    let mut reached = door.reach(&target, story).await.map_err(|error| Refused::because(error.reason(), error))?;
    let from_target = match reached.parent {
        None => Bytes::new(),
        Some(parent) => parent::connect(&mut reached.stream, parent, &target)
            .await
            .map_err(|error| Refused::because(Reason::ParentFailed, Unreached::Parent(error)))?,
    };
    Ok((reached.stream, from_target, (permit, door.tunnels.opened(), connected.stands(), reached.leaving)))
}

impl Tunnel {
    /// Carries bytes until both sides are through.
    pub(super) async fn run(self) {
        let Tunnel { door, client, from_client, target, from_target, mut story, held } = self;
        let cancel = door.shared.cut.child_token();
        let transfer = story.post(&door.shared.live, &door.name, cancel.clone());
        let counts = transfer.counts().clone();
        let bandwidth = door.shared.bandwidth.clone();
        let session = Some(bandwidth.number());
        let flow = Flow { listener: door.name.as_str().into(), client: story.client.ip().into(), session, node: None };
        let terms = Terms {
            cancel,
            counts: counts.clone(),
            pipes: Some(door.shared.pipes.clone()),
            caps: Some(Box::new((bandwidth, flow))),
            first_to_node: from_client,
            first_to_client: from_target,
            ..Terms::new(door.timeouts.tunnel_idle)
        };
        let end = match client {
            Transport::Plain(conn) => {
                let (client, ahead) = conn.into_parts();
                // What was read ahead of the airlock comes behind what the airlock has.
                let first = [&terms.first_to_node[..], &ahead[..]].concat();
                let terms = Terms { first_to_node: first.into(), ..terms };
                tunnel::counted(&counts, &door.metrics, tunnel::join(client, target, terms)).await
            }
            Transport::Tls(client) => {
                let joined = Box::pin(tunnel::join_copying(client, target, terms));
                tunnel::counted(&counts, &door.metrics, joined).await
            }
        };
        (story.uploaded, story.downloaded) = (end.upload, end.download);
        let outcome = match end.why {
            Why::Closed => TunnelOutcome::Closed,
            Why::Idle => TunnelOutcome::Idle,
            Why::ClientLost => TunnelOutcome::ClientLost,
            Why::NodeLost => TunnelOutcome::TargetLost,
            Why::Cancelled if door.shared.cut.is_cancelled() => TunnelOutcome::Drained,
            Why::Cancelled => TunnelOutcome::Cancelled,
        };
        drop(transfer);
        door.over(&story, outcome);
        drop(held);
    }
}
