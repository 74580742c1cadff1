//! HTTP/1.1 at the edge: heads read whole and strictly before any engine sees a byte of them.

mod airlock;
mod answer;
mod body;
mod chunked;
mod fields;
mod head;
mod lent;
mod phrase;
mod polled;

pub use airlock::{Airlock, DRAIN_BYTES, DRAIN_TIME, Drained, HeadError, Waits};
pub use answer::{AnswerHead, AnswerProblem, BodyFraming, MAX_ANSWER_FIELDS, MAX_ANSWER_HEAD};
pub use chunked::{ChunkProblem, Chunked, MAX_EXTENSION, MAX_TRAILERS};
pub use head::{Grammar, Head, HeadProblem, MAX_FIELDS, MAX_HEAD};
pub use lent::{Lent, Loan};
pub use phrase::phrase;
