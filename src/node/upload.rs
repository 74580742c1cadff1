//! Uploads: files into the store, directories, and where the next file is to be resumed.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;

use super::Shared;
use super::head::Head;
use super::serve::{Conn, Outcome, Request};
use super::sessions::SessionState;

/// Takes the body of a file upload. With `stop`, not more than so many bytes are read and the file stays partial.
pub(super) async fn receive(conn: &mut Conn, rq: &mut Request, stop: Option<u64>) -> io::Result<Outcome> {
    let shared = Arc::clone(&conn.shared);
    let limit = stop.unwrap_or(u64::MAX);
    let Some(session) = shared.sessions.get(&rq.target.session) else {
        discard(conn, rq, limit).await?;
        return Ok(Outcome::from(404));
    };
    let flag = |name, value: &[u8]| rq.head.field(name).is_some_and(|v| v.trim_ascii() == value);
    let unwanted = shared.sink || flag("x-skip-file", b"1") || flag("x-file-accessible", b"0");
    let status = if unwanted {
        discard(conn, rq, limit).await?;
        201
    } else {
        match save(conn, &shared, rq, stop).await? {
            Ok(()) => 201,
            Err(problem) => {
                discard(conn, rq, limit).await?;
                status_for(&problem)
            }
        }
    };
    let mut outcome = Outcome::from(status);
    announce(&shared, &session, &rq.head, &mut outcome).await;
    Ok(outcome)
}

/// Makes the directory a `create_dir` names.
pub(super) async fn make_dir(conn: &mut Conn, rq: &mut Request) -> io::Result<Outcome> {
    conn.take_body(rq).await?;
    let shared = &conn.shared;
    if shared.sessions.get(&rq.target.session).is_none() {
        return Ok(Outcome::from(404));
    }
    if shared.sink {
        return Ok(Outcome::from(201));
    }
    let Some(path) = shared.store.upload_path(&rq.target.name) else {
        return Ok(Outcome::from(400));
    };
    let made = shared.store.make_dir(&path).await;
    Ok(Outcome::from(made.map_or_else(|e| status_for(&e), |()| 201)))
}

/// Adds `x-next-file-start` when something of the file that this head announces is here already.
pub(super) async fn announce(shared: &Shared, session: &SessionState, head: &Head, outcome: &mut Outcome) {
    if shared.sink || !session.resume {
        return;
    }
    let Some(name) = head.field("x-next-wire-file") else {
        return;
    };
    let size = head.number("x-next-wire-file-size").unwrap_or(0);
    let time = head.number("x-next-wire-file-time").unwrap_or(0);
    if let Some(start) = shared.store.resume_point(name, size, time).await {
        outcome.field("x-next-file-start", start.to_string().as_bytes());
    }
}

fn status_for(problem: &io::Error) -> u16 {
    use io::ErrorKind::{AlreadyExists, InvalidInput, IsADirectory, NotADirectory, PermissionDenied, StorageFull};
    match problem.kind() {
        PermissionDenied => 403,
        AlreadyExists | IsADirectory | NotADirectory => 409,
        InvalidInput => 400,
        StorageFull => 507,
        _ => 500,
    }
}

async fn discard(conn: &mut Conn, rq: &mut Request, limit: u64) -> io::Result<()> {
    let mut wanted = rq.left.min(limit.saturating_sub(rq.moved));
    while wanted > 0 {
        let count = conn.wire.chunk(wanted).await?.len();
        conn.wire.consume(count);
        rq.read(count);
        wanted -= count as u64;
    }
    Ok(())
}

/// Where the body begins in the file: 0, or N of `x-Content-range: bytes N-...`.
fn offset(head: &Head) -> Option<u64> {
    match head.field("x-content-range") {
        None => Some(0),
        Some(value) => {
            let text = std::str::from_utf8(value).ok()?.strip_prefix("bytes ")?;
            text.split_once('-')?.0.parse().ok()
        }
    }
}

/// The outer error is the connection's, the inner one the storage's.
async fn save(conn: &mut Conn, shared: &Shared, rq: &mut Request, stop: Option<u64>) -> io::Result<io::Result<()>> {
    let invalid = |text: &str| Ok(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
    let Some(path) = shared.store.upload_path(&rq.target.name) else {
        return invalid("not a usable name");
    };
    let Some(offset) = offset(&rq.head) else {
        return invalid("not a usable range");
    };
    let mut incoming = match shared.store.incoming(path, offset).await {
        Ok(incoming) => incoming,
        Err(problem) => return Ok(Err(problem)),
    };
    let mut wanted = rq.left.min(stop.unwrap_or(u64::MAX));
    let mut saved = Ok(());
    let mut received = Ok(());
    while wanted > 0 && saved.is_ok() {
        let chunk = match conn.wire.chunk(wanted).await {
            Ok(chunk) => chunk,
            Err(lost) => {
                received = Err(lost);
                break;
            }
        };
        let count = chunk.len();
        saved = incoming.file.write_all(chunk).await;
        conn.wire.consume(count);
        rq.read(count);
        wanted -= count as u64;
    }
    // Also after a loss: what came is there for the next attempt.
    let flushed = incoming.file.flush().await;
    received?;
    if let Err(problem) = saved.and(flushed) {
        return Ok(Err(problem));
    }
    if stop.is_some() {
        return Ok(Ok(()));
    }
    Ok(incoming.complete().await)
}
