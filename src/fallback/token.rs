//! The shapes of tokens. Pure: the caller passes the time. Nothing here verifies a signature; that
//! is the node's work. No error and no `Debug` of this module holds a byte of a token.

use std::{io::Read, time::SystemTime};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use crate::{config::TokenKind, telemetry::Reason};

/// The longest token that is looked at, in bytes. The client itself refuses 64 KiB.
const MAX_TOKEN: usize = 40 * 1024;
/// The most that a Bearer token may inflate to, in bytes.
const MAX_INFLATED: u64 = 64 * 1024;
/// How far a clock may be off before a token counts as expired, in seconds.
const SKEW: u64 = 300;

/// What kind of token it is, by its frame alone.
///
/// `AT<letter><digit>_…_<digit><letter>TA` is a transfer token, `Basic …` an access key with its
/// secret, `Bearer …` a signed user token: zlib under base64, or a JWT.
pub fn shape(token: &[u8]) -> Result<TokenKind, Reason> {
    if token.is_empty() {
        return Err(Reason::TokenMissing);
    }
    if token.len() > MAX_TOKEN {
        return Err(Reason::TokenShape);
    }
    let found = if let Some(rest) = token.strip_prefix(b"Basic ") {
        is_base64(rest, 4).then_some(TokenKind::Basic)
    } else if let Some(rest) = token.strip_prefix(b"Bearer ") {
        (is_zlib(rest) || is_jwt(rest)).then_some(TokenKind::Bearer)
    } else {
        is_transfer(token).then_some(TokenKind::Transfer)
    };
    found.ok_or(Reason::TokenShape)
}

/// What is inside, as far as it can be read without a key: Basic has a colon, Bearer inflates and
/// is not expired, and both name an access key of the list, if there is one.
pub fn decode(kind: TokenKind, token: &[u8], access_keys: &[String], now: SystemTime) -> Result<(), Reason> {
    let access_key = match kind {
        TokenKind::Transfer => return Ok(()),
        TokenKind::Basic => basic_key(token.get(6..).unwrap_or_default()).ok_or(Reason::TokenShape)?,
        TokenKind::Bearer => {
            let claims = bearer_claims(token.get(7..).unwrap_or_default()).ok_or(Reason::TokenShape)?;
            if claims.expires_at.is_some_and(|at| at.saturating_add(SKEW) < unix(now)) {
                return Err(Reason::TokenExpired);
            }
            claims.access_key
        }
    };
    let listed = access_keys.is_empty() || access_key.is_some_and(|key| access_keys.contains(&key));
    if listed { Ok(()) } else { Err(Reason::AccessKey) }
}

