//! Policies against targets: the cases that matter one by one, and what must hold for all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    address::{Class, OwnAddresses, forms},
    policy::{Ask, Policy, Verdict},
    target::{self, Host, Target},
};
use crate::config::PolicyConfig;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn own() -> OwnAddresses {
    OwnAddresses {
        listeners: vec!["0.0.0.0:3128".parse().unwrap(), "203.0.113.1:8443".parse().unwrap()],
        admin: Some("127.0.0.1:9180".parse().unwrap()),
        local: vec![ip("203.0.113.1"), ip("10.9.9.9")],
    }
}

fn config(keys: Value) -> PolicyConfig {
    let mut whole = json!({ "name": "p" });
    whole.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn policy(keys: Value) -> Policy {
    Policy::new(config(keys))
}

/// As a line: `pass allow[0]`, `report policy_denied default`, `refuse private_address own`.
fn told(verdict: Verdict) -> String {
    match verdict {
        Verdict::Pass(rule) => format!("pass {rule}"),
        Verdict::Report(refusal) => format!("report {} {}", refusal.reason, refusal.rule),
        Verdict::Refuse(refusal) => format!("refuse {} {}", refusal.reason, refusal.rule),
    }
}

/// The verdict on an authority whose name has these addresses; a literal address is its own.
fn ask(policy: &Policy, authority: &str, addresses: &[&str]) -> String {
    ask_as(policy, "192.0.2.1", None, authority, addresses)
}

fn ask_as(policy: &Policy, client: &str, user: Option<&str>, authority: &str, addresses: &[&str]) -> String {
    let (target, own) = (target::connect(authority.as_bytes()).unwrap(), own());
    let ruling = policy.rule(Ask { client: ip(client), user, target: &target, own: &own });
    let addresses: Vec<IpAddr> = match &target.host {
        Host::Ip(ip) => vec![*ip],
        Host::Name(_) => addresses.iter().map(|text| ip(text)).collect(),
    };
    let verdict = ruling.addresses(&addresses);
    if let Some(refusal) = ruling.refusal() {
        assert!(!matches!(verdict, Verdict::Pass(_) | Verdict::Report(_)), "{refusal:?} and then {verdict:?}");
    }
    told(verdict)
}

#[test]
fn a_name_is_allowed_by_itself_or_from_above_and_nothing_else_is() {
    let policy = policy(json!({ "allow": [
        { "hosts": ["*.example.com", "n1.example"], "ports": [443, "8000-8443"] },
        { "hosts": ["n2.example"] },
    ] }));
    let public = ["198.51.100.1"];
    assert_eq!(ask(&policy, "a.b.example.com:443", &public), "pass allow[0]");
    assert_eq!(ask(&policy, "N1.EXAMPLE.:8001", &public), "pass allow[0]");
    assert_eq!(ask(&policy, "n2.example:22", &public), "pass allow[1]");
    for other in ["example.com:443", "badexample.com:443", "n1.example:80", "a.n1.example:443", "198.51.100.1:443"] {
        assert_eq!(ask(&policy, other, &public), "refuse policy_denied default", "{other}");
    }
}

#[test]
fn a_denied_name_or_address_is_denied_whatever_allows_it() {
    let policy = policy(json!({
        "allow": [{ "hosts": ["*"] }],
        "deny": [{ "hosts": ["old.example.com"] }, { "hosts": ["198.51.100.0/24"], "ports": [443] }],
        "allow_private_addresses": ["64:ff9b::/96"],
    }));
    assert_eq!(ask(&policy, "OLD.example.com:80", &["203.0.113.9"]), "refuse policy_denied deny[0]");
    assert_eq!(ask(&policy, "198.51.100.7:443", &[]), "refuse policy_denied deny[1]");
    assert_eq!(ask(&policy, "n1.example:443", &["203.0.113.9", "198.51.100.7"]), "refuse policy_denied deny[1]");
    assert_eq!(ask(&policy, "[64:ff9b::198.51.100.7]:443", &[]), "refuse policy_denied deny[1]");
    assert_eq!(ask(&policy, "[::ffff:198.51.100.7]:443", &[]), "refuse policy_denied deny[1]");
    assert_eq!(ask(&policy, "198.51.100.7:80", &[]), "pass allow[0]");
}

#[test]
fn a_network_allows_a_name_when_all_that_is_connected_to_lies_in_such() {
    let policy =
        policy(json!({ "allow": [{ "hosts": ["198.51.100.0/24"] }, { "hosts": ["::ffff:203.0.113.0/120"] }] }));
    assert_eq!(ask(&policy, "198.51.100.7:443", &[]), "pass allow[0]");
    assert_eq!(ask(&policy, "n1.example:443", &["203.0.113.7", "198.51.100.7"]), "pass allow[1]");
    assert_eq!(ask(&policy, "n1.example:443", &["198.51.100.7", "192.0.2.1"]), "refuse policy_denied default");
    assert_eq!(ask(&policy, "n1.example:443", &[]), "refuse policy_denied default");
    let (target, own) = (target::connect(b"n1.example:443").unwrap(), own());
    let ruling = policy.rule(Ask { client: ip("192.0.2.1"), user: None, target: &target, own: &own });
    assert_eq!((ruling.refusal(), told(ruling.unresolved()).as_str()), (None, "refuse policy_denied default"));
}

#[test]
fn an_entry_holds_only_for_its_users_and_clients() {
    let policy = policy(json!({
        "allow": [{ "hosts": ["*"], "users": ["anna"] }, { "hosts": ["*"], "clients": ["10.0.0.0/8"] }],
        "deny": [{ "hosts": ["*"], "users": ["bert"] }],
    }));
    let go = |client, user| ask_as(&policy, client, user, "n1.example:443", &["198.51.100.1"]);
    assert_eq!(go("192.0.2.1", Some("anna")), "pass allow[0]");
    assert_eq!(go("::ffff:10.1.2.3", None), "pass allow[1]");
    assert_eq!(go("10.1.2.3", Some("bert")), "refuse policy_denied deny[0]");
    for user in [None, Some("Anna"), Some("")] {
        assert_eq!(go("192.0.2.1", user), "refuse policy_denied default");
    }
}

#[test]
fn a_private_address_behind_an_allowed_name_needs_to_be_named() {
    let closed = policy(json!({ "allow": [{ "hosts": ["*"] }] }));
    assert_eq!(ask(&closed, "n1.example:80", &["169.254.169.254"]), "refuse private_address private[link_local]");
    assert_eq!(ask(&closed, "n1.example:80", &["198.51.100.1", "10.0.0.1"]), "refuse private_address private[private]");
    assert_eq!(ask(&closed, "[::ffff:127.0.0.1]:80", &[]), "refuse private_address private[loopback]");
    let open =
        policy(json!({ "allow": [{ "hosts": ["*"] }], "allow_private_addresses": ["10.0.0.0/8", "64:ff9b::/96"] }));
    assert_eq!(ask(&open, "n1.example:80", &["10.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8"]), "pass allow[0]");
    assert_eq!(ask(&open, "[64:ff9b::192.168.0.1]:80", &[]), "refuse private_address private[private]");
    assert_eq!(ask(&open, "[2002:a00:1::]:80", &[]), "refuse private_address private[embedding]");
}

#[test]
fn the_gateways_own_listeners_need_to_be_named_and_the_admin_door_is_never_met() {
    let closed = policy(json!({ "allow": [{ "hosts": ["*"] }] }));
    assert_eq!(ask(&closed, "203.0.113.1:3128", &[]), "refuse private_address own");
    assert_eq!(ask(&closed, "n1.example:8443", &["203.0.113.1"]), "refuse private_address own");
    assert_eq!(ask(&closed, "203.0.113.1:443", &[]), "pass allow[0]");
    let open = policy(json!({ "allow": [{ "hosts": ["*"] }], "allow_private_addresses": ["0.0.0.0/0", "::/0"] }));
    assert_eq!(ask(&open, "203.0.113.1:3128", &[]), "pass allow[0]");
    for way in ["127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "[64:ff9b::127.0.0.1]", "n1.example"] {
        assert_eq!(ask(&open, &format!("{way}:9180"), &["127.0.0.1"]), "refuse private_address admin", "{way}");
    }
}

#[test]
fn a_policy_that_reports_lets_pass_and_says_what_it_would_refuse() {
    let policy = policy(json!({
        "mode": "report", "allow": [{ "hosts": ["n1.example"] }], "deny": [{ "hosts": ["198.51.100.0/24"] }],
    }));
    assert_eq!(ask(&policy, "n1.example:80", &["203.0.113.9"]), "pass allow[0]");
    assert_eq!(ask(&policy, "n2.example:80", &["203.0.113.9"]), "report policy_denied default");
    assert_eq!(ask(&policy, "n1.example:80", &["198.51.100.1"]), "report policy_denied deny[0]");
    assert_eq!(ask(&policy, "n2.example:80", &["10.0.0.1"]), "refuse private_address private[private]");
}

#[test]
fn clients_and_parents_are_told_by_their_lists() {
    let policy = policy(json!({
        "auth": { "allow_from": ["10.0.0.0/8"] },
        "parent": "http://proxy.example:3128", "no_parent": ["*.inside.example", "10.0.0.0/8"],
    }));
    assert!(policy.admits(ip("::ffff:10.0.0.1")) && !policy.admits(ip("192.0.2.1")) && !policy.asks_for_user());
    let direct = |host: &str| policy.parent_for(&Host::parse(host).unwrap()).is_none();
    assert!(direct("n1.inside.example") && direct("10.1.1.1") && direct("[::ffff:10.1.1.1]"));
    assert!(!direct("inside.example") && !direct("192.0.2.1"));
    assert!(super::tests::policy(json!({})).admits(ip("192.0.2.1")));
}

/// Addresses of every kind, private ones most of all.
fn any_ip() -> impl Strategy<Value = IpAddr> {
    let prefixes = [
        0x0000_0000_0000_0000u128,
        0x0064_ff9b_0000_0000 << 64,
        0x0064_ff9b_0001_0000 << 64,
        0x2001_0000 << 96,
        0x2002_0000 << 96,
        0xfc00_0000 << 96,
        0xfe80_0000 << 96,
        0xfec0_0000 << 96,
        0xff02_0000 << 96,
        0xffff << 32,
        0x2606_4700 << 96,
    ];
    let firsts = [0u32, 10, 100, 127, 168, 169, 172, 192, 198, 203, 224, 240, 255, 8];
    let low =
        prop_oneof![any::<u64>().prop_map(u128::from), any::<u32>().prop_map(u128::from), 0..3u128, any::<u128>()];
    prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::from),
        (prop::sample::select(firsts.to_vec()), any::<u32>())
            .prop_map(|(first, low)| Ipv4Addr::from(first << 24 | low >> 8).into()),
        (prop::sample::select(prefixes.to_vec()), low)
            .prop_map(|(prefix, low)| IpAddr::from(Ipv6Addr::from(prefix | low >> 32))),
        any::<Ipv6Addr>().prop_map(IpAddr::from),
    ]
}

