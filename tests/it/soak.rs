//! The soak's own rules: faults and transfers are made by the seed alone, and what must not be is seen.

#[path = "../soak/proof.rs"]
mod proof;
#[path = "../soak/report.rs"]
mod report;
#[path = "../soak/schedule.rs"]
mod schedule;
#[path = "../soak/work.rs"]
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use proof::{Files, arrived, fetched, sum};
use proptest::prelude::*;
use report::{Ended, Made, Report, Window};
use schedule::{AFTER, BEFORE, Fault, Kind, Step, faults, steps};
use work::{LANES, LISTENERS, SETS, Work};

use crate::support::ascp;

const HOUR: Duration = Duration::from_secs(3600);

fn of(seed: u64, length: Duration) -> Vec<Fault> {
    faults(seed, length, 3, &Kind::ALL)
}

#[test]
fn the_same_seed_gives_the_same_faults_and_transfers_and_another_gives_others() {
    assert_eq!(of(7, HOUR), of(7, HOUR));
    assert_ne!(of(7, HOUR), of(8, HOUR));
    let works = |seed| (0..LANES).flat_map(move |lane| (0..50).map(move |n| Work::of(seed, lane, n)));
    assert!(works(7).eq(works(7)));
    assert!(works(7).ne(works(8)));
}

#[test]
fn a_run_of_three_minutes_has_every_kind_of_fault_with_seed_1() {
    let length = Duration::from_secs(180);
    let kinds: BTreeSet<_> = of(1, length).iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, BTreeSet::from(Kind::ALL));
}

#[test]
fn a_kind_that_is_left_out_never_comes() {
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Upgrade).collect();
    assert!(faults(7, HOUR, 3, &kinds).iter().all(|fault| fault.kind != Kind::Upgrade));
    assert_eq!(faults(7, HOUR, 3, &[]), []);
}

#[test]
fn every_door_and_every_set_of_files_is_used_both_ways() {
    let mut used = BTreeSet::new();
    for work in (0..LANES).flat_map(|lane| (0..200).map(move |n| Work::of(7, lane, n))) {
        if let Work::Fallback { up, listener, set, proxied } = work {
            used.insert((up, listener, set, proxied));
        }
    }
    assert_eq!(used.len(), 2 * LISTENERS.len() * SETS.len() * 2);
    let names = |works: Vec<Work>| works.iter().map(Work::name).collect::<BTreeSet<_>>();
    let drawn = (0..LANES).flat_map(|lane| (0..200).map(move |n| Work::of(7, lane, n))).collect();
    assert_eq!(names(Work::each()), names(drawn), "one of each is one of each");
}

proptest! {
    #[test]
    fn a_node_has_one_fault_at_a_time_and_all_end_before_the_load_does(seed: u64, minutes in 0_u64..60) {
        let length = Duration::from_secs(minutes * 60);
        let faults = of(seed, length);
        let mut busy = BTreeSet::new();
        let mut last = Duration::ZERO;
        for (at, step) in steps(&faults) {
            prop_assert!(at >= last && at >= BEFORE && at + AFTER <= length);
            last = at;
            let (Step::Begin(i) | Step::End(i)) = step;
            if !faults[i].lasts.is_zero() {
                let node = faults[i].node;
                let is_alone = if matches!(step, Step::Begin(_)) { busy.insert(node) } else { busy.remove(&node) };
                prop_assert!(is_alone);
            }
        }
        prop_assert!(busy.is_empty());
        let down: Vec<_> = faults.iter().filter(|f| matches!(f.kind, Kind::NodeKill | Kind::NodeCut)).collect();
        prop_assert!(down.windows(2).all(|two| two[0].at + two[0].lasts < two[1].at), "one node at a time is down");
        let ends_the_process = |fault: &&Fault| matches!(fault.kind, Kind::Upgrade | Kind::GatewayKill);
        prop_assert!(faults.iter().filter(ends_the_process).all(|fault| fault.at <= length / 2));
    }
}

