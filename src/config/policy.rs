//! `policies`: who may reach what through a forward proxy.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::host::{HostPattern, is_name};
use super::leaf;
use super::ports::PortRange;

/// Who may reach what through the forward proxies that name it. Nothing is allowed but what an entry of `allow` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Its name in listeners, logs and metrics, unique among the policies; required.
    #[schemars(schema_with = "leaf::name")]
    pub name: String,
    /// Who may ask at all; by default anyone.
    #[serde(default)]
    pub auth: PolicyAuthConfig,
    /// What may be reached; default empty, which is nothing.
    #[serde(default)]
    pub allow: Vec<RuleConfig>,
    /// What may not be reached whatever `allow` says; default empty.
    #[serde(default)]
    pub deny: Vec<RuleConfig>,
    /// Private and local addresses that may be connected to nonetheless, as addresses and networks; default empty, none is. The admin door never is.
    #[serde(default, with = "leaf::networks")]
    #[schemars(schema_with = "leaf::networks::schema")]
    pub allow_private_addresses: Vec<IpNet>,
    /// Whether `allow` and `deny` are obeyed; default `enforce`.
    #[serde(default)]
    pub mode: PolicyMode,
    /// Another proxy that everything is asked of, `http://proxy:3128` or `http://user:password@proxy:3128`; default `null`, connections are made from here.
    #[serde(default)]
    pub parent: Option<ParentProxy>,
    /// Hosts that are connected to from here although there is a parent; default empty.
    #[serde(default)]
    pub no_parent: Vec<HostPattern>,
}

impl PolicyConfig {
    /// Makes relative file names relative to `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        if let Some(file) = &mut self.auth.users_file {
            *file = base.join(&file);
        }
    }
}

/// Who may ask at all; by default anyone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyAuthConfig {
    /// Where clients may come from, as addresses and networks; default empty, from anywhere.
    #[serde(with = "leaf::networks")]
    #[schemars(schema_with = "leaf::networks::schema")]
    pub allow_from: Vec<IpNet>,
    /// The users and their passwords, one of whom every client must be: a file as `htpasswd -B` makes it; default `null`, nobody is asked.
    #[schemars(schema_with = "leaf::optional_file")]
    pub users_file: Option<PathBuf>,
}

/// An entry of `allow` or `deny`. It holds when all that it names fits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// The hosts: names, `*.example.com` for all below it, addresses, networks, or `*`; required, at least one.
    #[schemars(length(min = 1))]
    pub hosts: Vec<HostPattern>,
    /// The ports, such as `443` and `"8000-8443"`; default empty, any port.
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// The users, who are known only with `users_file`; default empty, anyone.
    #[serde(default)]
    #[schemars(inner(length(min = 1)))]
    pub users: Vec<String>,
    /// Where the clients come from, as addresses and networks; default empty, from anywhere.
    #[serde(default, with = "leaf::networks")]
    #[schemars(schema_with = "leaf::networks::schema")]
    pub clients: Vec<IpNet>,
}

/// Whether `allow` and `deny` are obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyMode {
    /// They are.
    #[default]
    Enforce,
    /// What they refuse passes and is logged; `auth`, private addresses and the admin door are refused as ever.
    Report,
}

/// Another proxy, spoken to in the clear. Its password is shown nowhere: neither by `Debug` nor where it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct ParentProxy {
    /// Its IP address or DNS name, as it stands in an authority: IPv6 in brackets.
    host: String,
    port: u16,
    /// The user and the password.
    credentials: Option<(String, String)>,
}

/// The text is no proxy; it may hold a password and is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not the address of a proxy")]
pub struct NoProxy;

impl ParentProxy {
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

    /// The user and the password that it is told, as they are behind any percent-encoding.
    #[must_use]
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

impl FromStr for ParentProxy {
    type Err = NoProxy;

    fn from_str(text: &str) -> Result<Self, NoProxy> {
        let rest = text.strip_prefix("http://").ok_or(NoProxy)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((info, authority)) => {
                let (user, password) = info.split_once(':').ok_or(NoProxy)?;
                let credentials = (decoded(user)?, decoded(password)?);
                (Some(credentials).filter(|(user, _)| !user.is_empty() && !user.contains(':')), authority)
            }
            None => (None, rest),
        };
        if rest.contains('@') && credentials.is_none() {
            return Err(NoProxy);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(NoProxy)?;
        let port = port.parse().ok().filter(|number| *number > 0 && !port.starts_with('+')).ok_or(NoProxy)?;
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let sound = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => host.parse::<std::net::Ipv4Addr>().is_ok() || is_name(host),
        };
        if sound { Ok(Self { host: host.to_owned(), port, credentials }) } else { Err(NoProxy) }
    }
}

/// The text behind a percent-encoding; controls are no part of a user or password.
pub(super) fn decoded(text: &str) -> Result<String, NoProxy> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or(NoProxy)?;
        rest = after;
        let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+')).ok_or(NoProxy)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| NoProxy)?);
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control)).ok_or(NoProxy)
}

impl fmt::Display for ParentProxy {
    /// The URL with `***` for the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("http://")?;
        if let Some((user, _)) = &self.credentials {
            for byte in user.bytes() {
                match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    true => write!(f, "{}", char::from(byte))?,
                    false => write!(f, "%{byte:02X}")?,
                }
            }
            f.write_str(":***@")?;
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for ParentProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParentProxy({self})")
    }
}

impl Serialize for ParentProxy {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ParentProxy {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for ParentProxy {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ParentProxy".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "parent-proxy" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_parent_is_told_apart_into_its_parts() {
        let parts = |text: &str| {
            let parent: ParentProxy = text.parse().unwrap();
            let credentials = parent.credentials().map(|(u, p)| (u.to_owned(), p.to_owned()));
            (parent.host().to_owned(), parent.port(), credentials)
        };
        assert_eq!(parts("http://proxy.example:3128/"), ("proxy.example".to_owned(), 3128, None));
        let anna = Some(("anna".to_owned(), "a:b@c/".to_owned()));
        assert_eq!(parts("http://anna:a:b%40c%2f@[2001:db8::1]:8080"), ("2001:db8::1".to_owned(), 8080, anna));
        for bad in [
            "",
            "proxy:3128",
            "https://proxy:3128",
            "http://proxy",
            "http://proxy:0",
            "http://proxy:+1",
            "http://127.1:3128",
            "http://user@proxy:3128",
            "http://:word@proxy:3128",
            "http://a%3Ab:word@proxy:3128",
            "http://user:a%0ab@proxy:3128",
            "http://user:a%+1@proxy:3128",
            "http://proxy:3128/path",
        ] {
            assert!(bad.parse::<ParentProxy>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_password_is_shown_nowhere(password in "[A-Z]{6,20}") {
            let parent: ParentProxy = format!("http://anna:{password}@proxy:3128").parse().unwrap();
            let shown = format!("{parent} {parent:?} {}", serde_json::to_string(&parent).unwrap());
            prop_assert!(!shown.contains(&password) && shown.contains("anna:***@proxy:3128"));
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), near in "http://[a:%@0\\[\\]/]{0,20}") {
            let _ = text.parse::<ParentProxy>();
            let _ = near.parse::<ParentProxy>();
        }
    }
}
