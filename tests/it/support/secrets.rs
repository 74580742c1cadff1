//! Every secret that a test uses, and the search for them in what a gateway writes.
//!
//! Tests need not say what is secret: clients tell it by what they send ([`learn`]). Some secrets are known by their
//! shape alone, whoever made them: ids of sessions and requests, transfer tokens, hashes of passwords, private keys.

use std::{
    collections::{HashMap, HashSet},
    sync::{LazyLock, PoisonError, RwLock},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};

/// Shorter words would be found in what is no secret.
const SHORTEST: usize = 6;
/// A long secret must not be found in parts of this length either.
const PART: usize = 24;
/// What a client sends is read so far; what comes later is files.
const READ: usize = 16 * 1024;
/// How secrets begin, or are wrapped, that are never written whatever they are.
const SHAPES: &[&str] = &["ATM3_", "$2a$", "$2b$", "$2y$", "$argon2id$", "PRIVATE KEY"];

static KNOWN: LazyLock<RwLock<Known>> = LazyLock::new(|| {
    let mut known = Known { words: HashMap::new(), all: HashSet::new(), pairs: vec![0; 1024] };
    SHAPES.iter().for_each(|shape| known.add(shape.as_bytes()));
    RwLock::new(known)
});

/// Words by their first four bytes, and which first two bytes there are.
struct Known {
    words: HashMap<[u8; 4], Vec<Vec<u8>>>,
    all: HashSet<Vec<u8>>,
    pairs: Vec<u64>,
}

impl Known {
    fn add(&mut self, word: &[u8]) {
        if let Some(first) = word.first_chunk::<4>()
            && self.all.insert(word.to_vec())
        {
            let pair = usize::from(first[0]) << 8 | usize::from(first[1]);
            self.pairs[pair / 64] |= 1 << (pair % 64);
            self.words.entry(*first).or_default().push(word.to_vec());
        }
    }

    fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        for (at, two) in text.windows(2).enumerate() {
            if two[0] == b'-'
                && let Some(id) = id_around(text, at)
            {
                return Some(id);
            }
            let pair = usize::from(two[0]) << 8 | usize::from(two[1]);
            if self.pairs[pair / 64] >> (pair % 64) & 1 == 1
                && let Some(words) = text[at..].first_chunk().and_then(|first| self.words.get(first))
                && let Some(word) = words.iter().find(|word| text[at..].starts_with(word))
            {
                return Some(&text[at..at + word.len()]);
            }
        }
        None
    }
}

/// The first half of an id, or all of it, whose first dash is here.
fn id_around(text: &[u8], dash: usize) -> Option<&[u8]> {
    let begin = dash.checked_sub(8)?;
    let half = text.get(begin..begin + 18)?;
    let fits =
        half.iter().enumerate().all(|(i, b)| if matches!(i, 8 | 13) { *b == b'-' } else { b.is_ascii_hexdigit() });
    fits.then(|| text.get(begin..begin + 36).unwrap_or(half))
}

/// Notes a secret, and what it is made of.
pub(crate) fn keep(secret: impl AsRef<[u8]>) {
    let secret = secret.as_ref();
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    let mut add = |word: &[u8]| {
        if word.len() >= SHORTEST {
            known.add(word);
        }
        if word.len() > PART + 8 {
            known.add(&word[..PART]);
            known.add(&word[word.len() - PART..]);
        }
    };
    // A token may say in front of which kind it is.
    let bare = secret.strip_prefix(b"Basic ").or_else(|| secret.strip_prefix(b"Bearer ")).unwrap_or(secret);
    add(bare);
    let Ok(plain) = STANDARD.decode(bare).or_else(|_| URL_SAFE.decode(bare)) else { return };
    match plain.iter().position(|b| *b == b':') {
        // Before the colon stands a name, which is not secret: a config has access keys.
        Some(colon) => add(&plain[colon + 1..]),
        None => add(&plain),
    }
}

/// Notes a user's password with the forms in which it travels.
pub(crate) fn keep_login(user: &str, password: &str) {
    keep(password);
    keep(STANDARD.encode(format!("{user}:{password}")));
}

/// Notes the secrets in what a client sends: ids, the token of a start, who it says that it is, userinfo of a target.
pub(crate) fn learn(sent: &[u8]) {
    let sent = &sent[..sent.len().min(READ)];
    for dash in sent.iter().enumerate().filter_map(|(at, b)| (*b == b'-').then_some(at)) {
        if let Some(id) = id_around(sent, dash) {
            // With its dashes it is known by its shape.
            keep(id.iter().filter(|b| **b != b'-').map(u8::to_ascii_lowercase).collect::<Vec<_>>());
        }
    }
    if let Some(token) = after(sent, b"<token>").and_then(|rest| until(rest, b"</token>")) {
        keep(token);
    }
    let mut rest = sent;
    while let Some(value) = after(rest, b"uthorization:") {
        keep(until(value, b"\r").unwrap_or(value).trim_ascii());
        rest = value;
    }
    let target = sent.split(|b| *b == b'\r').next().and_then(|line| after(line, b"://"));
    let authority = target.and_then(|target| target.split(|b| matches!(b, b'/' | b' ' | b'?' | b'#')).next());
    if let Some(info) = authority.and_then(|authority| until(authority, b"@")) {
        keep(info);
        after(info, b":").into_iter().for_each(keep);
    }
}

/// What follows the first of these, whatever its case.
fn after<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let (first, fits) = (what[0].to_ascii_lowercase(), |w: &[u8]| w.eq_ignore_ascii_case(what));
    let begins = text.iter().enumerate().filter(|(_, b)| b.to_ascii_lowercase() == first).map(|(at, _)| at);
    let at = begins.into_iter().find(|at| text.get(*at..at + what.len()).is_some_and(fits))?;
    Some(&text[at + what.len()..])
}

/// What stands before the first of these.
fn until<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    text.windows(what.len()).position(|w| w == what).map(|at| &text[..at])
}

/// The first line that holds a secret, with the secret.
pub(crate) fn first_in(text: impl AsRef<[u8]>) -> Option<String> {
    let text = text.as_ref();
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let found = known.find(text)?;
    let at = found.as_ptr().addr() - text.as_ptr().addr();
    let begin = text[..at].iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let end = text[at..].iter().position(|b| *b == b'\n').map_or(text.len(), |newline| at + newline);
    Some(format!("{} in: {}", found.escape_ascii(), text[begin..end].escape_ascii()))
}

/// Panics if there is a secret in what was written.
#[track_caller]
pub(crate) fn none_in(place: &str, text: impl AsRef<[u8]>) {
    if let Some(found) = first_in(text) {
        panic!("a secret is written to {place}: {found}");
    }
}
