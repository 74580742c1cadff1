//! Probes of a data port: a doctor asks, and a gateway answers whoever shows that it knows a secret. Pure: no socket, no clock.
//!
//! A question begins with a mark of 16 bytes that no data has but by a chance of 2^128. It carries the time, a nonce, as many
//! zeros as its sender wants to try the way with, and a signature (HMAC-SHA-256) over all of it. The answer is signed too, is
//! as long as the question and carries the address that it came from. A question counts for a minute around its time, and
//! once; whatever else is wrong with it, nobody hears anything.
//!
//! [`way`] has the same for fallback ports, where question and answer are requests.

pub mod way;

use std::{
    collections::{HashSet, VecDeque},
    fmt, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::Path,
};

use aws_lc_rs::hmac;

use crate::telemetry::ProbeResult;

/// What a question begins with.
pub const MARK: [u8; 16] = *b"\xf1\x8e\x0bfallgate?\x91\xd2\x07\xc5";
/// What an answer begins with: a question that comes back is none.
const ANSWER: [u8; 16] = *b"\xf1\x8e\x0bfallgate!\x91\xd2\x07\xc5";
/// The shortest probe, in bytes.
pub const LEAST: usize = 96;
/// The longest, in bytes: what a full frame of Ethernet carries over IPv4.
pub const MOST: usize = 1472;
/// How far the time of a question may lie from ours, in milliseconds.
const WINDOW: u64 = 60_000;
/// Questions that are remembered; more within the window are not answered.
const REMEMBERED: usize = 4096;
const SIGNATURE: usize = 32;
/// The shortest secret, in bytes; `openssl rand -hex 32` makes 64.
const SHORTEST: usize = 16;
const LONGEST: usize = 1024;

/// What tells one question from another.
pub type Nonce = [u8; 16];

/// What doctors and gateways share.
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a file holds no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is not one line of 16 to 1024 visible ASCII characters.
    #[error(
        "does not hold one line of {SHORTEST} to {LONGEST} visible ASCII characters, such as `openssl rand -hex 32` makes"
    )]
    Form,
}

impl Secret {
    /// The secret that a file holds.
    ///
    /// # Errors
    /// The file cannot be read, or does not hold one line of 16 to 1024 visible ASCII characters.
    pub fn read(path: &Path) -> Result<Secret, SecretError> {
        let text = std::fs::read(path)?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let sound = (SHORTEST..=LONGEST).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
        if sound { Ok(Secret::new(text)) } else { Err(SecretError::Form) }
    }

    fn new(bytes: &[u8]) -> Secret {
        Secret(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// A question of `size` bytes, but at least [`LEAST`] and at most [`MOST`]; `now` in Unix milliseconds.
    pub fn question(&self, nonce: &Nonce, now: u64, size: usize) -> Vec<u8> {
        self.signed([&MARK, now.to_be_bytes().as_slice(), nonce].concat(), size)
    }

    /// The answer to a question of `size` bytes that came from there.
    pub fn answer(&self, nonce: &Nonce, from: SocketAddr, size: usize) -> Vec<u8> {
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        self.signed([&ANSWER, nonce.as_slice(), &ip.octets(), &from.port().to_be_bytes()].concat(), size)
    }

    fn signed(&self, mut bytes: Vec<u8>, size: usize) -> Vec<u8> {
        bytes.resize(size.clamp(LEAST, MOST) - SIGNATURE, 0);
        let signature = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(signature.as_ref());
        bytes
    }

    /// The address that the gateway saw, if this is the answer to the question with that nonce.
    pub fn read_answer(&self, bytes: &[u8], nonce: &Nonce) -> Option<SocketAddr> {
        let signed = self.verified(bytes)?.strip_prefix(&ANSWER)?.strip_prefix(nonce)?;
        let (ip, rest) = signed.split_first_chunk::<16>()?;
        let (port, _) = rest.split_first_chunk::<2>()?;
        Some(SocketAddr::new(Ipv6Addr::from(*ip).to_canonical(), u16::from_be_bytes(*port)))
    }

    /// Whether these bytes end in a signature of this secret.
    pub fn has_signed(&self, bytes: &[u8]) -> bool {
        self.verified(bytes).is_some()
    }

    /// What is signed, if it is.
    fn verified<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        if !(LEAST..=MOST).contains(&bytes.len()) {
            return None;
        }
        let (signed, signature) = bytes.split_at_checked(bytes.len() - SIGNATURE)?;
        hmac::verify(&self.0, signed, signature).ok().map(|()| signed)
    }
}

/// The questions of the last minutes, so that none is answered twice.
#[derive(Debug, Default)]
pub struct Heard {
    order: VecDeque<(u64, Nonce)>,
    known: HashSet<Nonce>,
    /// Another process has the memory and goes on.
    is_given: bool,
}

impl Heard {
    /// Takes a datagram that begins with [`MARK`]; gives the nonce of a question that is to be answered.
    ///
    /// # Errors
    /// It is to be met with silence, for this reason.
    pub fn take(&mut self, secret: &Secret, bytes: &[u8], now: u64) -> Result<Nonce, ProbeResult> {
        self.take_marked(&MARK, secret, bytes, now).map(|(nonce, _)| nonce)
    }

