//! The files that are sent.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    proof::{Files, sum},
    work::SETS,
};
use crate::support::noise;

/// What the sets of files hold: by name below their folder, each with its checksum.
pub(crate) struct Trees {
    dir: PathBuf,
    sums: Vec<Files>,
}

impl Trees {
    /// Writes all sets into a folder, the same for the same seed.
    pub(crate) fn make(dir: PathBuf, seed: u64) -> Trees {
        let mut sums = Vec::new();
        for (set, (name, sizes, _)) in SETS.iter().enumerate() {
            fs::create_dir_all(dir.join(name)).unwrap();
            let mut files = Files::new();
            for (i, size) in sizes.iter().enumerate() {
                let content = noise(*size, seed ^ ((set as u64) << 16) ^ (i as u64 + 1));
                let file = format!("f {i:03}");
                fs::write(dir.join(name).join(&file), &content).unwrap();
                files.insert(file, sum(&content));
            }
            sums.push(files);
        }
        Trees { dir, sums }
    }

    pub(crate) fn files(&self, set: usize) -> &Files {
        &self.sums[set]
    }

    /// Puts a set under another folder, without a copy of its bytes.
    pub(crate) fn link(&self, set: usize, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for file in self.sums[set].keys() {
            fs::hard_link(self.dir.join(SETS[set].0).join(file), to.join(file)).unwrap();
        }
    }
}
