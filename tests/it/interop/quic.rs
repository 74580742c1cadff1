//! QUIC through the relay: data that knows whether it arrived whole, many transfers at a time.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256, digest};
use quinn::{
    ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, ServerConfig, TransportConfig,
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use tokio::{net::TcpListener, task::JoinSet};

use crate::support::{
    loopback, noise,
    nominal::{Place, control, ssh},
};

const MIB: usize = 1024 * 1024;
const CHUNK: usize = 64 * 1024;
const AT_A_TIME: usize = 50;
/// Machines with little to spare serve fifty at a time slowly.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a node received on one connection: from whom, and how many bytes.
type Received = (String, usize);

/// A transfer node that speaks QUIC: it sends back the checksum of what came, and as many bytes of its own.
pub(crate) struct QuicNode {
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) certificate: CertificateDer<'static>,
    received: Arc<Mutex<Vec<Received>>>,
    _tasks: JoinSet<()>,
}

impl QuicNode {
    pub(crate) async fn start(name: &'static str) -> QuicNode {
        let tcp = TcpListener::bind(loopback(0)).await.unwrap();
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
        let certificate = CertificateDer::from(key.cert.der().to_vec());
        let mut config = ServerConfig::with_single_cert(vec![certificate.clone()], private).unwrap();
        config.transport_config(transport());
        let endpoint = Endpoint::server(config, loopback(0)).unwrap();
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), endpoint.local_addr().unwrap());
        let received = Arc::<Mutex<Vec<_>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(ssh(name, tcp));
        let list = received.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                open.spawn(serve(incoming, list.clone()));
            }
        });
        QuicNode { tcp: tcp_at, udp: udp_at, certificate, received, _tasks: tasks }
    }
}

async fn serve(incoming: quinn::Incoming, list: Arc<Mutex<Vec<Received>>>) {
    let connection = incoming.await.unwrap();
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    let mut name = [0; 16];
    receive.read_exact(&mut name).await.unwrap();
    let (size, checksum) = take(&mut receive).await;
    list.lock().unwrap().push((String::from_utf8(name.to_vec()).unwrap(), size));
    send.write_all(&checksum).await.unwrap();
    give(&mut send, size, 2).await;
    connection.closed().await;
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(IdleTimeout::try_from(PATIENCE).unwrap()));
    transport.into()
}

/// Sends so many bytes, no chunk like another, and gives their checksum.
async fn give(send: &mut SendStream, size: usize, seed: u64) -> Vec<u8> {
    let (mut chunk, mut sum) = (noise(CHUNK, seed), Context::new(&SHA256));
    let mut left = size;
    while left > 0 {
        chunk[..8].copy_from_slice(&left.to_le_bytes());
        let part = &chunk[..left.min(CHUNK)];
        sum.update(part);
        send.write_all(part).await.unwrap();
        left -= part.len();
    }
    send.finish().unwrap();
    sum.finish().as_ref().to_vec()
}

/// Receives to the end, and gives length and checksum.
async fn take(receive: &mut RecvStream) -> (usize, Vec<u8>) {
    let (mut size, mut sum) = (0, Context::new(&SHA256));
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await.unwrap() {
        size += chunk.bytes.len();
        sum.update(&chunk.bytes);
    }
    (size, sum.finish().as_ref().to_vec())
}

/// What [`give`] gives, without sending it.
pub(crate) fn checksum(size: usize, seed: u64) -> Vec<u8> {
    let mut all = Vec::with_capacity(size);
    let chunk = noise(CHUNK, seed);
    for at in (0..size).step_by(CHUNK) {
        let part = &chunk[..(size - at).min(CHUNK)];
        all.extend((size - at).to_le_bytes());
        all.extend(&part[8..]);
    }
    digest(&SHA256, &all).as_ref().to_vec()
}

async fn connect(from: &str, to: SocketAddr, trusted: RootCertStore) -> (Endpoint, Connection) {
    let endpoint = Endpoint::client(SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
    let mut config = ClientConfig::with_root_certificates(Arc::new(trusted)).unwrap();
    config.transport_config(transport());
    let connection = endpoint.connect_with(config, to, "localhost").unwrap().await.unwrap();
    (endpoint, connection)
}

/// A transfer both ways; returns the name of the node that the control connection met.
pub(crate) async fn transfer(
    (to_control, to_data): (SocketAddr, SocketAddr),
    trusted: RootCertStore,
    ip: &str,
    size: usize,
    expected: &[u8],
) -> String {
    let (_control, node) = control(ip, to_control).await;
    let (endpoint, connection) = connect(ip, to_data, trusted).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(format!("{ip:16}").as_bytes()).await.unwrap();
    let sent = give(&mut send, size, 1).await;
    let mut heard = [0; 32];
    receive.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, *sent, "{ip}: what the node received");
    assert_eq!(take(&mut receive).await, (size, expected.to_vec()), "{ip}: what the client received");
    connection.close(0u8.into(), b"");
    endpoint.wait_idle().await;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_quic_transfers_at_a_time_arrive_whole_each_on_the_node_of_its_client() {
    // Set FALLGATE_LONG to the size of each transfer in MiB; 64 is a long run.
    let size = std::env::var("FALLGATE_LONG").map_or(MIB, |mib| mib.parse::<usize>().unwrap() * MIB);
    let (a, b) = (QuicNode::start("a").await, QuicNode::start("b").await);
    let nodes = [(a.tcp.port(), a.udp.port()), (b.tcp.port(), b.udp.port())];
    let place = Place::before(&nodes, "127.0.0.1:0", "", "").await;
    let to = (place.address("control").await, place.address("data").await);
    let mut trusted = RootCertStore::empty();
    trusted.add(a.certificate.clone()).unwrap();
    trusted.add(b.certificate.clone()).unwrap();
    let expected = Arc::new(checksum(size, 2));
    let begin = std::time::Instant::now();
    let mut transfers = JoinSet::new();
    for i in 1..=AT_A_TIME {
        let (trusted, expected) = (trusted.clone(), expected.clone());
        transfers.spawn(async move {
            let ip = format!("127.0.1.{i}");
            let node = transfer(to, trusted, &ip, size, &expected).await;
            (format!("{ip:16}"), node)
        });
    }
    let transfers = transfers.join_all().await;
    let took = begin.elapsed();
    for (node, name) in [(&a, "a"), (&b, "b")] {
        let mut here: Vec<_> = transfers.iter().filter(|(_, n)| n == name).map(|(ip, _)| (ip.clone(), size)).collect();
        let mut received = node.received.lock().unwrap().clone();
        here.sort();
        received.sort();
        assert_eq!(received, here, "each whole on one node: {name}");
        assert_eq!(here.len(), AT_A_TIME / 2, "clients take turns");
    }
    let metrics = place.metrics().await;
    assert_eq!(metrics.sum("udp_flows_total", &[]), AT_A_TIME as f64);
    let dropped = metrics.sum("udp_datagrams_dropped_total", &[]);
    let moved = metrics.sum("udp_datagrams_total", &[]);
    eprintln!(
        "{AT_A_TIME} transfers of {} MiB each way in {took:.1?}; {moved} datagrams, {dropped} dropped",
        size / MIB
    );
}
