//! The gateway between two firewalls: the rules under `deploy/dmz`, in network namespaces.

mod doors;
mod proxy;
mod real;
mod site;

use doors::{PATIENCE, SHORT, Try, unwanted, wanted, wrong};
use site::{FILES, Site, at, explained};

use crate::support::{here, programs, text};

fn nft_is_here() -> bool {
    programs::is_here("nft", &["--version"])
}

fn rules(file: &str) -> String {
    text(&format!("deploy/dmz/{file}.nft"))
}

/// Holds a part of a file to what it should be, or writes it.
fn hold(path: &str, whole: &str) {
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(here(path), whole).unwrap();
        return;
    }
    assert!(text(path) == *whole, "{path} is not what `fallgate explain` says; bless it:\n{whole}");
}

#[test]
fn the_rules_that_are_shipped_are_those_that_explain_prints() {
    for file in FILES {
        hold(&format!("deploy/dmz/{file}.nft"), &explained(&["--part", file]));
    }
}

#[test]
fn the_port_table_is_that_of_explain_and_has_a_rule_for_each_row_and_family() {
    let table = explained(&["--part", "ports"]);
    let readme = text("deploy/dmz/README.md");
    let (open, close) = ("<!-- ports -->\n", "<!-- /ports -->");
    let (before, rest) = readme.split_once(open).unwrap();
    let (_, after) = rest.split_once(close).unwrap();
    hold("deploy/dmz/README.md", &format!("{before}{open}{table}{close}{after}"));

    let all: serde_json::Value = serde_json::from_str(&explained(&["--json"])).unwrap();
    for line in all["nodes"][0]["asconfigurator"].as_array().unwrap() {
        assert!(readme.contains(line.as_str().unwrap()), "{line}");
    }
    let rows = all["ports"].as_array().unwrap();
    for file in FILES {
        let text = rules(file);
        // Of data the way back is a rule and no row; and what no row speaks of is no service.
        let mut found: Vec<_> = text
            .lines()
            .filter(|line| line.contains(" accept comment ") && line.contains(" dport "))
            .map(|line| {
                let name = line.split('"').rev().nth(1).unwrap().to_owned();
                let (before, after) = line.split_once(" dport ").unwrap();
                (name, before.rsplit(' ').next().unwrap().to_owned(), after.split(' ').next().unwrap().to_owned())
            })
            .collect();
        found.sort();
        found.dedup();
        let mut said: Vec<_> = rows
            .iter()
            .filter(|row| file == "host" || row["firewall"] == file)
            .map(|row| {
                let name = row["for"].as_str().unwrap().rsplit_once('(').unwrap().1.trim_end_matches(')').to_owned();
                (name, row["protocol"].as_str().unwrap().to_owned(), row["port"].as_str().unwrap().to_owned())
            })
            .collect();
        said.sort();
        assert_eq!(found, said, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_gets_through_and_nothing_else_does() {
    if !nft_is_here() {
        return;
    }
    let Some(mut site) = Site::new().await else { return };
    site.banners();
    let _gateway = site.gateway().await;
    // Without rules everybody reaches everything: what fails later fails by them.
    let open = wrong(&unwanted(&site), |_| (true, PATIENCE));
    assert!(open.is_empty(), "without rules: {open:#?}");
    FILES.iter().for_each(|file| site.load(file, &rules(file)));
    let _controls = controls(&site);
    let closed = wrong(&wanted(&site), |_| (true, PATIENCE));
    assert!(closed.is_empty(), "{closed:#?}");
    let open = wrong(&unwanted(&site), |_| (false, SHORT));
    assert!(open.is_empty(), "{open:#?}");
    // Each firewall stands by itself, and so does the host.
    for bare in ["outer", "inner"] {
        let table = format!("fallgate-{bare}");
        assert!(site.place(bare).command("nft").args(["delete", "table", "inet", &table]).status().unwrap().success());
        let mut doors = unwanted(&site);
        doors
            .retain(|door| door.name.starts_with("the gateway") || door.name.contains("any other port of the gateway"));
        let open = wrong(&doors, |_| (false, SHORT));
        assert!(open.is_empty(), "without the {bare} firewall: {open:#?}");
        site.load(bare, &rules(bare));
    }
}

/// Control connections of the client, over IPv4 and IPv6, which let its data in.
fn controls(site: &Site) -> [std::net::TcpStream; 2] {
    doors::GATEWAY.map(|ip| {
        site.client.open(|| {
            let mut stream = std::net::TcpStream::connect_timeout(&at(ip, 33_001), PATIENCE).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut banner = [0; 8];
            std::io::Read::read_exact(&mut stream, &mut banner).unwrap();
            assert_eq!(&banner, b"SSH-2.0-");
            stream
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_is_needed_without_it_one_door_stops_working() {
    if !nft_is_here() {
        return;
    }
    let Some(mut site) = Site::new().await else { return };
    site.banners();
    let _gateway = site.gateway().await;
    FILES.iter().for_each(|file| site.load(file, &rules(file)));
    let _controls = controls(&site);
    let all = wanted(&site);
    let mut taken = 0;
    for file in FILES {
        let whole = rules(file);
        for line in whole.lines().filter(|line| line.contains(" accept comment ")) {
            let without: String = whole.lines().filter(|other| *other != line).map(|l| format!("{l}\n")).collect();
            site.load(file, &without);
            let name = line.split('"').rev().nth(1).unwrap();
            let family = usize::from(line.contains("ip6 ") || line.contains("ipv6") || line.contains("icmpv6"));
            // What hosts have learnt of their neighbours and of paths would hide that they cannot learn it any more.
            if name == "path MTU" || name == "neighbours" {
                site.gateway.ip("-6 route flush cache");
                site.gateway.ip("-6 neigh flush all");
                [&site.outer, &site.inner].iter().for_each(|router| router.ip("-6 neigh flush dev dmz"));
            }
            // Without answers nothing works that goes the same way, and without neighbours nothing over IPv6: one will do.
            let is_hit = |door: &doors::Door<'_>| match name {
                "answers" if file == "inner" => door.name == "transfer fallback",
                "answers" => door.name == "fallback-https",
                "neighbours" => door.name == "transfer fallback" && door.family == 1,
                _ => door.name == name && (door.family == family),
            };
            let hit: Vec<_> = all.iter().filter(|door| is_hit(door)).collect();
            assert!(!hit.is_empty(), "{file}: no door needs {line}");
            for door in hit {
                assert!(!door.works(SHORT), "{file}: {} works without {line}", door.name);
            }
            site.load(file, &whole);
            taken += 1;
        }
        let closed = wrong(&all, |_| (true, PATIENCE));
        assert!(closed.is_empty(), "{file}, whole again: {closed:#?}");
    }
    assert!(taken > 40, "{taken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_clients_fills_no_table_of_connections_and_that_of_nodes_is_remembered_as_long_as_a_flow() {
    if !nft_is_here() {
        return;
    }
    let Some(mut site) = Site::new().await else { return };
    site.banners();
    let _gateway = site.gateway().await;
    FILES.iter().for_each(|file| site.load(file, &rules(file)));
    let _controls = controls(&site);
    for door in wanted(&site).iter().filter(|door| door.what == Try::Datagram && door.name == "data") {
        assert!(door.works(PATIENCE));
    }
    let is_data = |line: &&str| line.contains(" udp ") && line.contains("dport=33001");
    let outer = site.tracked(&site.outer);
    assert!(outer.contains("dport=33001"), "control is remembered: {outer}");
    assert_eq!(outer.lines().find(is_data), None);
    for router in [&site.inner, &site.gateway] {
        let tracked = site.tracked(router);
        let flows: Vec<_> = tracked.lines().filter(is_data).collect();
        assert!(flows.iter().any(|line| line.contains("dst=10.1.0.11 ")), "{tracked}");
        assert!(flows.iter().all(|line| !line.contains("198.51.100.2")), "{tracked}");
        for line in flows {
            // "udp 17 SECONDS src=..."
            let seconds: u32 = line.split_whitespace().nth(4).unwrap().parse().unwrap();
            assert!((200..=330).contains(&seconds), "{line}");
        }
    }
}
