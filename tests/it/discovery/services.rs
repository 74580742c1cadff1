//! SRV records: ports, weights, priorities.

use super::Place;

const TARGETS: &str = "a A 127.0.0.2\nb A 127.0.0.3\n";

fn srv(_: u16) -> String {
    "dns: _fallback._tcp.nodes.test".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_records_tell_hosts_ports_and_weights() {
    let records = format!("{TARGETS}_fallback._tcp SRV 0 30 PORT a\n_fallback._tcp SRV 0 10 PORT b");
    let upstream = ", balance: round_robin";
    let Some(place) = Place::with(2, &records, srv, upstream, "").await else { return };
    place.until(&["a.nodes.test", "b.nodes.test"]).await;
    place.until_ready(200, "ok\n").await;
    let mut counts = [0; 2];
    for _ in 0..8 {
        let (id, at) = place.session().await;
        counts[at] += 1;
        assert_eq!(place.end(&id).await, 200);
    }
    assert_eq!(counts, [6, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_later_priority_get_sessions_only_while_none_of_an_earlier_one_is_up() {
    let records = format!("{TARGETS}_fallback._tcp SRV 10 1 PORT a\n_fallback._tcp SRV 20 100 PORT b");
    let Some(mut place) = Place::with(2, &records, srv, "", "").await else { return };
    place.until(&["a.nodes.test", "b.nodes.test"]).await;
    place.until_ready(200, "ok\n").await;
    for _ in 0..4 {
        let (id, at) = place.session().await;
        assert_eq!((at, place.end(&id).await), (0, 200));
    }
    let begin = std::time::Instant::now();
    while let Err(error) = place.nodes[0].go_away().await {
        assert!(begin.elapsed().as_secs() < 20, "the port of the node: {error}");
    }
    place.gateway.until("node_up", &[("node", "a.nodes.test")], 0.0).await;
    let (id, at) = place.session().await;
    assert_eq!((at, place.end(&id).await), (1, 200));
    place.nodes[0].come_back().unwrap();
    place.gateway.until("node_up", &[("node", "a.nodes.test")], 1.0).await;
    let (id, at) = place.session().await;
    assert_eq!((at, place.end(&id).await), (0, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_say_there_is_no_such_service_make_no_node() {
    let records = "_fallback._tcp SRV 0 0 0 .";
    let Some(mut place) = Place::with(2, records, srv, "", "").await else { return };
    place.until_ready(503, "nodes not found yet\n").await;
    let port = place.port();
    place.knot.set(&format!("{TARGETS}_fallback._tcp SRV 0 0 {port} b"));
    place.until(&["b.nodes.test"]).await;
    place.until_ready(200, "ok\n").await;
    let (id, at) = place.session().await;
    assert_eq!((at, place.end(&id).await), (1, 200));
}
