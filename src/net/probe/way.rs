//! Probes of the way that requests take: the question is the name of the file in an upload to a session that there is not,
//! so nothing on the way takes it out, and it looks like any other upload to who does not know the secret. It says what the
//! far end is to do; the answer tells the head as it came, and when the body did. Pure: no socket, no clock.

use std::time::Duration;

use aws_lc_rs::hmac;

use super::{Heard, Nonce, Secret};
use crate::telemetry::ProbeResult;

/// How the name of the file begins; the question follows in hexadecimal.
pub const NAME: &str = "fallgate-doctor.";
/// The largest body, in bytes; it is read and thrown away.
pub const MOST_BODY: u64 = 64 * 1024;
/// The longest silence, and the longest that a connection is kept for another question.
pub const LONGEST: Duration = Duration::from_secs(120);
/// The largest answer, in bytes: a head of a request and a few lines.
pub const MOST_ANSWER: usize = 64 * 1024;
/// Between the two halves of the answer's body, where that is asked for.
pub const BREAK: Duration = Duration::from_millis(800);
/// Fields of every answer, in this order and spelling: those of an answer to an upload that have no effect on one.
pub const ROW: [(&str, &str); 5] = [
    ("x-server-version", "fallgate-doctor"),
    ("x-File-accessible", "1"),
    ("x-file-access-permissions", "33188"),
    ("x-next-wire-file", "fallgate-doctor.next"),
    ("x-next-wire-file-size", "1"),
];

/// What the question of a request begins with; it is none of a datagram.
const MARK: [u8; 16] = *b"\xf1\x8e\x0bfallgate&\x91\xd2\x07\xc5";
const BEGIN: &str = "fallgate-doctor 1";
const SIGNED: &[u8] = b"\nsigned ";
/// The most interim answers, and the longest from one to the next.
const MOST_NOTICES: u32 = 20;
const MOST_SPACING: Duration = Duration::from_secs(5);

/// What the far end is to do once it has the whole body, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// How many 102 it sends; at most 20.
    pub notices: u32,
    /// And how long before each; at most 5 seconds. In whole milliseconds, as all that follows.
    pub spacing: Duration,
    /// How long it says nothing then; at most two minutes.
    pub silence: Duration,
    /// Whether the body of its answer comes in two halves, [`BREAK`] apart.
    pub halves: bool,
    /// How long it keeps the connection for another request afterwards; at most two minutes, and at least what its
    /// config says.
    pub idle: Duration,
}

/// What the far end tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// The head of the request as it came, without the question.
    pub head: Vec<u8>,
    /// When the first byte of the body was there, in milliseconds from the end of the head.
    pub first: u64,
    /// And the last one.
    pub last: u64,
}

impl Secret {
    /// The name of the file that asks this; `now` in Unix milliseconds.
    pub fn name(&self, nonce: &Nonce, now: u64, ask: &Ask) -> String {
        let millis = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX).to_be_bytes();
        let parts: [&[u8]; 8] = [
            &MARK,
            &now.to_be_bytes(),
            nonce,
            &ask.notices.to_be_bytes(),
            &millis(ask.spacing),
            &millis(ask.silence),
            &u32::from(ask.halves).to_be_bytes(),
            &millis(ask.idle),
        ];
        format!("{NAME}{}", hex(&self.signed(parts.concat(), 0)))
    }

    /// The body of an answer.
    pub fn tell(&self, nonce: &Nonce, told: &Told) -> Vec<u8> {
        let (first, last, length) = (told.first, told.last, told.head.len());
        let lines = format!("{BEGIN}\nnonce {}\nfirst {first}\nlast {last}\nhead {length}\n", hex(nonce));
        let mut bytes = [lines.as_bytes(), &told.head].concat();
        let signature = hex(hmac::sign(&self.0, &bytes).as_ref());
        bytes.extend_from_slice(SIGNED);
        bytes.extend_from_slice(signature.as_bytes());
        bytes
    }

    /// What is told, if this is the answer to the question with that nonce.
    pub fn read_told(&self, bytes: &[u8], nonce: &Nonce) -> Option<Told> {
        let (bytes, signature) = bytes.split_at_checked(bytes.len().checked_sub(64)?)?;
        let bytes = bytes.strip_suffix(SIGNED)?;
        hmac::verify(&self.0, bytes, &unhex(signature)?).ok()?;
        let rest = line(bytes, BEGIN)?.strip_prefix(b"\n")?;
        let rest = line(rest, &format!("nonce {}\n", hex(nonce)))?;
        let (first, rest) = number(line(rest, "first ")?)?;
        let (last, rest) = number(line(rest, "last ")?)?;
        let (length, head) = number(line(rest, "head ")?)?;
        (u64::try_from(head.len()).ok()? == length).then(|| Told { head: head.to_vec(), first, last })
    }
}

