//! `${NAME}` in string values: replaced from the environment after the YAML is read, so that a value can never add keys.
//!
//! `${NAME:-default}` stands for `default` while the variable is unset or empty; `$${` is a literal `${`. A replaced text is
//! not looked at again.

use std::borrow::Cow;

/// How a variable is looked up; tests pass their own.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a value could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvError {
    /// The variable has no value and no default is given.
    #[error("the environment variable {name} is not set")]
    Unset { name: String },
    /// The closing brace is missing.
    #[error("\"${{\" is never closed")]
    Unclosed,
    /// What stands between the braces cannot be a variable.
    #[error("{name:?} cannot be the name of an environment variable")]
    BadName { name: String },
}

impl EnvError {
    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Unset { name } => format!("set it, or give a default: ${{{name}:-value}}"),
            Self::Unclosed | Self::BadName { .. } => {
                "write ${NAME} or ${NAME:-default}, or $${ for a literal ${".to_owned()
            }
        }
    }
}

/// Replaces every `${...}` of `text`; a text without one is handed back as it is.
pub(super) fn expand<'a>(text: &'a str, lookup: Lookup<'_>) -> Result<Cow<'a, str>, EnvError> {
    if !text.contains("${") {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let (inside, tail) = after.split_once('}').ok_or(EnvError::Unclosed)?;
        out.push_str(&value_of(inside, lookup)?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn value_of(inside: &str, lookup: Lookup<'_>) -> Result<String, EnvError> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let first = name.chars().next();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(fits) || first.is_none_or(|c| c.is_ascii_digit()) {
        return Err(EnvError::BadName { name: name.to_owned() });
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(EnvError::Unset { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("n1.example".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> Result<String, EnvError> {
        expand(text, &lookup).map(Cow::into_owned)
    }

    #[test]
    fn variables_and_defaults_are_replaced() {
        assert_eq!(expanded("a ${HOST}:${PORT:-80} b").unwrap(), "a n1.example:80 b");
        assert_eq!(expanded("[${EMPTY}] [${EMPTY:-x}] [${NO:-}]").unwrap(), "[] [x] []");
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expanded("${NESTED}").unwrap(), "${HOST}");
    }

    #[test]
    fn a_doubled_dollar_is_literal() {
        assert_eq!(expanded("$${HOST} costs $5 $HOST $$").unwrap(), "${HOST} costs $5 $HOST $$");
    }

    #[test]
    fn what_cannot_be_expanded_is_said() {
        assert_eq!(expanded("${PORT}"), Err(EnvError::Unset { name: "PORT".to_owned() }));
        assert_eq!(expanded("${HOST"), Err(EnvError::Unclosed));
        assert_eq!(expanded("${1A}"), Err(EnvError::BadName { name: "1A".to_owned() }));
        assert_eq!(expanded("${}"), Err(EnvError::BadName { name: String::new() }));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>(), near in "[$}{A:-]{0,30}") {
            let _ = expanded(&text);
            let _ = expanded(&near);
        }

        #[test]
        fn a_text_without_a_dollar_is_unchanged(text in "[^$]*") {
            prop_assert_eq!(expanded(&text).unwrap(), text);
        }
    }
}
