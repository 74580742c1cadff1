//! The checks behind the `format` words of the schema: one text in, and why it will not do.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::address::ListenAddress;
use super::host::{HostPattern, is_dns_name};
use super::policy::ParentProxy;
use super::ports::PortRange;
use super::replicas::RedisUrl;
use super::units::{parse_bandwidth, parse_duration, parse_rate, parse_size};

/// The longest name, so that it stays a readable metric label.
const MAX_NAME: usize = 63;

/// The least bandwidth, in bytes a second: a full segment passes in two seconds.
const MIN_BANDWIDTH: u64 = 1000;

/// Why a text will not do.
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Whether `text` has this format; an unknown format accepts everything, as JSON Schema has it.
pub(super) fn check(format: &str, text: &str) -> Result<(), Refusal> {
    match format {
        "duration" => duration(text).map(|_| ()),
        "positive-duration" if duration(text)?.is_zero() => refuse(format!("{text:?} must be above zero"), None),
        "positive-duration" => Ok(()),
        "size" => match parse_size(text) {
            Ok(_) => Ok(()),
            Err(error) => refuse(error.to_string(), Some(&error.hint())),
        },
        "bandwidth" => bandwidth(text),
        "rate" => match parse_rate(text) {
            Ok(rate) if rate.count == 0 => refuse(format!("{text:?} lets nothing through"), Some("off for no limit")),
            Ok(_) => Ok(()),
            Err(error) => refuse(error.to_string(), Some(&error.hint())),
        },
        "socket-address" => socket_address(text),
        "listen-address" => listen_address(text),
        "name" => name(text),
        "host" => host(text),
        "network" => parse_network(text).map(|_| ()),
        "name-server" => parse_name_server(text).map(|_| ()),
        "host-pattern" => host_pattern(text),
        "port-range" => match text.parse::<PortRange>() {
            Ok(_) => Ok(()),
            Err(error) => refuse(format!("{text:?} is {error}"), None),
        },
        "parent-proxy" => match text.parse::<ParentProxy>() {
            Ok(_) => Ok(()),
            Err(error) => refuse(
                error.to_string(),
                Some(
                    "write http://proxy:3128 or http://user:password@proxy:3128, with % and / in a password as %25 and %2F",
                ),
            ),
        },
        "redis-url" => match text.parse::<RedisUrl>() {
            Ok(_) => Ok(()),
            Err(error) => refuse(
                error.to_string(),
                Some(
                    "write redis://host:6379 or rediss://user:password@host:6379, with % and / in a password as %25 and %2F",
                ),
            ),
        },
        "collector" => collector(text),
        "file" if text.is_empty() => refuse("the file name is empty".to_owned(), None),
        "url-path" => url_path(text),
        _ => Ok(()),
    }
}

/// What a text of this format looks like, for `expected ...`.
pub(super) fn describe(format: &str) -> &'static str {
    match format {
        "duration" | "positive-duration" => "a duration such as \"30s\"",
        "size" => "a size such as \"4MiB\"",
        "bandwidth" => "a bandwidth such as \"200Mbit/s\"",
        "rate" => "a rate such as \"10/s\"",
        "socket-address" | "listen-address" => "an IP address with its port such as \"0.0.0.0:8443\"",
        "name" => "a name",
        "host" => "an IP address or a DNS name",
        "network" => "an IP address or a network such as \"10.0.0.0/8\"",
        "name-server" => "the IP address of a name server",
        "host-pattern" => "a host such as \"*.example.com\"",
        "port-range" => "a range such as \"8000-8443\"",
        "parent-proxy" => "a proxy such as \"http://proxy:3128\"",
        "redis-url" => "a URL such as \"redis://127.0.0.1:6379\"",
        "collector" => "a URL such as \"http://127.0.0.1:4318\"",
        "file" => "a file name",
        "url-path" => "a path such as \"/\"",
        _ => "a text",
    }
}

/// Whether `text` may name something: it becomes a metric label.
pub(super) fn is_name(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    text.len() <= MAX_NAME && text.chars().all(inside) && !text.starts_with(['_', '-']) && !text.is_empty()
}

fn refuse<T>(message: String, hint: Option<&str>) -> Result<T, Refusal> {
    Err(Refusal { message, hint: hint.map(str::to_owned) })
}

fn duration(text: &str) -> Result<std::time::Duration, Refusal> {
    parse_duration(text).map_err(|error| Refusal { message: error.to_string(), hint: Some(error.hint()) })
}

