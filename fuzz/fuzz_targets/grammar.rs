//! What passes the grammar names no way out of its folder, in whatever spelling, and means the same
//! to the engine, to a node and to people.

#![no_main]

use fallgate::{
    config::{NodeTarget, Scheme},
    fallback::{grammar, target},
};
use libfuzzer_sys::fuzz_target;

/// Decodes every `%xx`.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let Some((digits, after)) = after.split_at_checked(2).filter(|_| *first == b'%') else {
            out.push(*first);
            continue;
        };
        rest = after;
        let digits = std::str::from_utf8(digits).expect("an escape");
        out.push(u8::from_str_radix(digits, 16).expect("an escape"));
    }
    out
}

fuzz_target!(|data: &[u8]| {
    // method LF target LF host; without a host it is the target's own.
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let mut next = || parts.next();
    let (method, target) = (next().unwrap_or_default(), next().unwrap_or_default());
    let host = next().unwrap_or_else(|| target.split(|b| *b == b'/').nth(2).unwrap_or_default());
    assert!(!grammar::readable(target).chars().any(char::is_control));
    let Ok(call) = grammar::parse(method, target, host) else { return };

    let name = decoded(&call.name);
    assert!(!name.split(|b| matches!(b, b'/' | b'\\')).any(|s| matches!(s, b"." | b"..")), "it climbs");
    assert!(!name.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f), "a control");
    assert_eq!(name.iter().filter(|b| **b == b'/').count(), call.name.iter().filter(|b| **b == b'/').count());
    assert!(target.is_ascii() && call.fetches == (method == b"GET"));
    assert!(target.windows(call.name.len().max(1)).any(|w| w == call.name) || call.name.is_empty());

    let uri = http::Uri::try_from(target).expect("the engine reads the target");
    assert!(target.ends_with(uri.path().as_bytes()), "the engine sees another path");
    assert!(uri.query().is_none());
    if !target.starts_with(b"/") {
        assert_eq!(uri.authority().expect("an authority").as_str().as_bytes(), host);
    }

    for scheme in [Scheme::Http, Scheme::Https] {
        for form in [NodeTarget::Received, NodeTarget::NodeScheme, NodeTarget::OriginForm] {
            let told = target::for_node(target, form, scheme);
            assert_eq!(grammar::parse(method, &told, host).as_ref(), Ok(&call), "a node is told something else");
        }
    }
});
