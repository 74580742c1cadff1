//! Fields as they were sent and as they came. Pure.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::net::http1::{Grammar, Head};

/// Names and values.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Fields for one connection alone, or which each hop writes anew.
const OF_A_HOP: &[&str] =
    &["connection", "keep-alive", "proxy-connection", "te", "host", "date", "content-length", "transfer-encoding"];

/// The names that a message lists at most.
const NAMED: usize = 4;

/// What became of fields on the way, by their names as they were sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Fields of the fallback's own that are missing, or have another value.
    lost: Vec<String>,
    /// Other fields likewise; no server goes by them.
    dropped: Vec<String>,
    respelled: Vec<String>,
    added: Vec<String>,
    reordered: bool,
}

/// The fields of a head, none where it is no head.
pub(super) fn of_request(head: &[u8]) -> Fields {
    let parsed = Head::parse_as(Bytes::copy_from_slice(head), Grammar::Proxy);
    parsed.map(|head| head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()).unwrap_or_default()
}

/// Compares what was sent with what came.
pub(super) fn compare(sent: &Fields, seen: &Fields) -> Compared {
    let mut compared = Compared::default();
    let mut places = Vec::new();
    for (name, value) in sent.iter().filter(|(name, _)| !is_of_a_hop(name)) {
        let place = seen.iter().position(|(other, _)| other.eq_ignore_ascii_case(name));
        match place.and_then(|at| Some((at, seen.get(at)?))) {
            Some((at, (other, came))) if came == value => {
                places.push(at);
                if other != name {
                    compared.respelled.push(text(name));
                }
            }
            _ if name.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case(b"x-")) => compared.lost.push(text(name)),
            _ => compared.dropped.push(text(name)),
        }
    }
    compared.reordered = !places.is_sorted();
    let is_new = |name: &[u8]| !sent.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    compared.added =
        seen.iter().filter(|(name, _)| !is_of_a_hop(name) && is_new(name)).map(|(name, _)| text(name)).collect();
    compared
}

fn is_of_a_hop(name: &[u8]) -> bool {
    OF_A_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop.as_bytes()))
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

impl Compared {
    /// Whether transfers go wrong.
    pub(super) fn is_lossy(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether names came otherwise than they were sent.
    pub(super) fn is_rewritten(&self) -> bool {
        self.reordered || !self.respelled.is_empty()
    }

    /// In a few words; empty where nothing became of any.
    pub(super) fn told(&self, of: &str) -> String {
        let mut told = String::new();
        let mut tell = |what: &str, names: &[String]| {
            if names.is_empty() {
                return;
            }
            let more = if names.len() > NAMED { " and more" } else { "" };
            let names = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let gap = if told.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(told, "{gap}{what} {names}{more}");
        };
        tell("lost or changed", &self.lost);
        tell("without", &self.dropped);
        tell("in other letters", &self.respelled);
        tell("with", &self.added);
        if self.reordered {
            let gap = if told.is_empty() { "" } else { ", " };
            let _ = write!(told, "{gap}in another order");
        }
        if told.is_empty() { told } else { format!("{of}: {told}") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENT: &[(&str, &str)] = &[("Host", "h"), ("Accept", "a"), ("x-One", "1"), ("x-two", "2"), ("x-three", "3")];

    fn fields(of: &[(&str, &str)]) -> Fields {
        of.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
    }

    fn told(seen: &[(&str, &str)]) -> (bool, bool, String) {
        let compared = compare(&fields(SENT), &fields(seen));
        (compared.is_lossy(), compared.is_rewritten(), compared.told("requests"))
    }

    #[test]
    fn what_became_of_fields_is_told_by_its_names() {
        assert_eq!(told(SENT), (false, false, String::new()));
        let hop =
            [("x-One", "1"), ("x-two", "2"), ("x-three", "3"), ("Accept", "a"), ("host", "other"), ("Via", "1.1 p")];
        assert_eq!(told(&hop), (false, true, "requests: with Via, in another order".to_owned()));
        let lower = [("accept", "a"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")];
        assert_eq!(told(&lower), (false, true, "requests: in other letters Accept, x-One".to_owned()));
        let less = [("x-uno", "1"), ("x-two", "two"), ("x-three", "3")];
        let names = "requests: lost or changed x-One, x-two, without Accept, with x-uno";
        assert_eq!(told(&less), (true, false, names.to_owned()));
    }

    proptest! {
        #[test]
        fn what_came_as_it_was_sent_is_never_called_changed(names in proptest::collection::hash_set("[A-Za-z-]{1,12}", 0..20)) {
            let names: std::collections::BTreeMap<_, _> = names.iter().map(|n| (n.to_ascii_lowercase(), n)).collect();
            let sent: Fields = names.values().map(|n| (n.as_bytes().to_vec(), b"v".to_vec())).collect();
            prop_assert_eq!(compare(&sent, &sent), Compared::default());
        }

        #[test]
        fn whatever_is_told_of_a_head_can_be_compared(head in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = compare(&of_request(&head), &fields(SENT)).told("requests");
        }
    }
}
