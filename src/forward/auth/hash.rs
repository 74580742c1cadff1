//! The hashes of passwords that are taken, and what checking one costs.

use argon2::{
    Argon2, Params, PasswordVerifier,
    password_hash::phc::{Ident, PasswordHash},
};
use sha_crypt::ShaCrypt;

use super::LineError;

/// What one hash may cost, so that no file makes a login last for minutes: the exponent of bcrypt, which is a second or
/// two; for Argon2 the memory in KiB, the passes and the lanes; the rounds of SHA-crypt.
const MAX_BCRYPT: u32 = 15;
const MAX_MEMORY: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;
const MAX_ROUNDS: u32 = 1_000_000;

#[derive(Clone)]
pub(super) enum Hash {
    Bcrypt(String, u32),
    Argon2(Box<(PasswordHash, Params)>),
    Sha(String, Cost),
}

/// Hashes of the same cost take the same time.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Cost {
    Bcrypt(u32),
    Argon2(u32, u32, u32),
    /// SHA-crypt with 5 or 6, which are SHA-256 and SHA-512, and its rounds.
    Sha(char, u32),
}

impl Hash {
    pub(super) fn parse(text: &str) -> Result<Hash, LineError> {
        let kind = text.strip_prefix('$').and_then(|rest| rest.split_once('$')).ok_or(LineError::Kind)?;
        match kind {
            ("argon2id", _) => Hash::argon2(text),
            ("2a" | "2b" | "2y", _) => Hash::bcrypt(text),
            ("5", rest) => Hash::sha(text, '5', rest),
            ("6", rest) => Hash::sha(text, '6', rest),
            _ => Err(LineError::Kind),
        }
    }

    fn argon2(text: &str) -> Result<Hash, LineError> {
        let hash = PasswordHash::new(text).map_err(|_| LineError::Broken)?;
        let params = Params::try_from(&hash).map_err(|_| LineError::Broken)?;
        let ident = Ident::new("argon2id").map_err(|_| LineError::Broken)?;
        if hash.salt.is_none() || hash.hash.is_none() || hash.algorithm != ident {
            return Err(LineError::Broken);
        }
        let costs_little =
            params.m_cost() <= MAX_MEMORY && params.t_cost() <= MAX_PASSES && params.p_cost() <= MAX_LANES;
        if costs_little { Ok(Hash::Argon2(Box::new((hash, params)))) } else { Err(LineError::Cost) }
    }

    fn bcrypt(text: &str) -> Result<Hash, LineError> {
        let cost = text.parse::<bcrypt::HashParts>().map_err(|_| LineError::Broken)?.get_cost();
        match cost {
            ..4 => Err(LineError::Broken),
            4..=MAX_BCRYPT => Ok(Hash::Bcrypt(text.to_owned(), cost)),
            _ => Err(LineError::Cost),
        }
    }

    /// `$KIND$[rounds=N$]SALT$HASH`.
    fn sha(text: &str, kind: char, rest: &str) -> Result<Hash, LineError> {
        let (rounds, rest) = match rest.strip_prefix("rounds=") {
            Some(rest) => {
                let (digits, rest) = rest.split_once('$').ok_or(LineError::Broken)?;
                (digits.parse().map_err(|_| LineError::Broken)?, rest)
            }
            None => (sha_crypt::Params::RECOMMENDED_ROUNDS, rest),
        };
        if rounds > MAX_ROUNDS {
            return Err(LineError::Cost);
        }
        let (salt, hash) = rest.split_once('$').ok_or(LineError::Broken)?;
        let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'/');
        let length = if kind == '5' { 43 } else { 86 };
        let sound = rounds >= sha_crypt::Params::ROUNDS_MIN
            && (1..=16).contains(&salt.len())
            && hash.len() == length
            && salt.bytes().chain(hash.bytes()).all(is_digit);
        if sound { Ok(Hash::Sha(text.to_owned(), Cost::Sha(kind, rounds))) } else { Err(LineError::Broken) }
    }

    pub(super) fn cost(&self) -> Cost {
        match self {
            Hash::Bcrypt(_, cost) => Cost::Bcrypt(*cost),
            Hash::Argon2(hash) => Cost::Argon2(hash.1.m_cost(), hash.1.t_cost(), hash.1.p_cost()),
            Hash::Sha(_, cost) => cost.clone(),
        }
    }

    /// Compares in constant time, which the libraries see to.
    pub(super) fn verify(&self, password: &str) -> bool {
        match self {
            Hash::Bcrypt(hash, _) => bcrypt::verify(password, hash).unwrap_or(false),
            Hash::Argon2(hash) => Argon2::default().verify_password(password.as_bytes(), &hash.0).is_ok(),
            Hash::Sha(hash, _) => ShaCrypt::SHA512.verify_password(password.as_bytes(), hash.as_str()).is_ok(),
        }
    }
}
