//! What the flow table promises, one thing at a time. The simulation tests all of it at once.

use super::table::{FlowId, Key, Table};
use crate::limit::{ClientFlows, FlowLimit};
use crate::telemetry::{DropReason, FlowOutcome};

fn key(client: &str) -> Key {
    Key { client: client.parse().unwrap(), port: 0, local: None }
}

fn admit(table: &mut Table<u32>, client: &str, now: u64) -> FlowId {
    table.admit(key(client), now, Some(&ClientFlows::default()), &FlowLimit::new(9, 9), || Ok(1)).unwrap()
}

#[test]
fn address_port_listener_port_and_address_spoken_to_tell_flows_apart() {
    let mut table = Table::new(1000);
    let (limit, client) = (FlowLimit::new(99, 99), ClientFlows::default());
    let base = key("192.0.2.1:5000");
    let keys = [
        base,
        key("192.0.2.1:5001"),
        key("192.0.2.2:5000"),
        key("[2001:db8::1]:5000"),
        key("[fe80::1%1]:5000"),
        key("[fe80::1%2]:5000"),
        Key { port: 1, ..base },
        Key { local: Some("192.0.2.9".parse().unwrap()), ..base },
    ];
    for (i, key) in keys.into_iter().enumerate() {
        assert!(table.find(&key, 0).is_none());
        table.admit(key, 0, Some(&client), &limit, || Ok(i)).unwrap();
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(*table.find(key, 0).unwrap().1, i);
    }
}

#[test]
fn nothing_is_opened_for_a_flow_that_may_not_be() {
    let mut table = Table::<()>::new(1000);
    let client = ClientFlows::default();
    let mut refused = |gate: Option<&ClientFlows>, limit: FlowLimit| {
        table.admit(key("192.0.2.1:1"), 0, gate, &limit, || panic!("opened")).unwrap_err()
    };
    assert_eq!(refused(None, FlowLimit::new(9, 9)), DropReason::GateClosed);
    assert_eq!(refused(Some(&client), FlowLimit::new(9, 0)), DropReason::TooManyFlowsPerClient);
    assert_eq!(refused(Some(&client), FlowLimit::new(0, 9)), DropReason::TooManyFlows);
}

#[test]
fn a_flow_that_could_not_be_opened_counts_nowhere() {
    let mut table = Table::<()>::new(1000);
    let (limit, client) = (FlowLimit::new(9, 9), ClientFlows::default());
    let refused = table.admit(key("192.0.2.1:1"), 0, Some(&client), &limit, || Err(DropReason::NoNode));
    assert_eq!(refused.unwrap_err(), DropReason::NoNode);
    assert_eq!((table.len(), limit.open(), client.open()), (0, 0, 0));
}

#[test]
fn a_flow_that_is_there_is_not_admitted_again() {
    let mut table = Table::new(1000);
    let id = admit(&mut table, "192.0.2.1:1", 0);
    assert_eq!(table.admit(key("192.0.2.1:1"), 5, None, &FlowLimit::new(0, 0), || Ok(2)), Ok(id));
    assert_eq!((table.len(), table.get(id).unwrap().1), (1, &1));
}

#[test]
fn an_old_place_is_not_the_new_flow_there() {
    let mut table = Table::new(1000);
    let old = admit(&mut table, "192.0.2.1:1", 0);
    assert!(table.remove(old, FlowOutcome::Drained).is_some());
    let new = admit(&mut table, "192.0.2.1:2", 0);
    assert_eq!(u64::from(old) as u32, u64::from(new) as u32);
    assert!(table.touch(old, 0).is_none() && table.get(old).is_none());
    assert!(table.remove(old, FlowOutcome::Drained).is_none());
    assert!(table.touch(FlowId::from(u64::from(new)), 0).is_some());
}

#[test]
fn what_comes_from_the_node_keeps_a_flow_alive() {
    let mut table = Table::new(1000);
    let id = admit(&mut table, "192.0.2.1:1", 0);
    table.touch(id, 900);
    assert!(table.sweep(1899, 10, |_, _, _| false).ended.is_empty());
    let ended = table.sweep(1900, 10, |_, _, _| false).ended.remove(0);
    assert_eq!((ended.why, ended.began, ended.last), (FlowOutcome::Idle, 0, 900));
}

#[test]
fn a_clock_that_goes_back_ends_nothing() {
    let mut table = Table::new(1000);
    admit(&mut table, "192.0.2.1:1", 5000);
    table.find(&key("192.0.2.1:1"), 10);
    assert!(table.sweep(20, 10, |_, _, _| false).ended.is_empty());
    assert!(table.sweep(5999, 10, |_, _, _| false).ended.is_empty());
}

#[test]
fn a_sweep_looks_at_no_more_places_than_it_may() {
    let mut table = Table::new(1000);
    for port in 1..=100 {
        admit(&mut table, &format!("192.0.2.1:{port}"), 0);
    }
    let mut rounds = Vec::new();
    loop {
        let mut looked = 0;
        let swept = table.sweep(0, 30, |_, _, _| {
            looked += 1;
            true
        });
        rounds.push((looked, swept.ended.len()));
        if swept.complete {
            break;
        }
    }
    assert_eq!(rounds, [(30, 30), (30, 30), (30, 30), (10, 10)]);
    assert!(table.is_empty() && table.sweep(0, 1, |_, _, _| true).ended.is_empty());
}

#[test]
fn each_reason_has_a_word_of_its_own() {
    let words: std::collections::HashSet<_> = DropReason::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!(words.len(), DropReason::ALL.len());
}
