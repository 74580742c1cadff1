//! Answers of every kind: of both families, too long, in a circle, of what can be no node, and none at all.

use std::{net::IpAddr, process::Command, time::Instant};

use super::{Place, config};
use crate::support::{
    TOKEN, Wire,
    dns::Dns,
    eventually, get as ask_for,
    process::Process,
    secrets, uuid,
    wire::{start, start_body},
};

#[tokio::test(flavor = "multi_thread")]
async fn addresses_of_both_families_are_nodes() {
    let Some(place) = Place::start("@ AAAA ::1\n@ A 127.0.0.2\n@ AAAA ::ffff:127.0.0.3", "", "").await else { return };
    place.until(&["127.0.0.2", "127.0.0.3", "::1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_for_a_datagram_comes_by_tcp_and_makes_so_many_nodes_at_most() {
    let records: String = (1..=300).map(|n| format!("@ A 127.1.{}.{}\n", n / 250, n % 250 + 1)).collect();
    let Some(place) = Place::start(&records, "", "").await else { return };
    let begin = Instant::now();
    while place.shown().await.len() != 256 {
        assert!(begin.elapsed().as_secs() < 20, "{:?}", place.shown().await.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_without_nodes_and_has_them_once_the_name_is_there() {
    let Some(mut place) = Place::start("", "", "limits: {when_full: refuse}").await else { return };
    place.until_ready(503, "nodes not found yet\n").await;
    let (_, reply) = place.begin().await;
    assert_eq!(reply.status, 503, "{reply:?}");
    place.knot.set("@ A 127.0.0.2");
    place.until_ready(200, "ok\n").await;
    let (id, at) = place.session().await;
    assert_eq!((at, place.end(&id).await), (0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_node_is_served_by_the_first_one_that_is_found() {
    let Some(mut place) = Place::start("", "", "").await else { return };
    let waiting = async {
        // The first sign is that it waits.
        let id = uuid();
        let mut wire = Wire::plain(place.host).await;
        wire.send(&start(place.host, &id, &start_body(&id, "put", TOKEN.as_bytes(), &[]))).await;
        let mut reply = wire.head().await;
        while reply.status == 102 {
            reply = wire.head().await;
        }
        reply.status
    };
    let (admin, knot) = (place.gateway.admin(), &mut place.knot);
    let finding = async {
        let begin = Instant::now();
        while !ask_for(admin, "/metrics").await.1.contains("fallgate_waiting{listener=\"plain\"} 1") {
            assert!(begin.elapsed().as_secs() < 10, "nobody waits");
        }
        knot.set("@ A 127.0.0.2");
    };
    let (status, ()) = tokio::join!(waiting, finding);
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_followed_and_those_in_a_circle_lead_nowhere() {
    let alias = "@ A 127.0.0.3\nalias CNAME @\ncircle CNAME other\nother CNAME circle";
    let name = |name: &'static str| move |port: u16| format!("dns: {name}.nodes.test, ports: {{http: {port}}}");
    let Some(place) = Place::with(2, alias, name("alias"), "", "").await else { return };
    place.until(&["127.0.0.3"]).await;
    let Some(place) = Place::with(2, alias, name("circle"), "", "").await else { return };
    let begin = Instant::now();
    while place.gateway.metrics().await.sum("discovery_lookups_total", &[]) < 3.0 {
        assert!(begin.elapsed().as_secs() < 30);
    }
    assert_eq!(place.shown().await, [""; 0]);
    place.until_ready(503, "nodes not found yet\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_no_node_is_none_and_the_name_is_asked_for_once_a_second_at_most() {
    let all: Vec<IpAddr> = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.9", "::", "ff02::1"]
        .map(|text| text.parse().unwrap())
        .to_vec();
    let dns = Dns::start(move |_, _| all.clone()).await;
    let begin = Instant::now();
    let gateway = Process::start(
        &config(dns.address, "dns: hostile.test, ports: {http: 9}", "", "").replace("interval: 1s", "interval: 1ms"),
    )
    .await;
    eventually("lookups", || (dns.lookups("hostile.test") >= 3).then_some(())).await;
    assert!(begin.elapsed().as_secs() >= 2, "an answer that holds for no time is asked for no more often");
    let (_, body) = ask_for(gateway.admin(), "/api/v1/nodes").await;
    assert!(body.contains("127.0.0.9") && !body.contains("0.0.0.0\"") && !body.contains("ff02"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_not_found_and_is_content_all_the_same() {
    let dns = Dns::start(|name, _| if name == "good.test" { vec![[127, 0, 0, 2].into()] } else { Vec::new() }).await;
    let dir = tempfile::tempdir().unwrap();
    for (name, is_told) in [("good.test", false), ("nowhere.test", true)] {
        let text = config(dns.address, &format!("dns: {name}, ports: {{http: 9}}"), "", "");
        std::fs::write(dir.path().join("fallgate.yaml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
        command.args(["check", "--config"]).arg(dir.path().join("fallgate.yaml"));
        let said = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8(said.stdout).unwrap();
        secrets::none_in("what check says", text.as_bytes());
        assert_eq!(said.status.code(), Some(0), "{text}");
        let told = "warning: upstreams[u].discovery.dns: no nodes are found by nowhere.test: the name has no address";
        assert_eq!(text.contains(told), is_told, "{text}");
        assert!(text.contains("0 nodes, and those of 1 name"), "{text}");
    }
}
