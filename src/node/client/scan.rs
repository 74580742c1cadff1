//! What an upload consists of: the files, empty directories and missing ones behind the given sources.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::super::store::modified;

const MAX_DEPTH: usize = 128;

/// A file to send.
#[derive(Debug)]
pub(super) struct Source {
    /// Its name on the wire.
    pub(super) name: Vec<u8>,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    pub(super) time: u64,
    pub(super) mode: u32,
}

/// The result of a scan.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) files: Vec<Source>,
    /// Wire names of empty directories.
    pub(super) empty: Vec<Vec<u8>>,
    /// Sources that do not exist, as given.
    pub(super) missing: Vec<Vec<u8>>,
    /// Whether there is more than one source, or a directory.
    pub(super) many: bool,
}

/// Looks at all sources; links are followed, anything but files and directories is left out.
pub(super) fn scan(sources: &[PathBuf]) -> io::Result<Scan> {
    let mut found = Scan { many: sources.len() > 1, ..Scan::default() };
    for source in sources {
        let Ok(meta) = fs::metadata(source) else {
            let given = source.as_os_str().as_bytes();
            found.missing.push(given.to_vec());
            continue;
        };
        found.many |= meta.is_dir();
        let name = match source.file_name() {
            Some(name) => name.as_bytes().to_vec(),
            None => {
                let real = fs::canonicalize(source)?;
                real.file_name().unwrap_or_default().as_bytes().to_vec()
            }
        };
        add(source, name, &meta, MAX_DEPTH, &mut found)?;
    }
    Ok(found)
}

fn add(path: &Path, name: Vec<u8>, meta: &fs::Metadata, depth: usize, found: &mut Scan) -> io::Result<()> {
    if meta.is_file() {
        found.files.push(Source {
            name,
            path: path.to_owned(),
            size: meta.len(),
            time: modified(meta),
            mode: meta.permissions().mode(),
        });
        return Ok(());
    }
    if !meta.is_dir() {
        return Ok(());
    }
    let Some(depth) = depth.checked_sub(1) else {
        return Err(io::Error::other("directories are nested too deeply"));
    };
    let mut children = fs::read_dir(path)?.map(|entry| entry.map(|e| e.file_name())).collect::<io::Result<Vec<_>>>()?;
    if children.is_empty() {
        found.empty.push(name);
        return Ok(());
    }
    children.sort();
    for child in children {
        let below = path.join(&child);
        let mut wire = name.clone();
        if !wire.is_empty() {
            wire.push(b'/');
        }
        wire.extend_from_slice(child.as_bytes());
        add(&below, wire, &fs::metadata(&below)?, depth, found)?;
    }
    Ok(())
}