fn any_host() -> impl Strategy<Value = Host> {
    let names = prop::sample::select(vec!["a.example", "b.a.example", "c.test", "test"]);
    prop_oneof![names.prop_map(|name| Host::parse(name).unwrap()), any_ip().prop_map(Host::from)]
}

fn any_rule() -> impl Strategy<Value = Value> {
    let hosts =
        vec!["*", "a.example", "*.example", "c.test", "0.0.0.0/1", "128.0.0.0/1", "8.0.0.0/8", "::/0", "64:ff9b::/96"];
    let ports = vec![json!([]), json!([443]), json!(["1-1000"]), json!([9180])];
    let users = vec![json!([]), json!(["anna"])];
    (prop::sample::subsequence(hosts, 1..4), prop::sample::select(ports), prop::sample::select(users))
        .prop_map(|(hosts, ports, users)| json!({ "hosts": hosts, "ports": ports, "users": users }))
}

fn any_rules() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(any_rule(), 0..4)
}

fn any_mode() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["enforce", "report"])
}

fn any_networks() -> impl Strategy<Value = Vec<&'static str>> {
    let networks = vec![
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.169.254",
        "0.0.0.0/0",
        "::/0",
        "64:ff9b::/96",
        "fc00::/7",
        "2002::/16",
    ];
    prop::sample::subsequence(networks, 0..8)
}