fn bandwidth(text: &str) -> Result<(), Refusal> {
    match parse_bandwidth(text) {
        Ok(bytes) if bytes < MIN_BANDWIDTH => {
            refuse(format!("{text:?} is too little for any transfer"), Some("8kbit/s is the least; off for no limit"))
        }
        Ok(_) => Ok(()),
        Err(error) => refuse(error.to_string(), Some(&error.hint())),
    }
}

fn socket_address(text: &str) -> Result<(), Refusal> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    if text.parse::<IpAddr>().is_ok() {
        let example = if text.contains(':') { format!("[{text}]:8443") } else { format!("{text}:8443") };
        return Err(Refusal { message: format!("{text:?} has no port"), hint: Some(format!("write {example:?}")) });
    }
    let hint = match text.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
            format!("write \"0.0.0.0:{port}\" for all IPv4 addresses, \"[::]:{port}\" for IPv6")
        }
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
            format!("write \"127.0.0.1:{port}\"")
        }
        _ => "an IP address, a colon and a port up to 65535; no names".to_owned(),
    };
    Err(Refusal { message: format!("{text:?} is not an address"), hint: Some(hint) })
}

fn listen_address(text: &str) -> Result<(), Refusal> {
    if text.parse::<ListenAddress>().is_ok() {
        return Ok(());
    }
    match text.rsplit_once(':').and_then(|(_, ports)| ports.split_once('-')) {
        Some(_) => refuse(
            format!("{text:?} is not an address with a range of ports"),
            Some("write \"0.0.0.0:33001-33020\", the lower port first"),
        ),
        None => socket_address(text),
    }
}

fn name(text: &str) -> Result<(), Refusal> {
    if is_name(text) {
        return Ok(());
    }
    refuse(
        format!("{text:?} cannot be a name"),
        Some("up to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"),
    )
}

fn host(text: &str) -> Result<(), Refusal> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let message = format!("{text:?} is neither an IP address nor a DNS name");
    if text.parse::<SocketAddr>().is_ok() || text.split_once(':').is_some_and(|(h, _)| is_dns_name(h)) {
        return refuse(message, Some("the port goes under ports, not here"));
    }
    if text.starts_with('[') {
        return refuse(message, Some("write an IPv6 address without brackets"));
    }
    let digits_only = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if is_dns_name(text) && !digits_only { Ok(()) } else { refuse(message, None) }
}

/// A network as `address/length`; a bare address is the network of itself alone.
pub(super) fn parse_network(text: &str) -> Result<IpNet, Refusal> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return refuse(
            format!("{text:?} is neither an IP address nor a network"),
            Some("write \"10.1.0.5\", \"10.0.0.0/8\" or \"fd00::/8\"; no names, no ports"),
        );
    };
    // One slip of the pen must not let in a whole network.
    if network.addr() != network.network() {
        let hint =
            format!("write \"{}\" for the network, \"{}\" for the address alone", network.trunc(), network.addr());
        return refuse(format!("{text:?} names an address inside its network"), Some(&hint));
    }
    Ok(network)
}

fn host_pattern(text: &str) -> Result<(), Refusal> {
    if text.parse::<HostPattern>().is_ok() {
        return Ok(());
    }
    if text.contains('/') {
        return parse_network(text).map(|_| ());
    }
    let hint = match text.strip_prefix('.') {
        Some(rest) => format!("write \"*.{rest}\""),
        None => "a name, \"*.example.com\" for all below it, an IP address, a network, or \"*\"; no port".to_owned(),
    };
    refuse(format!("{text:?} is no host"), Some(&hint))
}

/// An IP address, with port 53 unless it says another.
pub(super) fn parse_name_server(text: &str) -> Result<SocketAddr, Refusal> {
    let bare = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    match bare.or_else(|_| text.parse::<SocketAddr>()) {
        Ok(address) if address.port() > 0 => Ok(address),
        _ => refuse(
            format!("{text:?} is not the address of a name server"),
            Some("write \"10.0.0.53\", \"10.0.0.53:5353\" or \"[fd00::53]:5353\""),
        ),
    }
}

/// A URL in the clear without anything behind its path.
fn collector(text: &str) -> Result<(), Refusal> {
    let example = Some("write http://HOST:PORT, in the clear; a collector on this host can go on over TLS");
    let Some(rest) = text.strip_prefix("http://") else {
        return refuse(format!("{text:?} does not begin with http://"), example);
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.parse::<std::net::Ipv4Addr>().is_ok() || is_dns_name(host),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|n| n > 0 && !port.starts_with('+')));
    let is_path = path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '#' | '?'));
    if is_host && is_port && is_path {
        Ok(())
    } else {
        refuse(format!("{text:?} is not the URL of a collector"), example)
    }
}

