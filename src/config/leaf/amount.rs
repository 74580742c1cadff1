//! Leaves of `limits` and `bandwidth`: rates, bandwidths, and what may be `off` or `null`.

use schemars::{Schema, SchemaGenerator, json_schema};

/// An `Option<u64>` of bytes a second, of which `None` is written `off`.
pub(in crate::config) mod bandwidth_or_off {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::units::{format_bandwidth, parse_bandwidth};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => to.serialize_str(&format_bandwidth(*bytes)),
            None => to.serialize_str("off"),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        match String::deserialize(from)?.as_str() {
            "off" => Ok(None),
            text => parse_bandwidth(text).map(Some).map_err(D::Error::custom),
        }
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [ { "type": "string", "format": "bandwidth" }, { "const": "off" } ]
        })
    }
}

/// How often something may happen, as text with a unit.
pub(in crate::config) mod rate {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::units::{EventRate, format_rate, parse_rate};
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(in crate::config) fn serialize<S: Serializer>(value: &EventRate, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_rate(*value))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<EventRate, D::Error> {
        parse_rate(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "rate" })
    }
}

/// An `Option` of a mapping, of which `None` is written `off`.
pub(in crate::config) mod or_off {
    use super::{Schema, SchemaGenerator, json_schema};
    use schemars::JsonSchema;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said<T> {
        Off(super::super::Off),
        Value(T),
    }

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => value.serialize(to),
            None => to.serialize_str("off"),
        }
    }

    pub(in crate::config) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(match Said::deserialize(from)? {
            Said::Off(super::super::Off::Off) => None,
            Said::Value(value) => Some(value),
        })
    }

    pub(in crate::config) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [ value, { "const": "off" } ] })
    }
}

/// An `Option<Duration>` of which `None` is written `null`.
pub(in crate::config) mod optional_duration {
    use super::{Schema, SchemaGenerator, json_schema};
    use crate::config::units::parse_duration;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};
    use std::time::Duration;

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(in crate::config) fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(duration) => super::super::duration::serialize(duration, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let said = Option::<String>::deserialize(from)?;
        said.map(|text| parse_duration(&text).map_err(D::Error::custom)).transpose()
    }

    /// A duration for which zero makes no sense.
    pub(in crate::config) fn positive(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [ { "type": "string", "format": "positive-duration" }, { "type": "null" } ]
        })
    }
}
