//! HTTP/1.1 at the edge: heads read whole and strictly before any engine sees a byte of them.

mod airlock;
mod head;
mod lent;

pub use airlock::{Airlock, Drained, HeadError, Waits};
pub use head::{Head, HeadProblem, MAX_FIELDS, MAX_HEAD};
pub use lent::{Lent, Loan};
