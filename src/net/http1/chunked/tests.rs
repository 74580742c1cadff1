//! Promises of the framing of chunked bodies.

use proptest::prelude::*;

use super::*;

fn scan(bytes: &[u8]) -> Result<(usize, Chunked), ChunkProblem> {
    let mut chunks = Chunked::default();
    chunks.scan(bytes).map(|n| (n, chunks))
}

/// The payload and the length of a body at the beginning of `bytes`: another way to read it, with all of it at hand.
fn decode(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let line = |at: usize| {
        let rest = bytes.get(at..)?;
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        Some((std::str::from_utf8(&rest[..end]).ok()?, at + end + 2))
    };
    let (mut at, mut payload) = (0, Vec::new());
    loop {
        let (size, data) = line(at)?;
        let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
        if size == 0 {
            at = data;
            break;
        }
        payload.extend_from_slice(bytes.get(data..data + size)?);
        at = data + size + 2;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((payload, at));
        }
    }
}

#[test]
fn a_body_ends_with_the_empty_line_after_its_trailers() {
    for (body, payload) in [
        ("0\r\n\r\n", 0),
        ("5\r\nhello\r\n0\r\n\r\n", 5),
        ("000000000000000A;x=\"y z\";\tq\r\n0123456789\r\n0\r\n\r\n", 10),
        ("1\r\n\r\r\n2\r\n\r\n\r\n000\r\n\r\n", 3),
        ("1;a\r\nx\r\n0;last\r\nA: b\r\nEmpty:\r\n\r\n", 1),
    ] {
        let more = format!("{body}GET / HTTP/1.1\r\n");
        let (n, chunks) = scan(more.as_bytes()).unwrap();
        assert_eq!(n, body.len());
        assert!(chunks.is_done());
        assert_eq!(chunks.payload(), payload);
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    use ChunkProblem::*;
    let cases: &[(&[u8], ChunkProblem)] = &[
        (b"\r\n", Size),
        (b";a\r\n", Size),
        (b" 5\r\n", Size),
        (b"\t5\r\n", Size),
        (b"5 \r\n", Size),
        (b"5 ;a\r\n", Size),
        (b"+5\r\n", Size),
        (b"-1\r\n", Size),
        (b"0x5\r\n", Size),
        (b"5_0\r\n", Size),
        (b"g\r\n", Size),
        (b"8000000000000000\r\n", Size),
        (b"ffffffffffffffff\r\n", Size),
        (b"00000000000000005\r\n", Size),
        (b"\n", LineEnd),
        (b"5\nhello", LineEnd),
        (b"5\rhello", LineEnd),
        (b"5\r\rhello", LineEnd),
        (b"5;a\nhello", LineEnd),
        (b"5;a\rb\r\nhello", LineEnd),
        (b"5;a\x00\r\n", Extension),
        (b"5;a\x7f\r\n", Extension),
        (b"5\r\nhello0\r\n\r\n", DataEnd),
        (b"5\r\nhello\n0\r\n\r\n", DataEnd),
        (b"5\r\nhello\r0\r\n\r\n", DataEnd),
        (b"5\r\nhello!\r\n", DataEnd),
        (b"0\r\n\n", LineEnd),
        (b"0\r\n\rx", LineEnd),
        (b"0\r\na: b\n\r\n", LineEnd),
        (b"0\r\na: b\rc\r\n\r\n", LineEnd),
        (b"0\r\na: b\r\n c\r\n\r\n", Trailer),
        (b"0\r\n\tc: d\r\n\r\n", Trailer),
        (b"0\r\nno colon\r\n\r\n", Trailer),
        (b"0\r\na : b\r\n\r\n", Trailer),
        (b"0\r\n: b\r\n\r\n", Trailer),
        (b"0\r\na: \x00\r\n\r\n", Trailer),
        (b"0\r\nContent-length: 5\r\n\r\n", Trailer),
        (b"0\r\ntransfer-encoding: chunked\r\n\r\n", Trailer),
        (b"0\r\nHOST: h\r\n\r\n", Trailer),
        (b"0\r\nGET / HTTP/1.1\r\n", Trailer),
    ];
    for (body, problem) in cases {
        assert_eq!(scan(body).unwrap_err(), *problem, "{}", body.escape_ascii());
    }
}

#[test]
fn the_largest_size_is_one_below_two_to_the_63() {
    let (n, chunks) = scan(b"7fffffffffffffff\r\nabc").unwrap();
    assert_eq!((n, chunks.payload(), chunks.is_done()), (21, 3, false));
}

#[test]
fn extensions_and_trailers_have_their_limits() {
    let extension = |n: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(n - 1));
    assert!(scan(extension(MAX_EXTENSION).as_bytes()).unwrap().1.is_done());
    assert_eq!(scan(extension(MAX_EXTENSION + 1).as_bytes()).unwrap_err(), ChunkProblem::Extension);
    let trailers = |n: usize| format!("0\r\na: b\r\nc:{}\r\n\r\n", "d".repeat(n - 12));
    assert!(scan(trailers(MAX_TRAILERS).as_bytes()).unwrap().1.is_done());
    assert_eq!(scan(trailers(MAX_TRAILERS + 1).as_bytes()).unwrap_err(), ChunkProblem::TrailersTooLarge);
}

