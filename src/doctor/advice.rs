//! What follows from the findings: which paths work, which to prefer, and how the client is told. Pure.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Question,
    diagnosis::{Diagnosis, State},
    finding::{Finding, Path, state_of},
};

/// Whether a path can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Works {
    /// It does.
    Yes,
    /// What can be told speaks for it.
    Maybe,
    /// It does not.
    No,
}

/// One way of calling the client.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advice {
    /// `nominal`, or the word of a fallback.
    pub path: &'static str,
    /// Whether it can be used.
    pub works: Works,
    /// Flags of ascp; those that have no path are left out.
    pub flags: Vec<String>,
    /// Keys of a transfer spec; empty where it has none for this path.
    pub spec: Map<String, Value>,
}

/// Everything together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The nominal path works.
    Nominal,
    /// Some path works or may work.
    Some,
    /// None works.
    None,
}

/// The fallbacks, the best first: TLS before the clear, where the token can be read on the way.
const FALLBACKS: &[Path] = &[Path::Https, Path::HttpsProxy, Path::Http, Path::HttpProxy];

/// Bad findings that many a transfer never meets.
const SOME_MEET: &[Diagnosis] = &[Diagnosis::BodyHeld, Diagnosis::InterimBroken, Diagnosis::SilenceCut];

/// All paths that were looked at, the best first: those that work, then those that may, then those that do not.
pub(super) fn advise(question: &Question, findings: &[Finding]) -> (Vec<Advice>, Verdict) {
    let nominal = match (state_of(findings, Path::Ssh), state_of(findings, Path::Udp)) {
        (Some(State::Good | State::Warn), Some(State::Good | State::Warn)) => Works::Yes,
        (Some(State::Good | State::Warn), Some(State::Unknown)) => Works::Maybe,
        _ => Works::No,
    };
    // What only large or slow transfers meet is no reason to leave a path out where there is no better one.
    let is_met = |f: &Finding| f.diagnosis.state() == State::Bad && !SOME_MEET.contains(&f.diagnosis);
    let has = |path: Path, diagnosis| findings.iter().any(|f| f.path == path && f.diagnosis == diagnosis);
    // A web server that forbids all looks alike.
    let is_doubtful = |path| has(path, Diagnosis::FallbackLikely) && !has(path, Diagnosis::TokenOk);
    let works = |path: Path| match state_of(findings, path)? {
        State::Good | State::Warn if is_doubtful(path) => Some(Works::Maybe),
        State::Good | State::Warn => Some(Works::Yes),
        State::Unknown => Some(Works::Maybe),
        State::Bad if findings.iter().any(|f| f.path == path && is_met(f)) => Some(Works::No),
        State::Bad => Some(Works::Maybe),
    };
    let fallbacks: Vec<_> = FALLBACKS.iter().filter_map(|path| Some((*path, works(*path)?))).collect();
    let first = |wanted| fallbacks.iter().find(|(_, works)| *works == wanted).map(|(path, _)| *path);
    let best = first(Works::Yes).or_else(|| first(Works::Maybe));
    let mut all = vec![nominal_call(question, nominal, best)];
    all.extend(fallbacks.iter().map(|(path, works)| fallback_call(question, *path, *works)));
    all.sort_by_key(|advice| match advice.works {
        Works::Yes => 0,
        Works::Maybe => 1,
        Works::No => 2,
    });
    let verdict = match () {
        () if nominal == Works::Yes => Verdict::Nominal,
        () if all.iter().any(|advice| advice.works != Works::No) => Verdict::Some,
        () => Verdict::None,
    };
    (all, verdict)
}

fn nominal_call(question: &Question, works: Works, fallback: Option<Path>) -> Advice {
    let mut flags = vec![format!("-P {}", question.ssh_port), format!("-O {}", question.udp_port)];
    let mut spec = Map::new();
    spec.insert("remote_host".to_owned(), json!(question.host));
    spec.insert("ssh_port".to_owned(), json!(question.ssh_port));
    spec.insert("fasp_port".to_owned(), json!(question.udp_port));
    match fallback {
        Some(path) => {
            flags.push("-y 1".to_owned());
            flags.extend(of_fallback(question, path));
        }
        None => flags.push("-y 0".to_owned()),
    }
    // A transfer spec has no key for the proxy.
    match fallback.filter(|path| !is_proxied(*path)) {
        Some(path) => spec.extend(spec_of(question, path, json!(true))),
        None => drop(spec.insert("http_fallback".to_owned(), json!(false))),
    }
    flags.push(host_flag(question));
    Advice { path: "nominal", works, flags, spec }
}

