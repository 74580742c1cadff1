//! "Did you mean": the nearest of some known words.

/// The hint `did you mean "x"?` for the known word nearest to `given`, when one is near enough to be a slip.
pub(super) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(given, known).map(|word| format!("did you mean {word:?}?"))
}

/// The known word with the fewest edits: at most a third of the longer word (and at least one), or any number of letters
/// left out or added at its end.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no slip of a key, and the distance costs the product of both lengths.
    if given.is_empty() || given.len() > 64 {
        return None;
    }
    let given: Vec<char> = given.to_lowercase().chars().collect();
    known
        .into_iter()
        .filter_map(|word| {
            let other: Vec<char> = word.chars().collect();
            let edits = distance(&given, &other);
            let allowed = (given.len().max(other.len()) / 3).max(1);
            let is_near = edits <= allowed || is_begun(&given, &other) || is_begun(&other, &given);
            // Of two words as near, the one that was broken off is meant: "of" is "off", not "on".
            (is_near && edits < other.len()).then_some(((edits, !other.starts_with(&given)), word))
        })
        .min_by_key(|(order, _)| *order)
        .map(|(_, word)| word)
}

/// Whether `short`, if it says enough, is the beginning of `long`.
fn is_begun(short: &[char], long: &[char]) -> bool {
    short.len() >= 3 && long.starts_with(short)
}

/// Insertions, deletions, replacements and swaps of neighbours that lead from `a` to `b`.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_slip_is_recognised() {
        let keys = ["cert_file", "key_file", "client_auth", "min_version"];
        assert_eq!(nearest("cert_fil", keys), Some("cert_file"));
        assert_eq!(nearest("cret_file", keys), Some("cert_file"));
        assert_eq!(nearest("Min_Version", keys), Some("min_version"));
        assert_eq!(nearest("upstream", keys), None);
        assert_eq!(nearest("of", ["off", "ip"]), Some("off"));
        assert_eq!(nearest("of", ["on", "off"]), Some("off"));
        assert_eq!(nearest("warning", ["error", "warn", "info"]), Some("warn"));
    }

    proptest! {
        #[test]
        fn any_text_is_compared_without_a_panic(a in any::<String>(), b in any::<String>()) {
            let _ = did_you_mean(&a, [b.as_str()]);
        }
    }
}
