//! What becomes of nodes and of the sessions on them as the zone changes.

use std::collections::HashSet;

use super::Place;
use crate::support::{
    ascp::{Ascp, is_here},
    eventually, get, noise,
};

const ONE: &str = "@ A 127.0.0.2";
const BOTH: &str = "@ A 127.0.0.2\n@ A 127.0.0.3";

#[tokio::test(flavor = "multi_thread")]
async fn a_node_comes_when_the_name_has_its_address_and_drains_and_goes_when_it_has_not() {
    let Some(mut place) = Place::start(ONE, "", "").await else { return };
    place.until(&["127.0.0.2"]).await;
    place.until_ready(200, "ok\n").await;
    let (first, at) = place.session().await;
    assert_eq!(at, 0);
    place.knot.set(BOTH);
    place.until(&["127.0.0.2", "127.0.0.3"]).await;
    place.gateway.until("node_up", &[("node", "127.0.0.3")], 1.0).await;
    let mut open = vec![first.clone()];
    let mut on = HashSet::new();
    while on.len() < 2 {
        let (id, at) = place.session().await;
        on.insert(at);
        open.push(id);
    }
    place.knot.set("@ A 127.0.0.3");
    place.until(&["127.0.0.2-", "127.0.0.3"]).await;
    assert_eq!(place.gateway.metrics().await.sum("node_draining", &[("node", "127.0.0.2")]), 1.0);
    for _ in 0..4 {
        let (id, at) = place.session().await;
        assert_eq!((at, place.end(&id).await), (1, 200));
    }
    assert_eq!(place.put(&first, "late").await, 201, "what is there goes on");
    for id in open {
        assert_eq!(place.end(&id).await, 200);
    }
    place.until(&["127.0.0.3"]).await;
    let is_of_it = |line: &str| line.contains("node=\"127.0.0.2\"");
    let begin = std::time::Instant::now();
    while place.gateway.metrics().await.0.lines().any(is_of_it) {
        assert!(begin.elapsed().as_secs() < 20, "it is still in the metrics");
    }
    let log = place.gateway.log();
    for what in ["A node is found.", "A node is gone; it drains.", "A node that was gone is drained, and left out."] {
        assert!(log.contains(what), "{what}\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_of_again_before_it_is_through_takes_new_sessions_again() {
    let Some(mut place) = Place::start(ONE, "", "").await else { return };
    let (id, _) = place.session().await;
    place.knot.set("@ A 127.0.0.3");
    place.until(&["127.0.0.2-", "127.0.0.3"]).await;
    place.knot.set(ONE);
    place.until(&["127.0.0.2"]).await;
    let (other, at) = place.session().await;
    assert_eq!((at, place.end(&other).await), (0, 200));
    assert_eq!(place.gateway.metrics().await.sum("node_sessions", &[("node", "127.0.0.2")]), 1.0);
    assert_eq!(place.end(&id).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_the_real_client_ends_well_on_a_node_that_goes_in_its_midst() {
    if !is_here() {
        return;
    }
    let top = "bandwidth: {per_session: 16Mbit/s}";
    let Some(mut place) = Place::start(ONE, "", top).await else { return };
    place.until_ready(200, "ok\n").await;
    let content = noise(12 << 20, 5);
    let path = place.files.path().join("big");
    std::fs::write(&path, &content).unwrap();
    let port = place.host.port();
    let running = tokio::spawn(async move { Ascp::send(port, false, &[&path]).run().await });
    eventually("the session", || {
        place.nodes[0].log().iter().any(|seen| seen.operation == "session_start").then_some(())
    })
    .await;
    place.knot.set("@ A 127.0.0.3");
    place.until(&["127.0.0.2-", "127.0.0.3"]).await;
    running.await.unwrap().must_be_ok("the upload");
    place.until(&["127.0.0.3"]).await;
    assert!(place.nodes[1].log().is_empty(), "it had no part in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_no_name_server_answers_all_stays_and_that_is_said_once_and_counted() {
    let Some(mut place) = Place::start(BOTH, ", hold: 1s", "").await else { return };
    place.until_ready(200, "ok\n").await;
    place.knot.stop();
    let failed = [("upstream", "u"), ("result", "failed")];
    let begin = std::time::Instant::now();
    while place.gateway.metrics().await.sum("discovery_lookups_total", &failed) < 3.0 {
        assert!(begin.elapsed().as_secs() < 20);
    }
    assert_eq!(place.shown().await, ["127.0.0.2", "127.0.0.3"]);
    place.until_ready(200, "ok\ndegraded: discovery\n").await;
    let (_, shown) = get(place.gateway.admin(), "/api/v1/status").await;
    assert!(shown.contains("The nodes of u are not found in the DNS; known: 2."), "{shown}");
    let (id, _) = place.session().await;
    assert_eq!(place.end(&id).await, 200);
    assert_eq!(place.gateway.log().matches("The nodes cannot be looked up; those known go on.").count(), 1);
    place.knot.run().await;
    place.until_ready(200, "ok\n").await;
    place.until_logged("The nodes are found again.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_stay_for_a_while_when_there_is_said_to_be_none_and_come_back_with_the_name() {
    let Some(mut place) = Place::start(BOTH, ", hold: 3s", "limits: {when_full: refuse}").await else { return };
    let (id, _) = place.session().await;
    place.knot.set("");
    place.until_ready(200, "ok\ndegraded: discovery\n").await;
    let (other, at) = place.session().await;
    assert_eq!(place.end(&other).await, 200, "held: {at}");
    place.until_logged("A node is gone; it drains.").await;
    let (_, reply) = place.begin().await;
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(place.end(&id).await, 200, "what was there goes on to its end");
    place.until(&[]).await;
    place.knot.set(BOTH);
    place.until(&["127.0.0.2", "127.0.0.3"]).await;
    let (id, _) = place.session().await;
    assert_eq!(place.end(&id).await, 200);
    assert_eq!(place.gateway.log().matches("There are no nodes behind the name; those known are held.").count(), 1);
}