impl Heard {
    /// Takes the name of a file that an upload is for; none where it is no question.
    ///
    /// # Errors
    /// It is a question that is not to be answered, for this reason.
    pub fn take_name(&mut self, secret: &Secret, name: &[u8], now: u64) -> Option<Result<(Nonce, Ask), ProbeResult>> {
        let text = name.strip_prefix(NAME.as_bytes())?;
        let Some(bytes) = unhex(text) else { return Some(Err(ProbeResult::Forged)) };
        let taken = self.take_marked(&MARK, secret, &bytes, now);
        Some(taken.and_then(|(nonce, rest)| Ok((nonce, Ask::read(rest).ok_or(ProbeResult::Forged)?))))
    }
}

impl Ask {
    fn read(bytes: &[u8]) -> Option<Ask> {
        let (notices, rest) = bytes.split_first_chunk::<4>()?;
        let (spacing, rest) = rest.split_first_chunk::<4>()?;
        let (silence, rest) = rest.split_first_chunk::<4>()?;
        let (halves, rest) = rest.split_first_chunk::<4>()?;
        let (idle, _) = rest.split_first_chunk::<4>()?;
        let time = |bytes: &[u8; 4]| Duration::from_millis(u32::from_be_bytes(*bytes).into());
        Some(Ask {
            notices: u32::from_be_bytes(*notices).min(MOST_NOTICES),
            spacing: time(spacing).min(MOST_SPACING),
            silence: time(silence).min(LONGEST),
            halves: u32::from_be_bytes(*halves) != 0,
            idle: time(idle).min(LONGEST),
        })
    }
}

/// A head in which the question is a dash.
pub fn without_question(head: &[u8]) -> Vec<u8> {
    let Some(at) = head.windows(NAME.len()).position(|part| part == NAME.as_bytes()) else { return head.to_vec() };
    let (before, rest) = head.split_at(at + NAME.len());
    let end = rest.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(rest.len());
    [before, b"-", rest.get(end..).unwrap_or_default()].concat()
}

/// What follows a text that all begins with.
fn line<'a>(bytes: &'a [u8], begin: &str) -> Option<&'a [u8]> {
    bytes.strip_prefix(begin.as_bytes())
}

