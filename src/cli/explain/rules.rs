//! The openings as nftables rules: a file for the outer firewall, one for the inner, and one for the gateway's own host.
//!
//! Each file is a table of its own, and loading it again replaces it. Rules go by interfaces, which are named at the top,
//! and by sets of addresses, which can be changed while they hold (`nft add element`). What no rule accepts is dropped.
//!
//! Data of clients is not tracked on its way: anybody can send datagrams with any address, and each would have an entry
//! in the table of connections. Its way back has a rule of its own, and so has the message that a packet was too long for
//! a path, which for a tracked connection counts as related. Data of nodes is tracked for as long as a flow lives.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;

use super::openings::{Opening, Peer, Transport, Wall, Way, text_of};

/// The two families: the words of nftables for their addresses, and what ends the names of their sets.
const FAMILIES: [(&str, &str, &str); 2] = [("ip", "ipv4_addr", "v4"), ("ip6", "ipv6_addr", "v6")];
/// How much longer than a flow the firewalls remember it.
const MARGIN: Duration = Duration::from_secs(30);
/// How much of a set's name ports may be, in bytes; the kernel takes names of 255.
const MOST_OF_PORTS: usize = 100;
const TRACKED: &str = "ct state established,related accept comment \"answers\"";
const TOO_LONG: &str = "icmpv6 type packet-too-big limit rate 100/second burst 100 packets accept comment \"path MTU\"";
const NEIGHBOURS: &str = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept comment \"neighbours\"";

/// What the rules are made of.
pub(super) struct Site<'a> {
    pub(super) openings: &'a [Opening],
    /// The gateway's addresses in its network, as far as they are known.
    pub(super) gateway: &'a [IpAddr],
}

/// A rule for one family: who is meant, and where the packet comes from and goes to.
struct Place<'a> {
    opening: &'a Opening,
    family: usize,
    /// Before the addresses.
    inward: String,
    outward: String,
    /// The gateway as a source and as a destination; empty on its own host.
    gateway: bool,
}

