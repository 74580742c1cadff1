//! The watch over an exchange: no silence towards a waiting client, and an end to what stands still.

use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Exchange;
use crate::{config::TimeoutsConfig, net::http1::Loan};

/// Watches a loan: returns once nothing has moved for `body_idle`, and until the answer begins gives
/// the client a sign of life whenever nothing moved for `slow_node_notice`. It heard the last one at `heard`.
///
/// While the client still sends, a notice does not help, nor does it harm: it is read later. What waits for a cap on
/// bandwidth does not stand still.
pub(super) async fn watch(
    timeouts: &TimeoutsConfig,
    slow_node_notice: Option<Duration>,
    loan: &Loan,
    exchange: &Exchange,
    heard: Instant,
) {
    let idle = timeouts.body_idle;
    let notice = slow_node_notice.unwrap_or(idle);
    // Looking four times in the shorter time sees a pause at most a quarter of it too late, and
    // costs nothing on the way of the bytes.
    let tick = idle.min(notice) / 4;
    let (mut still, mut unsaid) = (Duration::ZERO, heard.elapsed());
    loop {
        tokio::time::sleep(tick).await;
        let (has_moved, was_held_up) = (loan.has_moved(), exchange.was_held_up());
        // A client that has sent all waits, though what it sent moves on slowly.
        if has_moved && !was_held_up {
            (still, unsaid) = (Duration::ZERO, Duration::ZERO);
            continue;
        }
        still = if has_moved || was_held_up { Duration::ZERO } else { still + tick };
        unsaid += tick;
        if still >= idle {
            return;
        }
        if unsaid >= notice && slow_node_notice.is_some() && exchange.fate().status == 0 {
            unsaid = Duration::ZERO;
            loan.notice().await;
        }
    }
}
