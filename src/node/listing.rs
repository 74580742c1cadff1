//! What a download consists of: the files that a list of sources stands for.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::store::{modified, relative};

const MAX_DEPTH: usize = 64;
const MAX_FILES: usize = 1_000_000;

/// One file of a download.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name on the wire.
    pub(crate) name: Vec<u8>,
    /// Where it is; `None` for made-up zero bytes.
    pub(crate) path: Option<PathBuf>,
    pub(crate) size: u64,
    pub(crate) time: u64,
}

/// The files for these sources, in order. A directory gives its tree, below its own name. What is missing, outside of
/// `root`, or has a control character in its name is left out. With `zeros`, a name that ends in `.123b` is 123 zero bytes.
pub(crate) fn expand(root: &Path, sources: &[Vec<u8>], zeros: bool) -> Vec<Entry> {
    let mut files = Vec::new();
    for source in sources {
        let trimmed = source.strip_suffix(b"/").unwrap_or(source);
        let base = trimmed.rsplit(|&b| b == b'/').next().unwrap_or_default();
        if zeros && let Some(size) = zero_size(base) {
            files.push(Entry { name: base.to_vec(), path: None, size, time: 1_500_000_000 });
        } else if source.iter().all(|&b| b == b'/') {
            directory(root, root, b"", MAX_DEPTH, &mut files);
        } else if let Some(path) = relative(source) {
            add(root, &root.join(path), base, MAX_DEPTH, &mut files);
        }
    }
    files
}

/// 123 for `anything.123b`.
pub(crate) fn zero_size(name: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(name).ok()?.strip_suffix('b')?;
    let digits = text.rsplit_once('.')?.1;
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn add(root: &Path, path: &Path, name: &[u8], depth: usize, files: &mut Vec<Entry>) {
    if files.len() >= MAX_FILES || name.iter().any(|&b| (b < 32 && b != b'\t') || b == 127) {
        return;
    }
    let Ok(meta) = fs::metadata(path) else { return };
    let inside = |path: &Path| {
        let real = fs::canonicalize(path).ok()?;
        Some(real.starts_with(fs::canonicalize(root).ok()?))
    };
    if inside(path) != Some(true) {
        return;
    }
    if meta.is_dir() {
        directory(root, path, name, depth, files);
    } else if meta.is_file() {
        files.push(Entry { name: name.to_vec(), path: Some(path.to_owned()), size: meta.len(), time: modified(&meta) });
    }
}

fn directory(root: &Path, path: &Path, name: &[u8], depth: usize, files: &mut Vec<Entry>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    let mut names: Vec<_> = entries.flatten().map(|e| e.file_name()).collect();
    names.sort();
    for child in names {
        let mut wire = name.to_vec();
        if !wire.is_empty() {
            wire.push(b'/');
        }
        wire.extend_from_slice(OsStr::as_bytes(&child));
        add(root, &path.join(&child), &wire, depth, files);
    }
}
