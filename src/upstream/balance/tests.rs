//! What every balance gives to nodes of any weight, in slow start or not.

use proptest::prelude::*;

use super::*;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const BALANCES: [Balance; 3] = [Balance::LeastSessions, Balance::RoundRobin, Balance::Hash];

fn nodes(of: &[(u32, f64)]) -> Vec<Candidate<'static>> {
    let node = |(name, (weight, part)): (&&'static str, &(u32, f64))| Candidate {
        name,
        sessions: 0,
        weight: *weight,
        part: *part,
    };
    NAMES.iter().zip(of).map(node).collect()
}

/// How many of so many sessions each node gets, when none of them ends.
fn held(balance: Balance, of: &[(u32, f64)], sessions: u32) -> Vec<usize> {
    let (mut all, mut turn) = (nodes(of), 0);
    for key in 0..sessions {
        let next = || {
            turn += 1;
            turn - 1
        };
        let chosen = choose(balance, &key.to_be_bytes(), &all, next).unwrap();
        all[chosen].sessions += 1;
    }
    all.iter().map(|c| c.sessions).collect()
}

/// How many of so many sessions each node gets, when each ends before the next.
fn in_passing(balance: Balance, of: &[(u32, f64)], sessions: u32) -> Vec<usize> {
    let (all, mut turn, mut got) = (nodes(of), 0, vec![0; of.len()]);
    for key in 0..sessions {
        let next = || {
            turn += 1;
            turn - 1
        };
        got[choose(balance, &key.to_be_bytes(), &all, next).unwrap()] += 1;
    }
    got
}

/// What each node's share comes to.
fn shares(of: &[(u32, f64)], sessions: u32) -> Vec<f64> {
    let counts = |(weight, part): &(u32, f64)| f64::from(*weight) * part;
    let all: f64 = of.iter().map(counts).sum();
    of.iter().map(|node| counts(node) / all * f64::from(sessions)).collect()
}

fn all_near(got: &[usize], wanted: &[f64], off: f64) -> bool {
    got.iter().zip(wanted).all(|(got, wanted)| (*got as f64 - wanted).abs() <= off)
}

#[test]
fn the_part_grows_from_a_tenth_to_the_whole_and_then_stays() {
    let (begin, over) = (Instant::now(), Some(Duration::from_secs(30)));
    let at = |seconds| part(Some(begin), over, begin + Duration::from_secs(seconds));
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(at(0), 0.1) && near(at(10), 0.4) && near(at(20), 0.7), "{} {} {}", at(0), at(10), at(20));
    assert!(near(at(30), 1.0) && near(at(3000), 1.0));
    assert!(near(part(None, over, begin), 1.0), "one that never came back counts in full");
    assert!(near(part(Some(begin), None, begin), 1.0), "off");
    let early = part(Some(begin + Duration::from_secs(1)), over, begin);
    assert!(near(early, 0.1), "another thread may have looked at its clock before");
}

#[test]
fn a_node_in_slow_start_gets_its_share_under_every_balance() {
    let of = [(1, 1.0), (2, 0.25), (1, 1.0)];
    for balance in [Balance::RoundRobin, Balance::LeastSessions] {
        assert!(all_near(&held(balance, &of, 1000), &shares(&of, 1000), 4.0), "{:?}", held(balance, &of, 1000));
        let passing = in_passing(balance, &of, 1000);
        assert!(all_near(&passing, &shares(&of, 1000), 8.0), "{balance:?}: {passing:?}");
    }
    // A quarter of its own keys, which are half of all.
    let keys = in_passing(Balance::Hash, &of, 20_000);
    assert!((2300..2700).contains(&keys[1]), "{keys:?}");
}

#[test]
fn a_key_whose_node_is_in_slow_start_goes_to_its_next_node_and_comes_back_once() {
    let full = [(1, 1.0), (1, 1.0), (1, 1.0)];
    let never = || -> usize { unreachable!("a hash takes no turns") };
    for key in 0..2000u32 {
        let key = key.to_be_bytes();
        let home = choose(Balance::Hash, &key, &nodes(&full), never).unwrap();
        let mut others = nodes(&full);
        others.remove(home);
        let next = others[choose(Balance::Hash, &key, &others, never).unwrap()].name;
        let mut is_back = false;
        for tenths in 1..=10 {
            let mut all = nodes(&full);
            all[home].part = f64::from(tenths) / 10.0;
            let now = all[choose(Balance::Hash, &key, &all, never).unwrap()].name;
            assert!(now == NAMES[home] || (now == next && !is_back), "{now}, at home in {}", NAMES[home]);
            is_back = now == NAMES[home];
        }
        assert!(is_back);
    }
}

