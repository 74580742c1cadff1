//! `docs/doctor.md` shows the table of diagnoses and that of error numbers.
//!
//! `FALLGATE_BLESS=1 cargo test --test it doctor::table -- --test-threads=1` writes them anew.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use fallgate::doctor::{CODES, Diagnosis};

/// Where the page is, its text, and where in it the table begins and ends.
fn find(name: &str) -> (PathBuf, String, Range<usize>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/doctor.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let start = text.find(&open).unwrap_or_else(|| panic!("no {open}")) + open.len();
    let end = text.find(&close).unwrap_or_else(|| panic!("no {close}"));
    (path, text, start..end)
}

/// The first two cells of each row, heading left out.
pub(super) fn rows(name: &str) -> Vec<(String, String)> {
    let (_, text, at) = find(name);
    let cells = |line: &str| {
        let mut cells = line.split('|').map(|cell| cell.trim().to_owned()).skip(1);
        Some((cells.next()?, cells.next()?))
    };
    text[at].lines().skip(2).filter_map(cells).collect()
}

pub(super) fn hold(name: &str, wanted: &str) {
    let (path, text, Range { start, end }) = find(name);
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(&path, format!("{}{wanted}{}", &text[..start], &text[end..])).unwrap();
        return;
    }
    assert!(text[start..end] == *wanted, "the table `{name}` is not what the types say; bless it:\n{wanted}");
}

#[test]
fn the_page_has_every_diagnosis_with_its_cure() {
    let mut rows = vec!["| word | state | what it means | what helps |\n|---|---|---|---|\n".to_owned()];
    rows.extend(
        Diagnosis::ALL
            .iter()
            .map(|d| format!("| `{}` | {} | {} | {} |\n", d.as_str(), d.state().as_str(), d.meaning(), d.cure())),
    );
    hold("diagnoses", &rows.concat());
}

#[test]
fn the_page_has_every_error_number() {
    let mut rows = vec!["| code | text | causes | cures |\n|--:|---|---|---|\n".to_owned()];
    rows.extend(CODES.iter().map(|c| format!("| {} | {} | {} | {} |\n", c.code, c.text, c.causes, c.cures)));
    hold("codes", &rows.concat());
}

#[test]
fn words_are_told_apart() {
    let mut words: Vec<_> = Diagnosis::ALL.iter().map(|d| d.as_str()).collect();
    words.sort_unstable();
    assert!(words.windows(2).all(|pair| pair[0] != pair[1]));
}
