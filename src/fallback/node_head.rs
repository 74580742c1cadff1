//! The head of a node's answer in its own bytes. The engine's parser takes blanks off the ends of
//! values, to which they belong for the client, and does not tell what it finds no value at all.

use bytes::{Buf, BytesMut};

/// The largest head of an answer, status line included, in bytes. The engine has a limit of about a MiB of its own, which it
/// looks at between two reads: what comes in one is taken whatever its size.
const MOST: usize = 256 * 1024;

/// What was read of the final head, while it is read past.
#[derive(Debug, Default)]
pub(super) struct NodeHead {
    bytes: BytesMut,
    /// Whole, or too large; what follows is body.
    done: bool,
    /// It does not end within [`MOST`] bytes.
    is_too_large: bool,
}

impl NodeHead {
    /// Looks at bytes on their way to the engine.
    pub(super) fn saw(&mut self, mut bytes: &[u8]) {
        while !self.done && !bytes.is_empty() {
            // The end may have begun in what came before.
            let before = self.bytes.len();
            let room = MOST.saturating_sub(before);
            self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            let from = before.saturating_sub(3);
            let end = self.bytes.get(from..).and_then(|new| new.windows(4).position(|w| w == b"\r\n\r\n"));
            let Some(end) = end.map(|at| from + at + 4) else {
                self.is_too_large = self.bytes.len() == MOST;
                self.done = self.is_too_large;
                return;
            };
            bytes = bytes.get(end - before..).unwrap_or_default();
            if self.bytes.get(8..10) == Some(b" 1") {
                self.bytes.advance(self.bytes.len());
            } else {
                self.bytes.truncate(end);
                self.done = true;
            }
        }
    }

    /// Whether the final head was read to its end.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether this head, final or interim, was larger than [`MOST`]: then not all of it was seen here.
    pub(super) fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    /// The values of a field in their order, as far as they were read: without blanks before them, with
    /// those after them. None where a line is folded, for then it is not clear what is a value.
    pub(super) fn values(&self, name: &str) -> Vec<&[u8]> {
        let mut values = Vec::new();
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let end = rest.windows(2).position(|w| w == b"\r\n").unwrap_or(rest.len());
            let (line, tail) = rest.split_at(end);
            rest = tail.get(2..).unwrap_or_default();
            if line.starts_with(b" ") || line.starts_with(b"\t") {
                return Vec::new();
            }
            let mut parts = line.splitn(2, |b| *b == b':');
            let (own, value) = (parts.next().unwrap_or_default(), parts.next());
            if own.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()) {
                let blanks = |v: &[u8]| v.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                values.extend(value.and_then(|v| v.get(blanks(v)..)));
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"HTTP/1.1 102 Processing\r\nn: no\r\n\r\nHTTP/1.1 200 OK\r\nn: a \r\nN:\t b\t\r\nm: c\r\n\r\nn: body\r\n";

    #[test]
    fn the_values_of_the_final_head_keep_their_trailing_blanks_however_they_come() {
        for step in 1..=TEXT.len() {
            let mut head = NodeHead::default();
            TEXT.chunks(step).for_each(|piece| head.saw(piece));
            assert_eq!(head.values("n"), [&b"a "[..], b"b\t"], "{step}");
            assert!(head.done, "{step}");
        }
    }

    #[test]
    fn a_part_of_a_head_tells_what_it_holds_and_a_folded_one_nothing() {
        let mut head = NodeHead::default();
        head.saw(b"HTTP/1.1 200 OK\r\nn: a\x01b\rc");
        assert_eq!(head.values("n"), [b"a\x01b\rc"]);
        head.saw(b"\r\n d\r\n");
        assert_eq!(head.values("n"), [b""; 0]);
    }

    #[test]
    fn what_does_not_end_is_not_kept() {
        let mut head = NodeHead::default();
        (0..1000).for_each(|_| head.saw(&[b'x'; 1000]));
        assert_eq!((head.bytes.len(), head.done, head.is_too_large()), (MOST, true, true));
    }

    #[test]
    fn a_head_of_exactly_the_most_is_none_too_many_whatever_comes_with_it() {
        for (more, is_too_large) in [(0, false), (1, true)] {
            let mut bytes = b"HTTP/1.1 200 OK\r\nn: ".to_vec();
            bytes.resize(MOST - 4 + more, b'x');
            bytes.extend_from_slice(b"\r\n\r\nbody");
            let mut head = NodeHead::default();
            head.saw(&bytes);
            assert_eq!((head.done, head.is_too_large()), (true, is_too_large));
        }
    }
}
