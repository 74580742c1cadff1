//! The sandbox of the nominal path: nodes that echo datagrams, and a gateway with a control and a data listener.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use fallgate::{config::Config, gateway::Gateway};
use quinn::udp::{Transmit, UdpSockRef, UdpSocketState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinSet,
    time::timeout,
};

use super::{Metrics, Watch, loopback, noise, sweep};

/// How long an answer may take.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A node of the nominal path: SSH in name, and every datagram comes back with the node's name before it.
pub(crate) struct Peer {
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    /// Who it heard from.
    pub(crate) seen: Arc<Mutex<HashSet<SocketAddr>>>,
    /// What it hears datagrams with.
    pub(crate) udp_socket: Arc<UdpSocket>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(crate) async fn start(name: &'static str) -> Peer {
        let (tcp, udp) = (TcpListener::bind(loopback(0)).await.unwrap(), UdpSocket::bind(loopback(0)).await.unwrap());
        Peer::over(name, tcp, udp)
    }

    /// A node on sockets that there are already.
    pub(crate) fn over(name: &'static str, tcp: TcpListener, udp: UdpSocket) -> Peer {
        let seen = Arc::<Mutex<HashSet<_>>>::default();
        let (tcp_at, udp_at) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(ssh(name, tcp));
        let (from, udp_socket) = (seen.clone(), Arc::new(udp));
        let udp = udp_socket.clone();
        tasks.spawn(async move {
            let mut bytes = vec![0; 65_536];
            loop {
                let Ok((n, client)) = udp.recv_from(&mut bytes).await else { continue };
                from.lock().unwrap().insert(client);
                let answer = if n > 60_000 { bytes[..n].to_vec() } else { [name.as_bytes(), &bytes[..n]].concat() };
                let _ = udp.send_to(&answer, client).await;
            }
        });
        Peer { tcp: tcp_at, udp: udp_at, seen, udp_socket, _tasks: tasks }
    }
}

/// A control port: SSH in name, and every connection stays until the client ends it.
pub(crate) async fn ssh(name: &'static str, tcp: TcpListener) {
    let mut open = JoinSet::new();
    while let Ok((mut stream, _)) = tcp.accept().await {
        open.spawn(async move {
            let _ = stream.write_all(format!("SSH-2.0-{name}\r\n").as_bytes()).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        });
    }
}

/// What a control connection is greeted with: the name of its node.
pub(crate) async fn greeted(stream: &mut TcpStream) -> Option<String> {
    let mut banner = vec![0; 64];
    let n = timeout(SOON, stream.read(&mut banner)).await.ok()?.ok()?;
    let banner = String::from_utf8(banner[..n].to_vec()).unwrap();
    Some(banner.trim().strip_prefix("SSH-2.0-")?.to_owned())
}

/// A control connection from an address; gives it with the name of its node.
pub(crate) async fn control(from: &str, to: SocketAddr) -> io::Result<(TcpStream, String)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
    let mut stream = socket.connect(to).await?;
    let node = greeted(&mut stream).await.ok_or_else(|| io::Error::other("no node greets"))?;
    Ok((stream, node))
}

/// A gateway with a control and a data listener in front of these nodes.
pub(crate) struct Place {
    watch: Watch,
    pub(crate) gateway: Gateway,
    text: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) async fn start(peers: &[&Peer], data: &str, top: &str) -> Place {
        Place::listening(peers, "127.0.0.1", data, top).await
    }

    pub(crate) async fn listening(peers: &[&Peer], ip: &str, data: &str, top: &str) -> Place {
        let nodes: Vec<_> = peers.iter().map(|peer| (peer.tcp.port(), peer.udp.port())).collect();
        Place::before(&nodes, &format!("{ip}:0"), data, top).await
    }

    /// In front of nodes with these ports, TCP and UDP.
    pub(crate) async fn before(nodes: &[(u16, u16)], address: &str, data: &str, top: &str) -> Place {
        let text = config(nodes, address, data, top);
        let dir = tempfile::tempdir().unwrap();
        let config = Config::from_yaml(&text, dir.path()).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let (gateway, watch) = sweep::gateway(config, dir.path()).await;
        Place { watch, gateway, text, dir }
    }

    pub(crate) async fn address(&self, name: &str) -> SocketAddr {
        self.gateway.addresses().await.into_iter().find(|(n, _)| n == name).unwrap().1
    }

    /// A control connection from this address; gives it with the name of its node.
    pub(crate) async fn control(&self, from: &str) -> (TcpStream, String) {
        control(from, self.address("control").await).await.unwrap()
    }

    pub(crate) async fn metrics(&self) -> Metrics {
        Metrics::scrape(self.gateway.admin_address().unwrap()).await
    }

    pub(crate) async fn until(&self, family: &str, labels: &[(&str, &str)], value: f64) {
        crate::support::until(|| self.metrics(), (family, labels), value, SOON).await;
    }

    pub(crate) async fn reload(&self, change: impl FnOnce(String) -> String) {
        self.gateway.reload(self.config(change)).await.unwrap();
    }

    /// The config as it would be with other keys.
    pub(crate) fn config(&self, change: impl FnOnce(String) -> String) -> Config {
        Config::from_yaml(&change(self.text.clone()), self.dir.path()).unwrap()
    }
}

pub(crate) async fn client(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(from.parse().unwrap(), 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

/// What comes back for these bytes; nothing if nothing comes for a while.
pub(crate) async fn ask(socket: &UdpSocket, bytes: &[u8]) -> Option<Vec<u8>> {
    socket.send(bytes).await.unwrap();
    hear(socket, Duration::from_millis(1500)).await
}

pub(crate) async fn hear(socket: &UdpSocket, patience: Duration) -> Option<Vec<u8>> {
    let mut answer = vec![0; 70_000];
    let n = timeout(patience, socket.recv(&mut answer)).await.ok()?.ok()?;
    Some(answer[..n].to_vec())
}

/// Sends so many datagrams of `size` bytes as one, the kernel's way.
pub(crate) fn burst(socket: &UdpSocket, destination: SocketAddr, size: usize, count: usize) -> Vec<Vec<u8>> {
    let contents = noise(size * count, 5);
    let state = UdpSocketState::new(UdpSockRef::from(socket)).unwrap();
    let transmit = Transmit { destination, ecn: None, contents: &contents, segment_size: Some(size), src_ip: None };
    state.try_send(UdpSockRef::from(socket), &transmit).unwrap();
    contents.chunks(size).map(<[u8]>::to_vec).collect()
}

/// The config of a gateway with the listeners `control` and `data` in front of nodes with these ports, TCP and UDP.
pub(crate) fn config(nodes: &[(u16, u16)], address: &str, data: &str, top: &str) -> String {
    let node = |(i, (tcp, udp)): (usize, &(u16, u16))| {
        format!("{{name: n{}, host: 127.0.0.1, ports: {{tcp: {tcp}, udp: {udp}}}}}", i + 1)
    };
    let nodes: Vec<_> = nodes.iter().enumerate().map(node).collect();
    format!(
        "version: 1\nlisteners:\n  - {{name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}}\n  - {{name: data, protocol: udp, address: '{address}', upstream: u{data}}}\nupstreams:\n  - {{name: u, balance: round_robin, nodes: [{}]}}\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n{top}\n",
        nodes.join(", ")
    )
}
