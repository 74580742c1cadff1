//! The session bodies: id, operation and token come from the front and from nowhere else.

#![no_main]

use fallgate::{fallback::body, telemetry::Direction};
use libfuzzer_sys::fuzz_target;

fn has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

/// Takes an element with this very value off the front.
fn take<'b>(body: &'b [u8], open: &[u8], value: &[u8], close: &[u8]) -> &'b [u8] {
    let rest = body.trim_ascii_start().strip_prefix(open).expect("the element is next");
    assert!(!has(value, close), "a value holds its end tag");
    rest.strip_prefix(value).and_then(|r| r.strip_prefix(close)).expect("the value is the element's")
}

fuzz_target!(|data: &[u8]| {
    if let Some(start) = body::start(data) {
        let operation: &[u8] = match start.direction {
            Direction::Upload => b"put",
            Direction::Download => b"get",
        };
        let rest = data.trim_ascii_start().strip_prefix(b"<session>").expect("a session is first");
        let rest = take(rest, b"<id>", start.id, b"</id>");
        let rest = take(rest, b"<operation>", operation, b"</operation>");
        let rest = take(rest, b"<token>", start.token, b"</token>");

        // Nothing behind the token has a say, and less of the body never says something else.
        assert_eq!(body::start(&[data, b"<id>x</id><token>y</token>"].concat()).as_ref(), Some(&start));
        let read = data.len() - rest.len();
        assert_eq!(body::start(&data[..read]).as_ref(), Some(&start));
        assert_eq!(body::start(&data[..read - 1]), None);
    }

    let user = body::user(data);
    assert!(user.as_ref().is_none_or(|u| !u.is_empty() && u.chars().count() <= 256 && !u.contains("</user>")));
    assert_eq!(body::user(&[data, b"<user>last</user>"].concat()).as_deref(), Some("last"));
    assert!(body::sources(data) <= (data.len() / 8) as u64);
    assert_eq!(body::sources(&[data, b"<source>"].concat()), body::sources(data) + 1);

    let end = body::end(data);
    assert!(!end.done || has(data, b"<reason>"));
    assert!(end.code == 0 || has(data, b"<code>"));
    assert!(end.bytes == 0 || has(data, b"<bytes>"));
});
