//! What a request asks to be connected to. Pure, on raw bytes.
//!
//! A host has one spelling here: names in ASCII lower case without the dot at their end, IPv4 as a strict dotted quad,
//! IPv6 in brackets, IPv4 inside of IPv6 (`::ffff:a.b.c.d`) as IPv4. What some resolver would take for an address and
//! is none in that spelling (`127.1`, `0x7f.0.0.1`, `2130706433`) is refused, so that no rule is walked around.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use crate::{
    config::host::{canonical_name, ends_in_number, is_dns_name},
    telemetry::Reason,
};

/// The port of an absolute target that names none.
const HTTP: u16 = 80;

/// A host to connect to, in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name of the DNS.
    Name(Name),
    /// An address; IPv4 is never written as IPv6.
    Ip(IpAddr),
}

/// A name of the DNS, in lower case and without a dot at its end; nothing takes it for an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name(String);

/// A host and a port above 0. Its `Display` is an authority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

/// An absolute target, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absolute {
    /// Where it leads.
    pub target: Target,
    /// Where its path and query stand in the bytes, to go on as they are. They are empty or begin with `/` or `?`; where
    /// they do not begin with a slash, the node's target needs one in front.
    pub path: Range<usize>,
}

/// Why bytes are no target; all of it is refused as `bad_target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It holds a blank, a control or a byte beyond ASCII.
    #[error("the target holds a character that must not be there")]
    Character,
    /// It begins with a slash: a request to a server, not to a proxy.
    #[error("the target names no host; this is a proxy")]
    Origin,
    /// It is `https://…`, which goes through `CONNECT`.
    #[error("an https target needs CONNECT")]
    Https,
    /// It has another scheme or none.
    #[error("the target does not begin with http://")]
    Scheme,
    /// It names a user.
    #[error("the target names a user")]
    User,
    /// There is no host.
    #[error("the target has no host")]
    NoHost,
    /// There is no port.
    #[error("the target has no port")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// An IPv6 address stands without its brackets, as in `::1:8443`.
    #[error("an IPv6 address needs brackets")]
    Unbracketed,
    /// What stands in brackets is no IPv6 address.
    #[error("the brackets hold no IPv6 address")]
    Ipv6,
    /// It would be read as an IPv4 address and is not written as one.
    #[error("the host is a number and no IPv4 address of four decimal parts")]
    OddAddress,
    /// It is no name of the DNS, or too long for one.
    #[error("the host is no name")]
    Name,
}

impl TargetError {
    /// The word of the refusal.
    #[must_use]
    pub fn reason(self) -> Reason {
        Reason::BadTarget
    }
}

/// Reads the target of a `CONNECT`: `name:port`, `a.b.c.d:port` or `[v6]:port`.
pub fn connect(bytes: &[u8]) -> Result<Target, TargetError> {
    let (host, port) = authority(text(bytes)?)?;
    Ok(Target { host, port: port.ok_or(TargetError::NoPort)? })
}

/// Reads the target of any other request: `http://host[:port]` with what follows; the port is 80 unless it says another.
pub fn absolute(bytes: &[u8]) -> Result<Absolute, TargetError> {
    let whole = text(bytes)?;
    if whole.starts_with('/') {
        return Err(TargetError::Origin);
    }
    let (scheme, rest) = whole.split_once("://").ok_or(TargetError::Scheme)?;
    match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => {}
        _ if scheme.eq_ignore_ascii_case("https") => return Err(TargetError::Https),
        _ => return Err(TargetError::Scheme),
    }
    // A fragment never travels.
    if rest.contains('#') {
        return Err(TargetError::Character);
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, port) = authority(rest.get(..end).unwrap_or_default())?;
    let begin = whole.len() - rest.len() + end;
    Ok(Absolute { target: Target { host, port: port.unwrap_or(HTTP) }, path: begin..whole.len() })
}

impl Host {
    /// Reads a host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn parse(text: &str) -> Result<Host, TargetError> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return inner.map(|ip| Host::from(IpAddr::V6(ip))).ok_or(TargetError::Ipv6);
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Host::Ip(ip.into()));
        }
        match text {
            "" => Err(TargetError::NoHost),
            _ if !is_dns_name(text) => Err(TargetError::Name),
            _ if ends_in_number(text) => Err(TargetError::OddAddress),
            _ => Ok(Host::Name(Name(canonical_name(text)))),
        }
    }
}

impl From<IpAddr> for Host {
    /// The host with this address; IPv4 inside of IPv6 as IPv4.
    fn from(ip: IpAddr) -> Host {
        Host::Ip(ip.to_canonical())
    }
}