fn fallback_call(question: &Question, path: Path, works: Works) -> Advice {
    let mut flags = vec!["-y F".to_owned()];
    flags.extend(of_fallback(question, path));
    flags.push(host_flag(question));
    let mut spec = Map::new();
    if !is_proxied(path) {
        spec.insert("remote_host".to_owned(), json!(question.host));
        spec.extend(spec_of(question, path, json!("force")));
    }
    Advice { path: path.as_str(), works, flags, spec }
}

/// An IPv6 address, which ascp has a proxy reach, stands in brackets.
fn host_flag(question: &Question) -> String {
    match question.host.contains(':') {
        true => format!("--host=[{}]", question.host),
        false => format!("--host={}", question.host),
    }
}

fn is_tls(path: Path) -> bool {
    matches!(path, Path::Https | Path::HttpsProxy)
}

fn is_proxied(path: Path) -> bool {
    matches!(path, Path::HttpsProxy | Path::HttpProxy)
}

fn of_fallback(question: &Question, path: Path) -> Vec<String> {
    let mut flags = match is_tls(path) {
        true => vec![format!("-t {}", question.https_port), "-I CLIENT.crt".to_owned(), "-Y CLIENT.key".to_owned()],
        false => vec![format!("-t {}", question.http_port), "-T".to_owned()],
    };
    if let Some(proxy) = question.proxy.as_ref().filter(|_| is_proxied(path)) {
        flags.push(format!("-x {proxy}"));
    }
    flags
}

fn spec_of(question: &Question, path: Path, fallback: Value) -> Vec<(String, Value)> {
    let (key, port, cipher) = match is_tls(path) {
        true => ("https_fallback_port", question.https_port, "aes-128"),
        false => ("http_fallback_port", question.http_port, "none"),
    };
    let keys = [("http_fallback", fallback), (key, json!(port)), ("cipher", json!(cipher))];
    keys.map(|(key, value)| (key.to_owned(), value)).to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn advised(findings: &[(Path, Diagnosis)]) -> Vec<(&'static str, Works)> {
        all(findings).into_iter().map(|advice| (advice.path, advice.works)).collect()
    }

    fn all(findings: &[(Path, Diagnosis)]) -> Vec<Advice> {
        let question = Question {
            host: "h".to_owned(),
            ssh_port: 1,
            udp_port: 1,
            https_port: 1,
            http_port: 1,
            proxy: Some(crate::doctor::Place { host: "p".to_owned(), port: 3128 }),
            token: None,
            secret: None,
            user: "xfer".to_owned(),
            timeout: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        };
        let findings: Vec<_> = findings.iter().map(|(path, diagnosis)| Finding::new(*path, *diagnosis, "")).collect();
        advise(&question, &findings).0
    }

    #[test]
    fn a_transfer_spec_has_no_fallback_that_needs_a_proxy() {
        use Diagnosis::{FallbackOk, SshOk, UdpOk};
        let mut found = vec![(Path::Ssh, SshOk), (Path::Udp, UdpOk), (Path::HttpProxy, FallbackOk)];
        let nominal = all(&found).remove(0);
        assert!(nominal.flags.join(" ").contains("-y 1 -t 1 -T -x p:3128"), "{nominal:?}");
        assert_eq!((nominal.spec.get("http_fallback"), nominal.spec.get("cipher")), (Some(&json!(false)), None));
        found.push((Path::Http, FallbackOk));
        let nominal = all(&found).remove(0);
        assert_eq!(nominal.spec.get("http_fallback"), Some(&json!(true)));
    }

    #[test]
    fn a_server_that_forbids_may_be_a_fallback_and_is_one_when_it_takes_a_token() {
        use Diagnosis::{BodyUncapped, FallbackLikely, TlsOk, TokenOk};
        let mut found = vec![(Path::Https, TlsOk), (Path::Https, FallbackLikely), (Path::Https, BodyUncapped)];
        assert_eq!(advised(&found)[0], ("https", Works::Maybe));
        found.push((Path::Https, TokenOk));
        assert_eq!(advised(&found)[0], ("https", Works::Yes));
    }

    #[test]
    fn a_path_that_spoils_some_transfers_comes_behind_a_clean_one_and_one_that_spoils_all_is_none() {
        use Diagnosis::{BodyHeld, FallbackOk, FieldsChanged, IdleCut, InterimBroken, SilenceCut};
        for spoilt in [BodyHeld, InterimBroken, SilenceCut] {
            let found =
                [(Path::Https, FallbackOk), (Path::Https, spoilt), (Path::Http, FallbackOk), (Path::Http, IdleCut)];
            assert_eq!(
                advised(&found),
                [("http", Works::Yes), ("https", Works::Maybe), ("nominal", Works::No)],
                "{spoilt:?}"
            );
        }
        let found = [(Path::Https, FallbackOk), (Path::Https, FieldsChanged), (Path::Https, BodyHeld)];
        assert_eq!(advised(&found), [("nominal", Works::No), ("https", Works::No)]);
    }
}
