//! The ports that an entry of a policy is about.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A port or a range of ports, from 1 to 65535: `443`, `"8000-8443"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The text is no port and no range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a port from 1 to 65535, or a range such as \"8000-8443\"")]
pub struct NoPorts;

impl PortRange {
    /// Whether `port` is among them.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && !text.starts_with('+'));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = port(first).zip(port(last)).filter(|(first, last)| first <= last).ok_or(NoPorts)?;
        Ok(Self { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.first == self.last {
            true => to.serialize_u16(self.first),
            false => to.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Number(u16),
            Text(String),
        }
        match Said::deserialize(from)? {
            Said::Number(port) if port > 0 => Ok(Self { first: port, last: port }),
            Said::Number(_) => Err(D::Error::custom(NoPorts)),
            Said::Text(text) => text.parse().map_err(D::Error::custom),
        }
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PortRange".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "format": "uint16", "minimum": 1, "maximum": 65535 },
                { "type": "string", "format": "port-range" },
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_or_a_range_is_read_and_written_alike() {
        for text in ["443", "8000-8443", "1-65535"] {
            assert_eq!(text.parse::<PortRange>().unwrap().to_string(), text);
        }
        for bad in ["", "0", "0-5", "5-4", "65536", "+5", "5-+6", "-5", "5-", "a"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
        let range: PortRange = "8000-8002".parse().unwrap();
        assert_eq!([7999, 8000, 8002, 8003].map(|port| range.contains(port)), [false, true, true, false]);
    }
}
