//! What the balances promise.

use super::*;
use crate::config::Config;

fn upstream(balance: &str, nodes: &str) -> Upstream {
    let yaml = format!(
        "version: 1\nlisteners: [{{name: l, protocol: http, address: \"127.0.0.1:0\", upstream: u}}]\nupstreams: [{{name: u, balance: {balance}, health_check: {{interval: 1h}}, nodes: [{nodes}]}}]\n"
    );
    let config = Config::from_yaml(&yaml, std::path::Path::new(".")).unwrap();
    Upstream::build(&config.upstreams[0], None, &Arc::new(Metrics::new().unwrap()))
}

const ANYBODY: Wish<'_> =
    Wish { session: [7; 16], client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), user: Some("xfer") };

const THREE: &str = "{name: a, host: 127.0.0.1, ports: {http: 1}}, {name: b, host: 127.0.0.1, ports: {http: 2}}, {name: c, host: 127.0.0.1, ports: {http: 3}, weight: 2}";

fn count(leases: &[Lease], name: &str) -> usize {
    leases.iter().filter(|l| l.node().name() == name).count()
}

#[tokio::test]
async fn round_robin_follows_the_weights() {
    let u = upstream("round_robin", THREE);
    let leases: Vec<_> = (0..40).map(|_| u.pick(ANYBODY, &[]).unwrap()).collect();
    assert_eq!((count(&leases, "a"), count(&leases, "b"), count(&leases, "c")), (10, 10, 20));
}

#[tokio::test]
async fn least_sessions_evens_out_under_weights() {
    let u = upstream("least_sessions", THREE);
    let leases: Vec<_> = (0..40).map(|_| u.pick(ANYBODY, &[]).unwrap()).collect();
    assert_eq!((count(&leases, "a"), count(&leases, "b"), count(&leases, "c")), (10, 10, 20));
}

#[tokio::test]
async fn nodes_that_least_sessions_finds_equal_take_turns() {
    let u = upstream(
        "least_sessions",
        "{name: a, host: 127.0.0.1, ports: {http: 1}}, {name: b, host: 127.0.0.1, ports: {http: 2}}",
    );
    let picks: Vec<_> = (0..10).map(|_| u.pick(ANYBODY, &[]).unwrap().node().name().to_owned()).collect();
    assert_eq!(picks.iter().filter(|p| *p == "a").count(), 5);
}

#[tokio::test]
async fn hash_gives_one_key_one_node_and_falls_to_another_when_it_is_tried() {
    let u = upstream("hash", THREE);
    let first = u.pick(ANYBODY, &[]).unwrap();
    assert_eq!(u.pick(ANYBODY, &[]).unwrap().node().name(), first.node().name());
    assert_ne!(u.pick(ANYBODY, &[first.node().clone()]).unwrap().node().name(), first.node().name());
}

#[tokio::test]
async fn a_full_node_gets_no_further_session_until_one_ends() {
    let u = upstream("hash", "{name: a, host: 127.0.0.1, ports: {http: 1}, max_sessions: 1}");
    let held = u.pick(ANYBODY, &[]).unwrap();
    assert_eq!(u.pick(ANYBODY, &[]).unwrap_err(), NoNode);
    drop(held);
    assert!(u.pick(ANYBODY, &[]).is_ok());
}

#[tokio::test]
async fn two_failed_connects_in_a_row_take_a_node_out_and_a_check_brings_it_back() {
    let u = upstream("least_sessions", "{name: a, host: 127.0.0.1, ports: {http: 1}}");
    let node = u.nodes()[0].clone();
    node.pending().await.failed();
    assert!(node.is_up());
    node.pending().await.failed();
    assert!(!node.is_up());
    assert_eq!(u.pick(ANYBODY, &[]).unwrap_err(), NoNode);
    node.judge(true, 1);
    assert!(u.pick(ANYBODY, &[]).is_ok());
}

#[tokio::test]
async fn a_session_that_ended_badly_brings_the_next_one_to_its_node_until_one_ends_well() {
    let u = upstream("round_robin", THREE);
    let first = u.pick(ANYBODY, &[]).unwrap();
    u.session_ended(ANYBODY, first.node(), false);
    for _ in 0..5 {
        assert_eq!(u.pick(ANYBODY, &[]).unwrap().node().name(), first.node().name());
    }
    let other = Wish { user: Some("other"), ..ANYBODY };
    let picks: Vec<_> = (0..4).map(|_| u.pick(other, &[]).unwrap()).collect();
    assert!(picks.iter().any(|l| l.node().name() != first.node().name()));
    u.session_ended(ANYBODY, first.node(), true);
    let picks: Vec<_> = (0..4).map(|_| u.pick(ANYBODY, &[]).unwrap()).collect();
    assert!(picks.iter().any(|l| l.node().name() != first.node().name()));
}

#[tokio::test]
async fn a_pin_yields_to_a_node_that_is_down() {
    let u = upstream("round_robin, affinity: {key: client}", THREE);
    let first = u.pick(ANYBODY, &[]).unwrap();
    assert_eq!(u.pick(ANYBODY, &[]).unwrap().node().name(), first.node().name());
    first.node().judge(false, 1);
    let second = u.pick(ANYBODY, &[]).unwrap();
    assert_ne!(second.node().name(), first.node().name());
    first.node().judge(true, 1);
    assert_eq!(u.pick(ANYBODY, &[]).unwrap().node().name(), second.node().name());
}
