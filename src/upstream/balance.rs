//! The choice of a node among those that can take a session. Pure.
//!
//! A node that a check found up again takes its share of new sessions slowly: its weight counts with a part that grows
//! from a tenth to the whole. Shares compare among the nodes there are to choose from, so one that stands alone takes
//! all, and nodes that came back together take as much as each other.

use std::time::{Duration, Instant};

use super::hash;
use crate::config::Balance;

/// With how much of its weight a node counts at the moment that it is up again.
const FIRST_PART: f64 = 0.1;
/// Steps of this length, taken from 0 and wrapped at 1, fall evenly into every part of it: the golden ratio less one.
const STEP: f64 = 0.618_033_988_749_895;

/// A node as the balance sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    /// Sessions that it has.
    pub(super) sessions: usize,
    /// As configured, from 1 up.
    pub(super) weight: u32,
    /// With how much of its weight it counts: above 0, at most 1.
    pub(super) part: f64,
}

/// With how much of its weight a node counts that is up again since `risen`, where that takes the time `over`.
pub(super) fn part(risen: Option<Instant>, over: Option<Duration>, now: Instant) -> f64 {
    let (Some(risen), Some(over)) = (risen, over) else { return 1.0 };
    let passed = now.saturating_duration_since(risen);
    if passed >= over {
        return 1.0;
    }
    FIRST_PART + (1.0 - FIRST_PART) * passed.as_secs_f64() / over.as_secs_f64()
}

/// Which of the candidates gets the session of this key; `turn` gives the number of a turn, one after the other.
pub(super) fn choose(
    balance: Balance,
    key: &[u8],
    all: &[Candidate<'_>],
    turn: impl FnMut() -> usize,
) -> Option<usize> {
    // Those that have come furthest count in full beside the others.
    let most = all.iter().map(|c| c.part).fold(0.0, f64::max);
    let all: Vec<_> = all.iter().map(|c| Candidate { part: c.part / most, ..*c }).collect();
    match balance {
        Balance::Hash => by_key(key, &all),
        Balance::RoundRobin => in_turn(&all, &(0..all.len()).collect::<Vec<_>>(), turn),
        Balance::LeastSessions => in_turn(&all, &least(&all), turn),
    }
}

/// Those with the fewest sessions for what their weight counts with; all, where none has any.
///
/// One that counts in part is seen with the session that it would get: it never has more than its share.
fn least(all: &[Candidate<'_>]) -> Vec<usize> {
    if all.iter().all(|c| c.sessions == 0) {
        return (0..all.len()).collect();
    }
    let load = |c: &Candidate<'_>| {
        let sessions = if c.part < 1.0 { c.sessions + 1 } else { c.sessions };
        sessions as f64 / (f64::from(c.weight) * c.part)
    };
    let least = all.iter().map(load).min_by(f64::total_cmp).unwrap_or_default();
    (0..all.len()).filter(|i| all.get(*i).is_some_and(|c| load(c) <= least)).collect()
}

/// Weighted turns: a node of weight 2 stands twice in the round. One that counts in part lets turns pass by.
fn in_turn(all: &[Candidate<'_>], among: &[usize], mut turn: impl FnMut() -> usize) -> Option<usize> {
    let round: usize = among.iter().filter_map(|i| all.get(*i)).map(|c| c.weight as usize).sum();
    let most = among.iter().filter_map(|i| all.get(*i)).map(|c| c.part).fold(0.0, f64::max);
    let mut last = None;
    // One of them takes each of its turns, and has one in a round.
    for _ in 0..round {
        let turn = turn();
        let (rounds, mut at) = (turn.checked_div(round)?, turn.checked_rem(round)?);
        for i in among {
            let node = all.get(*i)?;
            let weight = node.weight as usize;
            if at < weight {
                let visit = (rounds.wrapping_mul(weight)).wrapping_add(at);
                if (visit as f64 * STEP).fract() * most < node.part {
                    return Some(*i);
                }
                last = Some(*i);
                break;
            }
            at -= weight;
        }
    }
    // Others may have taken the turns between.
    last
}

/// The node of the highest score, unless it counts in part and the key is none of those that it has yet; then the next.
fn by_key(key: &[u8], all: &[Candidate<'_>]) -> Option<usize> {
    let holds = |c: &Candidate<'_>| c.part >= 1.0 || hash::early(key, c.name) < c.part;
    let score = |i: &usize| all.get(*i).map_or(0.0, |c| hash::score(key, c.name, c.weight));
    let holding = (0..all.len()).filter(|i| all.get(*i).is_some_and(holds));
    holding.max_by(|a, b| score(a).total_cmp(&score(b)))
}

#[cfg(test)]
mod tests;