fn is_transfer(token: &[u8]) -> bool {
    let [b'A', b'T', letter, digit, b'_', body @ .., b'_', digit2, letter2, b'T', b'A'] = token else {
        return false;
    };
    letter.is_ascii_uppercase()
        && digit.is_ascii_digit()
        && (letter, digit) == (letter2, digit2)
        && body.len() >= 16
        && body.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn is_base64(text: &[u8], least: usize) -> bool {
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    body.len() >= least && body.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// zlib at any level with the usual window: base64 of 0x78 and one of the four flag bytes.
fn is_zlib(text: &[u8]) -> bool {
    matches!(text.first_chunk(), Some(b"eJ" | b"eA" | b"eF" | b"eN")) && is_base64(text, 16)
}

fn is_jwt(text: &[u8]) -> bool {
    let mut parts = text.split(|b| *b == b'.');
    let is_part = |p: Option<&[u8]>, least: usize| {
        p.is_some_and(|p| p.len() >= least && p.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')))
    };
    is_part(parts.next(), 4) && is_part(parts.next(), 4) && is_part(parts.next(), 0) && parts.next().is_none()
}

/// `Some(None)` cannot happen for Basic: without a colon it is no Basic token.
fn basic_key(text: &[u8]) -> Option<Option<String>> {
    let plain = STANDARD.decode(text).ok()?;
    let colon = plain.iter().position(|b| *b == b':').filter(|at| *at > 0)?;
    Some(Some(String::from_utf8_lossy(plain.get(..colon)?).into_owned()))
}

struct Claims {
    /// Unix seconds.
    expires_at: Option<u64>,
    access_key: Option<String>,
}

fn bearer_claims(text: &[u8]) -> Option<Claims> {
    if is_zlib(text) {
        let deflated = STANDARD.decode(text).ok()?;
        let mut plain = Vec::new();
        let mut reader = flate2::read::ZlibDecoder::new(deflated.as_slice()).take(MAX_INFLATED + 1);
        reader.read_to_end(&mut plain).ok()?;
        if plain.len() as u64 > MAX_INFLATED {
            return None;
        }
        let end = plain.windows(13).position(|w| w == b"==SIGNATURE==")?;
        let claims: serde_json::Value = serde_json::from_slice(plain.get(..end)?).ok()?;
        let scope = claims.get("scope").and_then(|s| s.as_str()).unwrap_or_default();
        Some(Claims {
            expires_at: claims.get("expires_at").and_then(|e| e.as_str()).and_then(iso_seconds),
            access_key: scope.strip_prefix("node.").and_then(|s| s.split(':').next()).map(str::to_owned),
        })
    } else {
        let payload = URL_SAFE_NO_PAD.decode(text.split(|b| *b == b'.').nth(1)?).ok()?;
        let claims: serde_json::Value = serde_json::from_slice(&payload).ok()?;
        // Seconds may have a fraction; what is beyond all time ends up at its end, and before it at 0.
        let expires_at = claims.get("exp").and_then(|e| e.as_u64().or_else(|| e.as_f64().map(|s| s as u64)));
        Some(Claims { expires_at, access_key: None })
    }
}

/// `2026-11-22T18:00:00Z` (a fraction is skipped) as Unix seconds; other zones are not used here.
fn iso_seconds(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-').map(|p| p.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split('.').next()?.split(':').map(|p| p.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let in_range = (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !in_range {
        return None;
    }
    // Days since 1970-01-01 in the proleptic Gregorian calendar, counting years from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    u64::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second).ok()
}

fn unix(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn bearer(json: &str) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(json.as_bytes()).unwrap();
        encoder.write_all(b"==SIGNATURE==\nAAAA\n").unwrap();
        format!("Bearer {}", STANDARD.encode(encoder.finish().unwrap())).into_bytes()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn each_kind_is_known_by_its_frame() {
        assert_eq!(
            shape(b"ATM3_ACsGh7NRzGA2-ANT6j6mT3O4UYw48JKSstgxg2y8PunjPYAAEc-5aMrqwWI9XCbMaE2Kxk_3MTA"),
            Ok(TokenKind::Transfer)
        );
        assert_eq!(shape(b"Basic YTpiY2Q="), Ok(TokenKind::Basic));
        assert_eq!(shape(&bearer("{}")), Ok(TokenKind::Bearer));
        assert_eq!(shape(b"Bearer abcd.efgh.ijkl"), Ok(TokenKind::Bearer));
    }

    #[test]
    fn what_is_no_token_is_refused_by_its_reason() {
        assert_eq!(shape(b""), Err(Reason::TokenMissing));
        for bad in [
            "x",
            "ATM3_ACsGh7NRzGA2ANT6_3MTB",
            "ATM3_ACsGh7NRzGA2ANT6_2MTA",
            "ATM3_short_3MTA",
            "atm3_ACsGh7NRzGA2ANT6_3mta",
            "ATM3_ACsGh7NRzG A2ANT6_3MTA",
            "Basic !",
            "Basic",
            "Bearer x",
            "Bearer a.b",
            "Bearer abcd.efgh.ijkl.m",
            "ATM3_3MTA",
            "AT_TA",
        ] {
            assert_eq!(shape(bad.as_bytes()), Err(Reason::TokenShape), "{bad}");
        }
        assert_eq!(shape(&vec![b'a'; MAX_TOKEN + 1]), Err(Reason::TokenShape));
    }

    #[test]
    fn a_basic_token_without_a_colon_does_not_decode() {
        let token = |plain: &str| format!("Basic {}", STANDARD.encode(plain)).into_bytes();
        assert_eq!(decode(TokenKind::Basic, &token("key:secret"), &[], at(0)), Ok(()));
        assert_eq!(decode(TokenKind::Basic, &token("keysecret"), &[], at(0)), Err(Reason::TokenShape));
        assert_eq!(decode(TokenKind::Basic, &token("key:secret"), &["other".into()], at(0)), Err(Reason::AccessKey));
        assert_eq!(decode(TokenKind::Basic, &token("key:secret"), &["key".into()], at(0)), Ok(()));
    }

    #[test]
    fn a_bearer_token_expires_after_the_skew() {
        let token = bearer(r#"{"user_id":"u","scope":"node.K1:user:all","expires_at":"2026-11-22T18:00:00Z"}"#);
        let limit = 1_795_370_400;
        assert_eq!(decode(TokenKind::Bearer, &token, &["K1".into()], at(limit + SKEW)), Ok(()));
        assert_eq!(decode(TokenKind::Bearer, &token, &["K1".into()], at(limit + SKEW + 1)), Err(Reason::TokenExpired));
        assert_eq!(decode(TokenKind::Bearer, &token, &["K2".into()], at(limit)), Err(Reason::AccessKey));
    }

    #[test]
    fn a_jwt_expires_after_the_skew_in_whatever_number_it_says_so() {
        let token = |exp: &str| {
            let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{exp}}}"#));
            format!("Bearer eyJh.{payload}.c2ln").into_bytes()
        };
        for (exp, end) in [("1000", 1000), ("1000.9", 1000), ("1e3", 1000), ("-1", 0)] {
            assert_eq!(decode(TokenKind::Bearer, &token(exp), &[], at(end + SKEW)), Ok(()), "{exp}");
            assert_eq!(decode(TokenKind::Bearer, &token(exp), &[], at(end + SKEW + 1)), Err(Reason::TokenExpired));
        }
        for never in ["18446744073709551615", "18446744073709551616", "1e300"] {
            assert_eq!(decode(TokenKind::Bearer, &token(never), &[], at(1 << 40)), Ok(()), "{never}");
        }
    }

    #[test]
    fn a_bomb_is_not_inflated_beyond_the_bound() {
        let token = bearer(&" ".repeat(50 * 1024 * 1024));
        assert!(token.len() < 100 * 1024);
        assert_eq!(decode(TokenKind::Bearer, &token, &[], at(0)), Err(Reason::TokenShape));
    }

    #[test]
    fn dates_are_unix_seconds() {
        assert_eq!(iso_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(iso_seconds("2000-02-29T12:00:00.5Z"), Some(951_825_600));
        assert_eq!(iso_seconds("2026-13-01T00:00:00Z"), None);
        assert_eq!(iso_seconds("9223372036854775807-01-01T00:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_check_panic(token in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(kind) = shape(&token) {
                let _ = decode(kind, &token, &[], at(0));
            }
        }

        #[test]
        fn a_frame_of_any_letter_and_digit_passes_and_a_broken_one_does_not(letter in "[A-Z]", digit in "[0-9]", body in "[A-Za-z0-9_-]{16,80}") {
            let token = format!("AT{letter}{digit}_{body}_{digit}{letter}TA");
            prop_assert_eq!(shape(token.as_bytes()), Ok(TokenKind::Transfer));
            prop_assert_eq!(shape(&token.as_bytes()[1..]), Err(Reason::TokenShape));
        }

        #[test]
        fn bearer_like_text_never_panics(body in "[A-Za-z0-9+/]{0,200}={0,2}") {
            let token = format!("Bearer eJ{body}");
            let _ = decode(TokenKind::Bearer, token.as_bytes(), &[], at(0));
        }
    }
}
