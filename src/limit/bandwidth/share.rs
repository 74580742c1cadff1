//! How a cap is divided among replicas: each gets what it needs, and where that is too much for the cap, equal shares of it.
//!
//! Pure arithmetic, in bytes a second. A twentieth of the cap is divided equally beforehand, so that one that has nothing to
//! send yet may begin before the others have given anything up. What nobody needs is divided equally as well: as long as the
//! cap is not reached nobody is held up by a share.

/// What is set aside for beginners: one part in so many of a cap.
const FLOORS: u64 = 20;
/// A share of which less than this is used is not in the way, in percent.
const FULL: u64 = 80;
/// What a replica may come to need until it is asked again: one part in so many of what it uses.
const GROWTH: u64 = 4;

/// The share of the replica at `mine` in `cap`, by what each of all of them needs. Alone it has the whole cap.
pub(super) fn share(cap: u64, needs: &[u64], mine: usize) -> u64 {
    let Some(need) = needs.get(mine) else { return cap };
    let count = u64::try_from(needs.len()).unwrap_or(u64::MAX);
    let floor = floor(cap, count);
    let mut rest = cap.saturating_sub(floor.saturating_mul(count));
    let mut left = count;
    let mut ascending: Vec<u64> = needs.iter().map(|need| need.saturating_sub(floor)).collect();
    ascending.sort_unstable();
    // Whoever needs no more than an equal part of what is left gets it; from there on all get the same.
    let mut level = u64::MAX;
    for need in ascending {
        let even = rest / left.max(1);
        if need > even {
            level = even;
            break;
        }
        rest -= need;
        left -= 1;
    }
    let spare = if level == u64::MAX { rest / count } else { 0 };
    floor + need.saturating_sub(floor).min(level) + spare
}

/// What each of `count` replicas may have of `cap` whatever the others have.
pub(super) fn floor(cap: u64, count: u64) -> u64 {
    match count {
        0 | 1 => cap,
        _ => cap / FLOORS / count,
    }
}

/// What a replica needs of a cap, of which it has used so much with this share: all there is where it was held up by it.
pub(super) fn need(used: u64, share: u64, was_held_up: bool) -> u64 {
    match was_held_up && is_nearly(used, share) {
        true => u64::MAX,
        false => used.saturating_add(used / GROWTH),
    }
}

fn is_nearly(used: u64, share: u64) -> bool {
    u128::from(used) * 100 >= u128::from(share) * u128::from(FULL)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn shares(cap: u64, needs: &[u64]) -> Vec<u64> {
        (0..needs.len()).map(|mine| share(cap, needs, mine)).collect()
    }

    #[test]
    fn who_is_alone_has_all_of_it() {
        assert_eq!((share(1000, &[0], 0), share(1000, &[u64::MAX], 0), share(1000, &[], 0)), (1000, 1000, 1000));
    }

    #[test]
    fn those_who_need_more_than_there_is_get_equal_shares_of_what_the_others_leave() {
        assert_eq!(shares(1200, &[u64::MAX, u64::MAX, u64::MAX]), [400, 400, 400]);
        assert_eq!(shares(1200, &[100, u64::MAX, u64::MAX]), [100, 550, 550]);
        // Who needs nothing keeps a sixtieth, to begin with.
        assert_eq!(shares(1200, &[0, 0, u64::MAX]), [20, 20, 1160]);
    }

    #[test]
    fn below_the_cap_all_have_room_to_grow() {
        assert_eq!(shares(1200, &[100, 200, 0]), [393, 493, 313]);
    }

    #[test]
    fn who_was_held_up_by_its_share_needs_all_there_is() {
        assert_eq!(need(800, 1000, true), u64::MAX);
        // It waited for a moment, not for want of bandwidth.
        assert_eq!(need(799, 1000, true), 998);
        assert_eq!(need(1000, 1000, false), 1250);
    }

    fn any_need() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), 0..2_000_000_000u64, any::<u64>()]
    }

    proptest! {
        #[test]
        fn the_shares_are_no_more_than_the_cap_and_leave_nothing_of_it(
            cap in prop_oneof![1000..1_000_000u64, 1000..200_000_000_000u64],
            needs in vec(any_need(), 1..20),
        ) {
            let count = needs.len() as u64;
            let sum: u64 = shares(cap, &needs).iter().sum();
            prop_assert!(sum <= cap);
            prop_assert!(sum > cap - count, "only what cannot be divided is left");
        }

        #[test]
        fn each_gets_what_it_needs_or_an_equal_share_and_nobody_more_while_others_lack(
            cap in 1000..200_000_000_000u64,
            needs in vec(any_need(), 1..20),
        ) {
            let count = needs.len() as u64;
            let shares = shares(cap, &needs);
            let most = shares.iter().copied().max().unwrap_or(0);
            for (share, need) in shares.iter().zip(&needs) {
                prop_assert!(*share >= floor(cap, count), "a beginner can begin");
                let lacks = share < need;
                prop_assert!(!lacks || share + count >= cap / count, "who lacks has an equal share at least");
                prop_assert!(!lacks || *share == most, "nobody has more than one who lacks");
            }
        }

        #[test]
        fn the_order_of_the_replicas_makes_no_difference(cap in 1000..1_000_000u64, needs in vec(any_need(), 2..9)) {
            let mut other = needs.clone();
            other.rotate_left(1);
            prop_assert_eq!(share(cap, &needs, 0), share(cap, &other, needs.len() - 1));
        }
    }
}
