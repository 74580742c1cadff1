//! A disk that can be full.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// A small disk of its own, gone when it drops.
pub(crate) struct Disk(tempfile::TempDir);

impl Disk {
    /// None where this system lets us make none, and everybody is told.
    pub(crate) fn new() -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(folder.path())
            .stderr(Stdio::null())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: `mount -t tmpfs` does not work here (it takes root)");
            return None;
        }
        Some(Disk(folder))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room.
    pub(crate) fn fill(&self) {
        let mut file = File::create(self.0.path().join("filler")).unwrap();
        let piece = [1; 4096];
        while file.write_all(&piece).is_ok() {}
    }

    /// Leaves room again.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.0.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
