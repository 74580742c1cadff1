//! From YAML text to a tree of values; what the tree means is decided elsewhere.
//!
//! Only `true` and `false` are truth values, so that `off` stays the word `off`. A key that stands twice in one mapping is
//! an error, like any other YAML that cannot be read.

use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, UserMessageFormatter};

use super::error::Problem;

/// Reads one YAML document; the problem names the line and column at which reading stopped.
pub(super) fn parse(text: &str) -> Result<Value, Problem> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Value>(text, options).map_err(|error| {
        let place = error
            .location()
            .map_or_else(String::new, |location| format!("line {}, column {}", location.line(), location.column()));
        let whole = error.render_with_formatter(&UserMessageFormatter);
        // The place is told once, in front.
        let message = match whole.rsplit_once(" at line ") {
            Some((message, _)) if !place.is_empty() => message.to_owned(),
            _ => whole,
        };
        let hint = hint(&message).map(str::to_owned);
        Problem::new(place, message).hint(hint)
    })
}

/// What is behind the two slips of everybody.
fn hint(message: &str) -> Option<&'static str> {
    if message.contains("tabs disallowed") {
        Some("indent by blanks, not by tabs")
    } else if message.contains("simple key expected") {
        Some("a line begins with a key, a colon and a blank, or with a dash and a blank")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn off_is_a_word_and_numbers_keep_their_kind() {
        let value = parse("{a: off, b: no, c: true, d: 1.2, e: \"1.2\", f: 30, g: 5s, h: null}");
        let expected = json!({"a": "off", "b": "no", "c": true, "d": 1.2, "e": "1.2", "f": 30, "g": "5s", "h": null});
        assert_eq!(value, Ok(expected));
    }

    #[test]
    fn broken_yaml_names_its_place() {
        let problem = parse("version: 1\nlisteners: [\n").unwrap_err();
        assert!(problem.path.starts_with("line "), "{problem:?}");
        let problem = parse("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(problem.path, "line 3, column 1");
        let problem = parse("a:\n\t- b: 1\n").unwrap_err();
        assert_eq!(problem.hint.as_deref(), Some("indent by blanks, not by tabs"), "{problem:?}");
        let problem = parse("a: 1\nb\n").unwrap_err();
        assert!(problem.hint.is_some_and(|hint| hint.contains("a colon and a blank")));
    }

    #[test]
    fn deep_nesting_and_alias_bombs_are_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(50_000), "]".repeat(50_000))).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let before = format!("*a{}", i - 1);
            bomb += &format!("a{i}: &a{i} [{}]\n", [before.as_str(); 10].join(", "));
        }
        assert!(parse(&bomb).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), near in "[a:{}\\[\\], \n\"'&*|>-]{0,40}") {
            let _ = parse(&text);
            let _ = parse(&near);
        }
    }
}
