//! Tests of rates: burst and pace, changes in place, and what a million keys take.

use std::io::Write as _;

use super::*;
use crate::config::units::EventRate;

fn rate(count: u32, burst: u32) -> Option<RateConfig> {
    Some(RateConfig { rate: EventRate { count, seconds: 1 }, burst })
}

fn allowed(limit: &RateLimit<u32>, key: u32, now: Instant) -> usize {
    (0..10_000).take_while(|_| limit.check(&key, now).is_ok()).count()
}

#[test]
fn a_burst_passes_at_once_and_then_the_rate() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(10, 50), 100, start);
    assert_eq!(allowed(&limit, 1, start), 50);
    assert_eq!(limit.check(&1, start), Err(Duration::from_millis(100)));
    assert_eq!(limit.check(&1, start + Duration::from_millis(60)), Err(Duration::from_millis(40)));
    assert_eq!(allowed(&limit, 1, start + Duration::from_secs(2)), 20);
    assert_eq!(allowed(&limit, 1, start + Duration::from_secs(3600)), 50);
    assert_eq!(allowed(&limit, 2, start), 50, "another key has a bucket of its own");
}

#[test]
fn a_refused_event_does_not_count() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(1, 1), 100, start);
    assert_eq!(limit.check(&1, start), Ok(()));
    for millis in 0..900 {
        assert!(limit.check(&1, start + Duration::from_millis(millis)).is_err());
    }
    assert_eq!(limit.check(&1, start + Duration::from_secs(1)), Ok(()));
}

#[test]
fn without_a_rate_everything_passes_and_nothing_is_kept() {
    let start = Instant::now();
    let limit = RateLimit::new(None, 100, start);
    assert_eq!(allowed(&limit, 1, start), 10_000);
    assert!(limit.is_empty());
    limit.set(rate(1, 3), start);
    assert_eq!(allowed(&limit, 1, start), 3);
    limit.set(None, start);
    assert_eq!(allowed(&limit, 1, start), 10_000);
    assert!(limit.is_empty());
}

#[test]
fn a_new_rate_keeps_what_was_used_up_and_holds_at_once() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(1, 60), 100, start);
    assert_eq!(allowed(&limit, 1, start), 60);
    assert_eq!(allowed(&limit, 2, start), 60);
    limit.set(rate(100, 60), start);
    assert_eq!(allowed(&limit, 1, start), 0, "a reload gives nobody a new burst");
    assert_eq!(allowed(&limit, 1, start + Duration::from_secs(1)), 60, "the wait is that of the new rate");
    limit.set(rate(100, 10), start + Duration::from_secs(1));
    assert_eq!(allowed(&limit, 1, start + Duration::from_secs(1)), 0);
    assert_eq!(allowed(&limit, 3, start + Duration::from_secs(1)), 10);
    limit.set(rate(100, 10), start + Duration::from_secs(1));
    assert_eq!(allowed(&limit, 3, start + Duration::from_secs(1)), 0, "the same rate again changes nothing");
}

#[test]
fn keys_whose_bucket_is_whole_are_forgotten() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(1, 10), 1000, start);
    (0..100).for_each(|key| assert!(limit.check(&key, start).is_ok()));
    assert_eq!(allowed(&limit, 100, start), 10);
    limit.prune(start + Duration::from_secs(2));
    assert_eq!(limit.len(), 1, "only the key that is still in debt is kept");
    assert_eq!(allowed(&limit, 100, start + Duration::from_secs(2)), 2);
}

#[test]
fn above_the_most_keys_new_ones_share_a_bucket_and_old_ones_keep_theirs() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(1, 5), 100, start);
    (0..100).for_each(|key| assert!(limit.check(&key, start).is_ok()));
    let strangers = (1000..2000).filter(|key| limit.check(key, start).is_ok()).count();
    assert_eq!((strangers, limit.len()), (5, 100));
    assert_eq!(allowed(&limit, 7, start), 4);
    let later = start + Duration::from_secs(2);
    let strangers = (3000..3050).filter(|key| limit.check(key, later).is_ok()).count();
    assert_eq!(strangers, 50, "a full store is pruned when a key comes");
}

#[test]
fn a_million_keys_are_bounded_and_given_back() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(10, 50), 1_000_000, start);
    let keys = 0..1_200_000u128;
    let count = keys.end;
    for key in keys {
        let _ = limit.check(&key, start);
    }
    let each = start.elapsed().as_nanos() / count;
    assert_eq!(limit.len(), 1_000_000);
    let bytes = limit.store.bytes();
    assert!(bytes < 100_000_000, "{bytes} bytes");
    let _ = writeln!(std::io::stderr(), "{each} ns for a decision on a new key, {bytes} bytes for a million keys");
    limit.prune(start + Duration::from_secs(1));
    assert!(limit.is_empty() && limit.store.bytes() < 1_000_000);
}

#[test]
fn the_slowest_rate_with_the_largest_burst_can_be_reckoned_with() {
    let start = Instant::now();
    let slow = RateConfig { rate: EventRate { count: 1, seconds: 3600 }, burst: u32::MAX };
    let limit = RateLimit::new(Some(slow), 100, start);
    assert_eq!(allowed(&limit, 1, start), 10_000);
    limit.set(rate(u32::MAX, u32::MAX), start);
    assert_eq!(allowed(&limit, 1, start + Duration::from_secs(1)), 10_000);
}

#[test]
fn threads_at_once_get_no_more_than_the_burst() {
    let start = Instant::now();
    let limit = RateLimit::new(rate(1, 1000), 100, start);
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| allowed(&limit, 1, start))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(passed, 1000);
}
