//! Which addresses are private, reserved or hide another: what no client may reach unless the policy says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Why an address needs to be named before it is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// 0.0.0.0/8 and ::, which lead to this host.
    Unspecified,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and fc00::/7.
    Private,
    /// 169.254.0.0/16, where clouds keep their metadata, and fe80::/10.
    LinkLocal,
    /// 168.63.129.16, by which a cloud serves its hosts although the address looks public.
    Metadata,
    /// 100.64.0.0/10, of carriers and clusters.
    Carrier,
    /// 224.0.0.0/4 and ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
    /// 240.0.0.0/4, 192.0.0.0/24 and fec0::/10.
    Reserved,
    /// An IPv6 address that leads to an IPv4 address: NAT64, 6to4, Teredo, IPv4-compatible and -translated.
    Embedding,
}

impl Class {
    /// The word for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Loopback => "loopback",
            Class::Unspecified => "unspecified",
            Class::Private => "private",
            Class::LinkLocal => "link_local",
            Class::Metadata => "metadata",
            Class::Carrier => "carrier",
            Class::Multicast => "multicast",
            Class::Broadcast => "broadcast",
            Class::Reserved => "reserved",
            Class::Embedding => "embedding",
        }
    }

    /// The class of one address, whatever is embedded in it; nothing for one that anybody may reach.
    ///
    /// Networks for documentation (192.0.2.0/24 and their kin) are ordinary.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Class> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }
}

fn of_v4(ip: Ipv4Addr) -> Option<Class> {
    Some(match ip.octets() {
        [0, ..] => Class::Unspecified,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [169, 254, ..] => Class::LinkLocal,
        [168, 63, 129, 16] => Class::Metadata,
        [100, 64..=127, ..] => Class::Carrier,
        [255, 255, 255, 255] => Class::Broadcast,
        [224..=239, ..] => Class::Multicast,
        // Benchmarks (RFC 2544), which are used inside networks, and the anycast of 6to4.
        [240..=255, ..] | [192, 0, 0, _] | [198, 18..=19, ..] | [192, 88, 99, _] => Class::Reserved,
        _ => return None,
    })
}

fn of_v6(ip: Ipv6Addr) -> Option<Class> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        // Site-local, discard-only (RFC 6666), and segment routing (RFC 9602).
        [0xfec0..=0xfeff, ..] | [0x100, 0, 0, 0, ..] | [0x5f00, ..] => Class::Reserved,
        [0xff00..=0xffff, ..] => Class::Multicast,
        _ if !embedded(ip).is_empty() => Class::Embedding,
        _ => return None,
    })
}

/// The IPv4 addresses that an IPv6 address may lead to.
fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        // IPv4-compatible, -mapped and -translated (RFC 2765), and NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => vec![v4(high, low)],
        // NAT64 of one's own (RFC 8215): the places that go with the longest and the shortest prefix (RFC 6052
        // section 2.2). The one that is not used is all zero.
        [0x64, 0xff9b, 1, first, second, third, high, low] => {
            let long = v4(high, low);
            let short = v4(first, second << 8 | third >> 8);
            if short.is_unspecified() || long.is_unspecified() {
                vec![if short.is_unspecified() { long } else { short }]
            } else {
                vec![long, short]
            }
        }
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => vec![v4(high, low)],
        // Teredo: the server, and the client with its bits turned.
        [0x2001, 0, high, low, _, _, turned_high, turned_low] => {
            vec![v4(high, low), v4(!turned_high, !turned_low)]
        }
        _ => Vec::new(),
    }
}

/// An address as IPv4 where it is one, and with it every IPv4 address that it may lead to.
#[must_use]
pub fn forms(ip: IpAddr) -> Vec<IpAddr> {
    let ip = ip.to_canonical();
    let mut forms = vec![ip];
    if let IpAddr::V6(v6) = ip
        && Class::of(ip) == Some(Class::Embedding)
    {
        forms.extend(embedded(v6).into_iter().map(IpAddr::V4));
    }
    forms
}

/// What the gateway itself listens on, so that no client is led back into it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// The bound TCP addresses of the listeners; with the ports that the system chose, where it did.
    pub listeners: Vec<SocketAddr>,
    /// The bound address of the admin door.
    pub admin: Option<SocketAddr>,
    /// The addresses of this host, for listeners on all of them; loopback counts without being named.
    pub local: Vec<IpAddr>,
}

impl OwnAddresses {
    /// Whether a connection there meets a listener.
    #[must_use]
    pub fn is_listener(&self, ip: IpAddr, port: u16) -> bool {
        self.listeners.iter().any(|listener| self.meets(*listener, ip, port))
    }

    /// Whether it is an address of this host's interfaces.
    #[must_use]
    pub fn is_local(&self, ip: IpAddr) -> bool {
        forms(ip).into_iter().any(|ip| self.local.iter().any(|local| local.to_canonical() == ip))
    }

    /// Whether a connection there meets the admin door.
    #[must_use]
    pub fn is_admin(&self, ip: IpAddr, port: u16) -> bool {
        self.admin.is_some_and(|admin| self.meets(admin, ip, port))
    }

