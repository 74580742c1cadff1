//! A site of network namespaces: clients behind a provider, the outer firewall, a DMZ with the gateway, the inner
//! firewall, and nodes and operators inside. Every host has IPv4 and IPv6, and every router knows the way to every network:
//! what does not get through is stopped by rules and not for want of a route.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use fallgate::node::{Node, NodeOptions};
use tokio::{io::AsyncWriteExt, task::JoinSet};

use crate::support::{eventually, here, netns::Host, text};

/// The three files, and where each is loaded.
pub(super) const FILES: [&str; 3] = ["outer", "inner", "host"];
/// A port beyond those that are documented, on which somebody listens at many hosts here.
pub(super) const OTHER: u16 = 9092;

/// Kills its process, by its id.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The hosts, cabled and with their addresses.
pub(super) struct Site {
    pub(super) client: Arc<Host>,
    provider: Arc<Host>,
    pub(super) outer: Arc<Host>,
    pub(super) gateway: Arc<Host>,
    /// Another host in the DMZ.
    pub(super) neighbour: Arc<Host>,
    pub(super) inner: Arc<Host>,
    pub(super) n1: Arc<Host>,
    pub(super) n2: Arc<Host>,
    pub(super) operator: Arc<Host>,
    _switches: [Arc<Host>; 2],
    _tasks: JoinSet<()>,
    _nodes: Vec<Node>,
    _folders: Vec<tempfile::TempDir>,
}

pub(super) fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port)
}

impl Site {
    /// None where this system lets us make none.
    pub(super) async fn new() -> Option<Site> {
        let mut hosts = Vec::new();
        for _ in 0..11 {
            hosts.push(Host::new()?);
        }
        let [client, provider, outer, dmz, gateway, neighbour, inner, lan, n1, n2, operator] =
            <[Arc<Host>; 11]>::try_from(hosts).ok().unwrap();
        let mut site = Site {
            client,
            provider,
            outer,
            gateway,
            neighbour,
            inner,
            n1,
            n2,
            operator,
            _switches: [dmz, lan],
            _tasks: JoinSet::new(),
            _nodes: Vec::new(),
            _folders: Vec::new(),
        };
        site.cable();
        site.route();
        site.nodes().await;
        site.strangers();
        Some(site)
    }

    fn cable(&self) {
        let [dmz, lan] = &self._switches;
        let to = |from: &Host, device: &str, other: &Host, far: &str| from.cable(device, other, far);
        to(&self.client, "eth0", &self.provider, "client");
        to(&self.provider, "outer", &self.outer, "wan");
        for (switch, members) in [
            (dmz, vec![(&self.outer, "dmz"), (&self.inner, "dmz"), (&self.gateway, "eth0"), (&self.neighbour, "eth0")]),
            (lan, vec![(&self.inner, "lan"), (&self.n1, "eth0"), (&self.n2, "eth0"), (&self.operator, "eth0")]),
        ] {
            switch.ip("link add bridge type bridge");
            for (i, (member, device)) in members.into_iter().enumerate() {
                switch.cable(&format!("port{i}"), member, device);
                switch.ip(&format!("link set port{i} master bridge up"));
            }
            switch.ip("link set bridge up");
        }
        for (host, device, v4, v6) in [
            (&self.client, "eth0", "198.51.100.2", "2001:db8:1::2"),
            (&self.provider, "client", "198.51.100.1", "2001:db8:1::1"),
            (&self.provider, "outer", "203.0.113.1", "2001:db8:2::1"),
            (&self.outer, "wan", "203.0.113.2", "2001:db8:2::2"),
            (&self.outer, "dmz", "192.0.2.1", "2001:db8:d::1"),
            (&self.inner, "dmz", "192.0.2.2", "2001:db8:d::2"),
            (&self.gateway, "eth0", "192.0.2.10", "2001:db8:d::10"),
            (&self.neighbour, "eth0", "192.0.2.66", "2001:db8:d::66"),
            (&self.inner, "lan", "10.1.0.1", "fd00:1::1"),
            (&self.n1, "eth0", "10.1.0.11", "fd00:1::11"),
            (&self.n2, "eth0", "10.1.0.12", "fd00:1::12"),
            (&self.operator, "eth0", "10.1.0.99", "fd00:1::99"),
        ] {
            host.ip(&format!("addr add {v4}/24 dev {device}"));
            host.ip(&format!("addr add {v6}/64 dev {device} nodad"));
            // The last mile takes less than the rest: routers on the way have something to tell.
            let mtu = if v4.starts_with("198.51.100.") { 1300 } else { 1500 };
            host.ip(&format!("link set {device} mtu {mtu} up"));
        }
    }