#[test]
fn after_a_problem_there_is_only_that_problem() {
    let mut chunks = Chunked::default();
    assert_eq!(chunks.scan(b"x"), Err(ChunkProblem::Size));
    assert_eq!(chunks.scan(b"0\r\n\r\n"), Err(ChunkProblem::Size));
    assert_eq!(chunks.scan(b""), Err(ChunkProblem::Size));
    assert!(!chunks.is_done());
}

/// A well-formed body and its payload.
fn bodies() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let chunk = (proptest::collection::vec(any::<u8>(), 1..40), "0{0,8}", "(;[ -~]{0,20})?");
    let trailer = "[a-z]{1,8}:[ -~]{0,20}";
    (proptest::collection::vec(chunk, 0..6), "0{1,16}(;[ -~]{0,9})?", proptest::collection::vec(trailer, 0..4))
        .prop_filter("fields of the framing", |(_, _, t)| !t.iter().any(|t| t.starts_with("host:")))
        .prop_map(|(chunks, last, trailers)| {
            let (mut body, mut payload) = (Vec::new(), Vec::new());
            for (data, zeros, extension) in chunks {
                body.extend(format!("{zeros}{:X}{extension}\r\n", data.len()).bytes());
                body.extend_from_slice(&data);
                body.extend_from_slice(b"\r\n");
                payload.extend(data);
            }
            body.extend(format!("{last}\r\n").bytes());
            trailers.iter().for_each(|t| body.extend(format!("{t}\r\n").bytes()));
            body.extend_from_slice(b"\r\n");
            (body, payload)
        })
}

/// Bytes that look like chunks more often than not.
fn almost_bodies() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec("(\r\n|\r\n|\r|\n|0|1|2|a|;|:| |ab|\x00)", 0..24).prop_map(|v| v.concat().into_bytes())
}

/// Scans piece by piece; how many bytes were taken.
fn in_pieces(bytes: &[u8], sizes: &[usize]) -> Result<(usize, Chunked), ChunkProblem> {
    let (mut chunks, mut at, mut sizes) = (Chunked::default(), 0, sizes.iter().cycle());
    while at < bytes.len() {
        let piece = &bytes[at..(at + sizes.next().unwrap()).min(bytes.len())];
        let n = chunks.scan(piece)?;
        at += n;
        if n < piece.len() {
            assert!(chunks.is_done());
            break;
        }
    }
    Ok((at, chunks))
}

proptest! {
    #[test]
    fn a_body_is_the_same_in_whatever_pieces_it_comes(
        (body, payload) in bodies(),
        behind in proptest::collection::vec(any::<u8>(), 0..20),
        sizes in proptest::collection::vec(1usize..30, 1..8),
    ) {
        let bytes = [body.as_slice(), &behind].concat();
        for (n, chunks) in [scan(&bytes).unwrap(), in_pieces(&bytes, &sizes).unwrap()] {
            prop_assert_eq!(n, body.len());
            prop_assert!(chunks.is_done());
            prop_assert_eq!(chunks.payload(), payload.len() as u64);
        }
        prop_assert_eq!(decode(&bytes), Some((payload, body.len())));
        for cut in 0..body.len() {
            let (n, chunks) = scan(&body[..cut]).unwrap();
            prop_assert_eq!((n, chunks.is_done()), (cut, false));
        }
    }

    #[test]
    fn what_is_let_through_is_read_alike_by_a_reader_of_the_whole(
        bytes in almost_bodies(), sizes in proptest::collection::vec(1usize..5, 1..8),
    ) {
        let whole = scan(&bytes);
        let pieces = in_pieces(&bytes, &sizes);
        prop_assert_eq!(whole.as_ref().map(|w| w.0).map_err(|p| *p), pieces.map(|p| p.0));
        if let Ok((n, chunks)) = whole && chunks.is_done() {
            let (payload, end) = decode(&bytes).unwrap();
            prop_assert_eq!((payload.len() as u64, end), (chunks.payload(), n));
        }
    }

    #[test]
    fn no_bytes_make_the_scanner_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok((n, chunks)) = scan(&bytes) {
            prop_assert!(n == bytes.len() || chunks.is_done());
        }
    }
}
