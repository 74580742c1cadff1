//! What an upstream does with what it is told.

use std::time::Instant;

use super::*;
use crate::{
    config::{Config, NodePort},
    upstream::{NoNode, Wish},
};

const WISH: Wish<'_> = Wish {
    port: NodePort::Http,
    session: Some([7; 16]),
    client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    user: None,
};

fn upstream(keys: &str, before: Option<&Upstream>) -> Upstream {
    let yaml = format!(
        "version: 1\nlisteners: [{{name: l, protocol: http, address: \"127.0.0.1:0\", upstream: u}}]\nupstreams: [{{name: u, discovery: {{dns: n.test, ports: {{http: 1, tcp: 2}}{keys}}}}}]\nresolver: {{servers: [127.0.0.1]}}\n"
    );
    let config = Config::from_yaml(&yaml, std::path::Path::new(".")).unwrap();
    let resolver = Arc::new(Resolver::fresh(&config.resolver).unwrap());
    let metrics = Arc::new(Metrics::new().unwrap());
    Upstream::discovered((&config.upstreams[0], &[NodePort::Http], resolver, &metrics), before)
}

fn found(last: u8, priority: u16) -> Found {
    Found { priority, ..Found::at([192, 0, 2, last].into()) }
}

fn names(upstream: &Upstream) -> Vec<String> {
    upstream.nodes().iter().map(|node| node.name().to_owned()).collect()
}

fn picked(upstream: &Upstream) -> Result<String, NoNode> {
    upstream.pick(WISH, &[]).map(|lease| lease.node().name().to_owned())
}

#[tokio::test]
async fn a_later_priority_serves_only_while_all_of_the_earlier_ones_are_down_drained_or_tried() {
    let u = upstream(", max_sessions: 1", None);
    u.learn(&[found(1, 0), found(2, 5), found(3, 5)], true);
    let nodes = u.nodes();
    let lease = u.pick(WISH, &[]).unwrap();
    assert_eq!(lease.node().name(), "192.0.2.1");
    assert_eq!(u.pick(WISH, &[]).unwrap_err(), NoNode, "it is full, and up");
    assert_ne!(u.pick(WISH, &[nodes[0].clone()]).unwrap().node().name(), "192.0.2.1");
    drop(lease);
    nodes[0].set_drain(true);
    assert_ne!(picked(&u).unwrap(), "192.0.2.1");
    nodes[0].set_drain(false);
    nodes[0].judge(NodePort::Http, false, 1, Instant::now());
    assert_ne!(picked(&u).unwrap(), "192.0.2.1");
    assert_ne!(u.by_hash(b"key").unwrap().node().name(), "192.0.2.1");
    nodes[0].judge(NodePort::Http, true, 1, Instant::now());
    assert_eq!((picked(&u).unwrap().as_str(), u.by_hash(b"key").unwrap().node().name()), ("192.0.2.1", "192.0.2.1"));
}

#[tokio::test]
async fn a_node_that_is_gone_stays_until_nothing_is_on_it_and_a_partial_answer_takes_none_away() {
    let u = upstream("", None);
    u.learn(&[found(1, 0)], true);
    let lease = u.pick(WISH, &[]).unwrap();
    u.learn(&[found(2, 0)], false);
    assert!(!u.has_gone());
    assert_eq!(names(&u), ["192.0.2.1", "192.0.2.2"]);
    u.learn(&[found(2, 0)], true);
    u.leave_out();
    assert_eq!((names(&u).len(), picked(&u).unwrap().as_str()), (2, "192.0.2.2"));
    assert!(!lease.node().set_drain(false), "no operator ends that");
    let mut tried = Vec::new();
    drop(lease);
    u.leave_out();
    assert_eq!(names(&u), ["192.0.2.2"]);
    // A client of the nominal path holds it as well.
    let control = u.pick_control([192, 0, 2, 99].into(), &mut tried, std::time::Duration::from_secs(1)).await;
    let control = control.unwrap().met();
    u.learn(&[found(3, 0)], true);
    u.leave_out();
    assert_eq!(names(&u), ["192.0.2.2", "192.0.2.3"]);
    drop(control);
    u.leave_out();
    assert_eq!(names(&u), ["192.0.2.3"]);
}

