//! A whole upload: start, one PUT per file, directories, messages, end.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::answer::Answer;
use super::request::{Next, Part};
use super::scan::{Scan, Source, scan};
use super::session::Session;
use super::text;
use super::{Client, ClientError, Report};

const READ: usize = 256 * 1024;

/// How a session stands: a code and words for the first thing that went wrong.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) code: u32,
    pub(super) problem: String,
    pub(super) described: bool,
}

impl Verdict {
    /// Notes a problem; the first one stays.
    pub(super) fn fail(&mut self, code: u32, problem: impl Into<String>) {
        if self.code == 0 {
            self.code = code;
            self.problem = problem.into();
        }
    }

    /// Judges the answer to a session start: whether the session may go on.
    pub(super) fn of_start(&mut self, answer: &Result<Answer, ClientError>) -> bool {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.fail(47, error.to_string());
                return false;
            }
        };
        let given = u32::try_from(answer.number("x-real-mgmt-error")).unwrap_or(0);
        let (code, problem) = match answer.status {
            _ if given != 0 => (given, format!("the node reports error {given}")),
            200 | 201 => return true,
            403 => (5, "Error establishing HTTP session.  Refused by server".into()),
            404 => (14, "Error establishing HTTP session.  Non-aspera HTTP server?".into()),
            500 => (11, "Internal error".into()),
            status => (47, format!("Error establishing HTTP connection (status {status})")),
        };
        self.described = given == 0 && matches!(code, 5 | 14);
        self.fail(code, problem);
        false
    }
}

impl Client {
    /// Uploads files and directory trees. See [`Report`] for what an `Ok` means; only trouble with local files is an `Err`.
    pub async fn upload(&self, sources: &[PathBuf], destination: &str) -> Result<Report, ClientError> {
        let wanted = sources.to_vec();
        let local = |e| ClientError::Local("cannot read the sources".into(), e);
        let found = tokio::task::spawn_blocking(move || scan(&wanted)).await;
        let found = found.map_err(std::io::Error::other).map_err(local)?;
        let found = found.map_err(local)?;
        let mut session = self.session();
        session.totals.sources = sources.len() as u64;
        session.totals.found = found.files.len() as u64;
        let next = found.files.first().map(|first| Next {
            name: Some(&first.name),
            time: Some(first.time),
            size: Some(first.size),
        });
        let typed = |path: &PathBuf| {
            let bytes = path.as_os_str().as_bytes().iter();
            bytes.map(|&b| if b == b'\\' { b'/' } else { b }).collect()
        };
        let typed: Vec<_> = sources.iter().map(typed).collect();
        let next = next.unwrap_or_default();
        let answer = session.start(true, &typed, destination.as_bytes(), found.many, next).await;
        let mut verdict = Verdict::default();
        if verdict.of_start(&answer)
            && let Ok(answer) = &answer
            && session.send_files(&found, answer, &mut verdict).await
        {
            session.send_rest(&found).await;
        }
        if session.totals.failed > 0 {
            verdict.fail(27, "One or more files failed");
        }
        if found.files.is_empty() && found.empty.is_empty() && !found.missing.is_empty() {
            verdict.fail(4, "No such file or directory");
        }
        Ok(session.conclude(verdict).await)
    }
}

impl Session {
    /// Sends all files; false when the connection broke.
    async fn send_files(&mut self, found: &Scan, start: &Answer, verdict: &mut Verdict) -> bool {
        let mut offset = start.number("x-next-file-start");
        for (index, source) in found.files.iter().enumerate() {
            let after = found.files.get(index + 1);
            // With resume the last file repeats its own values, without a name.
            let about = after.unwrap_or(source);
            let next = Next {
                name: after.map(|f| f.name.as_slice()),
                time: self.client.resume.then_some(about.time),
                size: self.client.resume.then_some(about.size),
            };
            self.totals.attempted += 1;
            let result = self.send_file(source, offset, next).await;
            offset = 0;
            match result {
                Ok((answer, done)) => {
                    offset = answer.number("x-next-file-start");
                    match (answer.status, done) {
                        (201, true) => self.totals.files += 1,
                        _ => self.totals.failed += 1,
                    }
                }
                Err(ClientError::BadAnswer(_)) => self.totals.failed += 1,
                Err(error) => {
                    self.totals.failed += 1;
                    verdict.fail(16, error.to_string());
                    return false;
                }
            }
        }
        true
    }

