//! `bandwidth`: how fast the bytes of transfers may go, over all and for each.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::leaf;

/// How fast the bytes of transfers may go; by default as fast as they can. What is faster is slowed down, datagrams are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BandwidthConfig {
    /// All together; default `off`.
    pub total: Bandwidth,
    /// Each client address, of IPv6 each /64; default `off`, never above `total`.
    pub per_client: Bandwidth,
    /// Each session, control connection, flow of data or tunnel; default `off`, never above `per_client` and `total`.
    pub per_session: Bandwidth,
    /// Each node, over all listeners that lead to it; default `off`, never above `total`.
    pub per_node: Bandwidth,
}

/// A bandwidth for each direction, in bytes a second, `None` without bound; at least 8kbit/s.
///
/// It is written `off`, `200Mbit/s` for each direction, or `{ upload: 200Mbit/s, download: off }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// From the client to the node.
    pub upload: Option<u64>,
    /// From the node to the client.
    pub download: Option<u64>,
}

impl Bandwidth {
    /// Whether neither direction has a bound.
    #[must_use]
    pub fn is_off(self) -> bool {
        self == Self::default()
    }
}

/// One text for both directions.
#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Both(#[serde(with = "leaf::bandwidth_or_off")] Option<u64>);

/// Each direction by itself.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Each {
    /// From the client to the node, such as `200Mbit/s`; default `off`.
    #[serde(with = "leaf::bandwidth_or_off")]
    #[schemars(schema_with = "leaf::bandwidth_or_off::schema")]
    upload: Option<u64>,
    /// From the node to the client, such as `200Mbit/s`; default `off`.
    #[serde(with = "leaf::bandwidth_or_off")]
    #[schemars(schema_with = "leaf::bandwidth_or_off::schema")]
    download: Option<u64>,
}

impl Serialize for Bandwidth {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.upload == self.download {
            true => Both(self.upload).serialize(to),
            false => Each { upload: self.upload, download: self.download }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            Both(Both),
            Each(Each),
        }
        Ok(match Said::deserialize(from)? {
            Said::Both(Both(both)) => Self { upload: both, download: both },
            Said::Each(Each { upload, download }) => Self { upload, download },
        })
    }
}

impl JsonSchema for Bandwidth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bandwidth".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let each = generator.subschema_for::<Each>();
        json_schema!({
            "anyOf": [ { "type": "string", "format": "bandwidth" }, { "const": "off" }, each ]
        })
    }
}
