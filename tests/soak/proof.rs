//! The proof: what a client called done, held against what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::report::Ended;
use crate::support::ascp::Report;

/// So many lines of a client whose transfer failed are kept.
const LAST: usize = 60;

/// A checksum.
pub(crate) type Sum = Vec<u8>;
/// Files by name, each with its checksum.
pub(crate) type Files = BTreeMap<String, Sum>;

pub(crate) fn sum(bytes: &[u8]) -> Sum {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// The checksum of a file, if it is there.
fn sum_of(path: &Path) -> Option<Sum> {
    fs::read(path).ok().map(|bytes| sum(&bytes))
}

/// Why the real client failed, in its own words.
fn failure(report: &Report) -> Option<String> {
    let Some(code) = report.code else { return Some("hangs, and was killed".to_owned()) };
    if report.is_ok() {
        return None;
    }
    if let Some((number, text)) = report.error() {
        return Some(format!("exit {code}, {number} {text}"));
    }
    let last = report.console.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("and nothing said");
    Some(format!("exit {code}, {last}"))
}

/// What it said of that.
fn said(report: &Report) -> String {
    let last: Vec<_> = report.console.lines().rev().take(LAST).collect();
    if report.is_ok() { String::new() } else { last.into_iter().rev().collect::<Vec<_>>().join("\n") }
}

/// Holds the files that a client called done against what the nodes have.
pub(crate) fn arrived(report: &Report, id: &str, files: &Files, up: &[PathBuf]) -> Ended {
    let mut ended = Ended { failure: failure(report), said: said(report), ..Ended::default() };
    let mut homes = BTreeSet::new();
    for (file, sum) in files {
        if !is_done(report, &Path::new(id).join(file)) {
            continue;
        }
        ended.files += 1;
        let copies: Vec<_> = up.iter().enumerate().filter_map(|(i, dir)| Some((i, sum_of(&dir.join(file))?))).collect();
        homes.extend(copies.iter().map(|(node, _)| *node));
        if copies.is_empty() {
            ended.wrong.push(format!("{id}/{file} is on no node"));
        }
        if copies.iter().any(|(_, copy)| copy != sum) {
            ended.wrong.push(format!("{id}/{file} differs on its node"));
        }
    }
    if homes.len() > 1 {
        ended.wrong.push(format!("{id} is on {} nodes", homes.len()));
    }
    ended
}

/// The same for files that were fetched into a folder.
pub(crate) fn fetched(report: &Report, folder: &str, files: &Files, into: &Path) -> Ended {
    let mut ended = Ended { failure: failure(report), said: said(report), ..Ended::default() };
    for (file, sum) in files {
        let name = Path::new(folder).join(file);
        if is_done(report, &name) {
            ended.files += 1;
            if sum_of(&into.join(&name)).as_ref() != Some(sum) {
                ended.wrong.push(format!("{} differs at the client", into.join(name).display()));
            }
        }
    }
    ended
}

/// Whether the client called a file done: its exit status says all are, a message or a line of its log that this one is.
fn is_done(report: &Report, file: &Path) -> bool {
    let wire = format!(" wire={}", file.display());
    report.code == Some(0)
        || report.done().any(|done| done.ends_with(file))
        || report.console.lines().any(|line| line.contains("File PUT completed=1") && line.ends_with(&wire))
}
