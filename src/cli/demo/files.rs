//! The demo's files: made here, compared after each way.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

/// Relative path and checksum of every file and empty folder below a folder.
pub(super) type Tree = BTreeMap<PathBuf, String>;

/// Makes the folder `photos`: a large file, small ones, odd names, an empty file, an empty folder.
pub(super) fn make(below: &Path) -> io::Result<PathBuf> {
    let dir = below.join("photos");
    fs::create_dir_all(dir.join("2026/nothing yet"))?;
    fs::write(dir.join("master.raw"), noise(24 * 1024 * 1024)?)?;
    fs::write(dir.join("2026/100% Käse & 漢字.jpg"), noise(300_000)?)?;
    fs::write(dir.join("2026/empty.txt"), b"")?;
    for i in 0..10 {
        fs::write(dir.join(format!("2026/thumb-{i:02}.jpg")), noise(4_000 + i)?)?;
    }
    Ok(dir)
}

fn noise(len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// Reads a folder for comparison.
pub(super) fn tree(root: &Path) -> io::Result<Tree> {
    fn walk(root: &Path, dir: &Path, into: &mut Tree) -> io::Result<()> {
        let mut empty = true;
        for entry in fs::read_dir(dir)? {
            empty = false;
            let path = entry?.path();
            if path.is_dir() {
                walk(root, &path, into)?;
            } else {
                into.insert(relative(root, &path), checksum(&fs::read(&path)?));
            }
        }
        if empty {
            into.insert(relative(root, dir), "(empty folder)".into());
        }
        Ok(())
    }
    let mut all = Tree::new();
    walk(root, root, &mut all)?;
    Ok(all)
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

fn checksum(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}
