//! Tokens: no shape passes that is too long or holds what a token cannot, and decoding is bounded.

#![no_main]

use std::{
    io::Write,
    time::{Duration, SystemTime},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use fallgate::{config::TokenKind, fallback::token};
use libfuzzer_sys::fuzz_target;

fn look(bytes: &[u8]) {
    let Ok(kind) = token::shape(bytes) else { return };
    assert!(!bytes.is_empty() && bytes.len() <= 40 * 1024);
    assert!(bytes.iter().all(|b| b.is_ascii_graphic() || *b == b' ') && !bytes.contains(&b'<'));
    let frame: &[u8] = match kind {
        TokenKind::Transfer => b"AT",
        TokenKind::Basic => b"Basic ",
        TokenKind::Bearer => b"Bearer ",
    };
    assert!(bytes.starts_with(frame));
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let [early, late] = [0, 1 << 40].map(|now| token::decode(kind, bytes, &[], at(now)));
    // Time only ever takes away, and a list of keys as well.
    assert!(early.is_ok() || late.is_err());
    let keyed = token::decode(kind, bytes, &["K1".to_owned()], at(0));
    assert!(early.is_ok() || keyed.is_err());
}

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else { return };
    match first % 4 {
        0 => look(rest),
        1 => look(&[b"Basic ".as_slice(), STANDARD.encode(rest).as_bytes()].concat()),
        2 => {
            let payload = URL_SAFE_NO_PAD.encode(rest);
            look(&[b"Bearer eyJh.".as_slice(), payload.as_bytes(), b".c2ln"].concat());
        }
        _ => {
            let mut deflated = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            let sealed = deflated.write_all(rest).and_then(|()| deflated.write_all(b"==SIGNATURE==\nAA"));
            let inflates = sealed.and_then(|()| deflated.finish()).expect("writing to memory");
            look(&[b"Bearer ".as_slice(), STANDARD.encode(inflates).as_bytes()].concat());
        }
    }
});