impl Name {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(&name.0),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A target is visible ASCII; it has no blank at either end, and names beyond ASCII have no one form.
fn text(bytes: &[u8]) -> Result<&str, TargetError> {
    let visible = bytes.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(bytes).ok().filter(|_| visible).ok_or(TargetError::Character)
}

/// A host and, if there is one, a port.
fn authority(text: &str) -> Result<(Host, Option<u16>), TargetError> {
    if text.contains('@') {
        return Err(TargetError::User);
    }
    let (host, rest) = match text.find(']') {
        Some(end) if text.starts_with('[') => text.split_at(end + 1),
        _ if text.starts_with('[') => return Err(TargetError::Ipv6),
        _ if text.matches(':').count() > 1 => return Err(TargetError::Unbracketed),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some("") => return Err(TargetError::NoPort),
        Some(digits) => Some(port(digits)?),
        None if rest.is_empty() => None,
        None => return Err(TargetError::Ipv6),
    };
    Ok((Host::parse(host)?, port))
}

fn port(digits: &str) -> Result<u16, TargetError> {
    let plain = digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port > 0).ok_or(TargetError::Port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn to(text: &str) -> Result<String, TargetError> {
        connect(text.as_bytes()).map(|target| target.to_string())
    }

    #[test]
    fn a_connect_leads_where_it_says_in_one_spelling() {
        for (text, told) in [
            ("n1.Example.COM:443", "n1.example.com:443"),
            ("n1.example.com.:443", "n1.example.com:443"),
            ("node_1:00443", "node_1:443"),
            ("203.0.113.7:1", "203.0.113.7:1"),
            ("[2001:DB8:0::7]:65535", "[2001:db8::7]:65535"),
            ("[::ffff:203.0.113.7]:443", "203.0.113.7:443"),
            ("[::ffff:cb00:7107]:443", "203.0.113.7:443"),
            ("0x7f.example:443", "0x7f.example:443"),
        ] {
            assert_eq!(to(text).as_deref(), Ok(told), "{text}");
        }
    }

    #[test]
    fn a_connect_that_is_not_sound_is_told_why() {
        use TargetError::*;
        for (text, why) in [
            ("", NoHost),
            (":443", NoHost),
            ("n1", NoPort),
            ("n1:", NoPort),
            ("[::1]", NoPort),
            ("n1:0", Port),
            ("n1:65536", Port),
            ("n1:+443", Port),
            ("n1:000443", Port),
            ("n1:443/", Port),
            ("::1:8443", Unbracketed),
            ("n1:80:443", Unbracketed),
            ("[::1:8443", Ipv6),
            ("[::1]8443", Ipv6),
            ("[fe80::1%eth0]:443", Ipv6),
            ("[127.0.0.1]:443", Ipv6),
            ("anna@n1:443", User),
            ("anna:word@n1:443", User),
            ("n1 :443", Character),
            ("n1:443\t", Character),
            ("n\u{fc}:443", Character),
            ("http://n1:443", Unbracketed),
            ("/n1:443", Name),
            ("n1..example:443", Name),
            ("*.example:443", Name),
            ("n1%2eexample:443", Name),
            ("a\\b:443", Name),
        ] {
            assert_eq!(to(text), Err(why), "{text}");
        }
        assert_eq!(connect(b"n\xff:443"), Err(Character));
        let long = vec!["a".repeat(63); 4].join(".");
        assert_eq!(to(&format!("{long}:443")), Err(Name));
        assert_eq!(to(&format!("{}.:443", &long[2..])).map(|told| told.len()), Ok(253 + 4));
    }

    #[test]
    fn an_address_in_an_odd_spelling_is_refused_before_any_resolver_sees_it() {
        for host in [
            "2130706433",
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "127.0.0.01",
            "0x7f.1",
            "0x7f.0.0.1",
            "0X7F000001",
            "017700000001",
            "256.0.0.1",
            "1.2.3.4.5",
            "127.0.0.1.",
            "n1.0x",
        ] {
            assert_eq!(to(&format!("{host}:443")), Err(TargetError::OddAddress), "{host}");
            assert_eq!(absolute(format!("http://{host}/").as_bytes()), Err(TargetError::OddAddress), "{host}");
        }
    }

    #[test]
    fn an_absolute_target_keeps_its_path_byte_for_byte() {
        for (text, told, path) in [
            ("http://n1/aspera/http/a%20B", "n1:80", "/aspera/http/a%20B"),
            ("HTTP://N1.example:8080//x?y=http://z:1/@", "n1.example:8080", "//x?y=http://z:1/@"),
            ("http://[::1]", "[::1]:80", ""),
            ("http://n1:81?q", "n1:81", "?q"),
        ] {
            let read = absolute(text.as_bytes()).unwrap();
            assert_eq!((read.target.to_string().as_str(), &text[read.path]), (told, path), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_absolute_target_is_told_why() {
        use TargetError::*;
        for (text, why) in [
            ("/aspera/http", Origin),
            ("//n1/", Origin),
            ("", Scheme),
            ("*", Scheme),
            ("n1:443", Scheme),
            ("ftp://n1/", Scheme),
            ("https://n1/", Https),
            ("http:///", NoHost),
            ("http://:80/", NoHost),
            ("http://n1:/", NoPort),
            ("http://n1:0/", Port),
            ("http://anna@n1/", User),
            ("http://n1#x", Character),
            ("http://n1/a b", Character),
            ("http://n1\\@n2/", User),
            ("http://n1\\/", Name),
        ] {
            assert_eq!(absolute(text.as_bytes()), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), near in "(http://)?[\\[0-9a-fx.:\\]/@]{0,30}") {
            for bytes in [bytes.as_slice(), near.as_bytes()] {
                let _ = connect(bytes);
                let _ = absolute(bytes);
            }
        }

        #[test]
        fn a_target_in_its_one_spelling_is_itself(near in "[\\[0-9a-fA-Fx.:\\]]{1,12}:[1-9][0-9]{0,3}") {
            if let Ok(target) = connect(near.as_bytes()) {
                prop_assert_eq!(connect(target.to_string().as_bytes()), Ok(target));
            }
        }

        #[test]
        fn an_address_stays_what_it_is_whatever_its_family(v4 in any::<Ipv4Addr>(), v6 in any::<Ipv6Addr>()) {
            let host = |text: String| Host::parse(&text).unwrap();
            prop_assert_eq!(host(v4.to_string()), Host::Ip(v4.into()));
            prop_assert_eq!(host(format!("[{}]", v4.to_ipv6_mapped())), Host::Ip(v4.into()));
            prop_assert_eq!(host(format!("[{v6}]")), Host::from(IpAddr::V6(v6)));
        }
    }
}
