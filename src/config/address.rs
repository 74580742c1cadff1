//! Where a listener listens: an IP address with a port, or with a range of ports.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An IP address with a port or a range of ports, such as `0.0.0.0:33001` or `[::]:33001-33020`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenAddress {
    first: SocketAddr,
    last: u16,
}

/// The text is no address, or its range runs backwards or begins at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address with a port or a range of ports")]
pub struct NoAddress;

impl ListenAddress {
    /// The first address of the range; of a single port the only one.
    #[must_use]
    pub fn first(self) -> SocketAddr {
        self.first
    }

    /// Every address of the range, in order.
    pub fn all(self) -> impl Iterator<Item = SocketAddr> {
        (self.first.port()..=self.last).map(move |port| SocketAddr::new(self.first.ip(), port))
    }

    /// How many ports there are; at least 1.
    #[must_use]
    pub fn ports(self) -> u16 {
        (self.last - self.first.port()).saturating_add(1)
    }

    /// Whether the system chooses the port.
    #[must_use]
    pub fn is_any_port(self) -> bool {
        self.first.port() == 0
    }

    /// Whether the two cannot both be listened on: a port in common, and the same IP address, or that of one among those
    /// that the other stands for. `0.0.0.0` stands for all of IPv4, `[::]` for all there are.
    #[must_use]
    pub fn overlaps(self, other: ListenAddress) -> bool {
        let (a, b) = (self.first.ip(), other.first.ip());
        let holds = |one: IpAddr, two: IpAddr| one.is_unspecified() && (one.is_ipv6() || two.is_ipv4());
        let meet = (a == b || holds(a, b) || holds(b, a)) && !self.is_any_port() && !other.is_any_port();
        meet && self.first.port() <= other.last && other.first.port() <= self.last
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(first: SocketAddr) -> Self {
        Self { first, last: first.port() }
    }
}

impl FromStr for ListenAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if let Ok(single) = text.parse::<SocketAddr>() {
            return Ok(single.into());
        }
        let (host, ports) = text.rsplit_once(':').ok_or(NoAddress)?;
        let (first, last) = ports.split_once('-').ok_or(NoAddress)?;
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
        let (first, last) = port(first).zip(port(last)).filter(|(first, last)| first < last).ok_or(NoAddress)?;
        let ip: IpAddr = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().map_err(|_| NoAddress)?),
            None => IpAddr::V4(host.parse().map_err(|_| NoAddress)?),
        };
        Ok(Self { first: SocketAddr::new(ip, first), last })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first.port() == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ListenAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListenAddress".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "listen-address" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_or_a_range_is_read_and_written_alike() {
        for text in ["0.0.0.0:33001", "0.0.0.0:33001-33020", "[::]:1-65535", "127.0.0.1:0"] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().to_string(), text);
        }
        for bad in ["0.0.0.0:2-1", "0.0.0.0:0-5", "0.0.0.0:5-5", "::1:5-6", "[1.2.3.4]:5-6", "n:5-6", "1.2.3.4:+5-6"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_has_all_its_ports() {
        let range: ListenAddress = "0.0.0.0:33001-33003".parse().unwrap();
        let ports: Vec<_> = range.all().map(|address| address.port()).collect();
        assert_eq!((ports.as_slice(), range.ports()), ([33001, 33002, 33003].as_slice(), 3));
        let all: ListenAddress = "0.0.0.0:1-65535".parse().unwrap();
        assert_eq!((all.ports(), all.all().count()), (65535, 65535));
    }

    #[test]
    fn addresses_overlap_when_they_share_a_port_that_is_not_left_to_the_system() {
        let overlaps = |a: &str, b: &str| a.parse::<ListenAddress>().unwrap().overlaps(b.parse().unwrap());
        assert!(overlaps("0.0.0.0:5-9", "0.0.0.0:9"));
        assert!(!overlaps("0.0.0.0:5-9", "0.0.0.0:10"));
        assert!(overlaps("0.0.0.0:5-9", "127.0.0.1:6") && overlaps("10.0.0.1:6", "[::]:6"));
        assert!(!overlaps("0.0.0.0:5", "[::1]:5") && !overlaps("10.0.0.1:6", "10.0.0.2:6"));
        assert!(!overlaps("0.0.0.0:0", "0.0.0.0:0"));
    }
}
