//! The files of a node: where uploads land, and what a list of sources stands for. Nothing outside the root is touched.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncSeekExt;

use super::date::unix;
use super::wire::locked;

/// The longest name that still has room for `.partial`.
const LONGEST: usize = 255 - 8;

/// The storage below one directory.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) root: PathBuf,
    busy: Mutex<HashSet<PathBuf>>,
}

/// An upload under way. Dropped before it is complete, it leaves the `.partial` file for a later resume.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    store: &'a Store,
    pub(crate) file: File,
    partial: PathBuf,
    path: PathBuf,
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        locked(&self.store.busy).remove(&self.partial);
    }
}

impl Incoming<'_> {
    /// Gives the file its name.
    pub(crate) async fn complete(self) -> io::Result<()> {
        fs::rename(&self.partial, &self.path).await
    }
}

fn refused(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// `name` as a relative path, or `None` when it is empty or tries to leave.
pub(crate) fn relative(name: &[u8]) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in name.split(|&b| b == b'/').filter(|p| !p.is_empty()) {
        if part == b"." || part == b".." || part.contains(&0) {
            return None;
        }
        path.push(OsStr::from_bytes(part));
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

/// Where the bytes of an unfinished `path` are kept.
pub(crate) fn partial_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut partial = name.to_vec();
    if name.len() > LONGEST {
        let mut hash = std::hash::DefaultHasher::new();
        name.hash(&mut hash);
        partial.truncate(200);
        partial.extend_from_slice(format!(".{:016x}", hash.finish()).as_bytes());
    }
    partial.extend_from_slice(b".partial");
    path.with_file_name(OsStr::from_bytes(&partial))
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Store {
        Store { root, busy: Mutex::default() }
    }

    /// Where an upload with this wire name lives.
    pub(crate) fn upload_path(&self, name: &[u8]) -> Option<PathBuf> {
        Some(self.root.join("up").join(relative(name)?))
    }

    /// Fails when a symbolic link on the way leads out of the root.
    async fn check_inside(&self, path: &Path) -> io::Result<()> {
        let root = fs::canonicalize(&self.root).await?;
        for ancestor in path.ancestors() {
            match fs::canonicalize(ancestor).await {
                Ok(real) if real.starts_with(&root) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Ok(_) => break,
                Err(e) => return Err(e),
            }
        }
        Err(refused("path leaves the root"))
    }

    /// Makes a directory and everything above it.
    pub(crate) async fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.check_inside(path).await?;
        fs::create_dir_all(path).await
    }

    /// Opens the partial file of an upload to go on at `offset`.
    pub(crate) async fn incoming(&self, path: PathBuf, offset: u64) -> io::Result<Incoming<'_>> {
        let parent = path.parent().ok_or_else(|| refused("no directory"))?;
        self.make_dir(parent).await?;
        let partial = partial_of(&path);
        if !locked(&self.busy).insert(partial.clone()) {
            return Err(refused("the file is being uploaded already"));
        }
        match open_partial(&partial, offset).await {
            Ok(file) => Ok(Incoming { store: self, file, partial, path }),
            Err(e) => {
                locked(&self.busy).remove(&partial);
                Err(e)
            }
        }
    }

    /// What is here of an upload that the client announces: -1 all of it, N its first N bytes.
    pub(crate) async fn resume_point(&self, name: &[u8], size: u64, time: u64) -> Option<i64> {
        let path = self.upload_path(name)?;
        if let Ok(meta) = fs::metadata(&path).await
            && meta.is_file()
            && meta.len() == size
            && modified(&meta) >= time
        {
            return Some(-1);
        }
        let length = fs::metadata(partial_of(&path)).await.ok()?.len();
        let usable = length > 0 && length <= size;
        usable.then(|| i64::try_from(length).ok()).flatten()
    }
}

async fn open_partial(partial: &Path, offset: u64) -> io::Result<File> {
    if fs::symlink_metadata(partial).await.is_ok_and(|m| m.is_symlink()) {
        return Err(refused("the partial file is a link"));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(offset == 0);
    let mut file = options.open(partial).await?;
    if offset > 0 {
        if file.metadata().await?.len() < offset {
            return Err(refused("the partial file is shorter than that"));
        }
        file.set_len(offset).await?;
        file.seek(io::SeekFrom::Start(offset)).await?;
    }
    file.set_max_buf_size(super::wire::LARGE);
    Ok(file)
}

pub(crate) fn modified(meta: &std::fs::Metadata) -> u64 {
    unix(meta.modified().unwrap_or(SystemTime::UNIX_EPOCH))
}
