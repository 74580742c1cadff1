//! The PROXY protocol on both sides of the door.

use std::net::SocketAddr;

use fallgate::net::proxy_protocol;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{CONTROL, Ssh, banner, checked, hears, met, name, plan, port};
use crate::support::{
    Plan, Sandbox, Wire, eventually,
    peer::{Peer, say},
};

const FRONT: [u8; 4] = [127, 0, 0, 1];
const STRANGER: [u8; 4] = [127, 0, 0, 2];

/// The listener with these keys, and nodes with these ports.
fn with(keys: &str, ports: &[String]) -> Plan {
    let control = CONTROL.replace("upstream: u", &format!("upstream: u, {keys}"));
    let plan = Plan::new().listeners(&control).top("timeouts: {request_head: 400ms}");
    ports.iter().fold(plan, |plan, port| plan.ports(port)).upstream("balance: round_robin")
}

/// A connection from `source` that begins with `words` and comes to its end; its record.
async fn told(sandbox: &Sandbox, source: [u8; 4], words: &[u8]) -> serde_json::Value {
    let mut wire = Wire::from(source, sandbox.address("control").await).await;
    wire.send(words).await;
    assert_eq!(wire.body(12).await, banner("n1"));
    wire.finish().await;
    wire.rest().await;
    sandbox.records(1).await.pop().unwrap()
}

const ACCEPT: &str = "trusted_proxies: [127.0.0.1], proxy_protocol: accept";

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_front_says_who_the_client_is_and_the_node_hears_nothing_of_the_header() {
    let v2 = proxy_protocol::header("192.0.2.7:4711".parse().unwrap(), "10.0.0.1:33001".parse().unwrap());
    for header in [b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 33001\r\n".to_vec(), v2] {
        let (node, heard) = hears("n1").await;
        let sandbox = with(ACCEPT, &[port(node.address)]).start().await;
        let record = told(&sandbox, FRONT, &[&header, b"SSH-2.0-client\r\n".as_slice()].concat()).await;
        assert_eq!((&record["client"], &record["client_port"]), (&"192.0.2.7".into(), &4711.into()));
        assert_eq!(*heard.lock().unwrap(), b"SSH-2.0-client\r\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_front_each_client_has_a_node_of_its_own() {
    let nodes = [Ssh::start("n1").await, Ssh::start("n2").await];
    let sandbox = checked(with(ACCEPT, &[nodes[0].port(), nodes[1].port()]), 2).await;
    let (mut held, mut names) = (Vec::new(), Vec::new());
    for client in [7, 7, 8, 8, 7] {
        let mut wire = Wire::from(FRONT, sandbox.address("control").await).await;
        wire.send(format!("PROXY TCP4 192.0.2.{client} 10.0.0.1 4711 33001\r\n").as_bytes()).await;
        names.push(name(&mut wire).await);
        held.push(wire);
    }
    assert!(names[0] == names[1] && names[2] == names[3] && names[0] == names[4] && names[0] != names[2], "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_anybody_else_is_bytes_like_others() {
    let (node, heard) = hears("n1").await;
    let sandbox = with(ACCEPT, &[port(node.address)]).start().await;
    let words = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 33001\r\nSSH-2.0-client\r\n";
    let record = told(&sandbox, STRANGER, words).await;
    assert_eq!(record["client"], "127.0.0.2");
    assert_eq!(*heard.lock().unwrap(), words);
    let (node, heard) = hears("n1").await;
    let sandbox = plan(&[port(node.address)]).start().await;
    assert_eq!(told(&sandbox, FRONT, words).await["client"], "127.0.0.1", "no header is asked for");
    assert_eq!(*heard.lock().unwrap(), words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_front_without_a_header_is_closed_and_counted() {
    let node = Ssh::start("n1").await;
    let sandbox = with(ACCEPT, &[node.port()]).start().await;
    for words in [b"SSH-2.0-client\r\n".as_slice(), b"PROXY TCP4 ", b""] {
        let mut wire = Wire::from(FRONT, sandbox.address("control").await).await;
        wire.send(words).await;
        assert_eq!(wire.rest().await, b"", "{}", words.escape_ascii());
    }
    let labels = [("listener", "control"), ("reason", "proxy_protocol")];
    sandbox.until("three refusals", |m| m.sum("refusals_total", &labels) == 3.0).await;
    assert_eq!(sandbox.metrics().await.sum("node_picks_total", &[]), 0.0);
}

/// A server that wants a PROXY header and shows its banner to who sends one; whom the headers named.
async fn behind_front(name: &str) -> (Peer, std::sync::Arc<std::sync::Mutex<Vec<Option<SocketAddr>>>>) {
    let named = std::sync::Arc::<std::sync::Mutex<Vec<Option<SocketAddr>>>>::default();
    let (into, banner) = (named.clone(), banner(name));
    let peer = Peer::start(move |mut stream: TcpStream| {
        let (into, banner) = (into.clone(), banner.clone());
        async move {
            let Ok(client) = proxy_protocol::read(&mut stream).await else { return };
            into.lock().unwrap().push(client);
            say(&mut stream, &banner).await;
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        }
    });
    (peer.await, named)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_for_it_is_told_the_client_before_anything_else() {
    let (node, named) = behind_front("n1").await;
    let sandbox = checked(with("send_proxy_protocol: on", &[port(node.address)]), 1).await;
    // The check speaks for itself, in the words that such a node wants.
    assert_eq!(sandbox.metrics().await.sum("node_up", &[("port", "tcp")]), 1.0);
    assert_eq!(*named.lock().unwrap(), [None]);
    let (mut wire, _) = met(&sandbox, STRANGER).await;
    wire.send(b"SSH-2.0-client\r\n").await;
    assert_eq!(wire.body(16).await, b"SSH-2.0-client\r\n", "the node hears the client's first byte next");
    let client = named.lock().unwrap()[1].unwrap();
    assert_eq!(client.ip().to_string(), "127.0.0.2");
    wire.finish().await;
    wire.rest().await;
    let record = &sandbox.records(1).await[0];
    assert_eq!(record["client_port"], client.port());
    assert_eq!(
        (&record["bytes_uploaded"], &record["bytes_downloaded"]),
        (&16.into(), &28.into()),
        "the header is ours"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_a_trusted_front_names_is_passed_on_to_a_node_that_asks() {
    let (node, named) = behind_front("n1").await;
    let keys = format!("{ACCEPT}, send_proxy_protocol: on");
    let sandbox = checked(with(&keys, &[port(node.address)]), 1).await;
    told(&sandbox, FRONT, b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 33001\r\n").await;
    assert_eq!(named.lock().unwrap()[1], Some("[2001:db8::7]:4711".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_header_comes_before_all_else_also_to_a_node_that_speaks_first() {
    let (node, heard) = hears("n1").await;
    let sandbox = with("send_proxy_protocol: on", &[port(node.address)]).upstream("health_check: {banner: off}");
    let sandbox = sandbox.start().await;
    let (_wire, _) = met(&sandbox, STRANGER).await;
    let signature = b"\r\n\r\n\0\r\nQUIT\n".as_slice();
    eventually("a header that names the client", || {
        let heard = heard.lock().unwrap();
        heard.windows(4).any(|w| w == STRANGER).then(|| assert!(heard.starts_with(signature)))
    })
    .await;
}
