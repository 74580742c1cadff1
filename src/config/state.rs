//! `state`: where sessions and pins are kept, and who shares them.

use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::leaf;
use super::replicas::{self, OnUnavailable, RedisConfig, Urls};

/// Where sessions and pins are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(from = "Said", into = "Said")]
pub enum StateConfig {
    /// Nowhere but in the process.
    #[default]
    Memory,
    /// In a file that only this process has open.
    File(PathBuf),
    /// In a Redis, with all other replicas that use the same one.
    Redis(RedisConfig),
    /// It is not said where, for this reason; no valid configuration has that.
    #[serde(skip)]
    Unclear(Unclear),
}

/// Why it is not said where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// There are two places.
    #[error("file and redis are two places")]
    Both,
    /// There is none.
    #[error("this is no place")]
    Neither,
    /// Keys that go with another place.
    #[error("what stands beside file goes with redis")]
    Beside,
}

/// As it is written: a word, or a mapping.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Said {
    Word(Word),
    Mapping(Box<Mapping>),
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Memory,
}

/// Where sessions and pins are kept: a file, or a Redis.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Mapping {
    /// The file, which is made where there is none, for its owner alone; no other process may have it. It is on a disk of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "leaf::file")]
    file: Option<PathBuf>,
    /// The Redis that replicas share, `redis://host:6379`, or `rediss://` over TLS, with `user:password@` before the host where it asks for them; a list for the nodes of a cluster, or for sentinels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "replicas::urls::schema")]
    redis: Option<Urls>,
    /// What becomes of new sessions, and of those not known here, while the Redis cannot be used; default `local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnUnavailable")]
    on_unavailable: Option<OnUnavailable>,
    /// A file whose one line is the password of the Redis; default `null`, that of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "leaf::optional_file")]
    password_file: Option<PathBuf>,
    /// The authorities that may have signed the certificate of the Redis; default `null`, those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "leaf::optional_file")]
    ca_file: Option<PathBuf>,
    /// The name by which sentinels know the Redis; then `redis` names the sentinels; default `null`, it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    sentinel_master: Option<String>,
    /// What all keys in the Redis begin with, between braces; replicas with the same one belong together; default `fallgate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "leaf::name")]
    key_prefix: Option<String>,
    /// How long an answer of the Redis may take; then it counts as not to be used; default `500ms`.
    #[serde(skip_serializing_if = "Option::is_none", with = "leaf::optional_duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    timeout: Option<std::time::Duration>,
}

impl From<Said> for StateConfig {
    fn from(said: Said) -> StateConfig {
        let Said::Mapping(said) = said else { return StateConfig::Memory };
        let is_redis = said.redis.is_some();
        match (said.file.clone(), said.redis()) {
            (Some(_), _) if is_redis => StateConfig::Unclear(Unclear::Both),
            (None, Some(redis)) => StateConfig::Redis(redis),
            (None, None) => StateConfig::Unclear(Unclear::Neither),
            (Some(file), _) if said.is_file_alone() => StateConfig::File(file),
            (Some(_), _) => StateConfig::Unclear(Unclear::Beside),
        }
    }
}

impl Mapping {
    fn redis(&self) -> Option<RedisConfig> {
        let urls = self.redis.clone()?;
        Some(RedisConfig {
            redis: urls.0,
            on_unavailable: self.on_unavailable.unwrap_or_default(),
            password_file: self.password_file.clone(),
            ca_file: self.ca_file.clone(),
            sentinel_master: self.sentinel_master.clone(),
            key_prefix: self.key_prefix.clone().unwrap_or_else(|| replicas::PREFIX.to_owned()),
            timeout: self.timeout.unwrap_or(replicas::TIMEOUT),
        })
    }

    fn is_file_alone(&self) -> bool {
        let files = self.password_file.is_some() || self.ca_file.is_some();
        let others = self.on_unavailable.is_some() || self.sentinel_master.is_some() || self.key_prefix.is_some();
        !files && !others && self.timeout.is_none()
    }
}

impl From<StateConfig> for Said {
    fn from(state: StateConfig) -> Said {
        let mapping = match state {
            StateConfig::Memory | StateConfig::Unclear(_) => return Said::Word(Word::Memory),
            StateConfig::File(file) => Mapping { file: Some(file), ..Mapping::default() },
            StateConfig::Redis(redis) => Mapping {
                file: None,
                redis: Some(Urls(redis.redis)),
                on_unavailable: Some(redis.on_unavailable),
                password_file: redis.password_file,
                ca_file: redis.ca_file,
                sentinel_master: redis.sentinel_master,
                key_prefix: Some(redis.key_prefix),
                timeout: Some(redis.timeout),
            },
        };
        Said::Mapping(Box::new(mapping))
    }
}

impl StateConfig {
    /// A word, or a mapping.
    pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
        let mapping = generator.subschema_for::<Mapping>();
        schemars::json_schema!({ "anyOf": [ { "const": "memory" }, mapping ] })
    }

    /// The Redis, where there is one.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisConfig> {
        if let StateConfig::Redis(redis) = self { Some(redis) } else { None }
    }

    /// Makes relative file names relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        match self {
            StateConfig::Memory | StateConfig::Unclear(_) => {}
            StateConfig::File(file) => *file = base.join(&*file),
            StateConfig::Redis(redis) => {
                for file in [&mut redis.password_file, &mut redis.ca_file].into_iter().flatten() {
                    *file = base.join(&*file);
                }
            }
        }
    }
}
