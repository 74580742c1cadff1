//! The configuration file: its types, their defaults, and everything that can be wrong with it.
//!
//! A [`Config`] comes only from [`Config::load`] and [`Config::from_yaml`], so having one means that it is valid. The way
//! there: YAML is read to a tree; the tree is walked against the JSON Schema of the types, which finds every unknown key,
//! missing key, wrong type, unit and word, and expands `${NAME}`; only then do the types take it; at last come the rules that
//! no schema can say. Each step reports all it finds, and a step begins only when the one before found nothing.
//!
//! A new key is a field with its doc sentence and default, its line in the reference file, and a rule in `validate` if it has
//! one. This room opens no file but the configuration file itself and knows nothing of what the keys bring about.

mod address;
mod bandwidth;
mod change;
mod difference;
mod discovery;
mod env;
mod error;
mod files;
mod format;
pub mod host;
mod leaf;
mod limits;
mod listener;
mod misread;
mod policy;
mod ports;
mod process;
mod relay;
mod replicas;
mod resolver;
mod schema;
mod shape;
mod state;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
pub mod units;
mod upstream;
mod validate;
mod warn;
mod yaml;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use address::{ListenAddress, NoAddress};
pub use bandwidth::{Bandwidth, BandwidthConfig};
pub use difference::{Difference, What};
pub use discovery::{DiscoveryConfig, DiscoveryType};
pub use error::{ConfigError, Problem};
pub use host::HostPattern;
pub use limits::{LimitsConfig, ListenerLimitsConfig, RateConfig, WhenFull};
pub use listener::{
    AdmissionConfig, BindClient, GuardConfig, ListenerConfig, NodeTarget, PersistentConnection, Protocol,
    ProxyProtocol, TokenKind, TokenLevel, UnknownSession,
};
pub use misread::hint_of_file;
pub use policy::{ParentProxy, PolicyAuthConfig, PolicyConfig, PolicyMode, RuleConfig};
pub use ports::PortRange;
pub use process::{
    AccessLogConfig, AccessLogFormat, AdminConfig, DoctorConfig, LogConfig, LogLevel, ReloadConfig, TimeoutsConfig,
};
pub use relay::Gate;
pub use replicas::{OnUnavailable, RedisConfig, RedisUrl};
pub use resolver::ResolverConfig;
pub use state::{StateConfig, Unclear};
pub use tls::{CertificateConfig, ClientAuth, TlsConfig, TlsVersion};
pub use upstream::{
    AffinityConfig, AffinityKey, Balance, HealthCheckConfig, HttpCheckConfig, NodeConfig, NodePort, PortsConfig,
    Scheme, UpstreamConfig, UpstreamTlsConfig, WhenAllDown,
};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "fallgate configuration")]
pub struct Config {
    /// The version of this form of configuration; required, always 1.
    #[schemars(range(min = 1, max = 1))]
    pub version: u32,
    /// Where clients connect; required, at least one.
    #[schemars(length(min = 1))]
    pub listeners: Vec<ListenerConfig>,
    /// The groups of nodes behind the gateway; default empty, which will do where every listener is a forward proxy.
    #[serde(default)]
    pub upstreams: Vec<UpstreamConfig>,
    /// Who may reach what through forward proxies; default empty.
    #[serde(default)]
    pub policies: Vec<PolicyConfig>,
    /// How much is served at once.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// How fast the bytes of transfers may go.
    #[serde(default)]
    pub bandwidth: BandwidthConfig,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: TimeoutsConfig,
    /// How forward proxies find the addresses of names, and upstreams with `discovery` their nodes.
    #[serde(default)]
    pub resolver: ResolverConfig,
    /// Where sessions and pins are kept: `memory`; a file, with which a gateway that comes after a crash or a restart goes on with them; or a Redis, by which several gateways agree on them; default `memory`.
    #[serde(default)]
    #[schemars(schema_with = "StateConfig::schema")]
    pub state: StateConfig,
    /// When the configuration is read anew without being told to.
    #[serde(default)]
    pub reload: ReloadConfig,
    /// Where the line about each session goes.
    #[serde(default)]
    pub access_log: AccessLogConfig,
    /// What the gateway says about itself.
    #[serde(default)]
    pub log: LogConfig,
    /// Whether `fallgate doctor` is answered, at data ports and fallback ports.
    #[serde(default)]
    pub doctor: DoctorConfig,
    /// The operator's own door.
    #[serde(default)]
    pub admin: AdminConfig,
}

impl Config {
    /// Reads a configuration file; file names in it are relative to its folder.
    ///
    /// # Errors
    /// The file cannot be read, or anything in it is wrong; then all of it is reported.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| {
            let hint = hint_of_file(path, &source, &["yaml", "yml"]);
            ConfigError::Read { path: path.to_owned(), source, hint }
        })?;
        // Absolute, so that two processes with different working directories mean the same files by the same names.
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().unwrap_or(Path::new(""));
        read(&text, base, &environment)
            .map_err(|problems| ConfigError::Invalid { problems, file: Some(path.to_owned()) })
    }

    /// Reads a configuration from its text; file names in it are relative to `base`.
    ///
    /// # Errors
    /// Anything in it is wrong; then all of it is reported.
    pub fn from_yaml(text: &str, base: &Path) -> Result<Self, ConfigError> {
        read(text, base, &environment).map_err(|problems| ConfigError::Invalid { problems, file: None })
    }

    /// What is allowed and still likely to be a mistake.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        warn::warnings(self)
    }

    /// The JSON Schema of a configuration file, for editors and other tools.
    #[must_use]
    pub fn schema() -> Value {
        schema::generate()
    }
}

/// The whole way from text to a valid configuration.
fn read(text: &str, base: &Path, lookup: env::Lookup<'_>) -> Result<Config, Vec<Problem>> {
    let mut tree = yaml::parse(text).map_err(|problem| vec![problem])?;
    if tree.is_null() {
        return Err(vec![
            Problem::new("", "the configuration is empty")
                .hint("begin with version: 1, listeners and upstreams".to_owned()),
        ]);
    }
    none_of(shape::check(&schema::generate(), &mut tree, lookup))?;
    let mut config: Config = serde_json::from_value(tree).map_err(|error| vec![Problem::new("", error.to_string())])?;
    none_of(validate::validate(&config))?;
    config.resolve(base);
    Ok(config)
}

fn none_of(problems: Vec<Problem>) -> Result<(), Vec<Problem>> {
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
