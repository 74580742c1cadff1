//! `state.redis`: the Redis that replicas share.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::host::is_name;
use super::policy::decoded;

/// What keys begin with unless the configuration says otherwise.
pub(super) const PREFIX: &str = "fallgate";
/// How long an answer may take unless the configuration says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_millis(500);
/// The port of a URL that names none.
const PORT: u16 = 6379;

/// The Redis that replicas share, and how they do without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig {
    /// Where it is: one server, several nodes of a cluster, or sentinels. At least one.
    pub redis: Vec<RedisUrl>,
    /// What becomes of what only it can tell while it cannot be used; default `local`.
    pub on_unavailable: OnUnavailable,
    /// A file whose one line is its password; default none.
    pub password_file: Option<PathBuf>,
    /// The authorities that may have signed its certificate; default those of the system.
    pub ca_file: Option<PathBuf>,
    /// The name by which sentinels know it; default none, the URLs are its own.
    pub sentinel_master: Option<String>,
    /// What its keys begin with; default `fallgate`.
    pub key_prefix: String,
    /// How long an answer may take; default 500 ms.
    pub timeout: Duration,
}

/// What becomes of what only the Redis can tell while it cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    /// New sessions go to the node that the hash of their id names, and so do requests of sessions that are not known here.
    #[default]
    Local,
    /// Both are refused with 503.
    Refuse,
}

/// Where a Redis is. Its password is shown nowhere: neither by `Debug` nor where it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    tls: bool,
    /// As it stands in an authority: IPv6 in brackets.
    host: String,
    port: u16,
    user: Option<String>,
    password: Option<String>,
    database: u32,
}

/// The text is no such URL; it may hold a password and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the URL of a Redis")]
pub struct NoRedis;

impl RedisUrl {
    /// Whether it is spoken to over TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// Its IP address or DNS name; IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let inner = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.unwrap_or(&self.host)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The user, where one is named.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, as it is behind any percent-encoding.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// The number of the database; 0 unless the URL says otherwise.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }
}

impl FromStr for RedisUrl {
    type Err = NoRedis;

    fn from_str(text: &str) -> Result<Self, NoRedis> {
        let (tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(NoRedis),
        };
        let (info, rest) = match rest.rsplit_once('@') {
            Some((info, rest)) => (Some(info), rest),
            None => (None, rest),
        };
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let database = match database {
            "" => 0,
            number if digits(number) => number.parse().map_err(|_| NoRedis)?,
            _ => return Err(NoRedis),
        };
        let has_port = authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
        let (host, port) = match has_port {
            Some((host, port)) if digits(port) => (host, port.parse().map_err(|_| NoRedis)?),
            Some(_) => return Err(NoRedis),
            None => (authority, PORT),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let sound = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<std::net::Ipv4Addr>().is_ok() || is_name(host),
        };
        if !sound || port == 0 {
            return Err(NoRedis);
        }
        let (user, password) = info.map(credentials).transpose()?.unwrap_or_default();
        Ok(Self { tls, host: host.to_owned(), port, user, password, database })
    }
}

/// The user and the password, either of which may be none.
fn credentials(info: &str) -> Result<(Option<String>, Option<String>), NoRedis> {
    let (user, password) = info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password)));
    let part = |text| decoded(text).map_err(|_| NoRedis);
    let (user, password) = (part(user)?, password.map(part).transpose()?);
    let is_empty = password.as_ref().map_or(user.is_empty(), String::is_empty);
    if is_empty { Err(NoRedis) } else { Ok((Some(user).filter(|user| !user.is_empty()), password)) }
}

impl fmt::Display for RedisUrl {
    /// The URL with `***` for the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        if self.user.is_some() || self.password.is_some() {
            for byte in self.user.iter().flat_map(|user| user.bytes()) {
                match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    true => write!(f, "{}", char::from(byte))?,
                    false => write!(f, "%{byte:02X}")?,
                }
            }
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        write!(f, "{}:{}", self.host, self.port)?;
        if self.database > 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// One URL, or a list of them.
#[derive(Clone)]
pub(super) struct Urls(pub(super) Vec<RedisUrl>);

impl Serialize for Urls {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [only] => only.serialize(to),
            several => several.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Said {
            One(RedisUrl),
            Several(Vec<RedisUrl>),
        }
        Ok(match Said::deserialize(from)? {
            Said::One(url) => Urls(vec![url]),
            Said::Several(urls) => Urls(urls),
        })
    }
}

/// How one URL or a list of them is described.
pub(super) mod urls {
    use schemars::{Schema, SchemaGenerator, json_schema};

    pub(in crate::config) fn schema(_: &mut SchemaGenerator) -> Schema {
        let url = json_schema!({ "type": "string", "format": "redis-url" });
        json_schema!({ "anyOf": [ url, { "type": "array", "items": url, "minItems": 1 } ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_url_is_told_apart_into_its_parts() {
        let parts = |text: &str| {
            let url: RedisUrl = text.parse().unwrap();
            let user = url.user().map(str::to_owned);
            (url.is_tls(), url.host().to_owned(), url.port(), user, url.password().map(str::to_owned), url.database())
        };
        assert_eq!(parts("redis://cache"), (false, "cache".to_owned(), 6379, None, None, 0));
        let (anna, word) = (Some("anna".to_owned()), Some("a:b@c/".to_owned()));
        assert_eq!(
            parts("rediss://anna:a:b%40c%2f@[2001:db8::1]:7000/2"),
            (true, "2001:db8::1".to_owned(), 7000, anna, word, 2)
        );
        assert_eq!(parts("redis://:x@[::1]"), (false, "::1".to_owned(), 6379, None, Some("x".to_owned()), 0));
        for bad in [
            "",
            "cache:6379",
            "http://cache:6379",
            "redis://",
            "redis://cache:0",
            "redis://cache:+1",
            "redis://cache:",
            "redis://cache/x",
            "redis://cache/1/2",
            "redis://127.1",
            "redis://@cache",
            "redis://user:@cache",
            "redis://user:a%0ab@cache",
        ] {
            assert!(bad.parse::<RedisUrl>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_password_is_shown_nowhere(password in "[A-Z]{6,20}") {
            let url: RedisUrl = format!("redis://anna:{password}@cache:7000/1").parse().unwrap();
            let shown = format!("{url} {url:?} {}", serde_json::to_string(&url).unwrap());
            prop_assert!(!shown.contains(&password) && shown.contains("anna:***@cache:7000/1"));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), near in "rediss?://[a:%@0\\[\\]/]{0,20}") {
            let _ = text.parse::<RedisUrl>();
            let _ = near.parse::<RedisUrl>();
        }
    }
}
