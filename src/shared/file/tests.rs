//! What the file promises, with files.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::telemetry::Direction;

const MANY: Bounds = Bounds { max_sessions: 1000, max_pins: 1000 };

fn session(key: u8, began: u64, requests: u64) -> SessionState {
    SessionState {
        key: Key([key; 16]),
        listener: "fallback".to_owned(),
        upstream: "transfer".to_owned(),
        node: "n1".to_owned(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        direction: Some(Direction::Upload),
        user: Some("ä\u{0}\"".to_owned()),
        sources: None,
        began,
        open: true,
        node_keeps: false,
        client_keeps: true,
        bytes_uploaded: u64::MAX,
        bytes_downloaded: 0,
        files: 3,
        files_failed: 0,
        requests,
        lengths_differ: 0,
        announced: Some(7),
        turn: 3,
        waited: 0,
    }
}

fn pin(upstream: &str, hash: u64, set: u64) -> PinState {
    PinState { upstream: upstream.to_owned(), hash, node: format!("n{set}"), set }
}

/// A folder, and the name of a file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    (folder, path)
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("corrupt")
}

fn sorted(saved: Saved) -> (Vec<SessionState>, Vec<PinState>) {
    let Saved { mut sessions, mut pins } = saved;
    sessions.sort_by_key(|session| session.key.0);
    pins.sort_by_key(|pin| (pin.upstream.clone(), pin.hash));
    (sessions, pins)
}

#[derive(Debug, Clone)]
enum Step {
    Save(u8, u64, u64),
    Forget(u8),
    Pin(u8, u64, u64),
    Unpin(u8, u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..9u8, 0..20u64, any::<u64>()).prop_map(|(key, began, requests)| Step::Save(key, began, requests)),
        3 => (0..9u8).prop_map(Step::Forget),
        6 => (0..2u8, 0..6u64, 0..20u64).prop_map(|(upstream, hash, set)| Step::Pin(upstream, hash, set)),
        3 => (0..2u8, 0..6u64).prop_map(|(upstream, hash)| Step::Unpin(upstream, hash)),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..80)
}

/// Takes the oldest out of a model that has more than it may.
fn bound<T>(model: &mut BTreeMap<Vec<u8>, T>, max: usize, age: impl Fn(&T) -> u64) {
    if model.len() > max {
        let oldest = model.iter().map(|(name, it)| (age(it), name.clone())).min().unwrap().1;
        model.remove(&oldest);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_found_again_is_what_was_told_last(steps in steps()) {
        let (_folder, path) = place();
        let bounds = Bounds { max_sessions: 5, max_pins: 6 };
        let (mut sessions, mut pins) = (BTreeMap::new(), BTreeMap::new());
        let (mut store, _) = FileStore::open(&path, bounds).unwrap();
        for step in steps.into_iter().chain([Step::Reopen]) {
            match step {
                Step::Save(key, began, requests) => {
                    store.save_session(session(key, began, requests));
                    sessions.insert(vec![key; 16], session(key, began, requests));
                    bound(&mut sessions, bounds.max_sessions, |session| session.began);
                }
                Step::Forget(key) => {
                    store.forget_session(Key([key; 16]));
                    sessions.remove(&vec![key; 16]);
                }
                Step::Pin(upstream, hash, set) => {
                    let pin = pin(&format!("u{upstream}"), hash, set);
                    store.save_pin(pin.clone());
                    pins.insert(record::pin_name(&pin.upstream, hash), pin);
                    bound(&mut pins, bounds.max_pins, |pin| pin.set);
                }
                Step::Unpin(upstream, hash) => {
                    store.forget_pin(&format!("u{upstream}"), hash);
                    pins.remove(&record::pin_name(&format!("u{upstream}"), hash));
                }
                Step::Reopen => {
                    prop_assert!(store.is_well() && store.close());
                    let (again, saved) = FileStore::open(&path, bounds).unwrap();
                    store = again;
                    let (found_sessions, mut found_pins) = sorted(saved);
                    found_pins.sort_by_key(|pin| record::pin_name(&pin.upstream, pin.hash));
                    prop_assert_eq!(found_sessions, sessions.values().cloned().collect::<Vec<_>>());
                    prop_assert_eq!(found_pins, pins.values().cloned().collect::<Vec<_>>());
                }
            }
        }
    }
}

/// A file with records, closed well.
fn written() -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = place();
    let (store, saved) = FileStore::open(&path, MANY).unwrap();
    assert!(saved.sessions.is_empty() && saved.pins.is_empty());
    (0..200).for_each(|key| store.save_session(session(key, 1, 0)));
    (0..200).for_each(|hash| store.save_pin(pin("u", hash, 1)));
    assert!(store.close());
    (folder, path)
}

/// The same as a process leaves it that is killed.
fn left_behind() -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = place();
    let open = folder.path().join("open");
    let (mut disk, _) = Disk::open(&open).unwrap();
    for turn in 0..3 {
        let sessions = (0..200).map(|key| (vec![key; 16], Some(record::value(&session(key, 1, turn))))).collect();
        let pins =
            (0..200).map(|hash| (record::pin_name("u", hash), Some(record::value(&pin("u", hash, turn))))).collect();
        disk.commit(&Batch { sessions, pins }).unwrap();
    }
    std::fs::copy(&open, &path).unwrap();
    (folder, path)
}