#[test]
fn a_node_that_stands_alone_takes_all_and_those_that_came_back_together_share() {
    for balance in BALANCES {
        assert_eq!(held(balance, &[(3, 0.1)], 50), [50]);
        let together = held(balance, &[(1, 0.1), (1, 0.1), (2, 0.1)], 4000);
        assert_eq!(together, held(balance, &[(1, 1.0), (1, 1.0), (2, 1.0)], 4000), "{balance:?}");
    }
    let apart = [(1, 0.2), (1, 0.1)];
    for balance in [Balance::RoundRobin, Balance::LeastSessions] {
        assert!(all_near(&held(balance, &apart, 300), &[200.0, 100.0], 3.0), "{balance:?}");
    }
}

fn some_nodes() -> impl Strategy<Value = Vec<(u32, f64)>> {
    prop::collection::vec((1..10u32, prop_oneof![Just(1.0), 0.1..1.0f64]), 1..=5)
}

proptest! {
    #[test]
    fn turns_give_shares_by_weight_and_part(of in some_nodes()) {
        let rounds = 2000;
        let got = held(Balance::RoundRobin, &of, rounds);
        prop_assert!(all_near(&got, &shares(&of, rounds), 60.0), "{got:?} of {of:?}: {:?}", shares(&of, rounds));
    }

    #[test]
    fn least_sessions_gives_shares_by_weight_and_part(of in some_nodes()) {
        let got = held(Balance::LeastSessions, &of, 1000);
        prop_assert!(all_near(&got, &shares(&of, 1000), of.len() as f64 + 10.0), "{got:?} of {of:?}");
    }

    #[test]
    fn least_sessions_never_gives_a_node_in_slow_start_more_than_its_share(
        of in some_nodes(),
        starts in prop::collection::vec(any::<bool>(), 1..300),
        ends in any::<u64>(),
    ) {
        let (mut all, mut turn, mut dice) = (nodes(&of), 0, ends | 1);
        let most = of.iter().map(|(_, part)| *part).fold(0.0, f64::max);
        for (n, is_start) in starts.iter().enumerate() {
            if !is_start {
                // Any session ends, on whichever node.
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = usize::try_from(dice >> 33).unwrap() % all.len();
                all[at].sessions = all[at].sessions.saturating_sub(1);
                continue;
            }
            let was_idle = all.iter().all(|c| c.sessions == 0);
            let next = || { turn += 1; turn - 1 };
            let chosen = choose(Balance::LeastSessions, &n.to_be_bytes(), &all, next).unwrap();
            all[chosen].sessions += 1;
            if of[chosen].1 >= most || was_idle {
                continue;
            }
            let load = |i: usize| all[i].sessions as f64 / (f64::from(of[i].0) * of[i].1);
            for other in (0..all.len()).filter(|i| of[*i].1 >= most) {
                prop_assert!(load(chosen) <= load(other) + 1e-9, "{all:?}");
            }
        }
    }

    #[test]
    fn more_time_never_means_less(of in some_nodes(), which in any::<prop::sample::Index>()) {
        // Beside one that counts in full.
        let beside: Vec<_> = of.into_iter().take(4).chain([(1, 1.0)]).collect();
        let which = which.index(beside.len() - 1);
        for balance in BALANCES {
            let mut before = 0;
            for tenths in 1..=10 {
                let mut now = beside.clone();
                now[which].1 = f64::from(tenths) / 10.0;
                let got = held(balance, &now, 400)[which];
                // A turn more or less at the edges of rounds.
                let slack = if balance == Balance::RoundRobin { 20 } else { 0 };
                prop_assert!(got + slack >= before, "{balance:?}: {got} after {before}");
                before = got;
            }
        }
    }
}
