//! What is promised of clients.

use super::*;
use crate::{
    config::{Config, NodePort},
    telemetry::Metrics,
    upstream::Upstream,
};

const GRACE: Duration = Duration::from_secs(30);

fn place() -> Place {
    let yaml = "version: 1\nlisteners: [{name: l, protocol: tcp, address: \"127.0.0.1:0\", upstream: u}]\nupstreams: [{name: u, nodes: [{name: a, host: 127.0.0.1, ports: {tcp: 1}}]}]\n";
    let config = Config::from_yaml(yaml, std::path::Path::new(".")).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let upstream = Upstream::build(&config.upstreams[0], &[NodePort::Tcp], None, &metrics);
    Place { node: upstream.nodes()[0].clone(), ip: ip(1) }
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn enter(clients: &Clients, n: u8) -> Result<Entered, NotNow> {
    let seen = clients.find(ip(n)).filter(|c| c.is_live()).map(|c| c.place());
    Ok(clients.attempt(ip(n), &place(), seen.as_ref(), Instant::now())?.met(ip(n), place()))
}

#[test]
fn a_gate_is_open_while_a_control_connection_lives_and_for_the_grace_after_it() {
    let (clients, now) = (Clients::new(10), Instant::now());
    let first = enter(&clients, 1).unwrap();
    let second = enter(&clients, 1).unwrap();
    let client = clients.find(ip(1)).unwrap();
    drop(first);
    assert!(client.is_open(now + 100 * GRACE, GRACE), "one is left");
    drop(second);
    assert!(client.is_open(Instant::now(), GRACE));
    assert!(!client.is_open(Instant::now() + GRACE, GRACE));
    assert!(clients.find(ip(2)).is_none());
}

#[test]
fn who_is_live_is_never_forgotten_and_others_are_in_time() {
    let (clients, now) = (Clients::new(10), Instant::now());
    let live = enter(&clients, 1).unwrap();
    let flows = clients.visit(ip(2), place(), None, now).unwrap();
    flows.flows().fetch_add(1, Ordering::Relaxed);
    clients.visit(ip(3), place(), None, now).unwrap();
    clients.prune(now + GRACE / 2, GRACE);
    assert_eq!(clients.len(), 3);
    clients.prune(now + 2 * GRACE, GRACE);
    assert_eq!(clients.len(), 2);
    drop(live);
    flows.flows().fetch_sub(1, Ordering::Relaxed);
    clients.prune(Instant::now() + 2 * GRACE, GRACE);
    assert_eq!(clients.len(), 0);
}

#[test]
fn a_full_table_forgets_the_dead_and_refuses_when_all_live() {
    let (clients, now) = (Clients::new(2), Instant::now());
    let _live = enter(&clients, 1).unwrap();
    clients.visit(ip(2), place(), None, now).unwrap();
    let _other = enter(&clients, 3).unwrap();
    assert!(clients.find(ip(2)).is_none());
    assert_eq!(enter(&clients, 4).unwrap_err(), NotNow::Full);
    assert!(enter(&clients, 3).is_ok(), "who is there already comes in");
    assert_eq!(clients.len(), 2);
}

#[test]
fn a_connection_that_met_no_node_opens_no_gate_nor_does_data() {
    let (clients, now) = (Clients::new(10), Instant::now());
    let trying = clients.attempt(ip(1), &place(), None, now).unwrap();
    let client = clients.find(ip(1)).unwrap();
    assert!(client.is_live() && !client.is_open(now, GRACE));
    drop(trying);
    assert!(!client.is_live() && !client.is_open(Instant::now(), GRACE));
    let visitor = clients.visit(ip(2), place(), None, now).unwrap();
    assert!(!visitor.is_open(Instant::now(), GRACE));
}

#[test]
fn of_two_connections_that_choose_at_once_the_second_chooses_again() {
    let (clients, now) = (Clients::new(10), Instant::now());
    let first = clients.attempt(ip(1), &place(), None, now).unwrap();
    assert_eq!(clients.attempt(ip(1), &place(), None, now).unwrap_err(), NotNow::Moved);
    let there = clients.find(ip(1)).unwrap().place();
    clients.visit(ip(1), place(), None, now).unwrap();
    assert!(Arc::ptr_eq(&there, &clients.find(ip(1)).unwrap().place()), "data does not move it either");
    let second = clients.attempt(ip(1), &place(), Some(&there), now).unwrap();
    drop((first, second));
    assert!(clients.attempt(ip(1), &place(), None, now).is_ok(), "nothing is left that ties it");
}
