//! QUIC over the nominal path: data that knows whether it arrived whole.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::digest::{Context, SHA256};
use quinn::{
    ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, ServerConfig, TransportConfig,
    rustls::{
        RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};

use super::{
    noise,
    nominal::{self, ssh},
};

const CHUNK: usize = 64 * 1024;

/// What went wrong, in words.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What a node received on one connection: from whom, and how many bytes.
pub(crate) type Received = (String, usize);

/// Who a node is: the key and the certificate that its clients trust.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub(crate) fn new() -> Identity {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der();
        Identity { certificate: CertificateDer::from(made.cert.der().to_vec()), key }
    }
}

/// A transfer node that speaks QUIC: it sends back the checksum of what came, and as many bytes of its own.
pub(crate) struct QuicNode {
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) received: Arc<Mutex<Vec<Received>>>,
    _tasks: JoinSet<()>,
}

impl QuicNode {
    /// At these addresses, whose port may be 0. A connection is given up after `patience` without a sign of life.
    pub(crate) fn start(
        name: &'static str,
        identity: &Identity,
        tcp: SocketAddr,
        udp: SocketAddr,
        patience: Duration,
    ) -> io::Result<QuicNode> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(tcp)?;
        let tcp: TcpListener = socket.listen(1024)?;
        let private = PrivateKeyDer::Pkcs8(identity.key.clone().into());
        let mut config = ServerConfig::with_single_cert(vec![identity.certificate.clone()], private).unwrap();
        config.transport_config(transport(patience));
        let endpoint = Endpoint::server(config, udp)?;
        let (tcp_at, udp_at) = (tcp.local_addr()?, endpoint.local_addr()?);
        let received = Arc::<Mutex<Vec<_>>>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(ssh(name, tcp));
        let list = received.clone();
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            while let Some(incoming) = endpoint.accept().await {
                let list = list.clone();
                // A client that breaks off knows why.
                open.spawn(async move { drop(serve(incoming, &list).await) });
                while open.try_join_next().is_some() {}
            }
        });
        Ok(QuicNode { tcp: tcp_at, udp: udp_at, received, _tasks: tasks })
    }
}

async fn serve(incoming: quinn::Incoming, list: &Mutex<Vec<Received>>) -> Result<()> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let mut name = [0; 16];
    receive.read_exact(&mut name).await?;
    let (size, checksum) = take(&mut receive).await?;
    list.lock().unwrap().push((String::from_utf8(name.to_vec())?, size));
    send.write_all(&checksum).await?;
    give(&mut send, size, 2).await?;
    connection.closed().await;
    Ok(())
}

fn transport(patience: Duration) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(IdleTimeout::try_from(patience).unwrap()));
    transport.into()
}

/// Sends so many bytes, no chunk like another, and gives their checksum.
async fn give(send: &mut SendStream, size: usize, seed: u64) -> Result<Vec<u8>> {
    let (mut chunk, mut sum) = (noise(CHUNK, seed), Context::new(&SHA256));
    let mut left = size;
    while left > 0 {
        chunk[..8].copy_from_slice(&left.to_le_bytes());
        let part = &chunk[..left.min(CHUNK)];
        sum.update(part);
        send.write_all(part).await?;
        left -= part.len();
    }
    send.finish()?;
    Ok(sum.finish().as_ref().to_vec())
}

/// Receives to the end, and gives length and checksum.
async fn take(receive: &mut RecvStream) -> Result<(usize, Vec<u8>)> {
    let (mut size, mut sum) = (0, Context::new(&SHA256));
    while let Some(chunk) = receive.read_chunk(usize::MAX, true).await? {
        size += chunk.bytes.len();
        sum.update(&chunk.bytes);
    }
    Ok((size, sum.finish().as_ref().to_vec()))
}

/// What [`give`] gives, without sending it.
pub(crate) fn checksum(size: usize, seed: u64) -> Vec<u8> {
    let (mut chunk, mut sum) = (noise(CHUNK, seed), Context::new(&SHA256));
    for at in (0..size).step_by(CHUNK) {
        let left = size - at;
        chunk[..8].copy_from_slice(&left.to_le_bytes());
        sum.update(&chunk[..left.min(CHUNK)]);
    }
    sum.finish().as_ref().to_vec()
}

/// A client of the nominal path: where it is, whom it trusts, how long it waits for a sign of life.
pub(crate) struct Client<'a> {
    pub(crate) ip: &'a str,
    pub(crate) control: SocketAddr,
    pub(crate) data: SocketAddr,
    pub(crate) trusted: RootCertStore,
    pub(crate) patience: Duration,
}

/// How a transfer of data ended: the node that its control connection met, and what arrived other than it was sent.
pub(crate) struct Ended {
    pub(crate) node: String,
    pub(crate) differs: Option<String>,
}

impl Client<'_> {
    /// A transfer of so many bytes both ways; those of the node must have the checksum `expected`.
    pub(crate) async fn transfer(self, size: usize, expected: &[u8]) -> Result<Ended> {
        let (_control, node) = nominal::control(self.ip, self.control).await?;
        let (endpoint, connection) = self.connect().await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(format!("{:16}", self.ip).as_bytes()).await?;
        let sent = give(&mut send, size, 1).await?;
        let mut heard = [0; 32];
        receive.read_exact(&mut heard).await?;
        let back = take(&mut receive).await?;
        connection.close(0u8.into(), b"");
        endpoint.wait_idle().await;
        let differs = if heard != *sent {
            Some("what the node received".to_owned())
        } else {
            (back != (size, expected.to_vec())).then(|| "what the client received".to_owned())
        };
        Ok(Ended { node, differs })
    }

    async fn connect(&self) -> Result<(Endpoint, Connection)> {
        let endpoint = Endpoint::client(SocketAddr::new(self.ip.parse()?, 0))?;
        let mut config = ClientConfig::with_root_certificates(Arc::new(self.trusted.clone()))?;
        config.transport_config(transport(self.patience));
        let connection = endpoint.connect_with(config, self.data, "localhost")?.await?;
        Ok((endpoint, connection))
    }
}
