//! Names and addresses of hosts: what a rule of a policy says of them, and what is a name at all.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The longest name without the dot at its end, and the longest label, in bytes (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// The hosts that an entry of a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `*`: every name and every address.
    Any,
    /// One name, in lower case and without a dot at its end.
    Name(String),
    /// `*.example.com`: every name below this one, however deep, and not the name itself; kept as for `Name`.
    Below(String),
    /// An address or a network.
    Network(IpNet),
}

/// The text is no host, no network and no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a DNS name, a pattern such as *.example.com, an IP address or a network")]
pub struct NoPattern;

impl FromStr for HostPattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let name = |text: &str| is_name(text).then(|| canonical_name(text)).ok_or(NoPattern);
        match text.strip_prefix("*.") {
            _ if text == "*" => Ok(Self::Any),
            Some(rest) => name(rest).map(Self::Below),
            None => super::format::parse_network(text).map(Self::Network).or_else(|_| name(text).map(Self::Name)),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => network.addr().fmt(f),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for HostPattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HostPattern".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "host-pattern" })
    }
}

/// A name as names are compared: ASCII lower case, without the one dot that may stand at its end.
#[must_use]
pub fn canonical_name(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

/// Whether `text` is a name that can be asked the DNS for, and that nothing takes for an address.
///
/// The underscore is allowed because container networks use it.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_dns_name(text) && !ends_in_number(text)
}

/// Whether `text` has the form of a DNS name; one dot may stand at its end.
#[must_use]
pub fn is_dns_name(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let text = text.strip_suffix('.').unwrap_or(text);
    text.len() <= MAX_NAME
        && text.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= MAX_LABEL
                && label.chars().all(inside)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether the last label is a number, decimal, octal or hexadecimal: such a text is an address to `inet_aton`, or a
/// broken one, and no name of the DNS, which has no such top-level domain.
#[must_use]
pub fn ends_in_number(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.chars().all(|c| c.is_ascii_hexdigit()),
        None => !last.is_empty() && last.chars().all(|c| c.is_ascii_digit()),
    }
}

/// A network of IPv4 that is written as IPv6 (`::ffff:a.b.c.d/n`) as one of IPv4; any other as it is.
#[must_use]
pub fn canonical_network(network: IpNet) -> IpNet {
    let IpAddr::V6(ip) = network.addr() else { return network };
    let mapped = ip.to_ipv4_mapped().zip(network.prefix_len().checked_sub(96));
    mapped.and_then(|(ip, length)| IpNet::new(ip.into(), length).ok()).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> Option<String> {
        text.parse::<HostPattern>().ok().map(|pattern| pattern.to_string())
    }

    #[test]
    fn patterns_are_kept_in_one_spelling() {
        for (text, kept) in [
            ("*", "*"),
            ("*.Example.COM.", "*.example.com"),
            ("N1.example", "n1.example"),
            ("203.0.113.7", "203.0.113.7"),
            ("198.51.100.0/24", "198.51.100.0/24"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("node_1", "node_1"),
        ] {
            assert_eq!(told(text).as_deref(), Some(kept), "{text}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_pattern() {
        for text in
            ["", "*.", "**", "a.*", "*a.b", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "*.10", "a:80", "[::1]"]
        {
            assert_eq!(told(text), None, "{text}");
        }
        assert_eq!(told("198.51.100.7/24"), None);
    }

    #[test]
    fn a_text_that_ends_in_a_number_is_no_name() {
        for text in ["1", "a.1", "0x", "0xfF", "1.2.3.4.", "a.0X1"] {
            assert!(ends_in_number(text) && !is_name(text), "{text}");
        }
        for text in ["a1", "1a", "1.a", "0xg", "1.2.3.4.example"] {
            assert!(is_name(text), "{text}");
        }
    }

    #[test]
    fn a_network_of_ipv4_is_one_in_whatever_spelling() {
        let canonical = |text: &str| canonical_network(text.parse().unwrap()).to_string();
        assert_eq!(canonical("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        assert_eq!(canonical("::/0"), "::/0");
        assert_eq!(canonical("::fffe:0:0/95"), "::fffe:0:0/95");
    }

    proptest! {
        #[test]
        fn a_pattern_written_and_read_is_the_same(text in "(\\*\\.)?[a-zA-Z0-9._-]{1,20}(/[0-9]{1,2})?") {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                prop_assert_eq!(pattern.to_string().parse(), Ok(pattern));
            }
        }
    }
}
