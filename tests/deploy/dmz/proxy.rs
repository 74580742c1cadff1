//! The other way round: a forward proxy between the two firewalls, for those inside.

use std::io::{Read as _, Write as _};

use super::{
    doors::{CLIENT, Door, GATEWAY, NODES, PATIENCE, SHORT, Try, wrong},
    nft_is_here,
    site::{FILES, OTHER, Site, at, explained_of},
};

const CONFIG: &str = "version: 1
listeners: [{ name: egress, protocol: forward_proxy, address: '192.0.2.10:3128', policy: partner }]
policies:
  - name: partner
    auth: { allow_from: ['10.1.0.0/24'] }
    allow: [{ hosts: ['198.51.100.0/24'], ports: [9092] }]
resolver: { servers: ['10.1.0.99'] }
";

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_proxy_lets_those_inside_out_to_what_its_policy_allows_and_each_rule_is_needed() {
    if !nft_is_here() {
        return;
    }
    let Some(mut site) = Site::new().await else { return };
    site.banners();
    site.name_server();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fallgate.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let rules = FILES.map(|file| explained_of(&config, &["--part", file]));
    let _gateway = site.gateway_with(CONFIG, at("127.0.0.1", 9180)).await;

    let tcp = |name, from, ip, port| Door { name, family: 0, from, to: at(ip, port), what: Try::Connect };
    let names = at("10.1.0.99", 53);
    let wanted = [
        tcp("egress", &*site.n1, GATEWAY[0], 3128),
        tcp("policy partner", &site.gateway, CLIENT[0], OTHER),
        Door { name: "names", family: 0, from: &site.gateway, to: names, what: Try::Datagram },
        Door { name: "names", family: 0, from: &site.gateway, to: names, what: Try::Connect },
    ];
    let unwanted = [
        tcp("a client at the proxy", &*site.client, GATEWAY[0], 3128),
        tcp("another host of the DMZ at the proxy", &site.neighbour, GATEWAY[0], 3128),
        tcp("another host of the DMZ at a target", &site.neighbour, CLIENT[0], OTHER),
        tcp("somebody inside at a target, past the proxy", &site.n1, CLIENT[0], OTHER),
        tcp("a target inside", &site.client, NODES[0], OTHER),
        tcp("the gateway inside", &site.gateway, NODES[0], OTHER),
    ];
    let open = wrong(&unwanted, |_| (true, PATIENCE));
    assert!(open.is_empty(), "without rules: {open:#?}");
    FILES.iter().zip(&rules).for_each(|(file, rules)| site.load(file, rules));
    let closed = wrong(&wanted, |_| (true, PATIENCE));
    assert!(closed.is_empty(), "{closed:#?}");
    let open = wrong(&unwanted, |_| (false, SHORT));
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(tunnelled(&site), "here");

    for (file, whole) in FILES.iter().zip(&rules) {
        for line in whole.lines().filter(|line| line.contains(" accept comment ") && line.contains(" dport ")) {
            let without: String = whole.lines().filter(|other| *other != line).map(|l| format!("{l}\n")).collect();
            site.load(file, &without);
            let name = line.split('"').rev().nth(1).unwrap();
            let what = if line.contains(" udp dport ") { Try::Datagram } else { Try::Connect };
            let door = wanted.iter().find(|door| door.name == name && door.what == what).unwrap();
            assert!(!door.works(SHORT), "{file}: {name} works without {line}");
            site.load(file, whole);
        }
    }
    let closed = wrong(&wanted, |_| (true, PATIENCE));
    assert!(closed.is_empty(), "whole again: {closed:#?}");
}

/// What a target says through a tunnel of somebody inside.
fn tunnelled(site: &Site) -> String {
    let proxy = at(GATEWAY[0], 3128);
    let mut stream = site.n1.open(|| std::net::TcpStream::connect_timeout(&proxy, PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let target = at(CLIENT[0], OTHER);
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).unwrap();
    let mut heard = String::new();
    while !heard.ends_with("here\n") {
        let mut bytes = [0; 200];
        let n = stream.read(&mut bytes).unwrap();
        assert!(n > 0, "{heard}");
        heard += std::str::from_utf8(&bytes[..n]).unwrap();
    }
    heard.rsplit("\r\n").next().unwrap().trim().to_owned()
}
