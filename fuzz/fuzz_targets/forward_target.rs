//! The target of a forward request: what passes has one spelling, and nothing else reads another host out of it.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use fallgate::forward::target::{Host, Target, absolute, connect};
use libfuzzer_sys::fuzz_target;

fn check(target: &Target) {
    assert!(target.port > 0);
    let authority = target.to_string();
    assert_eq!(connect(authority.as_bytes()).as_ref(), Ok(target), "its own spelling is another target");
    let url = format!("http://{authority}/x");
    assert_eq!(absolute(url.as_bytes()).expect("an absolute target").target, *target);
    match &target.host {
        Host::Name(name) => {
            let name = name.as_str();
            assert!(name.len() <= 253 && !name.ends_with('.') && name == name.to_ascii_lowercase());
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            assert!(inet_aton(name).is_none(), "a resolver takes it for an address");
        }
        Host::Ip(ip) => assert_eq!(*ip, ip.to_canonical(), "IPv4 in IPv6"),
    }
    let uri = http::Uri::try_from(&url).expect("a library reads it too");
    assert_eq!(uri.host().expect("a host"), target.host.to_string());
    assert_eq!(uri.port_u16(), Some(target.port));
}

/// What the C library makes of a text: up to four numbers, decimal, octal or hexadecimal, of which the last fills the rest.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some("") => Some(0),
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    };
    let parts: Vec<u64> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = parts.split_last().filter(|(_, first)| first.len() < 4)?;
    let room = 32 - 8 * first.len();
    if *last >= 1 << room || first.iter().any(|part| *part > 255) {
        return None;
    }
    let high = first.iter().fold(0, |sum, part| sum << 8 | part);
    Some(Ipv4Addr::from((high << room | last) as u32))
}

fuzz_target!(|data: &[u8]| {
    if let Ok(target) = connect(data) {
        check(&target);
        let text = std::str::from_utf8(data).expect("text");
        let host = text.rsplit_once(':').expect("a port").0;
        if let Some(ip) = inet_aton(host) {
            assert_eq!(target.host, Host::Ip(IpAddr::V4(ip)), "two readings of one address");
        }
        assert!(absolute(data).is_err(), "both forms at once");
    }
    if let Ok(read) = absolute(data) {
        check(&read.target);
        let path = &data[read.path.clone()];
        assert!(read.path.end == data.len() && (path.is_empty() || path.starts_with(b"/") || path.starts_with(b"?")));
        assert!(data.is_ascii() && !data[..read.path.start].contains(&b'@'));
        // The library refuses some characters in a path.
        let Ok(uri) = http::Uri::try_from(data) else { return };
        let host = Host::parse(uri.host().expect("a host")).expect("the same host");
        assert_eq!(host, read.target.host);
        assert_eq!(uri.port_u16().unwrap_or(80), read.target.port);
    }
});
