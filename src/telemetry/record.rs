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
        let mut out = match format {
            // Its fields are plain texts and numbers, which cannot fail.
            AccessLogFormat::Json => serde_json::to_string(self).unwrap_or_default(),
            AccessLogFormat::Logfmt => self.values().iter().map(pair).collect::<Vec<_>>().join(" "),
        };
        out.push('\n');
        out
    }
}

/// A duration in seconds, to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}

fn pair((name, value): &(&'static str, Value)) -> String {
    let is_bare = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
    match value {
        Value::String(text) if !text.is_empty() && text.bytes().all(is_bare) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    }
}

#[cfg(test)]
mod tests {
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
}
