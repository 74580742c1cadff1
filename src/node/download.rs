//! Downloads: the answer to the GET of a file, and the name of the file after it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::fault::Action;
use super::head::Head;
use super::listing::Entry;
use super::serve::{Conn, Outcome, Request, Then};
use super::sessions::SessionState;
use super::wire::LARGE;

const ZEROS: &[u8; LARGE] = &[0; LARGE];
const REGULAR: u32 = 0o100_644;
/// Time for sent bytes to arrive before a reset overtakes them.
const BEFORE_RESET: Duration = Duration::from_millis(200);

/// Names the file with this index as the next one, if there is one.
pub(super) fn announce(session: &SessionState, index: usize, outcome: &mut Outcome) {
    if let Some(entry) = session.files.get(index) {
        outcome.field("x-next-wire-file", &entry.name);
        outcome.field("x-next-wire-file-time", entry.time.to_string().as_bytes());
        outcome.field("x-next-wire-file-size", entry.size.to_string().as_bytes());
    }
}

fn lookup(session: &SessionState, rq: &Request) -> Option<usize> {
    let named = |i: &usize| {
        let entry = session.files.get(*i);
        entry.is_some_and(|e| e.name == rq.target.name)
    };
    let index = rq.head.number("x-get-file-index");
    let index = index.and_then(|i| usize::try_from(i).ok()).filter(named);
    index.or_else(|| (0..session.files.len()).find(named))
}

/// Where the client wants to begin: N of `x-Content-range: bytes N-*/*`.
fn wanted_start(head: &Head) -> u64 {
    let value = head.field("x-content-range").unwrap_or_default();
    let text = std::str::from_utf8(value).unwrap_or_default();
    let number = text.strip_prefix("bytes ").and_then(|t| t.split('-').next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

async fn open(entry: &Entry) -> io::Result<(Option<File>, u64, u32)> {
    let Some(path) = &entry.path else {
        return Ok((None, entry.size, REGULAR));
    };
    let mut file = File::open(path).await?;
    file.set_max_buf_size(LARGE);
    let meta = file.metadata().await?;
    Ok((Some(file), meta.len(), meta.permissions().mode()))
}

/// Answers the GET of a file, body included.
pub(super) async fn send(conn: &mut Conn, rq: &mut Request, action: &Action, extra: &[String]) -> io::Result<Then> {
    conn.take_body(rq).await?;
    rq.moved = 0;
    let session = conn.shared.sessions.get(&rq.target.session);
    let found = session.and_then(|session| {
        let index = lookup(&session, rq)?;
        Some((session, index))
    });
    let Some((session, index)) = found else {
        conn.answer(rq, &Outcome::from(404), extra).await?;
        return Ok(Then::Keep);
    };
    let Some(entry) = session.files.get(index) else {
        return Ok(Then::Abort);
    };
    let mut outcome = Outcome::from(200);
    announce(&session, index + 1, &mut outcome);
    outcome.field("Content-Type", b"application/octet-stream");
    let (mut file, size, mode) = match open(entry).await {
        Ok(opened) => opened,
        Err(_) => {
            outcome.field("x-file-access-permissions", b"0");
            outcome.field("x-File-accessible", b"0");
            (None, 0, 0)
        }
    };
    if mode != 0 {
        outcome.field("x-file-access-permissions", mode.to_string().as_bytes());
    }
    let mut start = wanted_start(&rq.head);
    if rq.head.field("x-skip-file").is_some() {
        start = size;
    } else if start > size {
        start = 0;
        outcome.field("x-start-override", b"0");
    }
    if let Some(file) = &mut file
        && start > 0
    {
        file.seek(io::SeekFrom::Start(start)).await?;
    }
    if let Action::Processing(time) = action {
        conn.processing(*time).await?;
    }
    let length = size - start;
    let stop = match action {
        Action::Fin(n) | Action::Rst(n) | Action::Stall(n, _) => Some(*n),
        _ => None,
    };
    rq.moved = length.min(stop.unwrap_or(u64::MAX));
    conn.note(rq);
    conn.write_head(&outcome, extra, length).await?;
    body(conn, file.as_mut(), rq.moved).await?;
    if stop.is_some() {
        if matches!(action, Action::Rst(_)) {
            tokio::time::sleep(BEFORE_RESET).await;
        }
        return conn.break_off(action).await;
    }
    Ok(Conn::after(rq, action))
}

async fn body(conn: &mut Conn, file: Option<&mut File>, length: u64) -> io::Result<()> {
    let piece = |left: u64| usize::try_from(left).unwrap_or(LARGE).min(LARGE);
    let mut left = length;
    let Some(file) = file else {
        while left > 0 {
            let zeros = ZEROS.get(..piece(left)).unwrap_or_default();
            conn.wire.send(zeros).await?;
            left -= zeros.len() as u64;
        }
        return Ok(());
    };
    let pool = Arc::clone(&conn.shared.pool);
    let mut buffer = pool.take();
    while left > 0 {
        let room = buffer.get_mut(..piece(left)).unwrap_or_default();
        let got = file.read(room).await?;
        if got == 0 {
            // The file shrank: a short body is all that can be said now.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        conn.wire.send(buffer.get(..got).unwrap_or_default()).await?;
        left -= got as u64;
    }
    pool.give(buffer);
    Ok(())
}
