//! A whole download: start, then one GET for each file the node names, end.

use std::io;
use std::path::Path;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::super::store::{modified, partial_of, relative};
use super::super::wire::Wire;
use super::answer::Answer;
use super::request::Next;
use super::session::{Session, patient};
use super::upload::Verdict;
use super::{Client, ClientError, Report};

/// A file as the node announced it.
#[derive(Debug)]
struct Announced {
    name: Vec<u8>,
    size: Option<u64>,
    time: u64,
}

impl Announced {
    fn by(answer: &Answer) -> Option<Announced> {
        let number = |name| u64::try_from(answer.number(name)).unwrap_or(0);
        Some(Announced {
            name: answer.field("x-next-wire-file")?.to_vec(),
            size: answer.field("x-next-wire-file-size").map(|_| number("x-next-wire-file-size")),
            time: number("x-next-wire-file-time"),
        })
    }
}

/// Why a download cannot go on.
enum Stop {
    Code(u32, String),
    Error(ClientError),
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Stop {
        Stop::Error(error)
    }
}

impl Client {
    /// Downloads what the node makes of these sources. See [`Report`] for what an `Ok` means; only trouble with local
    /// files is an `Err`. Names that would leave `into` are refused, which the real client does not do.
    pub async fn download(&self, sources: &[String], into: &Path) -> Result<Report, ClientError> {
        let mut session = self.session();
        let list: Vec<_> = sources.iter().map(|s| s.as_bytes().to_vec()).collect();
        let place = into.as_os_str().as_encoded_bytes();
        let answer = session.start(false, &list, place, false, Next::default()).await;
        let mut verdict = Verdict::default();
        let mut local = None;
        if verdict.of_start(&answer)
            && let Ok(answer) = &answer
        {
            let mut next = Announced::by(answer);
            if next.is_none() {
                verdict.fail(4, "No such file or directory");
            }
            let mut index = 0;
            while let Some(file) = next.take() {
                session.totals.attempted += 1;
                match session.fetch(&file, index, into).await {
                    Ok((answer, true)) => {
                        session.totals.files += 1;
                        next = Announced::by(&answer);
                    }
                    Ok((answer, false)) => {
                        session.totals.failed += 1;
                        verdict.fail(5, "the node cannot read a file");
                        next = Announced::by(&answer);
                    }
                    Err(stop) => {
                        session.totals.failed += 1;
                        match stop {
                            Stop::Code(code, words) => verdict.fail(code, words),
                            Stop::Error(error) => {
                                verdict.fail(error.code(), error.to_string());
                                local = matches!(error, ClientError::Local(..)).then_some(error);
                            }
                        }
                    }
                }
                index += 1;
            }
        }
        let report = session.conclude(verdict).await;
        local.map_or(Ok(report), Err)
    }
}

impl Session {
    /// Gets one file; the flag is false when the node could not read it.
    async fn fetch(&mut self, file: &Announced, index: u64, into: &Path) -> Result<(Answer, bool), Stop> {
        let unsafe_name = || Stop::Code(41, "the node names a file outside of the target".into());
        let path = into.join(relative(&file.name).ok_or_else(unsafe_name)?);
        let partial = partial_of(&path);
        let wanted = if self.client.resume { resume_point(&path, &partial, file).await } else { Some(0) };
        let head = self.heads().get(&file.name, index, wanted);
        let mut wire = self.open(&head).await?;
        let answer = self.answer(&mut wire).await?;
        if answer.status != 200 {
            let words = format!("status {} for a file", answer.status);
            return Err(Stop::Code(27, words));
        }
        let Some(length) = answer.length() else {
            return Err(Stop::Code(27, "an answer without Content-Length".into()));
        };
        let Some(wanted) = wanted else {
            self.totals.skipped += 1;
            self.release(wire).await?;
            return Ok((answer, true));
        };
        if answer.field("x-file-accessible").is_some_and(|v| v == b"0") {
            self.release(wire).await?;
            return Ok((answer, false));
        }
        let start = match answer.field("x-start-override") {
            Some(_) => u64::try_from(answer.number("x-start-override")).unwrap_or(0),
            None => wanted,
        };
        if start > wanted {
            return Err(Stop::Code(16, "the node leaves a hole in the file".into()));
        }
        let local = |e| ClientError::Local(path.display().to_string(), e);
        let mut out = open_partial(&partial, start).await.map_err(local)?;
        let result = self.receive(&mut wire, &mut out, file, start, length).await;
        let flushed = out.flush().await.map_err(local);
        if let Err(error) = result {
            if !self.client.resume {
                fs::remove_file(&partial).await.map_err(local)?;
            }
            return Err(error.into());
        }
        flushed?;
        drop(out);
        fs::rename(&partial, &path).await.map_err(local)?;
        self.release(wire).await?;
        Ok((answer, true))
    }

    async fn receive(
        &mut self,
        wire: &mut Wire,
        out: &mut File,
        file: &Announced,
        start: u64,
        length: u64,
    ) -> Result<(), ClientError> {
        let mut left = length;
        while left > 0 {
            let chunk = patient(self.client.silence, wire.chunk(left)).await?;
            let count = chunk.len();
            let written = out.write_all(chunk).await;
            let name = || String::from_utf8_lossy(&file.name).into_owned();
            written.map_err(|e| ClientError::Local(name(), e))?;
            wire.consume(count);
            left -= count as u64;
            self.totals.bytes += count as u64;
            self.client.progress(&file.name, start + length - left);
        }
        Ok(())
    }
}

/// Where to go on with a file: `None` when it is all here.
async fn resume_point(path: &Path, partial: &Path, file: &Announced) -> Option<u64> {
    if let Ok(meta) = fs::metadata(path).await
        && Some(meta.len()) == file.size
        && modified(&meta) >= file.time
    {
        return None;
    }
    let held = fs::metadata(partial).await.map_or(0, |m| m.len());
    Some(held)
}

async fn open_partial(partial: &Path, start: u64) -> io::Result<File> {
    if let Some(parent) = partial.parent() {
        fs::create_dir_all(parent).await?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(start == 0);
    let mut file = options.open(partial).await?;
    file.set_len(start).await?;
    file.seek(io::SeekFrom::Start(start)).await?;
    Ok(file)
}
