//! Whose request it is: the client's address behind trusted fronts, and what nodes are told of it.
//! Pure.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::net::http1::Head;

/// The two fields that go on to the node. Whatever the client sent under these names is dropped
/// unless a trusted proxy sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The address that counts as the client's.
    pub client: IpAddr,
    /// `X-Forwarded-For`.
    pub x_forwarded_for: String,
    /// `Forwarded` (RFC 7239).
    pub forwarded: String,
}

/// Works out the client of a request that came from `peer`.
///
/// From the right, the first address that is no trusted proxy is the client; what stands left of it
/// anybody may have written, so it is dropped. Where `Forwarded` and `X-Forwarded-For` name different
/// clients, one of them is not the front's, and nobody can tell which: neither is believed.
pub fn of(head: &Head, peer: SocketAddr, is_tls: bool, trusted: &[IpNet]) -> Forwarded {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    let chain_of = |named: Vec<Option<IpAddr>>| {
        let mut chain = vec![peer.ip()];
        for address in named.into_iter().rev() {
            let Some(address) = address else { break };
            chain.push(address);
            if !is_trusted(address) {
                break;
            }
        }
        chain
    };
    let mut chain = match named(head) {
        _ if !is_trusted(peer.ip()) => vec![peer.ip()],
        (newer, older) if newer.is_empty() => chain_of(older),
        (newer, older) if older.is_empty() => chain_of(newer),
        (newer, older) => {
            let (newer, older) = (chain_of(newer), chain_of(older));
            if newer.last() == older.last() { newer } else { vec![peer.ip()] }
        }
    };
    let client = chain.last().copied().unwrap_or(peer.ip());
    chain.reverse();
    let scheme = if is_tls { "https" } else { "http" };
    let x_forwarded_for = chain.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let last = chain.len().saturating_sub(1);
    let forwarded = chain
        .iter()
        .enumerate()
        .map(|(i, ip)| match (ip, i == last) {
            (IpAddr::V4(ip), false) => format!("for={ip}"),
            (IpAddr::V4(ip), true) => format!("for={ip};proto={scheme}"),
            (IpAddr::V6(ip), false) => format!("for=\"[{ip}]\""),
            (IpAddr::V6(ip), true) => format!("for=\"[{ip}]\";proto={scheme}"),
        })
        .collect::<Vec<_>>()
        .join(", ");
    Forwarded { client, x_forwarded_for, forwarded }
}

/// The addresses that `Forwarded` and `X-Forwarded-For` name, each left to right; `None` stands for one
/// that cannot be read.
fn named(head: &Head) -> (Vec<Option<IpAddr>>, Vec<Option<IpAddr>>) {
    let values = |name: &str| -> Vec<String> {
        head.fields()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
            .flat_map(|(_, v)| String::from_utf8_lossy(v).split(',').map(str::to_owned).collect::<Vec<_>>())
            .collect()
    };
    let forwarded = values("forwarded")
        .iter()
        .map(|element| {
            element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then(|| address(value)).flatten()
            })
        })
        .collect();
    (forwarded, values("x-forwarded-for").iter().map(|v| address(v)).collect())
}

/// An address with or without port, quotes and brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let ip = text.parse().or_else(|_| text.trim_matches(['[', ']']).parse());
    ip.or_else(|_| text.parse::<SocketAddr>().map(|a| a.ip())).ok().map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(fields: &str) -> Head {
        Head::parse(format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into()).unwrap()
    }

    fn client(fields: &str, trusted: &[&str]) -> Forwarded {
        let trusted: Vec<IpNet> = trusted.iter().map(|t| t.parse().unwrap()).collect();
        of(&head(fields), "10.0.0.1:5".parse().unwrap(), true, &trusted)
    }

    #[test]
    fn what_a_stranger_claims_is_dropped() {
        let told = client("X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n", &[]);
        assert_eq!(told.client.to_string(), "10.0.0.1");
        assert_eq!((told.x_forwarded_for.as_str(), told.forwarded.as_str()), ("10.0.0.1", "for=10.0.0.1;proto=https"));
    }

    #[test]
    fn behind_trusted_fronts_the_first_stranger_from_the_right_is_the_client() {
        let told = client("X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.2\r\n", &["10.0.0.0/8"]);
        assert_eq!(told.client.to_string(), "1.2.3.4");
        assert_eq!(told.x_forwarded_for, "1.2.3.4, 10.0.0.2, 10.0.0.1");
    }

    #[test]
    fn forwarded_counts_in_all_its_spellings() {
        for value in ["for=1.2.3.4", "FOR=\"1.2.3.4:99\";proto=http", "by=x;for=1.2.3.4"] {
            let told = client(&format!("Forwarded: {value}\r\n"), &["10.0.0.0/8"]);
            assert_eq!(told.client.to_string(), "1.2.3.4", "{value}");
        }
        let v6 = client("Forwarded: for=\"[2001:db8::1]:4711\"\r\n", &["10.0.0.0/8"]);
        assert_eq!(v6.forwarded, "for=\"[2001:db8::1]\", for=10.0.0.1;proto=https");
    }

    #[test]
    fn two_fields_that_disagree_are_not_believed() {
        for (newer, older, named) in [
            ("for=6.6.6.6", "1.2.3.4", "10.0.0.1"),
            ("for=1.2.3.4", "6.6.6.6", "10.0.0.1"),
            ("for=6.6.6.6", "unknown", "10.0.0.1"),
            ("for=_hidden", "1.2.3.4", "10.0.0.1"),
            ("for=1.2.3.4", "6.6.6.6, 1.2.3.4", "1.2.3.4"),
            ("for=1.2.3.4;proto=https, for=10.0.0.2", "1.2.3.4", "1.2.3.4"),
        ] {
            let told = client(&format!("X-Forwarded-For: {older}\r\nForwarded: {newer}\r\n"), &["10.0.0.0/8"]);
            assert_eq!(told.client.to_string(), named, "{newer} {older}");
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_chain_at_the_last_known_proxy() {
        assert_eq!(client("X-Forwarded-For: 1.2.3.4, unknown\r\n", &["10.0.0.0/8"]).client.to_string(), "10.0.0.1");
    }

    proptest! {
        #[test]
        fn no_value_makes_it_panic(value in "[ -~]{0,80}") {
            let _ = client(&format!("Forwarded: {value}\r\nX-Forwarded-For: {value}\r\n"), &["0.0.0.0/0", "::/0"]);
        }
    }
}
