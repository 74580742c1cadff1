//! One finding on one path. Pure.

use serde::Serialize;

use super::diagnosis::{Diagnosis, State};

/// A way from the client to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Control of the nominal path: SSH over TCP.
    Ssh,
    /// Data of the nominal path.
    Udp,
    /// The fallback over TLS.
    Https,
    /// The fallback in the clear.
    Http,
    /// The fallback over TLS, through the proxy.
    HttpsProxy,
    /// The fallback in the clear, through the proxy.
    HttpProxy,
}

impl Path {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Path::Ssh => "ssh",
            Path::Udp => "udp",
            Path::Https => "https",
            Path::Http => "http",
            Path::HttpsProxy => "https_proxy",
            Path::HttpProxy => "http_proxy",
        }
    }

    /// The path of a fallback.
    pub(super) fn fallback(tls: bool, proxied: bool) -> Path {
        match (tls, proxied) {
            (true, false) => Path::Https,
            (false, false) => Path::Http,
            (true, true) => Path::HttpsProxy,
            (false, true) => Path::HttpProxy,
        }
    }
}

/// What was seen on a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The path.
    pub path: Path,
    /// What it was.
    pub diagnosis: Diagnosis,
    /// What was seen, in a few words.
    pub seen: String,
}

impl Finding {
    pub(super) fn new(path: Path, diagnosis: Diagnosis, seen: impl Into<String>) -> Finding {
        let seen = seen.into().chars().map(|c| if is_plain(c) { c } else { ' ' }).take(200).collect();
        Finding { path, diagnosis, seen }
    }
}

/// What a far side said must not move the cursor of a terminal, nor have its text run backwards.
fn is_plain(c: char) -> bool {
    let is_of_format = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !is_of_format
}

/// How good a path is, by what was found on it: the worst that was found, where an unknown detail spoils nothing that works.
pub(super) fn state_of(findings: &[Finding], path: Path) -> Option<State> {
    let states = || findings.iter().filter(|f| f.path == path).map(|f| f.diagnosis.state());
    let has = |state| states().any(|s| s == state);
    match () {
        () if has(State::Bad) => Some(State::Bad),
        () if has(State::Warn) => Some(State::Warn),
        () if has(State::Good) => Some(State::Good),
        () => states().next(),
    }
}
