//! Who may reach what, with real names and real sockets: what is not allowed is never connected to.

use super::*;
use crate::support::loopback;

/// Other addresses of this machine.
const B: [u8; 4] = [127, 0, 0, 2];
const ALL: &str = "allow: [{hosts: ['*']}]";
/// Nothing at all is left closed by this.
const WIDE: &str = "allow: [{hosts: ['*']}], allow_private_addresses: [0.0.0.0/0, '::/0']";

/// A name server with these names.
async fn names(all: &'static [(&'static str, &'static [&'static str])]) -> Dns {
    let of = |name: &str| {
        all.iter().find(|(n, _)| *n == name).map_or(Vec::new(), |(_, ips)| ips.iter().map(|t| ip(t)).collect())
    };
    Dns::start(move |name, _| of(name)).await
}

/// Names that lead to this machine.
async fn ways_home() -> Dns {
    Dns::start(|name, _| match name {
        "127.0.0.1.nip.test" => vec![here()],
        "zero.test" => vec![ip("0.0.0.0"), ip("::")],
        "mapped.test" => vec![ip("::ffff:127.0.0.1")],
        "nat64.test" => vec![ip("64:ff9b::7f00:1")],
        _ => Vec::new(),
    })
    .await
}

/// What becomes of a target, in both forms: `200`, or the word of a refusal.
async fn both(egress: &Egress, target: &str) -> [String; 2] {
    let told = |reply: Reply| if reply.status == 200 { "200".to_owned() } else { reply.word().to_owned() };
    [told(egress.ask(&connect_to(target)).await), told(egress.ask(&get_of(target)).await)]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_meets_the_same_decision_by_connect_and_by_absolute_form() {
    let origin = Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let other = Origin::at(B, |_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let (port, second) = (origin.address().port(), other.address().port());
    let policy = format!(
        "allow: [{{hosts: [n1.test, '*.up.test'], ports: [{port}]}}, {{hosts: ['127.0.0.2/32']}}, {{hosts: ['*.low.test'], ports: ['1-2']}}], \
         deny: [{{hosts: [old.up.test]}}, {{hosts: ['*.bad.up.test']}}], allow_private_addresses: ['127.0.0.0/8']"
    );
    let dns = Dns::start(|name, _| match name {
        "b.test" => vec![ip("127.0.0.2")],
        "ghost.up.test" => Vec::new(),
        _ => vec![here()],
    });
    let egress = Setup::new(&policy).dns(dns.await).start().await;
    for (host, port, decision) in [
        ("n1.test", port, "200"),
        ("N1.TEST.", port, "200"),
        ("a.up.test", port, "200"),
        ("a.b.up.test", port, "200"),
        ("b.test", second, "200"),
        ("127.0.0.2", second, "200"),
        ("[::ffff:127.0.0.2]", second, "200"),
        ("up.test", port, "policy_denied"),
        ("badup.test", port, "policy_denied"),
        ("n1.test", second, "policy_denied"),
        ("a.low.test", port, "policy_denied"),
        ("old.up.test", port, "policy_denied"),
        ("OLD.up.test.", port, "policy_denied"),
        ("a.bad.up.test", port, "policy_denied"),
        ("127.0.0.1", port, "policy_denied"),
        ("[::1]", port, "policy_denied"),
        ("b.test.evil.test", second, "policy_denied"),
        ("ghost.up.test", port, "dns_failed"),
        ("2130706434", second, "bad_target"),
        ("127.2", second, "bad_target"),
        ("0x7f.0.0.2", second, "bad_target"),
        ("0177.0.0.2", second, "bad_target"),
        ("127.0.0.02", second, "bad_target"),
        ("user@n1.test", port, "bad_target"),
    ] {
        assert_eq!(both(&egress, &format!("{host}:{port}")).await, [decision, decision], "{host}:{port}");
    }
    assert_eq!(egress.dns.lookups("old.up.test"), 0, "what is denied is not looked up");
    assert_eq!((origin.heard().len(), other.heard().len()), (4, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_among_those_of_a_name_is_left_alone_and_the_allowed_one_is_reached() {
    let origin = echo_at(B).await;
    let port = origin.address.port();
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, port).unwrap();
    for order in [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]] {
        let dns = Dns::start(move |_, _| order.map(ip).to_vec()).await;
        let policy = format!("{ALL}, allow_private_addresses: ['127.0.0.2/32']");
        let egress = Setup::new(&policy).dns(dns).start().await;
        let mut wire = egress.tunnel(format!("n1.test:{port}")).await;
        echoes(&mut wire).await;
        drop(wire);
        let record = egress.record(1).await;
        assert_eq!((&record["address"], &record["rule"]), (&format!("127.0.0.2:{port}").into(), &"allow[0]".into()));
    }
    assert_eq!(forbidden.met(), 0, "nothing ever connected there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_address_that_refuses_does_not_open_the_way_to_the_private_one() {
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, 0).unwrap();
    let port = forbidden.peer.address.port();
    let dns = names(&[("n1.test", &["127.0.0.2", "127.0.0.1"])]).await;
    let egress = Setup::new(&format!("{ALL}, allow_private_addresses: ['127.0.0.2/32']")).dns(dns).start().await;
    egress.refuses(1, &connect_to(format!("n1.test:{port}")), 502, "connect_refused").await;
    egress.refuses(2, &get_of(format!("n1.test:{port}")), 502, "connect_refused").await;
    assert_eq!(forbidden.met(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_nothing_but_private_addresses_is_refused() {
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, 0).unwrap();
    let port = forbidden.peer.address.port();
    let dns = names(&[
        ("n1.test", &["127.0.0.1", "::1"]),
        ("n2.test", &["::ffff:127.0.0.1"]),
        ("n3.test", &["10.0.0.1", "192.168.1.1", "169.254.169.254", "fd00::1"]),
        ("n4.test", &["0.0.0.0", "::"]),
        ("n5.test", &["64:ff9b::7f00:1", "2002:7f00:1::"]),
        ("n6.test", &["100.64.0.1", "224.0.0.1", "255.255.255.255", "ff02::1"]),
    ])
    .await;
    let egress = Setup::new(ALL).dns(dns).start().await;
    let literal = ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]", "localhost", "169.254.169.254"];
    let hosts = (1..=6).map(|n| format!("n{n}.test")).chain(literal.map(str::to_owned));
    for (host, n) in hosts.zip(0..) {
        egress.refuses(2 * n + 1, &connect_to(format!("{host}:{port}")), 403, "private_address").await;
        egress.refuses(2 * n + 2, &get_of(format!("{host}:{port}")), 403, "private_address").await;
        let rule = &egress.record(2 * n + 1).await["rule"];
        assert!(rule.as_str().is_some_and(|rule| rule.starts_with("private[")), "{host}: {rule}");
    }
    assert_eq!(forbidden.met(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_address_that_was_judged_is_the_one_that_is_dialled_and_a_name_is_looked_up_once() {
    let origin = echo_at(B).await;
    let port = origin.address.port();
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, port).unwrap();
    // Each answer is another: the first lookup finds what is allowed, the second one what is not, and so on.
    let dns = Dns::start(|_, turn| vec![ip(if turn % 2 == 0 { "127.0.0.2" } else { "127.0.0.1" })]).await;
    let policy = format!("{ALL}, allow_private_addresses: ['127.0.0.2/32']");
    let egress = Setup::new(&policy).dns(dns).start().await;
    for n in 1..=6 {
        let reply = egress.ask(&connect_to(format!("n1.test:{port}"))).await;
        let expected = if n % 2 == 1 { (200, "") } else { (403, "private_address") };
        assert_eq!((reply.status, reply.word()), expected, "{n}");
        assert_eq!(egress.dns.lookups("n1.test"), n, "one lookup for each request");
    }
    assert_eq!(forbidden.met(), 0);
    let reached = egress.records(6).await.into_iter().filter(|record| record["status"] == 200);
    assert!(reached.into_iter().all(|record| record["address"] == format!("127.0.0.2:{port}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_within_ipv6_is_judged_as_what_it_is() {
    let origin = echo().await;
    let target = format!("[::ffff:127.0.0.1]:{}", origin.address.port());
    let closed = Setup::new(ALL).start().await;
    closed.refuses(1, &connect_to(&target), 403, "private_address").await;
    let denied = Setup::new(&format!("{OPEN}, deny: [{{hosts: [127.0.0.0/8]}}]")).start().await;
    denied.refuses(1, &connect_to(&target), 403, "policy_denied").await;
    let open = Setup::new("allow: [{hosts: [127.0.0.1]}], allow_private_addresses: [127.0.0.1]").start().await;
    echoes(&mut open.tunnel(&target).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_door_is_met_by_no_name_and_no_address_whatever_is_configured() {
    for mode in ["enforce", "report"] {
        let egress = Setup::new(&format!("{WIDE}, mode: {mode}")).dns(ways_home().await).start().await;
        let port = egress.admin.port();
        let hosts = [
            "127.0.0.1",
            "0.0.0.0",
            "[::]",
            "0.1.2.3",
            "[::ffff:127.0.0.1]",
            "[::ffff:0.0.0.0]",
            "127.0.0.1.nip.test",
            "zero.test",
            "mapped.test",
            "nat64.test",
            "alias.127.0.0.1.nip.test",
        ];
        for (host, n) in hosts.into_iter().zip(0..) {
            let target = format!("{host}:{port}");
            egress.refuses(2 * n + 1, &connect_to(&target), 403, "private_address").await;
            egress.refuses(2 * n + 2, &absolute("GET", &target, "/metrics", ""), 403, "private_address").await;
            assert_eq!(egress.record(2 * n + 1).await["rule"], "admin", "{target}");
        }
        // It has an address of IPv6 besides, where nobody listens.
        for decision in both(&egress, &format!("localhost:{port}")).await {
            assert!(["private_address", "connect_refused"].contains(&decision.as_str()), "{decision}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_door_on_all_addresses_is_met_by_none_of_them() {
    let any = Setup::new(WIDE).dns(ways_home().await);
    let egress = any.admin("0.0.0.0:0").start().await;
    let port = egress.admin.port();
    let mut n = 0;
    let own = fallgate::net::interfaces::addresses().into_iter().filter(|ip| !ip.to_string().starts_with("fe80"));
    for at in own.chain(["127.9.9.9", "0.0.0.0"].map(ip)) {
        n += 1;
        egress.refuses(n, &connect_to(SocketAddr::new(at, port)), 403, "private_address").await;
        assert_eq!(egress.record(n).await["rule"], "admin", "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_gateways_own_listener_is_refused_with_all_names_allowed() {
    let egress = Setup::new(ALL).dns(ways_home().await).start().await;
    let port = egress.address.port();
    let hosts = ["127.0.0.1.nip.test", "mapped.test", "zero.test", "127.0.0.1", "localhost", "[::ffff:127.0.0.1]"];
    for (host, n) in hosts.into_iter().zip(1..) {
        egress.refuses(n, &connect_to(format!("{host}:{port}")), 403, "private_address").await;
        assert_eq!(egress.record(n).await["rule"], "own", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_network_denies_a_name_that_leads_into_it() {
    let origin = echo_at(B).await;
    let port = origin.address.port();
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, port).unwrap();
    let dns = names(&[("inside.test", &["127.0.0.1"]), ("outside.test", &["127.0.0.2"])]).await;
    let egress = Setup::new(&format!("{OPEN}, deny: [{{hosts: [127.0.0.1/32]}}]")).dns(dns).start().await;
    egress.refuses(1, &connect_to(format!("inside.test:{port}")), 403, "policy_denied").await;
    assert_eq!(egress.record(1).await["rule"], "deny[0]");
    echoes(&mut egress.tunnel(format!("outside.test:{port}")).await).await;
    assert_eq!(forbidden.met(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_address_of_a_name_is_never_connected_to() {
    let origin = echo_at(B).await;
    let port = origin.address.port();
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, port).unwrap();
    let dns = names(&[("n1.test", &["127.0.0.1", "127.0.0.2"])]).await;
    let egress = Setup::new(&format!("{OPEN}, deny: [{{hosts: [127.0.0.1/32]}}]")).dns(dns).start().await;
    for _ in 0..4 {
        egress.ask(&connect_to(format!("n1.test:{port}"))).await;
    }
    assert_eq!(forbidden.met(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_allowed_network_allows_a_name_as_far_as_its_addresses_lie_in_it() {
    let origin = echo_at(B).await;
    let port = origin.address.port();
    let forbidden = Counter::at(Ipv4Addr::LOCALHOST, port).unwrap();
    let dns =
        names(&[("in.test", &["127.0.0.2"]), ("both.test", &["127.0.0.1", "127.0.0.2"]), ("out.test", &["127.0.0.1"])]);
    let policy = "allow: [{hosts: [127.0.0.2]}], allow_private_addresses: [127.0.0.0/8]";
    let egress = Setup::new(policy).dns(dns.await).start().await;
    echoes(&mut egress.tunnel(format!("in.test:{port}")).await).await;
    echoes(&mut egress.tunnel(format!("both.test:{port}")).await).await;
    says(&egress.ask(&connect_to(format!("out.test:{port}"))).await, 403, "policy_denied");
    assert_eq!(forbidden.met(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_for_some_clients_is_none_for_others() {
    let origin = echo().await;
    let policy = "allow: [{hosts: ['*'], clients: [127.0.0.2]}], deny: [{hosts: ['*'], clients: [127.0.0.3]}]";
    let egress = Setup::new(&format!("{policy}, allow_private_addresses: [127.0.0.0/8]")).start().await;
    for (client, decision) in [(2, ""), (3, "policy_denied"), (4, "policy_denied")] {
        let mut wire = Wire::from([127, 0, 0, client], egress.address).await;
        assert_eq!(wire.ask(&connect_to(origin.address)).await.word(), decision, "{client}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_only_reports_lets_pass_and_says_so() {
    let origin = Origin::says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let policy = "mode: report, allow: [{hosts: [good.test]}], deny: [{hosts: [old.test]}], allow_private_addresses: [127.0.0.1]";
    let egress = Setup::new(policy).start().await;
    let port = origin.address().port();
    for (host, rule, reported) in
        [("good.test", "allow[0]", false), ("old.test", "deny[0]", true), ("other.test", "default", true)]
    {
        let before = egress.lines();
        assert_eq!(both(&egress, &format!("{host}:{port}")).await, ["200", "200"], "{host}");
        for record in &egress.records(before + 2).await[before..] {
            assert_eq!((&record["rule"], &record["reported"]), (&rule.into(), &reported.into()), "{record}");
            assert!(record["reason"].is_null(), "{record}");
        }
    }
    assert_eq!(both(&egress, "127.0.0.2:1").await, ["private_address"; 2], "a rehearsal opens no door");
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_are_followed_and_judged_by_where_they_lead() {
    let origin = echo_at(B).await;
    let port = origin.address.port();
    let dns = names(&[("n1.test", &["127.0.0.2"]), ("n2.test", &["127.0.0.1"])]).await;
    let egress = Setup::new(&format!("{ALL}, allow_private_addresses: ['127.0.0.2/32']")).dns(dns).start().await;
    for host in ["alias.n1.test", "alias.alias.alias.n1.test"] {
        echoes(&mut egress.tunnel(format!("{host}:{port}")).await).await;
    }
    says(&egress.ask(&connect_to(format!("alias.alias.n2.test:{port}"))).await, 403, "private_address");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_is_silent_costs_the_resolvers_timeout_and_no_more() {
    let egress = Setup::new(OPEN).dns(Dns::silent().await).start().await;
    let begin = std::time::Instant::now();
    egress.refuses(1, &connect_to("n1.test:80"), 502, "dns_failed").await;
    assert!((900..2_500).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    assert!(egress.dns.queries() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_there_is_no_such_name_is_remembered() {
    let egress = Egress::open().await;
    for n in 1..=3 {
        egress.refuses(n, &connect_to("n1.nowhere:80"), 502, "dns_failed").await;
    }
    assert_eq!(egress.dns.lookups("n1.nowhere"), 1);
    assert_eq!(egress.dns.queries(), 2, "no search list, and each family once");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_addresses_one_that_is_dead_is_passed_over() {
    let origin = echo_at(B).await;
    let dns = names(&[("n1.test", &["127.0.0.1", "127.0.0.2"])]).await;
    let egress = Setup::new(OPEN).dns(dns).start().await;
    let port = origin.address.port();
    // Nothing listens at the first one, unless by chance.
    if std::net::TcpListener::bind(loopback(port)).is_ok() {
        echoes(&mut egress.tunnel(format!("n1.test:{port}")).await).await;
        assert_eq!(egress.record(1).await["address"], origin.address.to_string());
    }
}
