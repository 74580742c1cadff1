//! What the balances promise.

use super::*;
use crate::{
    config::Config,
    shared::{Key, SessionState},
};

fn config_of(balance: &str, nodes: &str) -> Config {
    let yaml = format!(
        "version: 1\nlisteners: [{{name: l, protocol: http, address: \"127.0.0.1:0\", upstream: u}}]\nupstreams: [{{name: u, balance: {balance}, health_check: {{interval: 1h}}, nodes: [{nodes}]}}]\n"
    );
    Config::from_yaml(&yaml, std::path::Path::new(".")).unwrap()
}

fn upstream(balance: &str, nodes: &str) -> Upstream {
    counted(balance, nodes, &Metrics::new().unwrap())
}

fn counted(balance: &str, nodes: &str, metrics: &Metrics) -> Upstream {
    Upstream::build(&config_of(balance, nodes).upstreams[0], &[NodePort::Http, NodePort::Tcp], None, metrics)
}

const ANYBODY: Wish<'_> = Wish {
    port: NodePort::Http,
    session: Some([7; 16]),
    client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
    user: Some("xfer"),
};

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
    node.pending(NodePort::Http).await.failed();
    assert!(node.is_up(NodePort::Http));
    node.pending(NodePort::Http).await.failed();
    assert!(!node.is_up(NodePort::Http));
    assert_eq!(u.pick(ANYBODY, &[]).unwrap_err(), NoNode);
    node.judge(NodePort::Http, true, 1, Instant::now());
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
async fn what_ended_badly_elsewhere_brings_the_next_session_to_its_node_and_what_ended_well_forgets_it() {
    let u = upstream("round_robin", THREE);
    let on = |node: &str| SessionState {
        key: Key([9; 16]),
        listener: "l".to_owned(),
        upstream: "u".to_owned(),
        node: node.to_owned(),
        client: ANYBODY.client,
        direction: None,
        user: ANYBODY.user.map(str::to_owned),
        sources: None,
        began: 0,
        open: true,
        node_keeps: false,
        client_keeps: false,
        bytes_uploaded: 0,
        bytes_downloaded: 0,
        files: 0,
        files_failed: 0,
        requests: 1,
        lengths_differ: 0,
        announced: None,
        turn: 0,
        waited: 0,
    };
    let on_b = |wish| {
        let leases: Vec<_> = (0..8).map(|_| u.pick(wish, &[]).unwrap()).collect();
        count(&leases, "b")
    };
    u.ended_elsewhere(&on("b"), false);
    assert_eq!(on_b(ANYBODY), 8);
    let other = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!((on_b(Wish { user: None, ..ANYBODY }), on_b(Wish { client: other, ..ANYBODY })), (2, 2));
    u.ended_elsewhere(&on("unknown"), true);
    assert_eq!(on_b(ANYBODY), 8, "of a node that there is not");
    u.ended_elsewhere(&on("c"), true);
    assert_eq!(on_b(ANYBODY), 2);
}

#[tokio::test]
async fn a_pin_yields_to_a_node_that_is_down() {
    let u = upstream("round_robin, affinity: {key: client}", THREE);
    let first = u.pick(ANYBODY, &[]).unwrap();
    assert_eq!(u.pick(ANYBODY, &[]).unwrap().node().name(), first.node().name());
    first.node().judge(NodePort::Http, false, 1, Instant::now());
    let second = u.pick(ANYBODY, &[]).unwrap();
    assert_ne!(second.node().name(), first.node().name());
    first.node().judge(NodePort::Http, true, 1, Instant::now());
    assert_eq!(u.pick(ANYBODY, &[]).unwrap().node().name(), second.node().name());
}

const CONTROL: &str = "{name: a, host: 127.0.0.1, ports: {http: 1, tcp: 4}}, {name: b, host: 127.0.0.1, ports: {http: 2, tcp: 5}}, {name: c, host: 127.0.0.1, ports: {http: 3, tcp: 6}}";

async fn control(u: &Upstream, client: IpAddr) -> Result<Attempt, NoNode> {
    u.pick_control(client, &mut Vec::new(), std::time::Duration::from_secs(5)).await
}

