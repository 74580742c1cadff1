//! The schedule of the soak: faults and transfers are made by the seed alone.

#[path = "../soak/schedule.rs"]
mod schedule;
#[path = "../soak/work.rs"]
mod work;

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use schedule::{AFTER, BEFORE, Fault, Kind, Step, faults, steps};
use work::{LANES, LISTENERS, SETS, Work};

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
        let ends_the_process = |fault: &&Fault| matches!(fault.kind, Kind::Upgrade | Kind::GatewayKill);
        prop_assert!(faults.iter().filter(ends_the_process).all(|fault| fault.at <= length / 2));
    }
}