    /// Sends one file; the flag is false for a file that cannot be read.
    async fn send_file(&mut self, source: &Source, offset: i64, next: Next<'_>) -> Result<(Answer, bool), ClientError> {
        let size = source.size;
        let opened = File::open(&source.path).await;
        let part = match (&opened, u64::try_from(offset)) {
            (_, Err(_)) => Part::Skip,
            (Err(_), _) => Part::Unreadable,
            (Ok(_), Ok(0)) => Part::Whole(size),
            (Ok(_), Ok(start)) => Part::From { start, size },
        };
        let head = self.heads().file(&source.name, part, source.mode, next);
        let mut wire = self.open(&head).await?;
        let first = match part {
            Part::Whole(_) => Some(0),
            Part::From { start, .. } if start > size => {
                let text = "the node wants a start beyond the end of the file";
                return Err(ClientError::Lost(std::io::Error::other(text)));
            }
            Part::From { start, .. } => Some(start),
            Part::Skip | Part::Unreadable => None,
        };
        if let (Some(first), Ok(file)) = (first, opened) {
            self.send_body(&mut wire, source, file, first).await?;
        }
        let answer = self.answer(&mut wire).await?;
        self.release(wire).await?;
        if matches!(part, Part::Skip) {
            self.totals.skipped += 1;
        }
        Ok((answer, !matches!(part, Part::Unreadable)))
    }

    async fn send_body(
        &mut self,
        wire: &mut super::super::wire::Wire,
        source: &Source,
        mut file: File,
        first: u64,
    ) -> Result<(), ClientError> {
        use tokio::io::AsyncSeekExt;
        let local = |e| ClientError::Local(source.path.display().to_string(), e);
        if first > 0 {
            let from = std::io::SeekFrom::Start(first);
            file.seek(from).await.map_err(local)?;
        }
        let mut buffer = vec![0; usize::try_from(source.size).unwrap_or(READ).min(READ)];
        let mut at = first;
        while at < source.size {
            let most = usize::try_from(source.size - at).unwrap_or(READ).min(READ);
            let room = buffer.get_mut(..most).unwrap_or_default();
            let got = file.read(room).await.map_err(local)?;
            if got == 0 {
                return Err(local(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let piece = buffer.get(..got).unwrap_or_default();
            self.send(wire, piece).await?;
            at += got as u64;
            self.totals.bytes += got as u64;
            self.client.progress(&source.name, at);
        }
        Ok(())
    }

    /// Empty directories and messages about missing sources; the answers do not matter.
    async fn send_rest(&mut self, found: &Scan) {
        for name in &found.empty {
            let head = self.heads().create_dir(name);
            let _ = self.raw(&head, b"").await;
        }
        for source in &found.missing {
            let body = text::missing(self.id(), source);
            let head = self.heads().message(body.len());
            let _ = self.raw(&head, &body).await;
        }
    }

    /// Says goodbye, unless the one connection of a persistent session is gone, and sums up.
    pub(super) async fn conclude(mut self, verdict: Verdict) -> Report {
        let reason = if verdict.code == 0 { "DONE" } else { "ERROR" };
        let words = if verdict.described { verdict.problem.as_str() } else { "" };
        if !self.lost() {
            // Whatever comes of it, the transfer is what it is.
            let _ = self.end_with(reason, verdict.code, words).await;
        }
        Report {
            files: self.totals.files,
            failed: self.totals.failed,
            bytes: self.totals.bytes,
            connections: self.connections(),
            session: self.id().to_owned(),
            code: verdict.code,
            problem: verdict.problem,
        }
    }
}
