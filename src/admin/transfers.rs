//! What is open, as the API shows it.

use std::sync::Arc;

use super::view::{File, Session, Sessions, unix};
use crate::telemetry::{Direction, Kind, Live, Transfer};

/// As many are told at most, whoever asks.
pub(super) const MOST: usize = 10_000;
/// As many are told when nobody says how many.
const USUAL: usize = 1000;

/// Which of all that is open is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    wanted: Vec<(Column, String)>,
    limit: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Kind,
    State,
    Listener,
    Node,
}

/// The parameters that a query may have.
pub(super) const PARAMETERS: &[(&str, &str)] = &[
    ("kind", "Only those of this kind: `session`, `control`, `flow`, `tunnel` or `request`."),
    ("state", "Only those in this state: `waiting`, `starting`, `held` or `open`."),
    ("listener", "Only those that came in by this listener."),
    ("node", "Only those on this node."),
    ("limit", "How many are told at most; default 1000, up to 10000."),
];

impl Query {
    /// Reads the query of a target; what is no parameter, or stands twice, is told back.
    pub(super) fn parse(query: Option<&str>) -> Result<Query, String> {
        let mut parsed = Query::default();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let column = match name {
                "kind" => Column::Kind,
                "state" => Column::State,
                "listener" => Column::Listener,
                "node" => Column::Node,
                "limit" if parsed.limit.is_none() => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    parsed.limit = Some(limit.ok_or(format!("limit is a number from 1 to {MOST}"))?);
                    continue;
                }
                _ => {
                    return Err(format!(
                        "there is no parameter of this name, or it stands twice; there are {}",
                        names()
                    ));
                }
            };
            if parsed.wanted.iter().any(|(known, _)| *known == column) {
                return Err(format!("{name} stands twice"));
            }
            // Names and words are plain; what is not matches nothing.
            parsed.wanted.push((column, value.to_owned()));
        }
        Ok(parsed)
    }

    fn takes(&self, transfer: &Transfer) -> bool {
        self.wanted.iter().all(|(column, value)| match column {
            Column::Kind => transfer.about().kind.as_str() == value,
            Column::State => transfer.stage().as_str() == value,
            Column::Listener => *transfer.about().listener == **value,
            Column::Node => transfer.node().is_some_and(|node| *node == **value),
        })
    }
}

fn names() -> String {
    PARAMETERS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Those that a query asks for.
pub(super) fn list(live: &Live, query: &Query) -> Sessions {
    let mut open = live.transfers();
    open.retain(|transfer| query.takes(transfer));
    let total = open.len() as u64;
    Sessions { total, sessions: first(open, query.limit.unwrap_or(USUAL)) }
}

/// The one of this name.
pub(super) fn one(live: &Live, id: &str) -> Option<Session> {
    live.find(id).map(|transfer| session(&transfer))
}

/// The first `most` of them: sessions before all else, then the oldest.
pub(super) fn first(mut open: Vec<Arc<Transfer>>, most: usize) -> Vec<Session> {
    let rank = |kind| match kind {
        Kind::Session => 0,
        Kind::Control => 1,
        Kind::Tunnel => 2,
        Kind::Request => 3,
        Kind::Flow => 4,
    };
    open.sort_by_cached_key(|transfer| (rank(transfer.about().kind), transfer.begin()));
    open.iter().take(most).map(|transfer| session(transfer)).collect()
}

fn session(transfer: &Transfer) -> Session {
    let (about, counts, (files, files_failed)) = (transfer.about(), transfer.counts(), transfer.files());
    let (up, down) = transfer.rates();
    let file = transfer.file().map(|(file, moved)| File {
        eta: transfer.eta(),
        moved: file.size.map_or(moved, |size| moved.min(size)),
        name: file.name,
        size: file.size,
    });
    Session {
        id: transfer.id().to_owned(),
        kind: about.kind.as_str(),
        state: transfer.stage().as_str(),
        listener: about.listener.clone(),
        client: about.client.to_string(),
        user: about.user.clone(),
        direction: about.direction.map(Direction::as_str),
        upstream: about.upstream.clone(),
        node: transfer.node(),
        target: about.target.clone(),
        started: unix(transfer.started()),
        moved: unix(transfer.moved()),
        bytes_uploaded: counts.upload(),
        bytes_downloaded: counts.download(),
        upload_rate: up.round(),
        download_rate: down.round(),
        files,
        files_failed,
        sources: about.sources,
        file,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{About, Stage};
    use proptest::prelude::*;

    #[test]
    fn a_query_takes_what_it_names_and_tells_how_many_there_are() {
        let live = Live::default();
        let client = "192.0.2.1".parse().unwrap();
        let about = |kind, listener: &str| About { listener: listener.into(), ..About::new(kind, client) };
        let flows = [live.post(about(Kind::Flow, "data")), live.post(about(Kind::Flow, "data"))];
        let session = live.post(about(Kind::Session, "tls"));
        session.set_stage(Stage::Waiting);
        session.set_node("n1".into());
        let ask = |query: &str| {
            let found = list(&live, &Query::parse(Some(query)).unwrap());
            (found.total, found.sessions.into_iter().map(|s| s.id).collect::<Vec<_>>())
        };
        let of_session = (1, vec![session.id().to_owned()]);
        for query in ["kind=session", "state=waiting", "listener=tls", "node=n1", "kind=session&listener=tls&limit=5"] {
            assert_eq!(ask(query), of_session, "{query}");
        }
        assert_eq!(ask("kind=flow&limit=1"), (2, vec![flows[0].id().to_owned()]), "the oldest");
        assert_eq!(ask("").1[0], session.id(), "sessions come first");
        assert_eq!(ask("node=%6e1").0, 0);
        for bad in ["limit=0", "limit=x", "limit=10001", "kind=a&kind=b", "client=1", "limit=1&limit=1", "="] {
            assert!(Query::parse(Some(bad)).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_query_panics(query in ".{0,200}") {
            let _ = Query::parse(Some(&query));
        }
    }
}
