//! The beginning of a session: token, direction, and the list of files of a download.

use std::io;
use std::sync::Arc;

use super::head::{element, elements};
use super::listing::expand;
use super::serve::{Conn, MAX_TEXT, Outcome, Request};
use super::sessions::SessionState;
use super::{download, upload};

/// Reads a `session_start` and enters the session, unless it is refused.
pub(super) async fn begin(conn: &mut Conn, rq: &mut Request) -> io::Result<Outcome> {
    conn.take_body(rq).await?;
    if rq.moved > MAX_TEXT as u64 {
        return Ok(Outcome::from(413));
    }
    let shared = Arc::clone(&conn.shared);
    let body = &rq.body;
    if let Some(token) = &shared.token
        && element(body, "token") != Some(token.as_bytes())
    {
        return Ok(Outcome::from(403));
    }
    let mut state = SessionState { resume: element(body, "allow_resume") == Some(b"yes"), files: Vec::new() };
    let download = match element(body, "operation") {
        Some(b"get") => true,
        Some(b"put") => false,
        _ => return Ok(Outcome::from(400)),
    };
    if download {
        let sources: Vec<_> = elements(body, "source").map(<[u8]>::to_vec).collect();
        let (root, zeros) = (shared.store.root.clone(), shared.sink);
        let listing = tokio::task::spawn_blocking(move || expand(&root, &sources, zeros));
        state.files = listing.await.map_err(io::Error::other)?;
    }
    let state = shared.sessions.insert(&rq.target.session, state);
    let mut outcome = Outcome::from(200);
    if download {
        download::announce(&state, 0, &mut outcome);
    } else {
        upload::announce(&shared, &state, &rq.head, &mut outcome).await;
    }
    outcome.field("x-session-protocol-version", b"1");
    if let Some(value) = &shared.persistent {
        outcome.field("x-persistent-connection", value.as_bytes());
    }
    Ok(outcome)
}
