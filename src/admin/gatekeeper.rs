//! Who may ask what: a pure core that knows neither socket nor clock.
//!
//! Whoever asks over loopback may read. A browser on this host can be made to ask by any page it shows, and by DNS
//! rebinding such a page even reads the answer; so what is trusted for coming from this host must also name this host.
//! A token makes all of that needless.

use std::{fmt, io, net::IpAddr, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::telemetry::Reason;

/// The shortest token, in bytes; `openssl rand -hex 32` makes 64.
const SHORTEST: usize = 16;
/// The longest.
const LONGEST: usize = 1024;

/// What shows that an operator asks.
pub struct Token(Box<[u8]>);

/// Why a file holds no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not one line of 16 to 1024 visible ASCII characters.
    #[error(
        "does not hold one line of {SHORTEST} to {LONGEST} visible ASCII characters, such as `openssl rand -hex 32` makes"
    )]
    Form,
}

impl Token {
    /// The token that a file holds.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold one line of 16 to 1024 visible ASCII characters.
    pub fn read(path: &Path) -> Result<Token, TokenError> {
        let text = std::fs::read(path)?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let sound = (SHORTEST..=LONGEST).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        if sound { Ok(Token(text.into())) } else { Err(TokenError::Form) }
    }

    /// Whether an `Authorization` field carries it: `Bearer TOKEN`, or `Basic` with it as the password of any user.
    fn is_in(&self, authorization: &[u8]) -> bool {
        let Some(at) = authorization.iter().position(|b| *b == b' ') else { return false };
        let (scheme, rest) = authorization.split_at(at);
        let rest = rest.trim_ascii();
        if scheme.eq_ignore_ascii_case(b"bearer") {
            return self.is(rest);
        }
        let Some(pair) = BASE64_STANDARD.decode(rest).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic")) else {
            return false;
        };
        pair.iter().position(|b| *b == b':').is_some_and(|colon| self.is(&pair[colon + 1..]))
    }

    /// Takes the same time for all texts of its length.
    fn is(&self, said: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, said).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// What an answer gives away, or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Anybody may have it: health and metrics.
    Open,
    /// It shows transfers and who makes them.
    Read,
    /// It changes something.
    Command,
}

/// What is known of who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) peer: IpAddr,
    /// The `Host` field.
    pub(super) host: Option<&'a [u8]>,
    /// The `Origin` field.
    pub(super) origin: Option<&'a [u8]>,
    /// The `Sec-Fetch-Site` field.
    pub(super) site: Option<&'a [u8]>,
    /// The `Authorization` field.
    pub(super) authorization: Option<&'a [u8]>,
    /// A proxy says that it speaks for somebody else.
    pub(super) is_forwarded: bool,
}

/// Whether the caller may have what it asks for; else the word for it.
pub(super) fn admit(caller: Caller<'_>, access: Access, token: Option<&Token>, own_name: &str) -> Result<(), Reason> {
    let proof = caller.authorization.map(|said| token.is_some_and(|token| token.is_in(said)));
    let is_local = caller.peer.is_loopback() && !caller.is_forwarded;
    if proof != Some(true) && is_local && caller.host.is_some_and(|host| !is_own(host, own_name)) {
        return Err(Reason::ForeignHost);
    }
    if access == Access::Open {
        return Ok(());
    }
    if is_foreign(caller, access) {
        return Err(Reason::ForeignOrigin);
    }
    match (access, proof) {
        (_, Some(true)) => Ok(()),
        (_, Some(false)) => Err(Reason::AuthFailed),
        (Access::Read, None) if is_local => Ok(()),
        (_, None) => Err(Reason::AuthRequired),
    }
}

/// Whether a page of another site asks. A link may lead here from anywhere; a script or a form may not.
fn is_foreign(caller: Caller<'_>, access: Access) -> bool {
    let same_origin = |origin: &[u8]| {
        let authority = [b"http://".as_slice(), b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        authority.zip(caller.host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host))
    };
    let from_elsewhere = caller.site.is_some_and(|site| site != b"same-origin" && site != b"none");
    caller.origin.is_some_and(|origin| !same_origin(origin)) || access == Access::Command && from_elsewhere
}

