//! Tunnels: two streams joined, so that what one says the other hears. Knows no session and no node's choice.
//!
//! Bytes go both ways at once and untouched. The end of one side is passed on while the other may still speak; a side
//! that breaks takes the other with it, after what came before the break has been passed on, if it is taken. Two TCP streams are joined
//! inside the kernel as far as there are pipes ([`PipePool`]); small pieces, and all bytes when there is no pipe, are
//! copied. A quiet tunnel holds neither pipe nor buffer. Under a cap on bandwidth a direction waits before it takes more
//! from its source, and holds no pipe meanwhile; a tunnel that is held up is not idle.

mod clock;
mod counted;
mod direction;
mod half;
mod pipes;
#[cfg(test)]
mod tests;

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    net::TcpStream,
    select,
};
use tokio_util::sync::CancellationToken;

use crate::{
    limit::{Bandwidth, Flow},
    telemetry::{self, Counts},
};

pub use clock::Activity;
pub use counted::counted;
pub use pipes::PipePool;

use clock::Clock;
use direction::{Direction, LAST_WORDS, Lost, broken};
use half::{Sink, Source};

/// On what terms two streams are joined.
#[derive(Clone)]
pub struct Terms {
    /// The tunnel ends when no byte has moved for so long.
    pub idle: Duration,
    /// What else keeps the tunnel from being idle.
    pub elsewhere: Option<Arc<dyn Activity>>,
    /// Ends the tunnel.
    pub cancel: CancellationToken,
    /// What has moved, to be read while the tunnel runs.
    pub counts: Arc<Counts>,
    /// Pipes for bulk; none: every byte is copied.
    pub pipes: Option<PipePool>,
    /// The caps on bandwidth and what the tunnel belongs to; none: it goes as fast as it can.
    pub caps: Option<Box<(Bandwidth, Flow)>>,
    /// Bytes read from the client before, to be written to the node first.
    pub first_to_node: Bytes,
    /// Bytes read from the node before, to be written to the client first.
    pub first_to_client: Bytes,
}

impl Terms {
    /// Terms with no more than an idle time-out.
    pub fn new(idle: Duration) -> Terms {
        Terms {
            idle,
            elsewhere: None,
            cancel: CancellationToken::new(),
            counts: Arc::default(),
            pipes: None,
            caps: None,
            first_to_node: Bytes::new(),
            first_to_client: Bytes::new(),
        }
    }
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Bytes from the client to the node.
    pub upload: u64,
    /// Bytes from the node to the client.
    pub download: u64,
    /// Why it ended.
    pub why: Why,
}

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Both sides had said all.
    Closed,
    /// Nothing moved for too long.
    Idle,
    /// The client's connection broke.
    ClientLost,
    /// The node's connection broke.
    NodeLost,
    /// It was cancelled.
    Cancelled,
}

/// Joins two TCP streams until they end, and closes them. Dropped earlier, it closes them as well.
pub async fn join(mut client: TcpStream, mut node: TcpStream, terms: Terms) -> End {
    // Small pieces must not wait. It only tunes; a system that refuses it still serves.
    let _ = client.set_nodelay(true);
    let _ = node.set_nodelay(true);
    relay(client.split(), node.split(), terms).await
}

/// Joins two streams of any kind, of which TLS may be one; every byte is copied. Else as [`join`].
pub async fn join_copying<C, N>(client: C, node: N, terms: Terms) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    N: AsyncRead + AsyncWrite + Unpin,
{
    relay(split(client), split(node), terms).await
}

async fn relay(client: (impl Source, impl Sink), node: (impl Source, impl Sink), terms: Terms) -> End {
    let Terms { idle, elsewhere, cancel, counts, pipes, caps, first_to_node, first_to_client } = terms;
    let clock = Clock::start();
    let pace = |way| caps.as_deref().map(|(all, flow)| Box::new(all.stream(flow.clone(), way)));
    let direction = |moved, way| Direction { clock: &clock, moved, pipes: pipes.as_ref(), pace: pace(way), turn: 0 };
    let up = direction(counts.of(telemetry::Direction::Upload), telemetry::Direction::Upload).carry(
        client.0,
        node.1,
        first_to_node,
    );
    let down = direction(counts.of(telemetry::Direction::Download), telemetry::Direction::Download).carry(
        node.0,
        client.1,
        first_to_client,
    );
    let why = select! {
        why = both(&clock, up, down) => why,
        () = clock.quiet(idle, elsewhere.as_deref()) => Why::Idle,
        () = cancel.cancelled() => Why::Cancelled,
    };
    End { upload: counts.upload(), download: counts.download(), why }
}

/// Runs both directions to their ends, or until one side breaks.
async fn both<C: Source, N: Source>(
    clock: &Clock,
    up: impl Future<Output = Result<C, Lost>>,
    down: impl Future<Output = Result<N, Lost>>,
) -> Why {
    let (mut up, mut down) = (pin!(up), pin!(down));
    // The direction that ends first gives its source back: it has no more to say, but may still break.
    // A sink that broke may have said something before, which the other direction passes on.
    select! {
        ended = &mut up => match ended {
            Ok(client) => select! {
                biased;
                ended = down => why(ended, Why::NodeLost, Why::ClientLost),
                () = broken(client.tcp()) => Why::ClientLost,
            },
            Err(Lost::Source) => Why::ClientLost,
            Err(Lost::Sink) => {
                select! { _ = down => {} () = Box::pin(clock.quiet(LAST_WORDS, None)) => {} }
                Why::NodeLost
            }
        },
        ended = &mut down => match ended {
            Ok(node) => select! {
                biased;
                ended = up => why(ended, Why::ClientLost, Why::NodeLost),
                () = broken(node.tcp()) => Why::NodeLost,
            },
            Err(Lost::Source) => Why::NodeLost,
            Err(Lost::Sink) => {
                select! { _ = up => {} () = Box::pin(clock.quiet(LAST_WORDS, None)) => {} }
                Why::ClientLost
            }
        },
    }
}

fn why<S>(ended: Result<S, Lost>, source: Why, sink: Why) -> Why {
    match ended {
        Ok(_) => Why::Closed,
        Err(Lost::Source) => source,
        Err(Lost::Sink) => sink,
    }
}
