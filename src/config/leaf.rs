//! How the leaves of the configuration that are more than a word or a number are read, written and described.
//!
//! Each module serves one field type through `#[serde(with = ...)]` and `#[schemars(schema_with = ...)]`. The `format` of a
//! schema names the check that the shape walk runs on the text.

mod amount;

use schemars::{Schema, SchemaGenerator, json_schema};

pub(super) use amount::{bandwidth_or_off, optional_duration, or_off, rate};

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

/// An `Option<Duration>` of which `None` is written `off`.
pub(super) mod duration_or_off {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::units::parse_duration;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::time::Duration;

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => super::duration::serialize(duration, to),
            None => to.serialize_str("off"),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        match String::deserialize(from)?.as_str() {
            "off" => Ok(None),
            text => parse_duration(text).map(Some).map_err(D::Error::custom),
        }
    }

    /// A duration for which zero makes no sense.
    pub(in crate::config) fn positive(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [ { "type": "string", "format": "positive-duration" }, { "const": "off" } ]
        })
    }
}

/// A `bool` that is written `on` or `off`; `true` and `false` are read too.
pub(super) mod switch {
    use super::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Truth(bool),
        Word(Word),
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Word {
        On,
        Off,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &bool, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if *value { "on" } else { "off" })
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
        Ok(match Said::deserialize(from)? {
            Said::Truth(truth) => truth,
            Said::Word(word) => matches!(word, Word::On),
        })
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": ["on", "off", true, false] })
    }
}

/// A `Vec<IpNet>`, of which an entry may be a bare address.
pub(super) mod networks {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::format::parse_network;
    use ipnet::IpNet;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

    pub(in crate::config) fn serialize<S: Serializer>(value: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| parse_network(text).map_err(|refusal| D::Error::custom(refusal.message))).collect()
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string", "format": "network" } })
    }
}

/// A `Vec<SocketAddr>` of name servers, of which an entry may be a bare address.
pub(super) mod name_servers {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::format::parse_name_server;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};
    use std::net::SocketAddr;

    pub(in crate::config) fn serialize<S: Serializer>(value: &[SocketAddr], to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| parse_name_server(text).map_err(|refusal| D::Error::custom(refusal.message))).collect()
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string", "format": "name-server" } })
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

/// An `Option<u32>` of which `None` is written `auto`; a number is from 1 to 64.
pub(super) mod count_or_auto {
    use super::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Count(u32),
        Auto(Auto),
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Auto {
        Auto,
    }

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &Option<u32>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(count) => to.serialize_u32(*count),
            None => to.serialize_str("auto"),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
        Ok(match Said::deserialize(from)? {
            Said::Count(count) => Some(count),
            Said::Auto(Auto::Auto) => None,
        })
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "format": "uint32", "minimum": 1, "maximum": 64 },
                { "const": "auto" },
            ]
        })
    }
}

/// A number of bytes as text with a unit.
pub(super) mod size {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::units::{format_size, parse_size};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_size(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        parse_size(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "size" })
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

/// A name that may become a metric label.
pub(super) fn name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "name" })
}

/// A name that may be left out.
pub(super) fn optional_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [ { "type": "string", "format": "name" }, { "type": "null" } ] })
}

/// An IP address or a DNS name, without a port.
pub(super) fn host(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "host" })
}

/// An IP address or a DNS name that may be left out.
pub(super) fn optional_host(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [ { "type": "string", "format": "host" }, { "type": "null" } ] })
}

/// The URL of a collector of spans.
pub(super) fn optional_collector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [ { "type": "string", "format": "collector" }, { "type": "null" } ] })
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