    /// A wildcard is met through every address of the host, and an unspecified target leads to the host itself.
    fn meets(&self, bound: SocketAddr, ip: IpAddr, port: u16) -> bool {
        let at = bound.ip().to_canonical();
        let is_met = |ip: IpAddr| {
            let here = matches!(Class::of(ip), Some(Class::Loopback | Class::Unspecified))
                || self.local.iter().any(|local| local.to_canonical() == ip);
            ip == at || at.is_unspecified() && here || Class::of(ip) == Some(Class::Unspecified)
        };
        bound.port() == port && forms(ip).into_iter().any(is_met)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn class(text: &str) -> Option<&'static str> {
        Class::of(text.parse().unwrap()).map(Class::as_str)
    }

    #[test]
    fn every_private_range_is_known_by_its_first_and_last_address() {
        for (word, texts) in [
            ("loopback", ["127.0.0.0", "127.255.255.255", "::1", "::ffff:127.0.0.1"].as_slice()),
            ("unspecified", &["0.0.0.0", "0.255.255.255", "::", "::ffff:0.0.0.0"]),
            (
                "private",
                &["10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"],
            ),
            ("private", &["fc00::", "fd00:ec2::254", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
            ("link_local", &["169.254.0.0", "169.254.169.254", "fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
            ("metadata", &["168.63.129.16"]),
            ("carrier", &["100.64.0.0", "100.127.255.255"]),
            ("multicast", &["224.0.0.0", "239.255.255.255", "ff00::", "ff02::1"]),
            ("broadcast", &["255.255.255.255"]),
            ("reserved", &["240.0.0.0", "255.255.255.254", "192.0.0.192", "fec0::", "feff::1"]),
            ("embedding", &["64:ff9b::8.8.8.8", "64:ff9b:1::", "64:ff9b:1:ffff::1", "2002::", "2002:808:808::1"]),
            ("embedding", &["2001::", "2001:0:ffff::", "::8.8.8.8", "::2", "::ffff:0:8.8.8.8"]),
        ] {
            for text in texts {
                assert_eq!(class(text), Some(word), "{text}");
            }
        }
    }

    #[test]
    fn the_neighbours_of_private_ranges_are_ordinary() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.2.1",
            "192.167.255.255",
            "192.169.0.0",
            "198.51.100.1",
            "203.0.113.7",
            "223.255.255.255",
            "2001:1::",
            "2001:db8::1",
            "2003::",
            "64:ff9b:2::1",
            "2606:4700::1",
            "fbff::",
            "fe7f::",
        ] {
            assert_eq!(class(text), None, "{text}");
        }
    }

    #[test]
    fn what_an_address_hides_is_found() {
        for (text, hidden) in [
            ("::10.0.0.1", ["10.0.0.1"].as_slice()),
            ("64:ff9b::10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b:1::10.0.0.1", &["10.0.0.1"]),
            ("64:ff9b:1:a00:0:100::", &["10.0.0.1"]),
            ("64:ff9b:1:a00:0:100:808:808", &["8.8.8.8", "10.0.0.1"]),
            ("2002:a00:1::1", &["10.0.0.1"]),
            ("2001:0:808:808:0:0:f5ff:fffe", &["8.8.8.8", "10.0.0.1"]),
            ("::ffff:0:10.0.0.1", &["10.0.0.1"]),
            ("2001:db8::a00:1", &[]),
            ("::1", &[]),
        ] {
            let found: Vec<_> = forms(text.parse().unwrap())[1..].iter().map(ToString::to_string).collect();
            assert_eq!(found, hidden, "{text}");
        }
        assert_eq!(forms("::ffff:10.0.0.1".parse().unwrap()), ["10.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_listener_is_met_through_every_way_to_it() {
        let meets = |bound: &str, ip: &str, port| {
            let own = OwnAddresses {
                admin: Some(bound.parse().unwrap()),
                local: vec!["192.0.2.9".parse().unwrap()],
                ..OwnAddresses::default()
            };
            own.is_admin(ip.parse().unwrap(), port)
        };
        for ip in ["127.0.0.1", "::ffff:127.0.0.1", "0.0.0.0", "::", "0.1.2.3", "64:ff9b::7f00:1"] {
            assert!(meets("127.0.0.1:9180", ip, 9180) && !meets("127.0.0.1:9180", ip, 9181), "{ip}");
        }
        assert!(!meets("127.0.0.1:9180", "127.0.0.2", 9180) && !meets("127.0.0.1:9180", "192.0.2.9", 9180));
        for ip in ["127.0.0.2", "::1", "192.0.2.9", "::ffff:192.0.2.9", "2002:c000:209::", "0.0.0.0"] {
            assert!(meets("0.0.0.0:9180", ip, 9180) && meets("[::]:9180", ip, 9180), "{ip}");
        }
        assert!(!meets("[::]:9180", "192.0.2.10", 9180));
    }

    proptest! {
        #[test]
        fn an_embedded_private_address_never_looks_public(v4 in any::<u32>(), kind in 0usize..5) {
            let v4 = Ipv4Addr::from(v4);
            let [high, low] = [v4.to_bits() >> 16, v4.to_bits() & 0xffff].map(|half| half as u16);
            let v6 = [
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                v4.to_ipv6_mapped(),
            ][kind];
            prop_assert!(forms(v6.into()).contains(&v4.into()));
            prop_assert!(v4.to_ipv6_mapped() == v6 || Class::of(v6.into()).is_some());
        }
    }
}
