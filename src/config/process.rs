//! The small sections that hold for the whole process: `timeouts`, `reload`, `access_log`, `log`, `doctor` and `admin`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::leaf;

/// How long things may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsConfig {
    /// Opening a connection to a node; default 5s, above zero. Then the node counts as not reached.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub connect: Duration,
    /// The TLS handshake of a client; default 10s, above zero. Then the connection is closed.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub tls_handshake: Duration,
    /// From the first byte of a request to the end of its head; default 10s, above zero. Then the connection is closed.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub request_head: Duration,
    /// A body in either direction without a byte; default 60s, above zero. Then the exchange is broken off.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub body_idle: Duration,
    /// A client connection between two requests outside a session; default 60s, above zero. Then it is closed.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub keep_alive: Duration,
    /// A session without a request; default 30m, above zero. Then it is forgotten and its connection closed.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub session_idle: Duration,
    /// A tunnel or a request of a forward proxy without a byte in either direction; default 10m, above zero. Then it is closed.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::positive")]
    pub tunnel_idle: Duration,
    /// From being told to stop to refusing new sessions, while readiness is already denied; default 0s.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::any")]
    pub pre_drain: Duration,
    /// How long running sessions may go on once new ones are refused; default 24h. Then they are cut, with 0s at once.
    #[serde(with = "leaf::duration")]
    #[schemars(schema_with = "leaf::duration::any")]
    pub drain: Duration,
}

impl Default for TimeoutsConfig {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            tls_handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            body_idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(60),
            session_idle: Duration::from_mins(30),
            tunnel_idle: Duration::from_mins(10),
            pre_drain: Duration::ZERO,
            drain: Duration::from_hours(24),
        }
    }
}

/// When the configuration is read anew without being told to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadConfig {
    /// How often it is looked whether the configuration file changed, or a certificate, key, CA file, users file or token file that it names; default `off`, above zero. A change that two looks find alike is applied as by SIGHUP.
    #[serde(with = "leaf::duration_or_off")]
    #[schemars(schema_with = "leaf::duration_or_off::positive")]
    pub watch: Option<Duration>,
}

/// Where the line about each session goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLogConfig {
    /// How a line is written; default `json`.
    pub format: AccessLogFormat,
    /// `stdout`, `stderr`, `off` or the name of a file; default `stdout`.
    #[schemars(schema_with = "leaf::file")]
    pub path: String,
}

impl AccessLogConfig {
    /// Makes a relative file name relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        if !matches!(self.path.as_str(), "stdout" | "stderr" | "off") {
            // Only a folder name that is not UTF-8 can lose anything here.
            self.path = base.join(&self.path).to_string_lossy().into_owned();
        }
    }
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self { format: AccessLogFormat::Json, path: "stdout".to_owned() }
    }
}

/// How a line of the access log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// `key=value` pairs.
    Logfmt,
}

/// What the gateway says about itself, on stderr.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The least important lines that are written; default `info`.
    pub level: LogLevel,
    /// The collector that spans are sent to by OTLP over HTTP, such as `http://127.0.0.1:4318`, in a build with the feature `otlp`; default `null`, none.
    #[schemars(schema_with = "leaf::optional_collector")]
    pub otlp_endpoint: Option<String>,
}

/// How important a line is, from the most important down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// Served, but not as it should be.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Every step.
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Whether `fallgate doctor` is answered, at data ports and fallback ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DoctorConfig {
    /// The secret that a doctor must show before a probe of a data or fallback port is answered: a file with one line of 16 to 1024 visible ASCII characters; default `null`, no probe is answered.
    #[schemars(schema_with = "leaf::optional_file")]
    pub secret_file: Option<PathBuf>,
}

impl DoctorConfig {
    /// Makes a relative file name relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        self.secret_file.iter_mut().for_each(|file| *file = base.join(&*file));
    }
}

/// The operator's own door: health, metrics and state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// The IP address and port of the admin door, never that of a listener; default `127.0.0.1:9180`, `off` for none.
    #[serde(with = "leaf::address_or_off")]
    #[schemars(schema_with = "leaf::address_or_off::schema")]
    pub address: Option<SocketAddr>,
    /// The token without which nobody may command, nor read but over loopback: a file with one line of 16 to 1024 visible ASCII characters; default `null`, there is none.
    #[schemars(schema_with = "leaf::optional_file")]
    pub token_file: Option<PathBuf>,
}

impl AdminConfig {
    /// Makes a relative file name relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        self.token_file.iter_mut().for_each(|file| *file = base.join(&*file));
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9180))), token_file: None }
    }
}
