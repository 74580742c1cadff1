//! The file of sessions and pins: what is told is there after a kill, and a full disk loses nothing.

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use fallgate::shared::{
    Key, PinState, SessionState,
    file::{Bounds, FileStore},
};

use crate::support::{dice::Dice, disk::Disk, eventually};

const BOUNDS: Bounds = Bounds { max_sessions: 1000, max_pins: 1000 };
/// Names the file that the process is to write that is killed.
const FILE: &str = "FALLGATE_TEST_STATE";
/// The sessions of that process.
const KEYS: u64 = 40;
const ROUNDS: u64 = 12;
/// What was told so long before the end is not lost.
const SOON: Duration = Duration::from_millis(200);

fn session(key: u64, turn: u64, user: &str) -> SessionState {
    SessionState {
        key: Key(u128::from(key).to_be_bytes()),
        listener: "fallback".to_owned(),
        upstream: "transfer".to_owned(),
        node: "n1".to_owned(),
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        direction: None,
        user: Some(user.to_owned()),
        sources: None,
        began: 1,
        open: true,
        node_keeps: false,
        client_keeps: false,
        bytes_uploaded: 0,
        bytes_downloaded: 0,
        files: 0,
        files_failed: 0,
        requests: turn,
        lengths_differ: 0,
        announced: None,
        turn: 0,
        waited: 0,
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// Changes sessions until it is killed, and says which it has told to the file.
fn tell_without_end(path: &Path) {
    let (store, saved) = FileStore::open(path, BOUNDS).unwrap();
    let mut turn = saved.sessions.iter().map(|session| session.requests).max().unwrap_or(0);
    let mut out = std::io::stdout().lock();
    loop {
        turn += 1;
        let key = turn.wrapping_mul(0x9e37_79b9) % KEYS;
        let is_over = turn.is_multiple_of(5);
        if is_over {
            store.forget_session(session(key, 0, "").key);
        } else {
            store.save_session(session(key, turn, "anna"));
        }
        store.save_pin(PinState { upstream: "u".to_owned(), hash: turn % 3, node: "n1".to_owned(), set: turn });
        writeln!(out, "told {key} {} {}", if is_over { 0 } else { turn }, now().as_micros()).unwrap();
    }
}

/// What each session was, from the first to the last, and when that was told; 0 is none.
type Told = HashMap<u64, Vec<(u64, Duration)>>;

/// Reads what a process tells for a time, kills it, and reads the rest; returns when it was killed.
fn run(path: &Path, time: Duration, told: &mut Told) -> Duration {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "state::what_was_told_a_moment_before_a_kill_is_there_after_it", "--nocapture"])
        .env(FILE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut begun, mut killed) = (None, None);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What is before and around it is the test runner's.
        let line = line.unwrap();
        let Some((_, line)) = line.split_once("told ") else { continue };
        let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        let [key, turn, micros] = numbers[..] else { continue };
        told.entry(key).or_default().push((turn, Duration::from_micros(micros)));
        if killed.is_none() && now() >= *begun.get_or_insert_with(now) + time {
            killed = Some(now());
            child.kill().unwrap();
        }
    }
    assert!(!child.wait().unwrap().success());
    killed.unwrap()
}

#[test]
fn what_was_told_a_moment_before_a_kill_is_there_after_it() {
    if let Some(path) = std::env::var_os(FILE) {
        return tell_without_end(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut dice = Dice::new(7);
    let mut found = BTreeMap::<u64, u64>::new();
    let mut losses = Vec::new();
    for round in 0..ROUNDS {
        let mut told: Told = (0..KEYS).map(|key| (key, vec![(found.get(&key).copied().unwrap_or(0), now())])).collect();
        let killed = run(&path, Duration::from_millis(dice.below(600)), &mut told);
        let (store, saved) = FileStore::open(&path, BOUNDS).unwrap();
        assert!(!folder.path().join("state.corrupt").exists(), "round {round}");
        assert!(store.close());
        let of_key = |session: &SessionState| (u128::from_be_bytes(session.key.0) as u64, session.requests);
        found = saved.sessions.iter().map(of_key).collect();
        assert!(found.keys().all(|key| *key < KEYS) && saved.pins.len() <= 3);
        let lost = |(key, history): (u64, Vec<(u64, Duration)>)| {
            let turn = found.get(&key).copied().unwrap_or(0);
            match history.iter().rposition(|(told, _)| *told == turn) {
                Some(at) => history.get(at + 1).map(|(_, when)| killed.saturating_sub(*when)),
                None => {
                    // It may have been told, and not said.
                    assert!(history.iter().all(|(told, _)| *told < turn), "never was: {turn} of {key}: {history:?}");
                    None
                }
            }
        };
        losses.push(told.into_iter().filter_map(lost).max().unwrap_or_default());
    }
    losses.sort();
    // On a machine that is busy with other things a round may be slow.
    assert!(losses[losses.len() / 2] < SOON && losses[losses.len() - 1] < 10 * SOON, "{losses:?}");
}

#[tokio::test]
async fn what_a_full_disk_could_not_take_is_written_once_there_is_room() {
    let Some(disk) = Disk::new() else { return };
    let path = disk.path().join("state");
    let (store, _) = FileStore::open(&path, BOUNDS).unwrap();
    (0..50).for_each(|key| store.save_session(session(key, 1, "anna")));
    let mut store = Some(store);
    for turn in 2..4u64 {
        let open = store.as_ref().unwrap();
        disk.fill();
        // Long ones, for which the file has to grow.
        let long = "x".repeat(20_000);
        (0..100).for_each(|key| open.save_session(session(key, turn, &long)));
        (0..10).for_each(|key| open.forget_session(session(key, 0, "").key));
        eventually("the failure is noticed", || (!open.is_well()).then_some(())).await;
        let failures = open.failures();
        eventually("it is tried again", || (open.failures() > failures).then_some(())).await;
        (100..110).for_each(|key| open.save_session(session(key, turn, "late")));
        (100..105).for_each(|key| open.forget_session(session(key, 0, "").key));
        disk.free();
        eventually("the file is written again", || open.is_well().then_some(())).await;
        assert!(store.take().unwrap().close());
        let (again, saved) = FileStore::open(&path, BOUNDS).unwrap();
        let mut keys: Vec<_> = saved.sessions.iter().map(|session| u128::from_be_bytes(session.key.0)).collect();
        keys.sort_unstable();
        assert_eq!(keys, (10..100).chain(105..110).collect::<Vec<_>>(), "turn {turn}");
        assert!(saved.sessions.iter().all(|session| session.requests == turn));
        assert!(!path.with_extension("corrupt").exists());
        store = Some(again);
    }
    // Where the end comes first, the file has what it had.
    disk.fill();
    let open = store.take().unwrap();
    (10..100).for_each(|key| open.save_session(session(key, 9, &"y".repeat(40_000))));
    assert!(!open.close());
    disk.free();
    assert_eq!(FileStore::open(&path, BOUNDS).unwrap().1.sessions.len(), 95);
}