fn url_path(text: &str) -> Result<(), Refusal> {
    if !text.starts_with('/') {
        return refuse(format!("{text:?} does not begin with a slash"), None);
    }
    if !text.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return refuse(format!("{text:?} has characters that cannot stand in a path"), Some("percent-encode them"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMATS: [&str; 15] = [
        "collector",
        "name-server",
        "host-pattern",
        "port-range",
        "parent-proxy",
        "duration",
        "positive-duration",
        "size",
        "socket-address",
        "listen-address",
        "name",
        "host",
        "network",
        "file",
        "url-path",
    ];

    #[test]
    fn names_fit_a_metric_label() {
        for good in ["a", "fallback-https", "0_0", &"a".repeat(63)] {
            assert!(is_name(good), "{good:?} was refused");
        }
        for bad in ["", "-a", "_a", "A", "a b", "ü", "a.b", &"a".repeat(64)] {
            assert!(!is_name(bad), "{bad:?} was accepted");
        }
    }

    #[test]
    fn hosts_are_addresses_or_names() {
        for good in ["10.0.0.1", "::1", "n1", "n1.example.com.", "node_1"] {
            assert!(check("host", good).is_ok(), "{good:?} was refused");
        }
        for bad in ["", "10.0.0.1:80", "n1:80", "[::1]", "10.0.0", "10.0.0.256", "a..b", "-a", "a b"] {
            assert!(check("host", bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn an_address_without_its_port_is_completed() {
        let hint = |text| check("socket-address", text).err().and_then(|refusal| refusal.hint);
        assert_eq!(hint("10.0.0.1").as_deref(), Some("write \"10.0.0.1:8443\""));
        assert_eq!(hint("::1").as_deref(), Some("write \"[::1]:8443\""));
        assert_eq!(hint("localhost:80").as_deref(), Some("write \"127.0.0.1:80\""));
        assert!(check("socket-address", "[::]:0").is_ok());
    }

    #[test]
    fn a_bare_address_is_a_network_of_one() {
        let network = |text| parse_network(text).map(|network| network.to_string()).map_err(|refusal| refusal.message);
        assert_eq!(network("10.1.0.5").as_deref(), Ok("10.1.0.5/32"));
        assert_eq!(network("fd00::5").as_deref(), Ok("fd00::5/128"));
        assert_eq!(network("0.0.0.0/0").as_deref(), Ok("0.0.0.0/0"));
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "10.1.0.5/8", "fd00::/129", "10.1.0.5:80", "n1", "[::1]"] {
            assert!(network(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_name_server_without_a_port_is_asked_on_53() {
        let server =
            |text| parse_name_server(text).map(|address| address.to_string()).map_err(|refusal| refusal.message);
        assert_eq!(server("10.0.0.53").as_deref(), Ok("10.0.0.53:53"));
        assert_eq!(server("[fd00::53]:5353").as_deref(), Ok("[fd00::53]:5353"));
        for bad in ["", "ns1", "10.0.0.53:0", "10.0.0.53:x"] {
            assert!(server(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_collector_is_a_url_in_the_clear() {
        let is_good = |text| check("collector", text).is_ok();
        for good in ["http://127.0.0.1:4318", "http://[::1]:4318/", "http://otel.example/up/here", "http://collector"] {
            assert!(is_good(good), "{good:?} was refused");
        }
        for bad in [
            "",
            "127.0.0.1:4318",
            "https://otel:4318",
            "http://",
            "http://:4318",
            "http://a:0",
            "http://a:x",
            "http://[::1",
            "http://anna:one@otel:4318",
            "http://otel:4318?x=1",
            "http://otel/a b",
            "HTTP://otel",
        ] {
            assert!(!is_good(bad), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_parent_that_will_not_do_is_not_repeated() {
        let refusal = check("parent-proxy", "http://user:SECRET@proxy").err().unwrap();
        assert!(!format!("{} {:?}", refusal.message, refusal.hint).contains("SECRET"));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_check_panic(text in any::<String>(), near in "[a0.:\\[\\]*/-]{0,20}") {
            for format in FORMATS {
                let _ = check(format, &text);
                let _ = check(format, &near);
            }
        }
    }
}
