//! The nominal path in the demo. The proprietary server is not to be had, so each node has a stand-in beside it: it
//! greets as SSH does, and takes and answers datagrams.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use super::{Result, stage::Stage};

/// Datagrams of the step, and the length of each in bytes.
const DATAGRAMS: (u64, usize) = (2000, 1400);
/// Nobody waits longer for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What stands for sshd and the data port of a node.
pub(super) struct StandIn {
    pub(super) tcp: SocketAddr,
    pub(super) udp: SocketAddr,
    taken: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl StandIn {
    pub(super) async fn start(name: &'static str) -> Result<StandIn> {
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (control, data) = (TcpListener::bind(here).await?, UdpSocket::bind(here).await?);
        let (tcp, udp) = (control.local_addr()?, data.local_addr()?);
        let taken = Arc::<AtomicU64>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(greet(control, name));
        tasks.spawn(answer(data, taken.clone()));
        Ok(StandIn { tcp, udp, taken, _tasks: tasks })
    }
}

async fn greet(control: TcpListener, name: &'static str) {
    let mut open = JoinSet::new();
    while let Ok((mut stream, _)) = control.accept().await {
        open.spawn(async move {
            let _ = stream.write_all(format!("SSH-2.0-{name}\r\n").as_bytes()).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
    }
}

/// Says the first byte of each datagram back.
async fn answer(data: UdpSocket, taken: Arc<AtomicU64>) {
    let mut bytes = [0; 2048];
    while let Ok((_, from)) = data.recv_from(&mut bytes).await {
        taken.fetch_add(1, Ordering::Relaxed);
        let _ = data.send_to(&bytes[..1], from).await;
    }
}

/// Control and data of one client meet on one node; a stranger's datagrams reach none.
pub(super) async fn play(stage: &Stage) -> Result<()> {
    stage.screen.step("7. The nominal path, with stand-ins for sshd and FASP: control and data meet");
    let mut control = TcpStream::connect(stage.control).await?;
    let mut greeting = [0; 64];
    let n = timeout(PATIENCE, control.read(&mut greeting)).await??;
    let greeting = String::from_utf8_lossy(greeting.get(..n).unwrap_or_default()).trim().to_owned();
    let node = greeting.trim_start_matches("SSH-2.0-");
    stage.screen.line(format_args!("Control connection: {greeting}, so it is on node {node}"));
    let data = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    data.connect(stage.data).await?;
    let (datagrams, length) = DATAGRAMS;
    for i in 0..datagrams {
        data.send(&vec![i as u8; length]).await?;
        timeout(PATIENCE, data.recv(&mut [0; 16])).await??;
    }
    for (name, stand_in) in &stage.stand_ins {
        let taken = stand_in.taken.load(Ordering::Relaxed);
        if taken != if *name == node { datagrams } else { 0 } {
            return Err(format!("node {name} got {taken} datagrams").into());
        }
    }
    stage.screen.line(format_args!("{datagrams} datagrams of {length} B over UDP, and their answers: all on {node}"));
    let stranger = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await?;
    stranger.connect(stage.data).await?;
    stranger.send(b"let me in").await?;
    if timeout(Duration::from_millis(200), stranger.recv(&mut [0; 16])).await.is_ok() {
        return Err("a stranger was let in".into());
    }
    stage.screen.proof("A datagram from 127.0.0.2, which has no control connection: dropped");
    Ok(())
}