    fn route(&self) {
        let routes = [
            (&self.client, "default", "198.51.100.1", "default", "2001:db8:1::1"),
            (&self.provider, "192.0.2.0/24", "203.0.113.2", "2001:db8:d::/64", "2001:db8:2::2"),
            (&self.provider, "10.1.0.0/24", "203.0.113.2", "fd00:1::/64", "2001:db8:2::2"),
            (&self.outer, "default", "203.0.113.1", "default", "2001:db8:2::1"),
            (&self.outer, "10.1.0.0/24", "192.0.2.2", "fd00:1::/64", "2001:db8:d::2"),
            (&self.gateway, "default", "192.0.2.1", "default", "2001:db8:d::1"),
            (&self.gateway, "10.1.0.0/24", "192.0.2.2", "fd00:1::/64", "2001:db8:d::2"),
            (&self.neighbour, "default", "192.0.2.1", "default", "2001:db8:d::1"),
            (&self.neighbour, "10.1.0.0/24", "192.0.2.2", "fd00:1::/64", "2001:db8:d::2"),
            (&self.inner, "default", "192.0.2.1", "default", "2001:db8:d::1"),
            (&self.n1, "default", "10.1.0.1", "default", "fd00:1::1"),
            (&self.n2, "default", "10.1.0.1", "default", "fd00:1::1"),
            (&self.operator, "default", "10.1.0.1", "default", "fd00:1::1"),
        ];
        for (host, net4, via4, net6, via6) in routes {
            host.ip(&format!("route add {net4} via {via4}"));
            host.ip(&format!("-6 route add {net6} via {via6}"));
        }
        for router in [&self.provider, &self.outer, &self.inner] {
            let forward = ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
            assert!(router.command("sysctl").args(forward).status().unwrap().success());
        }
    }

    /// The fallback and data of both nodes; control is for a test to start, see [`Site::banners`].
    async fn nodes(&mut self) {
        for (name, host, ip) in [("n1", &self.n1, "10.1.0.11"), ("n2", &self.n2, "fd00:1::12")] {
            let folder = tempfile::tempdir().unwrap();
            let options = NodeOptions { root: folder.path().to_owned(), ..NodeOptions::default() };
            let runtime = tokio::runtime::Handle::current();
            let node = host.open(|| {
                let _entered = runtime.enter();
                runtime.block_on(Node::start(at(ip, 8080), options))
            });
            self._nodes.push(node.unwrap());
            self._folders.push(folder);
            self._tasks.spawn(echo(name, host.udp(at(ip, 33_001))));
        }
    }

    /// Control ports that greet as SSH does and then keep the connection.
    pub(super) fn banners(&mut self) {
        for (name, host, ip) in [("n1", &self.n1, "10.1.0.11"), ("n2", &self.n2, "fd00:1::12")] {
            self._tasks.spawn(accept(host.listen(at(ip, 33_001)), format!("SSH-2.0-{name}\r\n")));
        }
    }

    /// Something on the port of a name server, at the operator's.
    pub(super) fn name_server(&mut self) {
        self._tasks.spawn(echo("ns", self.operator.udp(at("10.1.0.99", 53))));
        self._tasks.spawn(accept(self.operator.listen(at("10.1.0.99", 53)), String::new()));
    }