/// The file opens, with what it had or with less, and takes and keeps new records.
fn is_of_use(path: &Path) -> bool {
    let (store, saved) = FileStore::open(path, MANY).unwrap();
    assert!(saved.sessions.len() <= 200 && saved.pins.len() <= 200);
    store.save_session(session(250, 2, 0));
    assert!(store.close());
    let (store, again) = FileStore::open(path, MANY).unwrap();
    assert_eq!(again.sessions.len(), saved.sessions.len() + 1);
    assert!(store.close());
    saved.sessions.len() == 200
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_damaged_file_is_moved_aside_and_nothing_else_happens(
        flips in prop::collection::vec((any::<Index>(), 1..=255u8, any::<bool>()), 0..6),
        cut in prop::option::weighted(0.4, any::<Index>()),
        is_closed in any::<bool>(),
    ) {
        let (_folder, path) = if is_closed { written() } else { left_behind() };
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, flip, is_early) in flips {
            // Much is in the first pages.
            let among = if is_early { bytes.len().min(512) } else { bytes.len() };
            let at = at.index(among);
            bytes[at] ^= flip;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        std::fs::write(&path, &bytes).unwrap();
        let is_whole = is_of_use(&path);
        let moved = std::fs::read(aside(&path)).ok();
        prop_assert!(is_whole == moved.is_none() || bytes.is_empty());
        prop_assert!(moved.is_none_or(|moved| moved.len() <= bytes.len() + 4096));
    }
}

#[test]
fn what_is_no_state_file_at_all_is_moved_aside_in_the_place_of_an_older_one() {
    for other in [&b"x"[..], &[0; 8192], &[0xff; 100_000], "no database, but text\n".repeat(500).as_bytes()] {
        let (_folder, path) = place();
        std::fs::write(&path, other).unwrap();
        std::fs::write(aside(&path), "older").unwrap();
        assert!(!is_of_use(&path));
        assert_eq!(std::fs::read(aside(&path)).unwrap(), other);
    }
}

#[test]
fn a_file_of_another_version_is_moved_aside() {
    let (_folder, path) = written();
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let about: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("about");
    transaction.open_table(about).unwrap().insert("version", 2).unwrap();
    transaction.commit().unwrap();
    drop(database);
    assert!(!is_of_use(&path) && aside(&path).exists());
}

#[test]
fn a_record_that_cannot_be_understood_is_dropped_alone() {
    let (_folder, path) = written();
    let database = redb::Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    let sessions: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("sessions");
    let whole = record::value(&session(7, 1, 0));
    for (name, value) in [(&b"short"[..], &whole[..]), (&[251; 16], &whole), (&[252; 16], b"{}"), (b"", b"")] {
        transaction.open_table(sessions).unwrap().insert(name, value).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    assert!(is_of_use(&path) && !aside(&path).exists());
}

#[test]
fn nobody_but_its_owner_may_read_the_file_whatever_it_was() {
    let (_folder, path) = written();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(is_of_use(&path));
    assert_eq!(mode(), 0o600);
}

#[test]
fn a_file_has_one_user_at_a_time() {
    let (_folder, path) = written();
    let (store, _) = FileStore::open(&path, MANY).unwrap();
    let error = FileStore::open(&path, MANY).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy, "{error}");
    assert!(!aside(&path).exists());
    assert!(store.close());
    assert!(is_of_use(&path));
}

#[test]
fn a_file_that_cannot_be_is_an_error() {
    let (folder, path) = place();
    for wrong in [folder.path().to_owned(), path.join("below"), PathBuf::from("/dev/null")] {
        assert!(FileStore::open(&wrong, MANY).is_err(), "{}", wrong.display());
    }
}

#[test]
fn however_much_changes_little_is_written() {
    let (_folder, path) = place();
    let (store, _) = FileStore::open(&path, MANY).unwrap();
    for turn in 0..2000 {
        (0..50).for_each(|key| store.save_session(session(key, 1, turn)));
    }
    assert!(store.close());
    let (store, saved) = FileStore::open(&path, MANY).unwrap();
    assert!(saved.sessions.len() == 50 && saved.sessions.iter().all(|session| session.requests == 1999));
    assert!(store.close());
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size < 8 * 1024 * 1024, "{size}");
}

#[test]
fn new_bounds_hold_at_once_for_what_is_there_and_for_what_comes() {
    let (_folder, path) = place();
    let (store, _) = FileStore::open(&path, MANY).unwrap();
    for n in 0..10u8 {
        store.save_session(session(n, n.into(), 0));
        store.save_pin(pin("u", n.into(), n.into()));
    }
    assert!(store.close());
    let keys = |saved: Saved| {
        let (sessions, pins) = sorted(saved);
        let keys: Vec<_> = sessions.iter().map(|session| session.key.0[0]).collect();
        (keys, pins.iter().map(|pin| pin.hash).collect::<Vec<_>>())
    };
    let (store, _) = FileStore::open(&path, MANY).unwrap();
    store.set_bounds(Bounds { max_sessions: 3, max_pins: 2 });
    assert!(store.close());
    let (store, saved) = FileStore::open(&path, MANY).unwrap();
    assert_eq!(keys(saved), (vec![7, 8, 9], vec![8, 9]));
    store.set_bounds(Bounds { max_sessions: 4, max_pins: 3 });
    for n in 10..12u8 {
        store.save_session(session(n, n.into(), 0));
        store.save_pin(pin("u", n.into(), n.into()));
    }
    assert!(store.close());
    let (_, saved) = FileStore::open(&path, MANY).unwrap();
    assert_eq!(keys(saved), (vec![8, 9, 10, 11], vec![9, 10, 11]));
}
