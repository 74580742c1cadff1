//! What may have been meant by a file that cannot be read.

use std::{io, path::Path};

use super::suggest::did_you_mean;

/// Files that a hint names.
const NAMED: usize = 3;

/// What to do about it, where there is something to say; files that may be meant have one of these endings.
pub fn hint_of_file(path: &Path, error: &io::Error, endings: &[&str]) -> Option<String> {
    match error.kind() {
        io::ErrorKind::NotFound => absent(path, endings),
        io::ErrorKind::IsADirectory => Some(match named(&files(path, endings)) {
            Some(names) => format!("this is a folder; in it there is {names}"),
            None => "this is a folder; name the file in it".to_owned(),
        }),
        io::ErrorKind::PermissionDenied => Some("who runs this has no right to read it".to_owned()),
        _ => None,
    }
}

fn absent(path: &Path, endings: &[&str]) -> Option<String> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Some(format!("there is no folder {}", folder.display()));
    }
    let found = files(folder, endings);
    // What is called otherwise at its end is another kind of file: a key in the place of a certificate.
    let alike = found.iter().filter(|name| Path::new(name).extension() == path.extension());
    let near = did_you_mean(&path.file_name()?.to_string_lossy(), alike.map(String::as_str));
    near.or_else(|| named(&found).map(|names| format!("in {} there is {names}", folder.display())))
}

/// The first of them; none where there is none.
fn named(files: &[String]) -> Option<String> {
    let first = files
        .get(..NAMED)
        .filter(|first| first.len() < files.len())
        .map_or_else(|| files.join(", "), |first| first.join(", ") + " and more");
    (!files.is_empty()).then_some(first)
}

/// The files of a folder with such endings, by name.
fn files(folder: &Path, endings: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_such = |name: &String| name.rsplit_once('.').is_some_and(|(_, ending)| endings.contains(&ending));
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_such).collect();
    names.sort_unstable();
    names
}