    /// Takes what begins with this mark; gives the nonce of a question that is to be answered, and what it says besides.
    fn take_marked<'a>(
        &mut self,
        mark: &[u8; 16],
        secret: &Secret,
        bytes: &'a [u8],
        now: u64,
    ) -> Result<(Nonce, &'a [u8]), ProbeResult> {
        let signed = secret.verified(bytes).ok_or(ProbeResult::Forged)?;
        let rest = signed.strip_prefix(mark).ok_or(ProbeResult::Forged)?;
        let (time, rest) = rest.split_first_chunk::<8>().ok_or(ProbeResult::Forged)?;
        let (nonce, rest) = rest.split_first_chunk::<16>().ok_or(ProbeResult::Forged)?;
        if self.is_given || u64::from_be_bytes(*time).abs_diff(now) > WINDOW {
            return Err(ProbeResult::Stale);
        }
        // One that lay a window ahead when it came is stale two windows later.
        while let Some((_, nonce)) = self.order.pop_front_if(|(at, _)| at.saturating_add(2 * WINDOW) < now) {
            self.known.remove(&nonce);
        }
        if self.known.contains(nonce) {
            return Err(ProbeResult::Replayed);
        }
        if self.order.len() >= REMEMBERED {
            return Err(ProbeResult::TooMany);
        }
        self.known.insert(*nonce);
        self.order.push_back((now, *nonce));
        Ok((*nonce, rest))
    }

    /// Gives all that is remembered to another process: when each came, in Unix milliseconds, and its nonce. From now on
    /// nothing is answered here.
    pub fn give(&mut self) -> Vec<(u64, Nonce)> {
        self.is_given = true;
        self.order.iter().copied().collect()
    }

    /// The other process has not taken it.
    pub fn keep(&mut self) {
        self.is_given = false;
    }

    /// Remembers what another process did, before anything is asked here.
    pub fn bring(&mut self, given: Vec<(u64, Nonce)>) {
        for (at, nonce) in given.into_iter().take(REMEMBERED) {
            if self.known.insert(nonce) {
                self.order.push_back((at, nonce));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn a_question_is_answered_once_within_its_minute_and_at_no_greater_length() {
        let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
        for (n, size) in [0, LEAST, 1000, MOST, 9000].into_iter().enumerate() {
            let nonce = [n as u8; 16];
            let question = secret.question(&nonce, NOW, size);
            assert_eq!(heard.take(&secret, &question, NOW + 59_000), Ok(nonce));
            let from = "192.0.2.7:4000".parse().unwrap();
            let answer = secret.answer(&nonce, from, question.len());
            assert_eq!(answer.len(), question.len());
            assert_eq!(secret.read_answer(&answer, &nonce), Some(from));
            assert_eq!(secret.read_answer(&question, &nonce), None, "what comes back is no answer");
            assert_eq!(heard.take(&secret, &question, NOW + 59_000), Err(ProbeResult::Replayed));
            assert_eq!(heard.take(&secret, &question, NOW + 61_000), Err(ProbeResult::Stale));
            assert_eq!(heard.take(&secret, &answer, NOW), Err(ProbeResult::Forged));
        }
    }

    #[test]
    fn a_question_from_ahead_is_still_known_when_its_time_comes() {
        let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
        let question = secret.question(&[1; 16], NOW + 59_000, LEAST);
        assert!(heard.take(&secret, &question, NOW).is_ok());
        assert_eq!(heard.take(&secret, &question, NOW + 118_000), Err(ProbeResult::Replayed));
    }

    #[test]
    fn what_is_remembered_has_an_end_and_is_forgotten_in_time() {
        let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
        let ask = |heard: &mut Heard, n: usize, now| {
            let mut nonce = [0; 16];
            nonce[..8].copy_from_slice(&n.to_be_bytes());
            heard.take(&secret, &secret.question(&nonce, now, LEAST), now).err()
        };
        assert!((0..REMEMBERED).all(|n| ask(&mut heard, n, NOW).is_none()));
        assert_eq!(ask(&mut heard, REMEMBERED, NOW), Some(ProbeResult::TooMany));
        assert_eq!(ask(&mut heard, REMEMBERED, NOW + 2 * WINDOW + 1), None);
        assert_eq!((heard.order.len(), heard.known.len()), (1, 1));
    }

    #[test]
    fn of_two_processes_one_answers_and_neither_what_the_other_did() {
        let (secret, mut old, mut new) = (Secret::new(b"one"), Heard::default(), Heard::default());
        let question = |n| secret.question(&[n; 16], NOW, LEAST);
        assert!(old.take(&secret, &question(1), NOW).is_ok());
        let given = old.give();
        assert_eq!(old.take(&secret, &question(2), NOW), Err(ProbeResult::Stale));
        new.bring(given);
        assert_eq!(new.take(&secret, &question(1), NOW), Err(ProbeResult::Replayed));
        assert!(new.take(&secret, &question(2), NOW).is_ok());
        old.keep();
        assert!(old.take(&secret, &question(3), NOW).is_ok());
        assert!(new.take(&secret, &question(4), NOW + 2 * WINDOW).is_err(), "it is stale");
        assert!(new.take(&secret, &secret.question(&[5; 16], NOW + 3 * WINDOW, LEAST), NOW + 3 * WINDOW).is_ok());
        assert_eq!(new.order.len(), 1, "what was brought is forgotten in time");
    }

    proptest! {
        #[test]
        fn whatever_is_changed_about_a_question_is_not_answered(at in 0..LEAST, bit in 0..8, cut in 1..LEAST) {
            let (secret, mut heard) = (Secret::new(b"one"), Heard::default());
            let question = secret.question(&[7; 16], NOW, LEAST);
            let mut changed = question.clone();
            changed[at] ^= 1_u8 << bit;
            prop_assert_eq!(heard.take(&secret, &changed, NOW), Err(ProbeResult::Forged));
            prop_assert_eq!(heard.take(&secret, &question[..cut], NOW), Err(ProbeResult::Forged));
            prop_assert_eq!(heard.take(&Secret::new(b"other"), &question, NOW), Err(ProbeResult::Forged));
            prop_assert!(heard.take(&secret, &question, NOW).is_ok());
        }
    }
}
