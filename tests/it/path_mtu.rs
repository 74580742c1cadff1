//! A path that takes less than its first link, as through a tunnel: datagrams still arrive whole.

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

use crate::support::{
    netns::Host,
    nominal::{Peer, SOON, ask, burst},
    process::Process,
};

const PORT: u16 = 33_001;

async fn narrow(ipv6: bool) -> Option<()> {
    let (client, gate, router, node) = (Host::new()?, Host::new()?, Host::new()?, Host::new()?);
    gate.link("client", &client, "10.1.0", "fd00:1:0");
    gate.link("router", &router, "10.3.0", "fd00:3:0");
    router.link("node", &node, "10.2.0", "fd00:2:0");
    router.ip("link set node mtu 1300");
    node.ip("link set eth0 mtu 1300");
    for (host, to, via) in [(&gate, "10.2.0.0/24", "10.3.0.2"), (&node, "default", "10.2.0.1")] {
        host.ip(&format!("route add {to} via {via}"));
    }
    for (host, to, via) in [(&gate, "fd00:2:0::/64", "fd00:3:0::2"), (&node, "default", "fd00:2:0::1")] {
        host.ip(&format!("-6 route add {to} via {via}"));
    }
    let forward = ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    assert!(router.command("sysctl").args(forward).status().unwrap().success());

    let [at, to, from]: [SocketAddr; 3] = match ipv6 {
        true => ["[fd00:2:0::2]:33001", "[fd00:1:0::1]:33001", "[fd00:1:0::2]:0"],
        false => ["10.2.0.2:33001", "10.1.0.1:33001", "10.1.0.2:0"],
    }
    .map(|address| address.parse().unwrap());
    let peer = Peer::over("a", node.listen(at), node.udp(at));
    let host = at.ip();
    let gateway = Process::on(&gate, &format!("version: 1\nlisteners: [{{name: data, protocol: udp, address: '[::]:{PORT}', upstream: u, gate: off}}]\nupstreams: [{{name: u, nodes: [{{name: a, host: '{host}', ports: {{udp: {PORT}}}}}]}}]\naccess_log: {{path: access.log}}\nadmin: {{address: '127.0.0.1:0'}}\n")).await;
    gateway.address("data").await;
    let socket = client.udp(from);
    client.open(|| socket2::SockRef::from(&socket).connect(&to.into())).unwrap();

    // Of IPv6 the first ones are lost: the router tells how much the path takes.
    let mut tries = 0;
    while ask(&socket, &[7; 1400]).await.is_none() {
        tries += 1;
        assert!(tries < 5);
    }
    for round in 0..5 {
        let sent = burst(&socket, to, 1400, 10);
        let (mut heard, mut bytes) = (Vec::new(), vec![0; 65_536]);
        while heard.len() < sent.len() {
            let n = timeout(SOON, socket.recv(&mut bytes)).await.unwrap_or_else(|_| panic!("{round}")).unwrap();
            // A socket that sends bursts hears them joined as well.
            heard.extend(bytes[..n].chunks(1401).map(|answer| answer[1..].to_vec()));
        }
        assert!(heard == sent, "{round}");
    }
    assert_eq!(peer.seen.lock().unwrap().len(), 1);
    assert_eq!(gateway.metrics().await.sum("udp_datagrams_dropped_total", &[]), 0.0);
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_arrive_whole_where_the_path_takes_less_than_the_first_link() {
    for ipv6 in [false, true] {
        if timeout(Duration::from_secs(60), narrow(ipv6)).await.unwrap().is_none() {
            return;
        }
    }
}