    /// Services that nobody is to reach through the firewalls.
    fn strangers(&mut self) {
        for (host, v4, v6) in [
            (&self.client, "198.51.100.2", "2001:db8:1::2"),
            (&self.gateway, "192.0.2.10", "2001:db8:d::10"),
            (&self.n1, "10.1.0.11", "fd00:1::11"),
            (&self.n2, "10.1.0.12", "fd00:1::12"),
            (&self.operator, "10.1.0.99", "fd00:1::99"),
        ] {
            for ip in [v4, v6] {
                self._tasks.spawn(accept(host.listen(at(ip, OTHER)), "here\n".to_owned()));
            }
        }
    }

    /// What the nodes have under this name, once one of them has it.
    pub(super) async fn uploaded(&self, name: &str) -> Vec<u8> {
        let paths: Vec<_> = self._folders.iter().map(|folder| folder.path().join("up").join(name)).collect();
        eventually(name, || paths.iter().find_map(|path| std::fs::read(path).ok())).await
    }

    /// The host that a file of rules is for.
    pub(super) fn place(&self, file: &str) -> &Host {
        match file {
            "outer" => &self.outer,
            "inner" => &self.inner,
            _ => &self.gateway,
        }
    }

    /// Loads rules, and lets the operator in, whom no config names.
    pub(super) fn load(&self, file: &str, rules: &str) {
        let mut text = rules.to_owned();
        if rules.contains("set from-admin-tcp-9180-v4 ") {
            text += &format!("add element inet fallgate-{file} from-admin-tcp-9180-v4 {{ 10.1.0.99 }}\n");
        }
        let mut nft = self.place(file).command("nft");
        let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        assert!(said.status.success(), "{file}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// What a router remembers of connections.
    pub(super) fn tracked(&self, router: &Host) -> String {
        let said = router.command("cat").arg("/proc/net/nf_conntrack").output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    }

    /// The gateway with the config that is shipped, once it is ready.
    pub(super) async fn gateway(&mut self) -> Running {
        self.gateway_with(&text("deploy/dmz/fallgate.yaml"), at("192.0.2.10", 9180)).await
    }

    /// The gateway with a config, once it is ready at its admin door.
    pub(super) async fn gateway_with(&mut self, config: &str, admin: SocketAddr) -> Running {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("fallgate.yaml"), config).unwrap();
        std::fs::write(folder.path().join("admin.token"), "t0ken-of-the-operators\n").unwrap();
        certificate(folder.path(), "tls");
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = self.gateway.command(env!("CARGO_BIN_EXE_fallgate"));
        command.args(["run", "--config"]).arg(folder.path().join("fallgate.yaml")).env("NO_COLOR", "1");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let running = Running(child);
        eventually("readiness", || {
            let asked = self.gateway.open(|| http_get(admin, "/readyz"));
            asked.ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
        self._folders.push(folder);
        running
    }
}

/// Sends each datagram back, with a name of two letters before it.
async fn echo(name: &'static str, udp: tokio::net::UdpSocket) {
    let mut bytes = vec![0; 65_536];
    loop {
        let Ok((n, from)) = udp.recv_from(&mut bytes).await else { continue };
        let _ = udp.send_to(&[name.as_bytes(), &bytes[..n]].concat(), from).await;
    }
}

/// Greets whoever connects, and keeps the connections.
async fn accept(listener: tokio::net::TcpListener, greeting: String) {
    let mut kept = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(greeting.as_bytes()).await;
        kept.push(stream);
    }
}

/// The head of an answer, or as much as comes at once.
fn http_get(to: SocketAddr, path: &str) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Makes NAME.crt and NAME.key, self-signed.
pub(super) fn certificate(dir: &std::path::Path, name: &str) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(dir.join(format!("{name}.crt")), cert.pem()).unwrap();
    std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

/// What `fallgate explain` says of the config that is shipped, with the addresses that the README names.
pub(super) fn explained(more: &[&str]) -> String {
    explained_of(&here("deploy/dmz/fallgate.yaml"), more)
}

/// The same of another config.
pub(super) fn explained_of(config: &std::path::Path, more: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    command.args(["explain", "--config"]).arg(config);
    command.args(["--host", "192.0.2.10", "--address", "192.0.2.10", "--address", "2001:db8:d::10"]);
    let said = command.args(more).stdin(Stdio::null()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}