/// Whether a `Host` field names this host as nobody else can have a name resolve: by an address, as localhost or by the
/// name that the system goes by.
fn is_own(host: &[u8], own_name: &str) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            return address.parse::<std::net::Ipv6Addr>().is_ok()
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
        }
        None => host.split_once(':').unwrap_or((host, "")),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_named =
        name.eq_ignore_ascii_case("localhost") || !own_name.is_empty() && name.eq_ignore_ascii_case(own_name);
    is_port(port) && (is_named || name.parse::<std::net::Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WORD: &str = "correct-horse-battery";

    fn token() -> Token {
        Token(WORD.as_bytes().into())
    }

    fn caller(peer: &str) -> Caller<'static> {
        Caller {
            peer: peer.parse().unwrap(),
            host: Some(b"localhost:9180"),
            origin: None,
            site: None,
            authorization: None,
            is_forwarded: false,
        }
    }

    fn ask(caller: Caller<'_>, access: Access) -> Result<(), Reason> {
        admit(caller, access, Some(&token()), "edge1")
    }

    #[test]
    fn this_host_may_read_and_others_need_the_token() {
        let (here, there) = (caller("127.0.0.1"), caller("192.0.2.9"));
        assert_eq!(ask(here, Access::Read), Ok(()));
        assert_eq!(ask(caller("::1"), Access::Read), Ok(()));
        assert_eq!(ask(there, Access::Read), Err(Reason::AuthRequired));
        assert_eq!(ask(there, Access::Open), Ok(()));
        assert_eq!(ask(Caller { is_forwarded: true, ..here }, Access::Read), Err(Reason::AuthRequired));
    }

    #[test]
    fn a_command_needs_the_token_from_everywhere() {
        for peer in ["127.0.0.1", "192.0.2.9"] {
            assert_eq!(ask(caller(peer), Access::Command), Err(Reason::AuthRequired));
            for good in ["Bearer correct-horse-battery", "bearer  correct-horse-battery "] {
                let with = Caller { authorization: Some(good.as_bytes()), ..caller(peer) };
                assert_eq!(ask(with, Access::Command), Ok(()));
                assert_eq!(admit(with, Access::Command, None, ""), Err(Reason::AuthFailed), "there is no token");
            }
            let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("anyone:{WORD}")));
            let with = Caller { authorization: Some(basic.as_bytes()), ..caller(peer) };
            assert_eq!(ask(with, Access::Command), Ok(()));
            for bad in ["Bearer correct-horse", "Bearer", "Basic ???", "Digest correct-horse-battery", ""] {
                let with = Caller { authorization: Some(bad.as_bytes()), ..caller(peer) };
                assert_eq!(ask(with, Access::Command), Err(Reason::AuthFailed), "{bad:?}");
            }
        }
    }

    #[test]
    fn a_name_that_somebody_else_made_lead_here_is_refused_even_for_what_is_open() {
        let as_host = |host: &'static str| Caller { host: Some(host.as_bytes()), ..caller("127.0.0.1") };
        for own in ["localhost", "LOCALHOST:9180", "127.0.0.1:1", "[::1]:9180", "edge1:9180", "10.1.2.3", "localhost."]
        {
            assert_eq!(ask(as_host(own), Access::Open), Ok(()), "{own}");
        }
        for foreign in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", "[::1", "edge1.evil.example"]
        {
            for access in [Access::Open, Access::Read] {
                assert_eq!(ask(as_host(foreign), access), Err(Reason::ForeignHost), "{foreign}");
            }
            let bearer = format!("Bearer {WORD}");
            let with = Caller { authorization: Some(bearer.as_bytes()), ..as_host(foreign) };
            assert_eq!(ask(with, Access::Command), Ok(()), "the token says who asks");
        }
        assert_eq!(ask(Caller { host: Some(b"monitor.example"), ..caller("192.0.2.9") }, Access::Open), Ok(()));
    }

    #[test]
    fn a_page_of_another_site_neither_reads_nor_commands_even_with_the_token_that_its_browser_keeps() {
        let bearer = format!("Bearer {WORD}");
        let with = Caller { authorization: Some(bearer.as_bytes()), ..caller("127.0.0.1") };
        for access in [Access::Read, Access::Command] {
            for origin in ["http://evil.example", "null", "http://localhost:9181", ""] {
                let foreign = Caller { origin: Some(origin.as_bytes()), ..with };
                assert_eq!(ask(foreign, access), Err(Reason::ForeignOrigin), "{origin}");
            }
            assert_eq!(ask(Caller { origin: Some(b"http://localhost:9180"), ..with }, access), Ok(()));
        }
        assert_eq!(ask(Caller { site: Some(b"cross-site"), ..with }, Access::Command), Err(Reason::ForeignOrigin));
        assert_eq!(ask(Caller { site: Some(b"cross-site"), ..with }, Access::Read), Ok(()), "a link may lead here");
    }

    #[test]
    fn a_token_is_one_line_long_enough_not_to_be_guessed_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        for (text, good) in [
            ("0123456789abcdef", true),
            ("0123456789abcdef\n", true),
            ("0123456789abcdef\r\n", true),
            ("0123456789abcde\n", false),
            ("0123456789abcdef\nsecond line", false),
            ("0123456789 abcdef", false),
            ("", false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(Token::read(&file).is_ok(), good, "{text:?}");
        }
        assert!(matches!(Token::read(&dir.path().join("none")), Err(TokenError::Read(_))));
        assert!(!format!("{:?}", token()).contains(WORD));
    }

    proptest! {
        #[test]
        fn no_text_but_the_token_is_taken_for_it(said in prop::collection::vec(any::<u8>(), 0..64), host in prop::collection::vec(any::<u8>(), 0..32)) {
            let asks = Caller { authorization: Some(&said), host: Some(&host), ..caller("192.0.2.9") };
            prop_assert!(ask(asks, Access::Command).is_err());
        }
    }
}
