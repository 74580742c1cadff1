//! Tunnels on real sockets: true bytes, both ends, every way to end, and nothing left behind.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fallgate::telemetry::Counts;
use fallgate::tunnel::{End, PipePool, Terms, Why, join};
use proptest::prelude::*;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::support::eventually;

const MIB: usize = 1024 * 1024;
const IDLE: Duration = Duration::from_secs(60);
/// What takes longer is not prompt.
const PROMPT: Duration = Duration::from_secs(10);

/// A client and a node with a tunnel between them.
struct Rig {
    client: TcpStream,
    node: TcpStream,
    end: JoinHandle<End>,
    counts: Arc<Counts>,
    cancel: CancellationToken,
    /// The tunnel's own two sockets, as /proc tells them.
    sockets: Vec<String>,
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    near.set_nodelay(true).unwrap();
    (near, listener.accept().await.unwrap().0)
}

fn descriptor(of: &impl AsFd) -> String {
    let path = format!("/proc/self/fd/{}", of.as_fd().as_raw_fd());
    std::fs::read_link(path).unwrap().into_os_string().into_string().unwrap()
}

async fn rig(terms: Terms) -> Rig {
    let ((client, near), (far, node)) = (pair().await, pair().await);
    let sockets = vec![descriptor(&near), descriptor(&far)];
    let (counts, cancel) = (terms.counts.clone(), terms.cancel.clone());
    Rig { client, node, end: tokio::spawn(join(near, far, terms)), counts, cancel, sockets }
}

impl Rig {
    async fn end(self) -> End {
        drop((self.client, self.node));
        within(self.end).await.unwrap()
    }
}

fn terms(pipes: &PipePool) -> Terms {
    Terms { pipes: Some(pipes.clone()), ..Terms::new(IDLE) }
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PROMPT, what).await.expect("prompt")
}

/// Noise that differs by seed and place, and is the same each time.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Writes all and says so by ending.
async fn say(mut to: impl AsyncWrite + Unpin, bytes: &[u8]) {
    to.write_all(bytes).await.unwrap();
    to.shutdown().await.unwrap();
}

async fn hear(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.unwrap();
    bytes
}

/// Noise both ways at once through a tunnel.
async fn both_ways(mut rig: Rig, up: usize, down: usize) {
    let (ups, downs) = (noise(1, up), noise(2, down));
    let ((client_read, client_write), (node_read, node_write)) = (rig.client.split(), rig.node.split());
    let (heard_up, heard_down, (), ()) =
        tokio::join!(hear(node_read), hear(client_read), say(client_write, &ups), say(node_write, &downs));
    assert!(heard_up == ups && heard_down == downs, "{} and {} bytes", heard_up.len(), heard_down.len());
    assert_eq!((rig.counts.upload(), rig.counts.download()), (up as u64, down as u64));
    assert_eq!(rig.end().await, End { upload: up as u64, download: down as u64, why: Why::Closed });
}

