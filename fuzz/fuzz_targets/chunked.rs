//! Chunks that are let through have one reading: the same in whatever pieces, and that of another reader of the whole.

#![no_main]

use fallgate::net::http1::{ChunkProblem, Chunked};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((cut, body)) = data.split_first() else { return };
    let whole = scan(body, body.len().max(1));
    for piece in [1, usize::from(*cut).max(1)] {
        assert_eq!(scan(body, piece), whole);
    }
    let Ok((end, payload, done)) = whole else { return };
    if done {
        assert_eq!(decode(body), Some((payload, end)));
    } else {
        assert_eq!(end, body.len());
    }
});

/// Where the body ends, the size of its payload, and whether it is over.
fn scan(body: &[u8], piece: usize) -> Result<(usize, u64, bool), ChunkProblem> {
    let mut chunks = Chunked::default();
    let mut at = 0;
    for piece in body.chunks(piece) {
        let n = chunks.scan(piece)?;
        at += n;
        assert!(n == piece.len() || chunks.is_done());
        if chunks.is_done() {
            break;
        }
    }
    Ok((at, chunks.payload(), chunks.is_done()))
}

/// The size of the payload and of the body, by the engine's parser.
fn decode(body: &[u8]) -> Option<(u64, usize)> {
    let (mut at, mut payload) = (0, 0);
    loop {
        let rest = body.get(at..)?;
        let Ok(httparse::Status::Complete((n, size))) = httparse::parse_chunk_size(rest) else { return None };
        at += n;
        if size == 0 {
            break;
        }
        payload += size;
        at += usize::try_from(size).ok()?;
        if body.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
    let mut slots = [httparse::EMPTY_HEADER; 16 * 1024 / 4];
    match httparse::parse_headers(body.get(at..)?, &mut slots) {
        Ok(httparse::Status::Complete((n, _))) => Some((payload, at + n)),
        _ => None,
    }
}
