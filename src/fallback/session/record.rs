//! What a session has to say for itself when it is over.

use std::sync::atomic::Ordering::Relaxed;

use super::Session;
use crate::{
    fallback::body::End,
    telemetry::{Direction, Finding, Kind, Outcome, Reason, Record},
};

impl Session {
    /// Whether a download that the client calls done had fewer files than sources: the client takes a
    /// missing next name for the end of the list. A source that is an empty folder looks the same.
    fn chain_ended_early(&self, end: Option<&End>) -> bool {
        let (ok, failed) = self.transfer.files();
        self.direction() == Some(Direction::Download)
            && end.is_some_and(|e| e.done)
            && self.opening.sources.is_some_and(|sources| ok + failed < sources)
    }

    /// Counts the end and makes the session's one access record.
    pub(in crate::fallback) fn record(&self, outcome: Outcome, reason: Option<Reason>) -> Record {
        let lasted = self.started().elapsed();
        self.opening.metrics.session_finished(outcome, lasted);
        let end = self.end();
        let end = end.as_ref();
        let chain_ended_early = self.chain_ended_early(end);
        if chain_ended_early {
            self.opening.metrics.finding(Finding::ChainEndedEarly);
        }
        let (files, files_failed) = self.transfer.files();
        let record = Record {
            id: Some(self.label().to_owned()),
            user: self.opening.user.clone(),
            upstream: Some(self.upstream().name().to_owned()),
            node: self.node().map(|node| node.name().to_owned()),
            code: end.map(|end| u64::from(end.code)),
            client_files: end.map(|end| end.files),
            client_files_failed: end.map(|end| end.files_failed),
            client_bytes: end.map(|end| end.bytes),
            files: Some(files),
            files_failed: Some(files_failed),
            bytes_uploaded: self.transfer.counts().upload(),
            bytes_downloaded: self.transfer.counts().download(),
            requests: Some(self.requests.load(Relaxed)),
            lengths_differ: Some(self.lengths_differ.load(Relaxed)),
            chain_ended_early: Some(chain_ended_early),
            last_file: self.transfer.file().map(|(file, _)| file.name.to_string()),
            waited_seconds: Some(self.waited.load(Relaxed) as f64 / 1000.0),
            ..Record::new(Kind::Session, self.listener(), self.client(), outcome.as_str(), lasted)
        };
        record.directed(self.opening.direction).because(reason)
    }
}