/// What a client says that ends with `code`, having called `done` done in messages and `logged` in its log.
fn said(code: i32, done: &[&str], logged: &[&str]) -> ascp::Report {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let stop = |file: &&str| BTreeMap::from([field("Type", "STOP"), field("File", &format!("/source/{file}"))]);
    let error = BTreeMap::from([field("Type", "ERROR"), field("Code", "16"), field("Description", "Connection lost")]);
    let line = |file: &&str| format!("LOG File PUT completed=1 http_session=1 source=/source/{file} wire={file}\n");
    let mut messages: Vec<_> = done.iter().map(stop).collect();
    messages.extend((code != 0).then_some(error));
    ascp::Report { code: Some(code), messages, console: logged.iter().map(line).collect() }
}

#[test]
fn a_file_that_was_called_done_must_be_whole_on_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let up: Vec<PathBuf> = ["n1", "n2"].map(|node| dir.path().join(node)).to_vec();
    up.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    let files = Files::from([("a".to_owned(), sum(b"a")), ("b".to_owned(), sum(b"b"))]);
    let check = |report: &ascp::Report| {
        let Ended { failure, files, wrong, .. } = arrived(report, "t", &files, &up);
        (failure.is_some(), files, wrong)
    };
    let none = Vec::<String>::new();
    assert_eq!(check(&said(1, &[], &[])), (true, 0, none.clone()), "what failed may be anywhere");
    fs::write(up[0].join("a"), b"a").unwrap();
    assert_eq!(check(&said(1, &["t/a"], &[])), (true, 1, none.clone()));
    assert_eq!(check(&said(1, &["t/a"], &["t/b"])).2, ["t/b is on no node"]);
    assert_eq!(check(&said(0, &[], &[])), (false, 2, vec!["t/b is on no node".to_owned()]), "exit 0 is for all files");
    fs::write(up[1].join("b"), b"b").unwrap();
    assert_eq!(check(&said(0, &[], &[])).2, ["t is on 2 nodes"]);
    fs::write(up[0].join("b"), b"x").unwrap();
    assert_eq!(check(&said(1, &["t/b"], &[])).2, ["t/b differs on its node", "t is on 2 nodes"]);
    fs::rename(up[1].join("b"), up[0].join("b")).unwrap();
    assert_eq!(check(&said(0, &["t/a", "t/b"], &["t/a", "t/b"])), (false, 2, none));
}

#[test]
fn a_file_that_was_called_done_must_be_whole_at_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::from([("a".to_owned(), sum(b"a")), ("b".to_owned(), sum(b"b"))]);
    let check = |report: &ascp::Report| {
        let ended = fetched(report, "t", &files, dir.path());
        (ended.files, ended.wrong.len())
    };
    fs::create_dir(dir.path().join("t")).unwrap();
    fs::write(dir.path().join("t/a"), b"a").unwrap();
    assert_eq!(check(&said(1, &["t/a"], &[])), (1, 0));
    assert_eq!(check(&said(0, &["t/a"], &[])), (2, 1), "exit 0, and a file is missing");
    fs::write(dir.path().join("t/b"), b"").unwrap();
    assert_eq!(check(&said(1, &["t/a", "t/b"], &[])), (2, 1));
    assert_eq!(check(&said(1, &["t/a"], &[])), (1, 0), "the client did not say that it is done");
}

#[test]
fn a_failure_needs_a_fault_that_may_cost_something_and_a_wrong_file_has_no_excuse() {
    let seconds = Duration::from_secs;
    let window = |kind, begin, end| Window { kind, begin: seconds(begin), end: seconds(end) };
    let windows = vec![window(Kind::Reload, 10, 12), window(Kind::NodeKill, 20, 25)];
    let broken = |begin, end, ended: Ended| {
        let made = Made { id: "t".into(), name: "up".into(), begin: seconds(begin), end: seconds(end), ended };
        Report { seed: 1, made: vec![made], windows: windows.clone() }.broken().len()
    };
    assert_eq!(broken(0, 5, Ended::failed("x")), 1, "no fault");
    assert_eq!(broken(9, 13, Ended::failed("x")), 1, "a reload alone");
    assert_eq!(broken(9, 20, Ended::failed("x")), 0, "a reload and the death of a node");
    assert_eq!(broken(25, 30, Ended::failed("x")), 0, "the end of it");
    assert_eq!(broken(26, 30, Ended::failed("x")), 1, "after it");
    assert_eq!(broken(9, 30, Ended::default()), 0);
    assert_eq!(broken(20, 24, Ended { wrong: vec!["differs".into()], ..Ended::default() }), 1);
}