/// The peer hears the end of the stream, be it good or bad.
async fn over(mut stream: TcpStream) {
    let mut rest = [0; 4096];
    while matches!(within(stream.read(&mut rest)).await, Ok(n) if n > 0) {}
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_is_true_both_ways_at_once_through_pipes() {
    let pipes = PipePool::new(2, MIB);
    both_ways(rig(terms(&pipes)).await, 64 * MIB, 64 * MIB + 12_345).await;
    assert_eq!(pipes.free(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_is_true_when_all_pipes_are_lent_or_there_are_none() {
    both_ways(rig(Terms::new(IDLE)).await, 16 * MIB, 16 * MIB + 1).await;
    both_ways(rig(terms(&PipePool::new(1, 64 * 1024))).await, 16 * MIB, 16 * MIB + 1).await;
    let pipes = PipePool::new(1, MIB);
    // A stalled tunnel holds the only pipe.
    let stalled = rig(terms(&pipes)).await;
    flood(&stalled.client).await;
    assert_eq!(pipes.free(), 0);
    both_ways(rig(terms(&pipes)).await, 16 * MIB, 16 * MIB + 1).await;
    stalled.cancel.cancel();
    assert_eq!(within(stalled.end).await.unwrap().why, Why::Cancelled);
    assert_eq!(pipes.free(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_comes_first() {
    let mut terms = terms(&PipePool::new(2, MIB));
    (terms.first_to_node, terms.first_to_client) =
        (Bytes::from(noise(3, 300_000)), Bytes::from_static(b"SSH-2.0-x\r\n"));
    let mut rig = rig(terms).await;
    let mut banner = [0; 11];
    within(rig.client.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-x\r\n");
    say(&mut rig.client, b"after").await;
    assert_eq!(within(hear(&mut rig.node)).await, [&noise(3, 300_000)[..], b"after"].concat());
    let end = rig.end().await;
    assert_eq!((end.upload, end.download), (300_005, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_side_may_end_while_the_other_goes_on() {
    let pipes = PipePool::new(2, MIB);
    for client_first in [true, false] {
        let mut rig = rig(terms(&pipes)).await;
        let (mut first, mut second) = (&mut rig.client, &mut rig.node);
        if !client_first {
            (first, second) = (second, first);
        }
        say(&mut first, b"done").await;
        assert_eq!(within(hear(&mut second)).await, b"done");
        let more = noise(4, 8 * MIB);
        let (heard, ()) = tokio::join!(hear(&mut first), say(&mut second, &more));
        assert!(heard == more);
        assert_eq!(within(rig.end).await.unwrap().why, Why::Closed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_answers_are_not_held_back() {
    let rig = rig(terms(&PipePool::new(2, MIB))).await;
    // A client with Nagle's algorithm on that writes a question in two pieces waits for the first to be acknowledged.
    rig.client.set_nodelay(false).unwrap();
    let (mut client, mut node) = (rig.client, rig.node);
    let began = Instant::now();
    for _ in 0..200 {
        client.write_all(b"ques").await.unwrap();
        client.write_all(b"tion").await.unwrap();
        let mut got = [0; 8];
        within(node.read_exact(&mut got)).await.unwrap();
        node.write_all(b"ans").await.unwrap();
        node.write_all(b"wer").await.unwrap();
        within(client.read_exact(&mut got[..6])).await.unwrap();
    }
    // One acknowledgement put off costs 40 ms.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_breaks_takes_the_other_with_it() {
    let pipes = PipePool::new(2, MIB);
    for half_closed in [false, true] {
        for client_breaks in [true, false] {
            let Rig { client, node, end, .. } = rig(terms(&pipes)).await;
            let (mut breaks, mut other, why) =
                if client_breaks { (client, node, Why::ClientLost) } else { (node, client, Why::NodeLost) };
            if half_closed {
                say(&mut breaks, b"x").await;
                assert_eq!(within(hear(&mut other)).await, b"x");
            }
            reset(breaks);
            assert_eq!(within(end).await.unwrap().why, why, "half closed: {half_closed}");
            over(other).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_heard_though_the_other_side_takes_nothing() {
    for pipes in [None, Some(PipePool::new(2, MIB))] {
        let Rig { client, node, end, .. } = rig(Terms { pipes, ..Terms::new(IDLE) }).await;
        flood(&client).await;
        reset(client);
        assert_eq!(within(end).await.unwrap().why, Why::ClientLost);
        over(node).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_break_is_passed_on() {
    let pipes = PipePool::new(2, MIB);
    for size in [10, 200_000] {
        let Rig { mut client, mut node, end, counts, .. } = rig(terms(&pipes)).await;
        // What it has not read makes the node's close a reset.
        client.write_all(b"unread").await.unwrap();
        node.readable().await.unwrap();
        let last = noise(5, size);
        node.write_all(&last).await.unwrap();
        eventually("passed on", || (counts.download() == size as u64).then_some(())).await;
        drop(node);
        assert_eq!(within(end).await.unwrap().why, Why::NodeLost);
        assert!(within(hear(client)).await == last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_tunnel_ends_unless_its_transfer_moves_elsewhere() {
    let idle = Duration::from_millis(200);
    let began = Instant::now();
    let rig1 = rig(Terms { idle, ..Terms::new(idle) }).await;
    assert_eq!(within(rig1.end).await.unwrap().why, Why::Idle);
    assert!(began.elapsed() >= idle);
    over(rig1.client).await;
    over(rig1.node).await;

    let asked = Arc::new(AtomicU64::new(0));
    let seen = asked.clone();
    let elsewhere = move || {
        seen.fetch_add(1, Ordering::Relaxed);
        Some(tokio::time::Instant::now())
    };
    let rig2 = rig(Terms { elsewhere: Some(Arc::new(elsewhere)), ..Terms::new(idle) }).await;
    eventually("asked five times", || (asked.load(Ordering::Relaxed) >= 5).then_some(())).await;
    assert!(!rig2.end.is_finished());
    assert_eq!(rig2.end().await.why, Why::Closed);
}

/// Writes until the other side takes no more for a while, and tells how many bytes it took.
async fn flood(to: &TcpStream) -> u64 {
    let piece = noise(6, 64 * 1024);
    let mut taken = 0;
    while let Ok(ready) = timeout(Duration::from_millis(300), to.writable()).await {
        ready.unwrap();
        match to.try_write(&piece) {
            Ok(n) => taken += n as u64,
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_reads_nothing_stops_the_writer() {
    let pools = [None, Some(PipePool::new(2, MIB))];
    for pipes in pools {
        let ((client, near), (far, node)) = (pair().await, pair().await);
        for socket in [&client, &near, &far, &node] {
            SockRef::from(socket).set_send_buffer_size(64 * 1024).unwrap();
            SockRef::from(socket).set_recv_buffer_size(64 * 1024).unwrap();
        }
        let end = tokio::spawn(join(near, far, Terms { pipes, ..Terms::new(IDLE) }));
        let taken = flood(&client).await;
        assert!(taken < 3 * MIB as u64, "{taken}");
        drop(client);
        let heard = within(hear(node)).await;
        assert_eq!(heard.len() as u64, taken);
        assert_eq!(within(end).await.unwrap(), End { upload: taken, download: 0, why: Why::Closed });
    }
}

/// Descriptors of this process that are one of these.
fn still_open(of: &[String]) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| of.iter().any(|one| link.to_str() == Some(one)))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_end_gives_back_pipes_and_descriptors() {
    let pipes = PipePool::new(8, 256 * 1024);
    let mut sockets = Vec::new();
    for turn in 0..200 {
        let rig = rig(terms(&pipes)).await;
        sockets.extend(rig.sockets.clone());
        let piece = noise(turn, 100_000);
        let (mut client, mut node) = (rig.client, rig.node);
        client.write_all(&piece).await.unwrap();
        if turn % 2 == 0 && turn % 5 != 1 {
            // Some of it is still on its way when the tunnel ends.
            while client.try_write(&piece).is_ok() {}
        }
        let mut got = vec![0; piece.len()];
        within(node.read_exact(&mut got)).await.unwrap();
        assert!(got == piece);
        let why = match turn % 5 {
            0 => {
                rig.cancel.cancel();
                Some(Why::Cancelled)
            }
            1 => {
                reset(client);
                Some(Why::ClientLost)
            }
            2 => {
                reset(node);
                Some(Why::NodeLost)
            }
            3 => {
                rig.end.abort();
                None
            }
            _ => {
                drop(client);
                node.read_to_end(&mut got).await.unwrap();
                drop(node);
                Some(Why::Closed)
            }
        };
        assert_eq!(within(rig.end).await.ok().map(|end| end.why), why, "turn {turn}");
    }
    assert_eq!(pipes.free(), 8);
    eventually("no descriptor left", || (still_open(&sockets) == 0).then_some(())).await;
}

/// Says its pieces with pauses for others between them, and ends.
async fn recite(mut to: impl AsyncWrite + Unpin, pieces: &[usize], seed: u64) -> Vec<u8> {
    let mut all = Vec::new();
    for (i, &len) in pieces.iter().enumerate() {
        let piece = noise(seed + i as u64, len);
        to.write_all(&piece).await.unwrap();
        all.extend_from_slice(&piece);
        if len % 3 == 0 {
            tokio::task::yield_now().await;
        }
        if len % 7 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    to.shutdown().await.unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_interleaving_of_pieces_and_ends_arrives_as_it_was_said(
        up in prop::collection::vec(prop_oneof![0..64usize, 1000..40_000usize, 100_000..400_000usize], 0..12),
        down in prop::collection::vec(prop_oneof![0..64usize, 1000..40_000usize, 100_000..400_000usize], 0..12),
        pool in 0..3usize,
        room in prop_oneof![Just(64 * 1024), Just(MIB)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pipes = PipePool::new(pool, room);
            let mut rig = rig(terms(&pipes)).await;
            let ((client_read, client_write), (node_read, node_write)) = (rig.client.split(), rig.node.split());
            let (said_up, said_down, heard_up, heard_down) = within(async { tokio::join!(
                recite(client_write, &up, 100),
                recite(node_write, &down, 200),
                hear(node_read),
                hear(client_read),
            )}).await;
            assert!(said_up == heard_up && said_down == heard_down);
            assert_eq!(rig.end().await.why, Why::Closed);
            assert_eq!(pipes.free(), pool);
        });
    }
}
