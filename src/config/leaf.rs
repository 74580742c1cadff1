//! How the leaves of the configuration that are more than a word or a number are read, written and described.
//!
//! Each module serves one field type through `#[serde(with = ...)]` and `#[schemars(schema_with = ...)]`. The `format` of a
//! schema names the check that the shape walk runs on the text.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A `Duration` as text with units.
pub(super) mod duration {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::units::{format_duration, parse_duration};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::time::Duration;

    pub(in crate::config) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    /// A duration that may be zero.
    pub(in crate::config) fn any(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }

    /// A duration for which zero makes no sense.
    pub(in crate::config) fn positive(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "positive-duration" })
    }
}

/// An `Option<u32>` of which `None` is written `off`; a number is at least 1.
pub(super) mod count_or_off {
    use super::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Count(u32),
        Off(super::Off),
    }

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(count) => to.serialize_u32(*count),
            None => to.serialize_str("off"),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        Ok(match Said::deserialize(from)? {
            Said::Count(count) => Some(count),
            Said::Off(super::Off::Off) => None,
        })
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "format": "uint32", "minimum": 1 },
                { "const": "off" },
            ]
        })
    }
}

/// An `Option<SocketAddr>` of which `None` is written `off`.
pub(super) mod address_or_off {
    use super::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};
    use std::net::SocketAddr;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Address(SocketAddr),
        Off(super::Off),
    }

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(address) => address.serialize(to),
            None => to.serialize_str("off"),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        Ok(match Said::deserialize(from)? {
            Said::Address(address) => Some(address),
            Said::Off(super::Off::Off) => None,
        })
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [ { "type": "string", "format": "socket-address" }, { "const": "off" } ]
        })
    }
}

/// The word `off` alone.
#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Off {
    Off,
}

/// An IP address with its port.
pub(super) fn socket_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "socket-address" })
}

/// A name that may become a metric label.
pub(super) fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "name" })
}

/// An IP address or a DNS name, without a port.
pub(super) fn host(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "host" })
}

/// The name of a file, absolute or relative to the folder of the configuration file.
pub(super) fn file(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "file" })
}

/// The name of a file that may be left out.
pub(super) fn optional_file(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [ { "type": "string", "format": "file" }, { "type": "null" } ] })
}

/// A path of a URL, from its first slash.
pub(super) fn url_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "url-path" })
}
