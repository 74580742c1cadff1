//! What is wrong with a configuration: every problem at once, each with its place and, where there is one, a way out.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {}: {source}{}", path.display(), hint.iter().map(|hint| format!("\n  hint: {hint}")).collect::<String>())]
    Read {
        /// The file as it was named.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What may have been meant.
        hint: Option<String>,
    },
    /// The file was read and is wrong in at least one place.
    #[error("{}", render(problems, file.as_ref()))]
    Invalid {
        /// Everything that is wrong; never empty.
        problems: Vec<Problem>,
        /// The file as it was named; `None` when the text did not come from a file.
        file: Option<PathBuf>,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place, such as `listeners[fallback-https].upstream`; a line and column for broken YAML; empty for the whole file.
    pub path: String,
    /// What is wrong there.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: masked(path.into()), message: masked(message.into()), hint: None }
    }

    /// The same problem with this hint, if there is one.
    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().map(masked);
        self
    }
}

/// The text with `***` for the password of each URL in it, which may stand where no URL belongs.
fn masked(text: String) -> String {
    let is_end = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'' | '`' | ',');
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("://") {
        let (url, next) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        out += before;
        out += "://";
        match url.rsplit_once('@') {
            // What a hint says to write is no secret.
            Some((info, authority)) if info != "user:password" => {
                out += info.split_once(':').map_or("", |(user, _)| user);
                out += ":***@";
                out += authority;
            }
            _ => out += url,
        }
        rest = next;
    }
    out + rest
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

fn render(problems: &[Problem], file: Option<&PathBuf>) -> String {
    let mut lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let noun = if problems.len() == 1 { "problem" } else { "problems" };
    let place = file.map(|file| format!(" in {}", file.display())).unwrap_or_default();
    lines.push(format!("{} {noun}{place}", problems.len()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_url_is_repeated_nowhere() {
        let problem =
            Problem::new("a.http://anna:SECRET@h:1", "found \"http://anna:SECRET/@x@h\", not http://SECRET@h or x://y")
                .hint("write http://user:password@proxy:3128, not ftp://anna:SECRET@h".to_owned());
        let told = "a.http://anna:***@h:1: found \"http://anna:***@h\", not http://:***@h or x://y\n  hint: write http://user:password@proxy:3128, not ftp://anna:***@h";
        assert_eq!(problem.to_string(), told);
        assert!(!format!("{problem:?}").contains("SECRET"));
    }

    #[test]
    fn problems_are_listed_and_counted() {
        let problems =
            vec![Problem::new("a.b", "wrong").hint("do c".to_owned()), Problem::new("", "the file is empty")];
        let error = ConfigError::Invalid { problems, file: Some("gate.yaml".into()) };
        assert_eq!(error.to_string(), "a.b: wrong\n  hint: do c\nthe file is empty\n2 problems in gate.yaml");
    }
}
