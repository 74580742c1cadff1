//! What a node answers and what nodes are told: the guard, the target, the forwarded fields.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use fallgate::{
    config::{NodeTarget, Scheme},
    fallback::{
        forwarded,
        guard::{self, Length},
        target,
    },
    net::http1::Head,
};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;

/// The most that a client could read out of a number: a sign, digits, anything behind.
fn most(value: &[u8]) -> u64 {
    let value = value.trim_ascii_start();
    let value = value.strip_prefix(b"+").unwrap_or(value);
    value
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .fold(0u64, |n, b| n.saturating_mul(10).saturating_add(u64::from(b - b'0')))
}

fn the_guard(value: &[u8], announced: Option<u64>, n: u64) {
    if guard::next_name(value).is_ok() {
        let path = String::from_utf8_lossy(value).replace('\\', "/");
        assert!(!path.split('/').any(|s| s == "..") && !path.contains(['\0', '\r', '\n']));
    }
    if guard::next_start(value, announced).is_ok() {
        assert!(most(value) <= announced.unwrap_or(u64::MAX - 1), "a start beyond the file");
    }
    let asked = guard::range_start(Some(value));
    assert!(asked == 0 || value.starts_with(b"bytes "));
    for overridden in [None, Some(n)] {
        let judged = guard::length(n, announced, asked, overridden);
        assert!(judged != Length::RangeIgnored || asked > 0 && announced == Some(n) && overridden.is_none());
        assert!(judged == Length::Fine || announced.is_some());
    }
}

fn the_target(value: &[u8]) {
    for front in [b"".as_slice(), b"http://h:1", b"https://h:1/aspera/https"] {
        let all = [front, value].concat();
        for (form, scheme) in [
            (NodeTarget::Received, Scheme::Http),
            (NodeTarget::NodeScheme, Scheme::Http),
            (NodeTarget::NodeScheme, Scheme::Https),
            (NodeTarget::OriginForm, Scheme::Http),
        ] {
            let told = target::for_node(&all, form, scheme);
            // Whether it still says the same, the grammar target sees to.
            assert!(told.len() <= all.len() + 2);
        }
    }
}

fn the_forwarded(value: &[u8], n: u64) {
    let text: Vec<u8> = value.iter().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { *b }).collect();
    let name: &[u8] = if n % 2 == 0 { b"Forwarded" } else { b"X-Forwarded-For" };
    let raw = [b"GET / HTTP/1.1\r\nHost: h\r\n", name, b": ", &text, b"\r\n\r\n"].concat();
    let Ok(head) = Head::parse(raw.into()) else { return };
    let peer: SocketAddr = ([10, 0, 0, 1], 5).into();
    let trusted: [IpNet; 2] = ["10.0.0.0/8", "fd00::/8"].map(|n| n.parse().expect("a network"));
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));

    let stranger = forwarded::of(&head, ([192, 0, 2, 1], 5).into(), true, &trusted);
    assert_eq!(stranger.x_forwarded_for, "192.0.2.1");

    let told = forwarded::of(&head, peer, n % 4 < 2, &trusted);
    let chain: Vec<IpAddr> = told.x_forwarded_for.split(", ").map(|a| a.parse().expect("an address")).collect();
    assert_eq!((chain.first(), chain.last()), (Some(&told.client), Some(&peer.ip())));
    assert!(chain.iter().skip(1).all(is_trusted), "a stranger stands behind the client");
    assert_eq!(told.forwarded.split(", ").count(), chain.len());
    assert!(told.forwarded.bytes().all(|b| b.is_ascii_graphic() || b == b' '));

    // A node behind us that trusts us and the same fronts comes to the same client.
    let raw = format!("GET / HTTP/1.1\r\nHost: h\r\nForwarded: {}\r\n\r\n", told.forwarded);
    if raw.len() <= 32 * 1024 {
        let head = Head::parse(raw.into()).expect("what is told is a head");
        assert_eq!(forwarded::of(&head, peer, true, &trusted).client, told.client);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((numbers, value)) = data.split_first_chunk::<10>() else { return };
    let n = u64::from_be_bytes(numbers[..8].try_into().expect("eight bytes"));
    let announced = (numbers[8] % 2 == 0).then(|| n >> (numbers[9] % 64));
    match value.split_first() {
        Some((b'T', value)) => the_target(value),
        Some((b'F', value)) => the_forwarded(value, n),
        _ => the_guard(value, announced, n),
    }
});
