//! HTTP/1.1 at the edge: heads read whole and strictly before any engine sees a byte of them.

mod airlock;
mod body;
mod chunked;
mod fields;
mod head;
mod lent;
mod polled;

pub use airlock::{Airlock, Drained, HeadError, Waits};
pub use chunked::{ChunkProblem, Chunked, MAX_EXTENSION, MAX_TRAILERS};
pub use head::{Grammar, Head, HeadProblem, MAX_FIELDS, MAX_HEAD};
pub use lent::{Lent, Loan};