impl Site<'_> {
    fn walled(&self, wall: Option<Wall>) -> Vec<&Opening> {
        self.openings.iter().filter(|opening| wall.is_none_or(|wall| opening.wall == wall)).collect()
    }

    /// The file for one of the two firewalls.
    pub(super) fn firewall(&self, wall: Wall) -> String {
        let (name, far, about) = match wall {
            Wall::Outer => ("outer", "wan", "The outer firewall: between the internet and the network of the gateway."),
            Wall::Inner => ("inner", "lan", "The inner firewall: between the network of the gateway and those inside."),
        };
        let openings = self.walled(Some(wall));
        let mut text = head(name, about, &[(far, "the side away from the gateway"), ("dmz", "the gateway's network")]);
        self.sets(&mut text, &openings, true);
        let place = |opening, family| Place {
            opening,
            family,
            inward: format!("iifname ${far} oifname $dmz "),
            outward: format!("iifname $dmz oifname ${far} "),
            gateway: true,
        };
        let (is_data, mut rules, mut untracked) =
            (openings.iter().any(|o| is_untracked(o) && o.families[1]), vec![TRACKED.to_owned()], vec![]);
        if is_data {
            rules.push(format!("iifname ${far} oifname $dmz ip6 daddr @gateway-v6 {TOO_LONG}"));
        }
        for (opening, family) in each(&openings) {
            let place = place(opening, family);
            rules.extend(place.accept());
            if is_untracked(opening) {
                let ip = FAMILIES[family];
                let ports = ports(opening);
                let comment = comment(opening);
                untracked.push(format!(
                    "iifname ${far} {0} daddr @gateway-{1} udp dport {ports} notrack {comment}",
                    ip.0, ip.2
                ));
                untracked.push(format!(
                    "iifname $dmz {0} saddr @gateway-{1} udp sport {ports} notrack {comment}",
                    ip.0, ip.2
                ));
            }
        }
        chain(&mut text, "untracked", "filter hook prerouting priority raw; policy accept", &untracked);
        chain(&mut text, "forward", "filter hook forward priority filter; policy drop", &rules);
        text + "}\n"
    }

    /// The file for the gateway's own host.
    pub(super) fn host(&self) -> String {
        let openings = self.walled(None);
        let mut text = head("host", "The gateway's own host. What operators need to log in to it is not here.", &[]);
        self.sets(&mut text, &openings, false);
        let mut input =
            vec!["iifname lo accept comment \"itself\"".to_owned(), TRACKED.to_owned(), NEIGHBOURS.to_owned()];
        let mut output =
            vec!["oifname lo accept comment \"itself\"".to_owned(), TRACKED.to_owned(), NEIGHBOURS.to_owned()];
        let (mut raw_in, mut raw_out) = (vec![], vec![]);
        if openings.iter().any(|opening| is_untracked(opening) && opening.families[1]) {
            input.push(TOO_LONG.to_owned());
        }
        for (opening, family) in each(&openings) {
            let place = Place { opening, family, inward: String::new(), outward: String::new(), gateway: false };
            let mut rules = place.accept().into_iter();
            match opening.way {
                Way::In => input.extend(rules.next()),
                Way::Out => output.extend(rules.next()),
            }
            output.extend(rules);
            if is_untracked(opening) {
                let (protocol, ports, comment) = (["ipv4", "ipv6"][family], ports(opening), comment(opening));
                raw_in.push(format!("meta nfproto {protocol} udp dport {ports} notrack {comment}"));
                raw_out.push(format!("meta nfproto {protocol} udp sport {ports} notrack {comment}"));
            }
        }
        chain(&mut text, "untracked-in", "filter hook prerouting priority raw; policy accept", &raw_in);
        chain(&mut text, "untracked-out", "filter hook output priority raw; policy accept", &raw_out);
        chain(&mut text, "input", "filter hook input priority filter; policy drop", &input);
        chain(&mut text, "output", "filter hook output priority filter; policy drop", &output);
        text + "}\n"
    }

    /// The sets of addresses, and how long data of nodes is remembered.
    fn sets(&self, text: &mut String, openings: &[&Opening], with_gateway: bool) {
        let mut sets: BTreeMap<String, (usize, BTreeSet<IpNet>, BTreeSet<String>)> = BTreeMap::new();
        if with_gateway {
            for (family, (_, _, suffix)) in FAMILIES.iter().enumerate() {
                let of_family = |ip: &&IpAddr| usize::from(ip.is_ipv6()) == family;
                let known: BTreeSet<_> = self.gateway.iter().filter(of_family).map(|ip| IpNet::from(*ip)).collect();
                let missing = known.is_empty().then(|| "the gateway's addresses".to_owned());
                sets.insert(format!("gateway-{suffix}"), (family, known, missing.into_iter().collect()));
            }
        }
        for (opening, family) in each(openings).filter(|(opening, _)| !opening.peer.is_anyone()) {
            let (_, known, missing) =
                sets.entry(set(opening, family)).or_insert_with(|| (family, BTreeSet::new(), BTreeSet::new()));
            known.extend(networks(&opening.peer, family));
            missing.extend(opening.peer.unknown.iter().cloned());
        }
        for (name, (family, known, missing)) in sets {
            let _ = writeln!(text, "    set {name} {{\n        type {}\n        flags interval", FAMILIES[family].1);
            for who in missing {
                let _ = writeln!(text, "        # here: {who}");
            }
            if !known.is_empty() {
                let _ = writeln!(text, "        elements = {{ {} }}", elements(&known).join(", "));
            }
            text.push_str("    }\n\n");
        }
        for (opening, family) in each(openings).filter(|(opening, _)| opening.way == Way::Out) {
            if let Some(idle) = opening.data {
                let seconds = (idle + MARGIN).as_secs();
                let (name, (protocol, ..)) = (set(opening, family), FAMILIES[family]);
                let _ = writeln!(
                    text,
                    "    ct timeout {name} {{\n        protocol udp\n        l3proto {protocol}\n        policy = {{ unreplied : {seconds}, replied : {seconds} }}\n    }}\n"
                );
            }
        }
    }
}

