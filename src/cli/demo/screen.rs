//! How the demo is shown: with colours and a line that counts along where a terminal knows them, as plain lines elsewhere.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::Display,
    io::{IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::say;
use crate::node::client::Progress;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const PLAIN: &str = "\x1b[0m";
/// Back to the line's begin, and nothing on it.
const WIPE: &str = "\r\x1b[K";
/// The line that counts along is not drawn more often.
const PACE: Duration = Duration::from_millis(40);
/// How wide its bar is, in columns.
const BAR: u64 = 30;

/// What is shown on, and what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Screen {
    has_colours: bool,
    /// Whether a line can be drawn over.
    is_live: bool,
}

impl Screen {
    /// What standard output is, and what the environment wants of it.
    pub(super) fn of_stdout() -> Screen {
        let [no_color, term] = ["NO_COLOR", "TERM"].map(std::env::var_os);
        Screen::new(std::io::stdout().is_terminal(), no_color.as_deref(), term.as_deref())
    }

    fn new(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Screen {
        let is_live = is_terminal && term.is_some_and(|term| term != "dumb");
        Screen { has_colours: is_live && no_color.is_none_or(OsStr::is_empty), is_live }
    }

    /// A new step begins.
    pub(super) fn step(self, title: impl Display) {
        say(format_args!("{}\n{}", self.over(), self.in_style(BOLD, title)));
    }

    /// What came of it.
    pub(super) fn line(self, text: impl Display) {
        say(format_args!("{}   {text}", self.over()));
    }

    /// What was to be shown, and holds.
    pub(super) fn proof(self, text: impl Display) {
        self.line(self.in_style(GREEN, text));
    }

    /// What is good to know and no part of it.
    pub(super) fn aside(self, text: impl Display) {
        self.line(self.in_style(DIM, text));
    }

    /// All that was to be shown holds.
    pub(super) fn good(self, text: impl Display) {
        say(format_args!("\n{}", self.in_style(&format!("{BOLD}{GREEN}"), text)));
    }

    /// Takes away the line that counts along.
    pub(super) fn wipe(self) {
        draw(self.over());
    }

    /// Counts along while a client moves this many bytes, until the next line is shown; none where no line can be drawn over.
    pub(super) fn progress(self, total: u64) -> Option<Progress> {
        let moving = Mutex::new(Moving { total, files: BTreeMap::new(), drawn: None });
        self.is_live.then(|| -> Progress {
            Arc::new(move |file, bytes| {
                let mut moving = moving.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(line) = moving.at(file, bytes, Instant::now()) {
                    draw(&format!("{WIPE}   {line}"));
                }
            })
        })
    }

    fn over(self) -> &'static str {
        if self.is_live { WIPE } else { "" }
    }

    fn in_style(self, style: &str, text: impl Display) -> String {
        if self.has_colours { format!("{style}{text}{PLAIN}") } else { text.to_string() }
    }
}

fn draw(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A transfer that runs.
struct Moving {
    /// Bytes of all of its files.
    total: u64,
    /// How far each has come, in bytes.
    files: BTreeMap<String, u64>,
    drawn: Option<Instant>,
}

impl Moving {
    /// The line for a file that has come so far; none when the one before is too fresh.
    fn at(&mut self, file: &str, bytes: u64, now: Instant) -> Option<String> {
        self.files.insert(file.to_owned(), bytes);
        if self.drawn.is_some_and(|drawn| now < drawn + PACE) {
            return None;
        }
        self.drawn = Some(now);
        let moved = self.files.values().sum::<u64>().min(self.total);
        let full = usize::try_from(moved * BAR / self.total.max(1)).unwrap_or(0);
        let (full, empty) = ("#".repeat(full), ".".repeat((BAR as usize).saturating_sub(full)));
        Some(format!("[{full}{empty}] {:.1} of {:.1} MB", moved as f64 / 1e6, self.total as f64 / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_know_them_and_want_them() {
        let of = |is_terminal, no_color: Option<&str>, term: Option<&str>| {
            let screen = Screen::new(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            (screen.has_colours, screen.is_live)
        };
        assert_eq!(of(true, None, Some("xterm")), (true, true));
        assert_eq!(of(true, Some(""), Some("xterm")), (true, true));
        assert_eq!(of(true, Some("1"), Some("xterm")), (false, true));
        for plain in [of(true, None, Some("dumb")), of(true, None, None), of(false, None, Some("xterm"))] {
            assert_eq!(plain, (false, false));
        }
        assert!(Screen::new(false, None, None).progress(1).is_none());
    }

    #[test]
    fn the_line_counts_all_files_and_is_not_drawn_too_often() {
        let (mut moving, start) = (Moving { total: 3_000_000, files: BTreeMap::new(), drawn: None }, Instant::now());
        assert_eq!(
            moving.at("a", 500_000, start).unwrap(),
            format!("[{}{}] 0.5 of 3.0 MB", "#".repeat(5), ".".repeat(25))
        );
        assert_eq!(moving.at("a", 1_000_000, start), None);
        let line = moving.at("b", 2_000_000, start + PACE).unwrap();
        assert_eq!(line, format!("[{}] 3.0 of 3.0 MB", "#".repeat(30)));
        assert!(line.len() < 77);
    }
}