/// A number and what follows its line.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (digits, rest) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest.get(1..)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Lower case alone, so that one question has one spelling.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if rest.is_empty() { bytes } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::LEAST, *};

    const NOW: u64 = 1_800_000_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn ask() -> Ask {
        Ask { notices: 3, spacing: SECOND / 5, silence: 25 * SECOND, halves: true, idle: 30 * SECOND }
    }

    #[test]
    fn a_question_in_a_name_is_read_once_and_is_none_of_a_datagram() {
        let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
        let name = secret.name(&[7; 16], NOW, &ask());
        assert!(name.len() < 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{name}");
        assert_eq!(heard.take_name(&secret, b"report.pdf", NOW), None);
        let bytes = unhex(&name.as_bytes()[NAME.len()..]).unwrap();
        assert_eq!(heard.take(&secret, &bytes, NOW), Err(ProbeResult::Forged));
        let datagram = format!("{NAME}{}", hex(&secret.question(&[7; 16], NOW, LEAST)));
        assert_eq!(heard.take_name(&secret, datagram.as_bytes(), NOW), Some(Err(ProbeResult::Forged)));
        let other = Secret::new(b"two").name(&[7; 16], NOW, &ask());
        assert_eq!(heard.take_name(&secret, other.as_bytes(), NOW), Some(Err(ProbeResult::Forged)));
        assert_eq!(heard.take_name(&secret, name.as_bytes(), NOW + 61_000), Some(Err(ProbeResult::Stale)));
        assert_eq!(heard.take_name(&secret, name.as_bytes(), NOW), Some(Ok(([7; 16], ask()))));
        assert_eq!(heard.take_name(&secret, name.as_bytes(), NOW), Some(Err(ProbeResult::Replayed)));
    }

    #[test]
    fn nobody_can_ask_for_more_than_the_bounds() {
        let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
        let most = Ask {
            notices: u32::MAX,
            spacing: Duration::MAX,
            silence: Duration::MAX,
            halves: true,
            idle: Duration::MAX,
        };
        let name = secret.name(&[7; 16], NOW, &most);
        let bounds = Ask { notices: 20, spacing: 5 * SECOND, silence: LONGEST, halves: true, idle: LONGEST };
        assert_eq!(heard.take_name(&secret, name.as_bytes(), NOW), Some(Ok(([7; 16], bounds))));
    }

    #[test]
    fn the_question_is_not_told_back() {
        let name = Secret::new(b"one").name(&[7; 16], NOW, &ask());
        let head = format!("PUT /aspera/http/s/file/{name}/r.ashttp HTTP/1.1\r\na: b\r\n\r\n");
        let told = without_question(head.as_bytes());
        assert_eq!(told, b"PUT /aspera/http/s/file/fallgate-doctor.-/r.ashttp HTTP/1.1\r\na: b\r\n\r\n");
        assert_eq!(without_question(b"GET / HTTP/1.1\r\n\r\n"), b"GET / HTTP/1.1\r\n\r\n");
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_and_nothing_that_was_changed(
            head in proptest::collection::vec(any::<u8>(), 0..300), first: u64, last: u64, at in any::<prop::sample::Index>(), bit in 0..8
        ) {
            let (secret, nonce, told) = (Secret::new(b"one"), [3; 16], Told { head, first, last });
            let mut bytes = secret.tell(&nonce, &told);
            prop_assert_eq!(secret.read_told(&bytes, &nonce), Some(told));
            prop_assert_eq!(secret.read_told(&bytes, &[4; 16]), None);
            prop_assert_eq!(Secret::new(b"two").read_told(&bytes, &nonce), None);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(secret.read_told(&bytes, &nonce), None);
            prop_assert_eq!(secret.read_told(&bytes[..at], &nonce), None);
        }

        #[test]
        fn whatever_a_name_is_changed_to_is_not_answered(at in any::<prop::sample::Index>(), byte: u8) {
            let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
            let mut name = secret.name(&[7; 16], NOW, &ask()).into_bytes();
            let at = at.index(name.len());
            prop_assume!(name[at] != byte);
            name[at] = byte;
            prop_assert!(!matches!(heard.take_name(&secret, &name, NOW), Some(Ok(_))));
        }

        #[test]
        fn whatever_comes_is_no_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300), named in any::<bool>()) {
            let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
            prop_assert_eq!(secret.read_told(&bytes, &[7; 16]), None);
            let name = if named { [NAME.as_bytes(), &bytes].concat() } else { bytes };
            prop_assert!(!matches!(heard.take_name(&secret, &name, NOW), Some(Ok(_))));
        }
    }
}