impl Place<'_> {
    /// What lets the opening through; of untracked data there and back.
    fn accept(&self) -> Vec<String> {
        let (opening, (ip, _, suffix)) = (self.opening, FAMILIES[self.family]);
        let (ports, comment) = (ports(opening), comment(opening));
        let peer = (!opening.peer.is_anyone()).then(|| format!("@{}", set(opening, self.family)));
        let gateway = self.gateway.then(|| format!("@gateway-{suffix}"));
        // Where neither side is named, the family still is.
        let address = |from: &Option<String>, to: &Option<String>| {
            let side = |word: &str, who: &Option<String>| who.as_ref().map(|who| format!("{ip} {word} {who} "));
            let both: String = [side("saddr", from), side("daddr", to)].into_iter().flatten().collect();
            if both.is_empty() { format!("meta nfproto {} ", ["ipv4", "ipv6"][self.family]) } else { both }
        };
        let port = |side: &str| match ports.is_empty() {
            true => format!("meta l4proto {} ", opening.transport.as_str()),
            false => format!("{} {side} {ports} ", opening.transport.as_str()),
        };
        let new = match opening.data {
            Some(_) => format!("ct state new ct timeout set \"{}\" ", set(opening, self.family)),
            None => "ct state new ".to_owned(),
        };
        match opening.way {
            Way::Out => {
                vec![format!("{}{}{}{new}accept {comment}", self.outward, address(&gateway, &peer), port("dport"))]
            }
            Way::In if is_untracked(opening) => vec![
                format!("{}{}{}accept {comment}", self.inward, address(&peer, &gateway), port("dport")),
                format!("{}{}{}accept {comment}", self.outward, address(&gateway, &peer), port("sport")),
            ],
            Way::In => {
                vec![format!("{}{}{}{new}accept {comment}", self.inward, address(&peer, &gateway), port("dport"))]
            }
        }
    }
}

/// Data of clients.
fn is_untracked(opening: &Opening) -> bool {
    opening.way == Way::In && opening.transport == Transport::Udp
}

/// Each opening in each family in which there is somebody, or may be.
fn each<'a>(openings: &'a [&'a Opening]) -> impl Iterator<Item = (&'a Opening, usize)> + 'a {
    let is_there = |(opening, family): &(&Opening, usize)| {
        let peer = &opening.peer;
        opening.families[*family]
            && (!peer.unknown.is_empty() || peer.is_anyone() || !networks(peer, *family).is_empty())
    };
    openings.iter().flat_map(|opening| [(*opening, 0), (*opening, 1)]).filter(is_there)
}

fn networks(peer: &Peer, family: usize) -> Vec<IpNet> {
    peer.networks.iter().filter(|net| usize::from(net.addr().is_ipv6()) == family).copied().collect()
}

/// What a set is of. nftables takes no two elements that have an address in common, so one within another is left out.
fn elements(known: &BTreeSet<IpNet>) -> Vec<String> {
    let is_within = |net: &IpNet| known.iter().any(|other| other.contains(net) && other.trunc() != net.trunc());
    let of_all: BTreeSet<_> = known.iter().filter(|net| !is_within(net)).map(IpNet::trunc).collect();
    let mut texts: Vec<_> = of_all.iter().map(text_of).collect();
    // As words, so that a config says it in one order.
    texts.sort_unstable();
    texts
}

/// The name of the set of an opening's other side; it tells the opening from every other.
fn set(opening: &Opening, family: usize) -> String {
    let side = if opening.way == Way::In { "from" } else { "to" };
    let ports = match opening.ports.join(".") {
        none if none.is_empty() => "any".to_owned(),
        few if few.len() <= MOST_OF_PORTS => few,
        // A name has an end; this one is still that of these ports alone.
        many => {
            let mut hasher = DefaultHasher::new();
            many.hash(&mut hasher);
            format!("many-{:016x}", hasher.finish())
        }
    };
    let name = opening.name.replace(' ', "-");
    format!("{side}-{name}-{}-{ports}-{}", opening.transport.as_str(), FAMILIES[family].2)
}

fn ports(opening: &Opening) -> String {
    match opening.ports.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        several => format!("{{ {} }}", several.join(", ")),
    }
}

fn comment(opening: &Opening) -> String {
    format!("comment \"{}\"", opening.name)
}

fn head(name: &str, about: &str, interfaces: &[(&str, &str)]) -> String {
    let mut text = format!("#!/usr/sbin/nft -f\n# {about}\n# Loading it again replaces it: nft -f {name}.nft\n");
    if !interfaces.is_empty() {
        text.push('\n');
    }
    for (interface, what) in interfaces {
        let _ = writeln!(text, "define {interface} = \"{interface}\"    # {what}");
    }
    let _ = write!(
        text,
        "\ntable inet fallgate-{name}\ndelete table inet fallgate-{name}\ntable inet fallgate-{name} {{\n"
    );
    text
}

fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    if rules.is_empty() {
        return;
    }
    let _ = writeln!(text, "    chain {name} {{\n        type {hook};");
    let mut seen = BTreeSet::new();
    for rule in rules.iter().filter(|rule| seen.insert(rule.as_str())) {
        let _ = writeln!(text, "        {rule}");
    }
    text.push_str("    }\n");
}