fn any_target() -> impl Strategy<Value = (Host, u16, Vec<IpAddr>)> {
    let ports = prop::sample::select(vec![443, 80, 3128, 9180]);
    (any_host(), ports, prop::collection::vec(any_ip(), 1..3)).prop_map(|(host, port, found)| match host {
        Host::Ip(ip) => (host, port, vec![ip]),
        Host::Name(_) => (host, port, found),
    })
}

fn rule_on(policy: &Policy, host: &Host, port: u16, addresses: &[IpAddr]) -> Verdict {
    rule_beside(&own(), policy, host, port, addresses)
}

fn rule_beside(own: &OwnAddresses, policy: &Policy, host: &Host, port: u16, addresses: &[IpAddr]) -> Verdict {
    let target = Target { host: host.clone(), port };
    policy.rule(Ask { client: ip("192.0.2.1"), user: Some("anna"), target: &target, own }).addresses(addresses)
}

proptest! {
    #[test]
    fn deny_wins(
        (host, port, addresses) in any_target(), rule in any_rule(), allow in any_rules(), others in any_rules(),
        private in any_networks(),
    ) {
        let keys = json!({ "allow": [rule.clone()], "allow_private_addresses": private });
        let would_allow = matches!(rule_on(&policy(keys), &host, port, &addresses), Verdict::Pass(_));
        let mut deny = others;
        deny.push(rule);
        let mut allow = allow;
        allow.push(json!({ "hosts": ["*"] }));
        let denied = policy(json!({ "allow": allow, "deny": deny, "allow_private_addresses": private }));
        if would_allow {
            prop_assert!(matches!(rule_on(&denied, &host, port, &addresses), Verdict::Refuse(_)));
        }
    }

    #[test]
    fn another_entry_of_deny_never_opens_anything(
        (host, port, addresses) in any_target(), allow in any_rules(), deny in any_rules(), more in any_rule(),
        private in any_networks(),
    ) {
        let keys = |deny: &[Value]| json!({ "allow": allow, "deny": deny, "allow_private_addresses": private });
        let before = rule_on(&policy(keys(&deny)), &host, port, &addresses);
        let after = rule_on(&policy(keys(&[deny.as_slice(), &[more]].concat())), &host, port, &addresses);
        prop_assert!(matches!(before, Verdict::Pass(_)) || matches!(after, Verdict::Refuse(_)));
    }

    #[test]
    fn another_spelling_never_changes_a_decision(
        (host, port, addresses) in any_target(), allow in any_rules(), deny in any_rules(), private in any_networks(),
        mode in any_mode(),
    ) {
        let policy =
            policy(json!({ "allow": allow, "deny": deny, "allow_private_addresses": private, "mode": mode }));
        let other = match &host {
            Host::Name(name) => format!("{}.", name.as_str().to_ascii_uppercase()),
            Host::Ip(IpAddr::V4(ip)) => format!("[{}]", ip.to_ipv6_mapped()),
            Host::Ip(IpAddr::V6(ip)) => {
                format!("[{}]", ip.segments().map(|s| format!("{s:04X}")).join(":"))
            }
        };
        let read = target::connect(format!("{other}:0{port}").as_bytes()).unwrap();
        prop_assert_eq!(&read.host, &host);
        let mapped = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
            IpAddr::V6(_) => *ip,
        };
        let others: Vec<IpAddr> = addresses.iter().map(mapped).collect();
        prop_assert_eq!(rule_on(&policy, &read.host, read.port, &others), rule_on(&policy, &host, port, &addresses));
    }

    #[test]
    fn no_private_address_is_met_without_a_network_around_it(
        (host, port, addresses) in any_target(), allow in any_rules(), private in any_networks(), mode in any_mode(),
    ) {
        let mut allow = allow;
        allow.push(json!({ "hosts": ["*"] }));
        let policy = policy(json!({ "allow": allow, "allow_private_addresses": private, "mode": mode }));
        let verdict = rule_on(&policy, &host, port, &addresses);
        let networks: Vec<ipnet::IpNet> = private
            .iter()
            .map(|text| text.parse().unwrap_or_else(|_| text.parse::<IpAddr>().unwrap().into()))
            .collect();
        let bare = |ip: &IpAddr| Class::of(*ip).is_some() && !networks.iter().any(|network| network.contains(ip));
        if addresses.iter().any(|ip| forms(*ip).iter().any(bare)) {
            prop_assert!(matches!(verdict, Verdict::Refuse(_)), "{verdict:?}");
        }
    }

    #[test]
    fn the_admin_door_is_never_met(
        addresses in prop::collection::vec(any_ip(), 0..3), at in 0..3usize, way in 0..6usize, mode in any_mode(),
        host in any_host(), wildcard in any::<bool>(),
    ) {
        let ways = ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "::127.0.0.1"];
        let mut own = own();
        if wildcard {
            own.admin = Some("[::]:9180".parse().unwrap());
        }
        let keys = json!({
            "allow": [{ "hosts": ["*"] }], "allow_private_addresses": ["0.0.0.0/0", "::/0"], "mode": mode,
        });
        let policy = Policy::new(config(keys));
        let mut addresses = addresses;
        addresses.insert(at.min(addresses.len()), ip(ways[way]));
        prop_assert_eq!(told(rule_beside(&own, &policy, &host, 9180, &addresses)), "refuse private_address admin");
    }
}