fn client(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

#[tokio::test]
async fn control_connections_and_data_and_fallback_of_one_client_meet_on_one_node() {
    let u = upstream("round_robin", CONTROL);
    let first = control(&u, client(1)).await.unwrap().met();
    let wish = Wish { client: client(1), ..ANYBODY };
    for _ in 0..5 {
        let again = control(&u, "::ffff:192.0.2.1".parse().unwrap()).await.unwrap().met();
        assert_eq!(again.node().name(), first.node().name(), "addresses are canonical");
        assert_eq!(u.client(client(1)).unwrap().place().node.name(), first.node().name());
        assert_eq!(u.pick_data(client(1)).unwrap().place().node.name(), first.node().name());
        assert_eq!(u.pick(wish, &[]).unwrap().node().name(), first.node().name());
    }
    drop(first);
    let picks: Vec<_> = (0..3).map(|_| u.pick(wish, &[]).unwrap().node().name().to_owned()).collect();
    assert!(picks.iter().any(|name| *name != picks[0]), "the pin is gone with the connection: {picks:?}");
}

#[tokio::test]
async fn a_pinned_node_that_is_down_is_replaced_and_counted() {
    let metrics = Metrics::new().unwrap();
    let u = counted("round_robin", CONTROL, &metrics);
    let first = control(&u, client(1)).await.unwrap().met();
    first.node().judge(NodePort::Tcp, false, 1, Instant::now());
    let second = control(&u, client(1)).await.unwrap().met();
    assert_ne!(second.node().name(), first.node().name());
    assert_eq!(u.client(client(1)).unwrap().place().node.name(), second.node().name());
    let text = String::from_utf8(metrics.render()).unwrap();
    assert!(text.contains("fallgate_node_picks_total{how=\"repin\",upstream=\"u\"} 1"), "{text}");
}

#[tokio::test]
async fn a_dead_fallback_takes_no_control_port_down_and_the_other_way_round() {
    let u = upstream("round_robin", CONTROL);
    for node in u.nodes().iter() {
        node.judge(NodePort::Http, false, 1, Instant::now());
    }
    assert!(u.pick(ANYBODY, &[]).is_err());
    assert!(control(&u, client(1)).await.is_ok());
    for node in u.nodes().iter() {
        node.judge(NodePort::Http, true, 1, Instant::now());
        node.judge(NodePort::Tcp, false, 1, Instant::now());
    }
    assert!(u.pick(ANYBODY, &[]).is_ok());
    assert!(control(&u, client(1)).await.is_err());
    assert!(u.pick_data(client(2)).is_err(), "data goes by the control port");
}

#[tokio::test]
async fn data_without_a_control_connection_stays_with_its_node_while_it_flows() {
    let u = upstream("round_robin", CONTROL);
    let first = u.pick_data(client(1)).unwrap();
    first.flows().fetch_add(1, Ordering::Relaxed);
    for _ in 0..5 {
        assert_eq!(u.pick_data(client(1)).unwrap().place().node.name(), first.place().node.name());
    }
    assert_eq!(control(&u, client(1)).await.unwrap().met().node().name(), first.place().node.name());
}

#[tokio::test]
async fn the_pin_goes_back_when_the_connection_that_moved_it_ends() {
    let u = upstream("round_robin", CONTROL);
    let first = control(&u, client(1)).await.unwrap().met();
    first.node().judge(NodePort::Tcp, false, 1, Instant::now());
    let second = control(&u, client(1)).await.unwrap().met();
    assert_eq!(u.client(client(1)).unwrap().place().node.name(), second.node().name());
    drop(second);
    assert_eq!(u.client(client(1)).unwrap().place().node.name(), first.node().name());
}

#[tokio::test]
async fn a_node_whose_name_leads_nowhere_is_left_out() {
    let nodes = "{name: a, host: nowhere.invalid, ports: {tcp: 4}}, {name: b, host: 127.0.0.1, ports: {tcp: 5}}";
    let config = format!(
        "version: 1\nlisteners: [{{name: l, protocol: tcp, address: \"127.0.0.1:0\", upstream: u}}]\nupstreams: [{{name: u, balance: round_robin, nodes: [{nodes}]}}]\n"
    );
    let config = Config::from_yaml(&config, std::path::Path::new(".")).unwrap();
    let u = Upstream::build(&config.upstreams[0], &[NodePort::Tcp], None, &Metrics::new().unwrap());
    for last in 1..4 {
        assert_eq!(control(&u, client(last)).await.unwrap().met().node().name(), "b");
    }
}

#[tokio::test]
async fn a_port_that_is_no_longer_checked_counts_as_up() {
    let u = upstream("round_robin", CONTROL);
    u.nodes()[0].judge(NodePort::Tcp, false, 1, Instant::now());
    assert!(!u.nodes()[0].is_up(NodePort::Tcp) && !u.nodes()[0].is_up(NodePort::Udp));
    let yaml = config_of("round_robin", CONTROL);
    let after = Upstream::build(&yaml.upstreams[0], &[NodePort::Http], Some(&u), &Metrics::new().unwrap());
    assert!(after.nodes()[0].is_up(NodePort::Udp));
}

/// How many of so many sessions the node gets that are all held.
fn taken(u: &Upstream, name: &str, sessions: usize) -> usize {
    let leases: Vec<_> = (0..sessions).map(|_| u.pick(ANYBODY, &[]).unwrap()).collect();
    count(&leases, name)
}

#[tokio::test]
async fn a_node_that_a_check_found_up_again_comes_slowly_and_a_reload_changes_nothing_of_that() {
    const TWO: &str = "{name: a, host: 127.0.0.1, ports: {http: 1}}, {name: b, host: 127.0.0.1, ports: {http: 2}}";
    for balance in ["least_sessions, slow_start: 1h", "round_robin, slow_start: 1h"] {
        let u = upstream(balance, TWO);
        let back = || Instant::now();
        u.nodes()[1].judge(NodePort::Http, true, 1, back());
        assert_eq!(taken(&u, "b", 110), 55, "{balance}: its first check is no return");
        u.nodes()[1].judge(NodePort::Http, false, 1, back());
        assert_eq!(taken(&u, "b", 110), 0);
        u.nodes()[1].judge(NodePort::Http, true, 1, back());
        let few = taken(&u, "b", 110);
        assert!((8..=12).contains(&few), "{balance}: {few}");
        let config = config_of(balance, TWO);
        let after = Upstream::build(&config.upstreams[0], &[NodePort::Http], Some(&u), &Metrics::new().unwrap());
        let few = taken(&after, "b", 110);
        assert!((8..=12).contains(&few), "{balance}: {few} after a reload");
        let config = config_of(&balance.replace("1h", "off"), TWO);
        let off = Upstream::build(&config.upstreams[0], &[NodePort::Http], Some(&u), &Metrics::new().unwrap());
        assert_eq!(taken(&off, "b", 110), 55, "{balance}");
        // Long ago, it has come all the way.
        let Some(hours_ago) = Instant::now().checked_sub(std::time::Duration::from_secs(7200)) else { continue };
        u.nodes()[1].judge(NodePort::Http, false, 1, hours_ago);
        u.nodes()[1].judge(NodePort::Http, true, 1, hours_ago);
        assert_eq!(taken(&u, "b", 110), 55, "{balance}");
    }
}

#[tokio::test]
async fn a_control_port_that_is_up_again_holds_back_control_connections_and_data_alone() {
    let u = upstream("round_robin, slow_start: 1h", CONTROL);
    let now = Instant::now();
    u.nodes()[0].judge(NodePort::Tcp, false, 1, now);
    u.nodes()[0].judge(NodePort::Tcp, true, 1, now);
    let part = |port| u.nodes()[0].part(port, now);
    assert!(part(NodePort::Tcp) < 0.2 && part(NodePort::Udp) < 0.2 && part(NodePort::Http) >= 1.0);
}

#[tokio::test]
async fn nobody_is_turned_away_because_the_only_node_that_is_up_comes_slowly() {
    for balance in ["least_sessions", "round_robin", "hash"] {
        let u = upstream(balance, THREE);
        let now = Instant::now();
        u.nodes().iter().for_each(|node| node.judge(NodePort::Http, false, 1, now));
        u.nodes()[0].judge(NodePort::Http, true, 1, now);
        assert_eq!(taken(&u, "a", 20), 20, "{balance}");
    }
}

#[tokio::test]
async fn trying_nodes_that_are_all_down_is_counted_each_time() {
    let metrics = Metrics::new().unwrap();
    let u = counted("round_robin, when_all_down: try_all", THREE, &metrics);
    u.nodes().iter().for_each(|node| node.judge(NodePort::Http, false, 1, Instant::now()));
    assert_eq!(taken(&u, "a", 12), 3, "as if all were up, by weight");
    let text = String::from_utf8(metrics.render()).unwrap();
    assert!(text.contains("fallgate_node_picks_total{how=\"try_all\",upstream=\"u\"} 12"), "{text}");
}

proptest::proptest! {
    #[test]
    fn least_sessions_is_right_under_weights_whatever_the_order_in_which_sessions_end(
        weights in proptest::collection::vec(1..8u32, 1..5),
        steps in proptest::collection::vec(proptest::option::of(proptest::prelude::any::<proptest::sample::Index>()), 1..150),
    ) {
        let nodes: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| format!("{{name: n{i}, host: 127.0.0.1, ports: {{http: {}}}, weight: {weight}}}", i + 1))
            .collect();
        let u = upstream("least_sessions", &nodes.join(", "));
        let all: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mut leases: Vec<Lease> = Vec::new();
        for step in steps {
            match step {
                Some(which) if !leases.is_empty() => drop(leases.swap_remove(which.index(leases.len()))),
                _ => {
                    let before: Vec<_> = u.nodes().iter().map(|node| node.sessions()).collect();
                    let load = |i: usize| before[i] as f64 / f64::from(weights[i]);
                    let lease = u.pick(ANYBODY, &[]).unwrap();
                    let chosen = u.nodes().iter().position(|node| node.name() == lease.node().name()).unwrap();
                    let least = (0..before.len()).map(load).fold(f64::INFINITY, f64::min);
                    proptest::prop_assert!(load(chosen) <= least, "{before:?} of {weights:?}: {chosen}");
                    let share = f64::from(weights[chosen]) / all * leases.len() as f64;
                    proptest::prop_assert!(before[chosen] as f64 <= share + 1e-9, "it had its share already");
                    leases.push(lease);
                }
            }
            proptest::prop_assert_eq!(u.nodes().iter().map(|node| node.sessions()).sum::<usize>(), leases.len());
        }
    }
}
