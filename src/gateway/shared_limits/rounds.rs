//! Shares of caps: in each round this replica tells what it needs, hears what the others do, and takes its share.
//!
//! A share is taken only of what others do not hold, in one step: so they hold no more than the cap together, but for the
//! little that a beginner has at once. One that needs less gives up in its round what another takes in its own.

use std::time::{Duration, Instant};

use crate::{
    limit::{Bandwidth, Told},
    shared::limits::{CapReport, CapTold, CapWanted},
    shared::redis::Redis,
};

/// From one round to the next.
const ROUND: Duration = Duration::from_millis(500);
/// Caps that are told of in one step.
const STEP: usize = 64;

/// Goes on for as long as it is let.
pub(super) async fn go_round(redis: Redis, bandwidth: Bandwidth) {
    let mut at = super::ticks(ROUND);
    let (mut begin, mut was_away) = (Instant::now(), false);
    loop {
        at.tick().await;
        let replicas = u32::try_from(redis.replicas().len()).unwrap_or(u32::MAX);
        let round = bandwidth.round(begin.elapsed(), replicas);
        begin = Instant::now();
        let left: Vec<_> = round.left.iter().map(ToString::to_string).collect();
        redis.leave_caps(&left).await;
        let mut is_there = redis.is_up();
        for told in round.told.chunks(STEP) {
            is_there &= share(&redis, &bandwidth, told, was_away).await.is_some();
        }
        bandwidth.divide_by(if is_there { 1 } else { replicas });
        was_away = !is_there;
    }
}

/// Takes shares of some caps; none where the others cannot be asked, and then they stay as they are.
async fn share(redis: &Redis, bandwidth: &Bandwidth, told: &[Told], was_away: bool) -> Option<()> {
    let each = |told: &Told| CapTold { name: told.cap.to_string(), need: told.need, rate: told.rate };
    let reports = redis.tell_caps(&told.iter().map(each).collect::<Vec<_>>()).await?;
    let wanted: Vec<_> =
        told.iter().zip(&reports).map(|(told, reports)| wanted(bandwidth, told, reports, was_away)).collect();
    let shares = redis.hold_caps(&wanted).await?;
    for (told, share) in told.iter().zip(shares) {
        bandwidth.set_share(&told.cap, share);
    }
    Some(())
}

fn wanted(bandwidth: &Bandwidth, told: &Told, reports: &[CapReport], was_away: bool) -> CapWanted {
    let rate = reports.iter().map(|report| report.rate).chain([told.rate]).min().unwrap_or(told.rate);
    let needs: Vec<_> = reports.iter().map(|report| report.need).collect();
    let mine = reports.iter().position(|report| report.is_own).unwrap_or(0);
    let share = Bandwidth::fair_share(rate, &needs, mine);
    // After an outage the others are heard only one after the other: nobody takes more before all are.
    let most = bandwidth.share_of(&told.cap).filter(|_| was_away).unwrap_or(u64::MAX);
    CapWanted {
        name: told.cap.to_string(),
        share: share.min(most),
        rate,
        least: Bandwidth::least_share(rate, needs.len()),
    }
}
