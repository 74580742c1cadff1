//! The files that are sent, and the proof that they arrived.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::work::SETS;
use crate::support::noise;

/// A checksum.
pub(crate) type Sum = Vec<u8>;

/// What the sets of files hold: by name below their folder, each with its checksum.
pub(crate) struct Trees {
    dir: PathBuf,
    sums: Vec<BTreeMap<String, Sum>>,
}

pub(crate) fn sum(bytes: &[u8]) -> Sum {
    digest(&SHA256, bytes).as_ref().to_vec()
}

/// The checksum of a file that is there.
pub(crate) fn sum_of(path: &Path) -> Option<Sum> {
    fs::read(path).ok().map(|bytes| sum(&bytes))
}

impl Trees {
    /// Writes all sets into a folder, the same for the same seed.
    pub(crate) fn make(dir: PathBuf, seed: u64) -> Trees {
        let mut sums = Vec::new();
        for (set, (name, sizes, _)) in SETS.iter().enumerate() {
            fs::create_dir_all(dir.join(name)).unwrap();
            let mut files = BTreeMap::new();
            for (i, size) in sizes.iter().enumerate() {
                let content = noise(*size, seed ^ (set as u64) << 16 ^ i as u64 + 1);
                let file = format!("f {i:03}");
                fs::write(dir.join(name).join(&file), &content).unwrap();
                files.insert(file, sum(&content));
            }
            sums.push(files);
        }
        Trees { dir, sums }
    }

    pub(crate) fn files(&self, set: usize) -> &BTreeMap<String, Sum> {
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
