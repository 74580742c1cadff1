//! One line of the access log: the same fields in the same order, whatever it is about.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use serde::Serialize;
use serde_json::Value;

use super::labels::{Direction, Kind, Reason};
use crate::config::AccessLogFormat;

/// Declares the record once: its fields, their order and what they mean.
macro_rules! record {
    ($(#[doc = $doc:literal] $name:ident: $kind:ty,)+) => {
        /// What one transfer has to say for itself when it is over. `None` stands where there is nothing to say, and is
        /// written `null`, so that every line has every field.
        #[derive(Debug, Clone, Serialize)]
        pub struct Record { $(#[doc = $doc] pub $name: $kind,)+ }

        impl Record {
            /// The fields in their order, each with what it means.
            pub const FIELDS: &'static [(&'static str, &'static str)] = &[$((stringify!($name), $doc),)+];

            /// All of them with their values, in their order.
            pub(super) fn values(&self) -> Vec<(&'static str, Value)> {
                vec![$((stringify!($name), serde_json::to_value(&self.$name).unwrap_or_default()),)+]
            }
        }
    };
}

record! {
    /// When it ended, in Unix seconds.
    time: f64,
    /// What it was: `session`, `control`, `flow`, `tunnel` or `request`.
    kind: Kind,
    /// What the admin API called it; of a session a short keyed hash of its id, of anything else null where nothing had begun.
    id: Option<String>,
    /// The listener it came in by.
    listener: String,
    /// The client's address.
    client: IpAddr,
    /// The client's port; null for a session, which has many connections.
    client_port: Option<u16>,
    /// The transfer user, or that of the forward proxy.
    user: Option<String>,
    /// `upload` or `download`; null where bytes go both ways.
    direction: Option<&'static str>,
    /// The upstream; null behind a forward proxy.
    upstream: Option<String>,
    /// The node; null behind a forward proxy, and where none was reached.
    node: Option<String>,
    /// What a forward proxy was asked for: host and port.
    target: Option<String>,
    /// What it connected to.
    address: Option<SocketAddr>,
    /// Whether that is the parent proxy.
    parent: Option<bool>,
    /// The policy that was asked.
    policy: Option<String>,
    /// The rule that decided.
    rule: Option<String>,
    /// Whether the policy would have refused and only reports.
    reported: Option<bool>,
    /// The status that a forward proxy answered with.
    status: Option<u16>,
    /// How it ended.
    outcome: &'static str,
    /// Why, where it was refused or failed.
    reason: Option<&'static str>,
    /// The client's own code for the end of the session; 0 is success.
    code: Option<u64>,
    /// Files that the client says went well.
    client_files: Option<u64>,
    /// Files that the client says did not.
    client_files_failed: Option<u64>,
    /// Bytes that the client says it moved.
    client_bytes: Option<u64>,
    /// Files that the node took or gave.
    files: Option<u64>,
    /// Files that it did not.
    files_failed: Option<u64>,
    /// Bytes from the client to the node.
    bytes_uploaded: u64,
    /// Bytes from the node to the client.
    bytes_downloaded: u64,
    /// Requests of the session.
    requests: Option<u64>,
    /// Downloads that were not as long as announced.
    lengths_differ: Option<u64>,
    /// Whether a download ended well with fewer files than sources.
    chain_ended_early: Option<bool>,
    /// The file that was moved last.
    last_file: Option<String>,
    /// How long the start waited for room, in seconds.
    waited_seconds: Option<f64>,
    /// How long it lasted, in seconds.
    seconds: f64,
}

impl Record {
    /// A record of what ends now, with nothing to say of all else.
    pub fn new(kind: Kind, listener: &str, client: IpAddr, outcome: &'static str, lasted: Duration) -> Record {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Record {
            time: seconds(now),
            kind,
            id: None,
            listener: listener.to_owned(),
            client,
            client_port: None,
            user: None,
            direction: None,
            upstream: None,
            node: None,
            target: None,
            address: None,
            parent: None,
            policy: None,
            rule: None,
            reported: None,
            status: None,
            outcome,
            reason: None,
            code: None,
            client_files: None,
            client_files_failed: None,
            client_bytes: None,
            files: None,
            files_failed: None,
            bytes_uploaded: 0,
            bytes_downloaded: 0,
            requests: None,
            lengths_differ: None,
            chain_ended_early: None,
            last_file: None,
            waited_seconds: None,
            seconds: seconds(lasted),
        }
    }

    /// Sets which way the files went.
    pub fn directed(self, direction: Option<Direction>) -> Record {
        Record { direction: direction.map(Direction::as_str), ..self }
    }

    /// Sets why it was refused or failed.
    pub fn because(self, reason: Option<Reason>) -> Record {
        Record { reason: reason.map(Reason::as_str), ..self }
    }

    /// The line in the given format, with its newline.
    pub fn line(&self, format: AccessLogFormat) -> String {
        let line = match format {
            // Its fields are plain texts and numbers, which cannot fail.
            AccessLogFormat::Json => serde_json::to_string(self).unwrap_or_default(),
            AccessLogFormat::Logfmt => self.values().iter().map(pair).collect::<Vec<_>>().join(" "),
        };
        let mut out = escaped(line);
        out.push('\n');
        out
    }
}

/// A duration in seconds, to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

/// A field in logfmt. A text is quoted, as in JSON, where it could be taken for something else.
fn pair((name, value): &(&'static str, Value)) -> String {
    match value {
        Value::String(text) if is_bare(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }
}

/// Whether a text is only ever read as itself.
fn is_bare(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
    let is_a_word = !matches!(text, "" | "null" | "true" | "false") && text.parse::<f64>().is_err();
    is_a_word && text.bytes().all(is_plain)
}

/// The line with all characters escaped that would not be seen, or would have a reader see another line. Those are in
/// quotes wherever they are, and JSON itself escapes only the first 32.
fn escaped(line: String) -> String {
    if !line.contains(is_unseen) {
        return line;
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_unseen(c) {
            // None of them is beyond the first 65536.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Controls, ends of lines and paragraphs, and what has no width or turns the direction of what follows.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(user: &str) -> Record {
        let lasted = Duration::from_millis(1500);
        let record = Record::new(Kind::Flow, "data", "2001:db8::1".parse().unwrap(), "idle", lasted);
        Record { time: 2.5, user: Some(user.to_owned()), ..record }
    }

    #[test]
    fn a_record_has_every_field_in_one_order_in_both_formats() {
        let names: Vec<_> = Record::FIELDS.iter().map(|(name, _)| *name).collect();
        let json = record("x y").line(AccessLogFormat::Json);
        let at: Vec<_> = names.iter().map(|name| json.find(&format!("\"{name}\":")).unwrap()).collect();
        assert!(at.is_sorted(), "{json}");
        let logfmt = record("x y").line(AccessLogFormat::Logfmt);
        let at: Vec<_> = names.iter().map(|name| format!(" {logfmt}").find(&format!(" {name}=")).unwrap()).collect();
        assert!(at.is_sorted(), "{logfmt}");
        assert!(logfmt.starts_with("time=2.5 kind=flow id=null listener=data client=2001:db8::1 "), "{logfmt}");
        assert!(logfmt.contains(" user=\"x y\" ") && logfmt.ends_with(" seconds=1.5\n"), "{logfmt}");
    }

    #[test]
    fn a_newline_in_a_value_cannot_forge_a_second_line() {
        for format in [AccessLogFormat::Json, AccessLogFormat::Logfmt] {
            assert_eq!(record("a\nkind=session").line(format).matches('\n').count(), 1);
        }
    }

    #[test]
    fn a_text_is_told_from_what_it_looks_like_and_hides_nothing() {
        for (user, shown) in [
            ("null", "\"null\""),
            ("true", "\"true\""),
            ("false", "\"false\""),
            ("123", "\"123\""),
            ("-1.5e3", "\"-1.5e3\""),
            ("", "\"\""),
            ("a=b", "\"a=b\""),
            ("a\x7f\u{85}\u{2028}\u{2029}\u{202e}\x01", "\"a\\u007f\\u0085\\u2028\\u2029\\u202e\\u0001\""),
            ("nullable", "nullable"),
            ("10.0.0.1", "10.0.0.1"),
            ("größe", "\"größe\""),
        ] {
            let line = record(user).line(AccessLogFormat::Logfmt);
            assert!(line.contains(&format!(" user={shown} ")), "{line}");
        }
        let line = Record { user: None, ..record("") }.line(AccessLogFormat::Logfmt);
        assert!(line.contains(" user=null "), "{line}");
        let line = record("a\x7f\u{85}\u{2028}").line(AccessLogFormat::Json);
        assert!(line.contains(r#""user":"a\u007f\u0085\u2028""#), "{line}");
    }

    /// The pairs of a line of logfmt: what is not quoted is null, a truth or a number where it reads like one.
    fn parsed(line: &str) -> Vec<(String, Value)> {
        let (mut rest, mut pairs) = (line, Vec::new());
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = if after.starts_with('"') {
                let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
                let value = values.next().unwrap().unwrap();
                (value, &after[values.byte_offset()..])
            } else {
                let (word, after) = after.split_at(after.find([' ', '\n']).unwrap());
                (serde_json::from_str(word).unwrap_or_else(|_| word.into()), after)
            };
            pairs.push((name.to_owned(), value));
            rest = &after[1..];
        }
        assert_eq!(rest, "");
        pairs
    }

    /// Texts of all kinds, and those that look like something else.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[ -~]{0,8}",
            "(null|true|false|nan|inf)",
            "[0-9eE+.-]{1,6}",
            any::<f64>().prop_map(|n| n.to_string()),
            proptest::collection::vec(
                prop_oneof![Just('\u{85}'), Just('\u{2028}'), Just('"'), Just('\\'), any::<char>()],
                0..6
            )
            .prop_map(String::from_iter),
        ]
    }

    proptest! {
        #[test]
        fn a_line_is_one_line_and_gives_the_fields_back(
            user in proptest::option::of(text()),
            last_file in proptest::option::of(text()),
            files in any::<Option<u64>>(),
            parent in any::<Option<bool>>(),
        ) {
            let record = Record { user, last_file, files, parent, ..record("") };
            let wanted: Vec<_> = record.values().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let lines = [AccessLogFormat::Json, AccessLogFormat::Logfmt].map(|format| record.line(format));
            for line in &lines {
                prop_assert_eq!(line.find(is_unseen), Some(line.len() - 1), "only the newline at its end: {:?}", line);
            }
            let json: Value = serde_json::from_str(&lines[0]).unwrap();
            prop_assert!(wanted.iter().all(|(name, value)| json[name] == *value), "{}", lines[0]);
            prop_assert_eq!(parsed(&lines[1]), wanted);
        }
    }
}
