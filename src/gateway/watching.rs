//! Reloads because files changed: the config's own, and those that it names.
//!
//! Now and then all of them are looked at: what each name leads to in the end, so that a folder of secrets whose link is
//! turned to another one is seen too. What two looks find alike, and other than what was tried last, is settled and tried.
//! What comes of it is told by the reload, once: what would not do is tried again when it has changed again.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Weak,
    time::{Duration, SystemTime},
};

use super::running::Run;
use crate::config::Config;

/// How soon it is noticed that a reload has switched the watch on.
const IDLE: Duration = Duration::from_secs(1);
/// The clock that files are stamped by may be so far behind.
const BEHIND: Duration = Duration::from_millis(20);

/// Watches for as long as the gateway lives, whenever its config says so.
pub(super) async fn watch(run: Weak<Run>) {
    let mut watched: Option<(Files, Changes)> = None;
    loop {
        let every = run.upgrade().and_then(|run| run.config().reload.watch);
        tokio::time::sleep(every.unwrap_or(IDLE)).await;
        let Some(run) = run.upgrade() else { return };
        let Some(file) = run.file().filter(|_| run.config().reload.watch.is_some() && !run.is_draining()) else {
            watched = None;
            continue;
        };
        let (mut files, changes) = match watched.take() {
            Some((files, changes)) => (files, Some(changes)),
            None => (Files::new(file), None),
        };
        let running = run.config();
        // Files may lie on a disk that is far away.
        let looked = tokio::task::spawn_blocking(move || (files.look(&running), files)).await;
        // Only a runtime that ends leaves it undone.
        let Ok((seen, files)) = looked else { return };
        let mut changes = changes.unwrap_or_else(|| Changes::since(&seen, run.last_reload().1));
        if let Some(changed) = changes.look(seen) {
            let names: Vec<_> = changed.iter().map(|path| path.display().to_string()).collect();
            tracing::info!(files = names.join(", "), "Files have changed; the config is read anew.");
            // What came of it is in the log.
            let _ = run.reload_file().await;
        }
        watched = Some((files, changes));
    }
}

/// What a file is at one moment, by what changes when anything of it does; none where there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Look {
    /// Of what the name leads to in the end.
    fn at(path: &Path) -> io::Result<Look> {
        let it = fs::metadata(path)?;
        Ok(Look {
            file: (it.dev(), it.ino()),
            size: it.size(),
            modified: (it.mtime(), it.mtime_nsec()),
            changed: (it.ctime(), it.ctime_nsec()),
        })
    }

    /// Whether anything of it may have changed after that time.
    fn is_after(self, time: SystemTime) -> bool {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (seconds, nanos) = self.changed;
        let changed = Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
            + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default());
        changed + BEHIND > since
    }
}

type Seen = BTreeMap<PathBuf, Option<Look>>;

/// The files to look at.
#[derive(Debug)]
struct Files {
    config: PathBuf,
    /// What the file of the config was when it was read last, and the files that it named then.
    wanted: Option<(Option<Look>, Vec<PathBuf>)>,
}

impl Files {
    fn new(config: &Path) -> Files {
        Files { config: config.to_owned(), wanted: None }
    }

    /// Looks at the file of the config, at all that the running config names, and at what the file names by now: a
    /// config that could not be applied because of such a file can be once that is there. Blocks.
    fn look(&mut self, running: &Config) -> Seen {
        let own = Look::at(&self.config).ok();
        if self.wanted.as_ref().is_none_or(|(seen, _)| *seen != own) {
            let named = Config::load(&self.config).map(|config| config.files()).unwrap_or_default();
            self.wanted = Some((own, named));
        }
        let wanted = self.wanted.iter().flat_map(|(_, named)| named.iter().cloned());
        let all = running.files().into_iter().chain(wanted);
        let mut seen: Seen = all.map(|path| (Look::at(&path).ok(), path)).map(|(look, path)| (path, look)).collect();
        seen.insert(self.config.clone(), own);
        seen
    }
}

/// What was seen, and what of it was tried. Pure.
#[derive(Debug)]
struct Changes {
    tried: Seen,
    last: Seen,
}

impl Changes {
    /// Begins with what is there, of which all that changed after the last reload has not been tried yet.
    fn since(seen: &Seen, reload: SystemTime) -> Changes {
        let mut tried = seen.clone();
        tried.values_mut().filter(|look| look.is_some_and(|look| look.is_after(reload))).for_each(|look| *look = None);
        Changes { tried, last: Seen::new() }
    }

    /// Takes a look into account: what has changed, once that is settled, and only then.
    fn look(&mut self, seen: Seen) -> Option<Vec<PathBuf>> {
        let is_settled = seen == self.last;
        self.last = seen;
        if !is_settled || self.tried == self.last {
            return None;
        }
        let changed = self.last.iter().filter(|(path, look)| self.tried.get(*path) != Some(*look));
        let changed: Vec<_> = changed.map(|(path, _)| path.clone()).collect();
        self.tried = self.last.clone();
        // A file that is only no longer looked at is no change.
        (!changed.is_empty()).then_some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(size: u64, changed: i64) -> Option<Look> {
        Some(Look { file: (1, 2), size, modified: (changed, 0), changed: (changed, 0) })
    }

    fn seen(files: &[(&str, Option<Look>)]) -> Seen {
        files.iter().map(|(path, look)| (PathBuf::from(path), *look)).collect()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn only_what_two_looks_find_alike_is_a_change_and_it_is_one_once() {
        let begin = seen(&[("a", look(1, 10)), ("b", look(1, 10))]);
        let mut changes = Changes::since(&begin, at(100));
        assert_eq!((changes.look(begin.clone()), changes.look(begin.clone())), (None, None));
        let half = seen(&[("a", look(2, 200)), ("b", look(1, 10))]);
        let whole = seen(&[("a", look(3, 201)), ("b", look(1, 10))]);
        assert_eq!((changes.look(half), changes.look(whole.clone())), (None, None), "it goes on changing");
        assert_eq!(changes.look(whole.clone()), Some(vec![PathBuf::from("a")]));
        assert_eq!((changes.look(whole.clone()), changes.look(whole)), (None, None), "it was tried");
        let gone = seen(&[("a", None), ("b", look(1, 10))]);
        assert_eq!((changes.look(gone.clone()), changes.look(gone)), (None, Some(vec![PathBuf::from("a")])));
    }

    #[test]
    fn what_changed_between_the_last_reload_and_the_first_look_is_a_change() {
        let begin = seen(&[("a", look(1, 10)), ("b", look(1, 101))]);
        let mut changes = Changes::since(&begin, at(100));
        assert_eq!((changes.look(begin.clone()), changes.look(begin)), (None, Some(vec![PathBuf::from("b")])));
    }

    #[test]
    fn a_file_that_is_no_longer_named_is_no_change_and_one_that_is_named_now_is() {
        let begin = seen(&[("a", look(1, 10)), ("b", look(1, 10))]);
        let mut changes = Changes::since(&begin, at(100));
        changes.look(begin);
        let fewer = seen(&[("a", look(1, 10))]);
        assert_eq!((changes.look(fewer.clone()), changes.look(fewer)), (None, None));
        let other = seen(&[("a", look(1, 10)), ("c", look(1, 10))]);
        assert_eq!((changes.look(other.clone()), changes.look(other)), (None, Some(vec![PathBuf::from("c")])));
    }
}