#[tokio::test]
async fn answers_that_are_never_whole_bring_no_more_nodes_than_there_may_be() {
    let u = upstream("", None);
    for third in 0..9 {
        let some: Vec<_> = (1..=100).map(|last| Found::at([192, 0, third, last].into())).collect();
        u.learn(&some, false);
    }
    assert_eq!(u.nodes().len(), MAX_NODES);
    assert!(u.nodes().iter().any(|node| node.name() == "192.0.0.100"), "none went");
    u.learn(&[found(1, 0)], true);
    u.leave_out();
    assert_eq!(names(&u), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_node_that_is_gone_and_up_keeps_nobody_from_trying_the_others_that_are_all_down() {
    let u = upstream("}, when_all_down: try_all, affinity: {key: session", None);
    u.learn(&[found(1, 0)], true);
    let _lease = u.pick(WISH, &[]).unwrap();
    u.learn(&[found(2, 0)], true);
    let nodes = u.nodes();
    nodes[1].judge(NodePort::Http, false, 1, Instant::now());
    assert!(nodes[0].is_up(NodePort::Http) && nodes[0].is_gone());
    assert_eq!(picked(&u).unwrap(), "192.0.2.2");
}

#[tokio::test]
async fn gateways_that_were_told_in_different_order_agree_on_the_node_of_every_key() {
    let (a, b) = (upstream("", None), upstream("", None));
    a.learn(&[found(1, 0), found(2, 0), found(3, 0)], true);
    b.learn(&[found(9, 0), found(3, 0)], true);
    b.learn(&[found(3, 0), found(2, 0), found(1, 0)], true);
    let on = |u: &Upstream, key: u32| u.by_hash(&key.to_be_bytes()).unwrap().node().name().to_owned();
    assert!((0..200).all(|key| on(&a, key) == on(&b, key)));
}

#[tokio::test]
async fn nodes_that_come_later_do_not_make_it_unknown_and_a_reload_keeps_them_all() {
    let u = upstream("", None);
    assert!(!u.is_known(), "there are none");
    u.learn(&[found(1, 0)], true);
    assert!(!u.is_known());
    u.nodes()[0].judge(NodePort::Http, true, 1, Instant::now());
    assert!(u.is_known());
    u.learn(&[found(1, 0), found(2, 0)], true);
    assert!(u.is_known());
    let lease = u.pick(WISH, &[]).unwrap();
    u.learn(&[found(7, 0)], true);
    let after = upstream(", max_sessions: 5", Some(&u));
    assert!(after.is_known());
    let kept: Vec<_> = after.nodes().iter().map(|node| (node.name().to_owned(), node.drains())).collect();
    assert_eq!(kept, [("192.0.2.1", true), ("192.0.2.2", true), ("192.0.2.7", false)].map(|(n, d)| (n.to_owned(), d)));
    assert_eq!(after.nodes().iter().map(|node| node.sessions()).sum::<usize>(), 1);
    drop(lease);
    let other = upstream(", type: srv", Some(&u));
    assert!(other.nodes().is_empty(), "addresses are no targets");
}

#[tokio::test]
async fn a_node_that_was_gone_and_is_written_into_the_config_is_gone_no_more() {
    let u = upstream(", type: srv", None);
    let target = Found { host: "n1".to_owned(), ..found(1, 0) };
    u.learn(std::slice::from_ref(&target), true);
    let _lease = u.pick(WISH, &[]).unwrap();
    u.learn(&[found(2, 0)], true);
    let yaml = "version: 1\nlisteners: [{name: l, protocol: http, address: \"127.0.0.1:0\", upstream: u}]\nupstreams: [{name: u, nodes: [{name: n1, host: n1, ports: {http: 1, tcp: 2}}]}]\n";
    let config = Config::from_yaml(yaml, std::path::Path::new(".")).unwrap();
    let given = Upstream::build(&config.upstreams[0], &[NodePort::Http], Some(&u), &Metrics::new().unwrap());
    assert_eq!((given.nodes()[0].sessions(), picked(&given).unwrap().as_str()), (1, "n1"));
}

#[tokio::test]
async fn what_was_on_an_address_elsewhere_finds_its_node_here_and_brings_nobody_else_there() {
    let u = upstream("", None);
    u.learn(&[found(1, 0)], true);
    let lease = u.lease_on("192.0.2.5").unwrap();
    assert_eq!((names(&u).len(), picked(&u).unwrap().as_str()), (2, "192.0.2.1"));
    assert!(u.lease_on("no-address").is_none());
    drop(lease);
    u.leave_out();
    assert_eq!(names(&u), ["192.0.2.1"]);
}
