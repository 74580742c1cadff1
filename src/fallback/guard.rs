//! The guard: what a node's answer must not make the client do. Pure.
//!
//! The client obeys whatever a node says: it writes where a name points, starts where an offset
//! says, and appends what it gets (docs/protocol.md, "Files and names", "Resume").

use crate::telemetry::Reason;

/// The name of the next file: no `..` segment, on either kind of slash, and no control but TAB.
pub fn next_name(name: &[u8]) -> Result<(), Reason> {
    let climbs = name.split(|b| matches!(b, b'/' | b'\\')).any(|segment| segment == b"..");
    let has_control = name.iter().any(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7f);
    if climbs || has_control { Err(Reason::NodeBadName) } else { Ok(()) }
}

/// Where the next upload is to start: not beyond its announced size, for the client would send a
/// length near 2^64. Words count as 0, a negative number means to skip the file; a plus sign is read
/// over, as whoever reads numbers up to the first other character may do.
pub fn next_start(value: &[u8], announced: Option<u64>) -> Result<(), Reason> {
    let value = value.trim_ascii_start();
    let value = value.strip_prefix(b"+").unwrap_or(value);
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = std::str::from_utf8(value.get(..digits).unwrap_or_default()).unwrap_or_default();
    let start = match number.parse::<u64>() {
        Ok(start) => start,
        Err(_) if digits > 0 => u64::MAX,
        Err(_) => 0,
    };
    match announced {
        Some(size) if start > size => Err(Reason::NodeBadStart),
        None if start == u64::MAX => Err(Reason::NodeBadStart),
        _ => Ok(()),
    }
}

/// What the length of a download says against what was announced and asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// As announced, or nothing was announced.
    Fine,
    /// Another one: a file that grows is legitimate, but worth knowing.
    Differs,
    /// The whole file although only its rest was asked for: appending it would corrupt the file.
    RangeIgnored,
}

/// Judges the `Content-Length` of a 200. `asked` is where the client wants to start, `overridden`
/// where the node says that it starts instead.
pub fn length(content_length: u64, announced: Option<u64>, asked: u64, overridden: Option<u64>) -> Length {
    let Some(size) = announced else { return Length::Fine };
    let start = overridden.unwrap_or(asked);
    if asked > 0 && start > 0 && content_length == size {
        return Length::RangeIgnored;
    }
    if content_length == size.saturating_sub(start) { Length::Fine } else { Length::Differs }
}

/// The first byte that `bytes N-*/*` asks for.
pub fn range_start(field: Option<&[u8]>) -> u64 {
    field
        .and_then(|f| f.strip_prefix(b"bytes "))
        .and_then(|f| f.split(|b| *b == b'-').next())
        .and_then(|n| std::str::from_utf8(n).ok()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for bad in ["..", "../x", "a/../b", "a/..", "..\\x", "a\\..\\b", "a\x00b", "a\rb", "a\x7f"] {
            assert_eq!(next_name(bad.as_bytes()), Err(Reason::NodeBadName), "{bad:?}");
        }
        for good in ["a", "a..b", "...", "/abs", "d/ sp ", "t\tb", "é", "-x"] {
            assert_eq!(next_name(good.as_bytes()), Ok(()), "{good:?}");
        }
        assert_eq!(next_name(b"\xff\xe9"), Ok(()));
    }

    #[test]
    fn a_start_beyond_the_file_is_refused() {
        assert_eq!(next_start(b"5", Some(5)), Ok(()));
        assert_eq!(next_start(b"6", Some(5)), Err(Reason::NodeBadStart));
        assert_eq!(next_start(b"1", Some(0)), Err(Reason::NodeBadStart));
        assert_eq!(next_start(b"+6", Some(5)), Err(Reason::NodeBadStart));
        assert_eq!(next_start(b" 6", Some(5)), Err(Reason::NodeBadStart));
        assert_eq!(next_start(b"-1", Some(5)), Ok(()));
        assert_eq!(next_start(b"many", Some(5)), Ok(()));
        assert_eq!(next_start(b"99999999999999999999", None), Err(Reason::NodeBadStart));
        assert_eq!(next_start(b"7", None), Ok(()));
        for signed in [&b"+6"[..], b"+6; x", b" +6"] {
            assert_eq!(next_start(signed, Some(5)), Err(Reason::NodeBadStart));
        }
    }

    #[test]
    fn a_resumed_download_as_long_as_the_whole_file_is_caught() {
        assert_eq!(length(100, Some(100), 30, None), Length::RangeIgnored);
        assert_eq!(length(70, Some(100), 30, None), Length::Fine);
        assert_eq!(length(100, Some(100), 30, Some(0)), Length::Fine);
        assert_eq!(length(100, Some(100), 30, Some(30)), Length::RangeIgnored);
        assert_eq!(length(100, Some(100), 30, Some(20)), Length::RangeIgnored);
        assert_eq!(length(80, Some(100), 30, Some(20)), Length::Fine);
        assert_eq!(length(100, Some(100), 0, None), Length::Fine);
        assert_eq!(length(120, Some(100), 0, None), Length::Differs);
        assert_eq!(length(90, Some(100), 30, None), Length::Differs);
        assert_eq!(length(5, None, 30, None), Length::Fine);
    }

    #[test]
    fn the_clients_range_is_read() {
        assert_eq!(range_start(Some(b"bytes 90000-*/*")), 90_000);
        for none in [None, Some(&b"0-0"[..]), Some(b"bytes x-"), Some(b"bytes 0-0/*")] {
            assert_eq!(range_start(none), 0);
        }
    }

    proptest! {
        #[test]
        fn nothing_a_node_says_makes_the_guard_panic(value in proptest::collection::vec(any::<u8>(), 0..64), n: u64, size: Option<u64>, asked: u64) {
            let _ = (next_name(&value), next_start(&value, size), range_start(Some(&value)), length(n, size, asked, None));
        }
    }
}
