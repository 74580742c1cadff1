//! Reloads, upgrades and crashes of a gateway whose nodes are discovered.

use super::{Place, config};
use crate::support::{
    dns::Dns,
    eventually,
    nominal::{self, ask, client, control},
    process::Process,
};

const ONE: &str = "@ A 127.0.0.2";
const REFUSE: &str = "limits: {when_full: refuse}";

impl Place {
    fn text(&self, discovery: &str) -> String {
        let keys = format!("dns: nodes.test, ports: {{http: {}}}{discovery}", self.port());
        config(self.knot.address(), &keys, "", REFUSE)
    }

    async fn reload(&self, text: &str, number: f64) {
        self.gateway.configure(text);
        self.gateway.until("config_generation", &[], number).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_nodes_and_new_keys_hold_for_them() {
    let Some(mut place) = Place::start(ONE, "", "").await else { return };
    let (id, _) = place.session().await;
    // Nobody could be asked, and nobody needs to be.
    place.knot.stop();
    place.reload(&place.text(", max_sessions: 1"), 2.0).await;
    assert_eq!(place.shown().await, ["127.0.0.2"]);
    let (_, reply) = place.begin().await;
    assert_eq!(reply.status, 503, "one is all that it may hold: {reply:?}");
    assert_eq!((place.put(&id, "f").await, place.end(&id).await), (201, 200));
    let (id, _) = place.session().await;
    place.knot.run().await;
    // Another name: the nodes of the one before serve until it is known.
    place.knot.set("@ A 127.0.0.2\nother A 127.0.0.3");
    place.reload(&place.text("").replace("dns: nodes.test", "dns: other.nodes.test"), 3.0).await;
    place.until(&["127.0.0.2-", "127.0.0.3"]).await;
    assert_eq!(place.end(&id).await, 200);
    place.until(&["127.0.0.3"]).await;
    let given = format!("nodes: [{{name: n1, host: 127.0.0.3, ports: {{http: {}}}}}]", place.port());
    let text = place.text("");
    let (before, rest) = text.split_once("discovery: ").unwrap();
    let text = format!("{before}{given}}}\n{}", rest.split_once('\n').unwrap().1);
    let (id, _) = place.session().await;
    place.reload(&text, 4.0).await;
    assert_eq!(place.shown().await, ["n1"]);
    assert_eq!(place.end(&id).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_is_rejected_looks_nothing_up_and_changes_no_node() {
    let dns = Dns::start(|name, _| match name {
        "both.test" => vec![[127, 0, 0, 2].into(), [127, 0, 0, 3].into()],
        _ => vec![[127, 0, 0, 2].into()],
    })
    .await;
    let gateway = Process::start(&config(dns.address, "dns: both.test, ports: {http: 9}", "", "")).await;
    gateway.until("node_draining", &[("node", "127.0.0.3")], 0.0).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let second = format!(
        "listeners:\n  - {{name: taken, protocol: http, address: '{}', upstream: u}}\n",
        taken.local_addr().unwrap()
    );
    let one = config(dns.address, "dns: one.test, ports: {http: 9}", "", "");
    gateway.configure(&one.replace("listeners:\n", &second));
    gateway.until("config_last_reload_success", &[], 0.0).await;
    let lookups = dns.lookups("both.test");
    eventually("lookups", || (dns.lookups("both.test") > lookups + 2).then_some(())).await;
    assert_eq!(dns.lookups("one.test"), 0);
    assert!(!gateway.log().contains("A node is gone"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_takes_nodes_over_also_those_that_only_a_session_knows() {
    let Some(mut place) = Place::start(ONE, "", "").await else { return };
    let (id, _) = place.session().await;
    place.knot.set("@ A 127.0.0.3");
    place.until(&["127.0.0.2-", "127.0.0.3"]).await;
    place.gateway.upgrade().await;
    assert_eq!(place.shown().await, ["127.0.0.2-", "127.0.0.3"]);
    assert_eq!((place.put(&id, "f").await, place.end(&id).await), (201, 200));
    place.until(&["127.0.0.3"]).await;
    place.knot.stop();
    let (id, at) = place.session().await;
    assert_eq!(at, 1);
    place.gateway.upgrade().await;
    assert_eq!(place.shown().await, ["127.0.0.3"], "the new one could not look");
    assert_eq!((place.put(&id, "f").await, place.end(&id).await), (201, 200));
    let (id, at) = place.session().await;
    assert_eq!((at, place.end(&id).await), (1, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_after_a_crash_on_nodes_that_nobody_tells_of_any_more() {
    let Some(mut place) = Place::start(ONE, "", "state: {file: state}").await else { return };
    place.until_ready(200, "ok\n").await;
    let (id, _) = place.session().await;
    place.gateway.until("sessions_active", &[], 1.0).await;
    let file = place.gateway.dir().join("state");
    crate::support::eventually("the file", || file.exists().then_some(())).await;
    place.knot.set("@ A 127.0.0.3");
    place.until(&["127.0.0.2-", "127.0.0.3"]).await;
    place.gateway.crash().await;
    place.host = place.gateway.address("plain").await;
    assert_eq!((place.put(&id, "f").await, place.end(&id).await), (201, 200));
    place.until(&["127.0.0.3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_connections_and_data_stay_on_a_node_that_goes_and_through_an_upgrade() {
    let peer = nominal::Peer::start("n1").await;
    let Some(mut knot) = crate::support::knot::Knot::start("@ A 127.0.0.1").await else { return };
    let keys = format!("dns: nodes.test, ports: {{tcp: {}, udp: {}}}", peer.tcp.port(), peer.udp.port());
    let text = config(knot.address(), &keys, "", "").replace(
        "  - {name: plain, protocol: http,",
        "  - {name: control, protocol: tcp, address: '127.0.0.1:0', upstream: u}\n  - {name: data, protocol: udp,",
    );
    let text = text.replace("name: data, protocol: udp,", "name: data, protocol: udp, flow_idle: 2s, workers: 1,");
    let gateway = crate::support::process::Process::start(&text).await;
    let (to, data) = (gateway.address("control").await, gateway.address("data").await);
    gateway.until("node_up", &[("node", "127.0.0.1")], 1.0).await;
    let (stream, name) = control("127.0.0.5", to).await.unwrap();
    assert_eq!(name, "n1");
    let flow = client("127.0.0.5", data).await;
    assert_eq!(ask(&flow, b"one").await.unwrap(), b"n1one");
    knot.set("@ A 127.0.0.77");
    gateway.until("node_draining", &[("node", "127.0.0.1")], 1.0).await;
    assert_eq!(ask(&flow, b"two").await.unwrap(), b"n1two");
    let second = client("127.0.0.5", data).await;
    assert_eq!(ask(&second, b"three").await.unwrap(), b"n1three", "a new flow follows its client");
    gateway.upgrade().await;
    assert_eq!(ask(&flow, b"four").await.unwrap(), b"n1four");
    let third = client("127.0.0.5", data).await;
    assert_eq!(ask(&third, b"five").await.unwrap(), b"n1five");
    drop(stream);
    let begin = std::time::Instant::now();
    loop {
        let metrics = gateway.metrics().await.0;
        let left: Vec<_> = metrics.lines().filter(|line| line.contains("node=\"127.0.0.1\"")).collect();
        if left.is_empty() {
            return;
        }
        assert!(begin.elapsed().as_secs() < 30, "nothing is on it any more: {left:#?}\n{}", gateway.log());
    }
}
