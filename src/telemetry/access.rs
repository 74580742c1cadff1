//! The access log: one line for each session, control connection, flow and tunnel, written by a thread of its own so
//! that a slow disk never holds up a transfer.
//!
//! When the writer falls behind by `QUEUE` lines, further lines are dropped and counted in a
//! warning; a log line is worth less than a transfer.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use arc_swap::ArcSwap;
use prometheus::IntCounter;

use super::{Record, spans::Spans};
use crate::config::{AccessLogConfig, AccessLogFormat};

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;

#[derive(Debug)]
enum Message {
    Line(String),
    Reopen,
    Flush(SyncSender<()>),
}

/// Where records go. Cloning shares the writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    writer: Arc<ArcSwap<AccessWriter>>,
    /// Counts lines that were dropped.
    dropped: Option<IntCounter>,
    spans: Spans,
}

/// An open destination of records.
#[derive(Debug)]
pub struct AccessWriter {
    format: AccessLogFormat,
    sender: Option<SyncSender<Message>>,
}

impl AccessWriter {
    /// Opens the destination; fails when a file cannot be opened for appending.
    pub fn open(config: &AccessLogConfig) -> io::Result<AccessWriter> {
        let target = match config.path.as_str() {
            "off" => return Ok(AccessWriter { format: config.format, sender: None }),
            "stdout" => Target::Stdout,
            "stderr" => Target::Stderr,
            path => Target::file(path.into())?,
        };
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_lines(target, &receiver))?;
        Ok(AccessWriter { format: config.format, sender: Some(sender) })
    }
}

impl AccessLog {
    /// Opens the destination; fails when a file cannot be opened for appending.
    pub fn open(config: &AccessLogConfig) -> io::Result<AccessLog> {
        let writer = Arc::new(ArcSwap::from_pointee(AccessWriter::open(config)?));
        Ok(AccessLog { writer, dropped: None, spans: Spans::default() })
    }

    /// Has records go there from now on, for all who share it. What was handed over before goes where it was to go.
    pub fn replace(&self, writer: AccessWriter) {
        self.writer.store(Arc::new(writer));
    }

    /// Has lines that are dropped counted there.
    pub fn counting_drops(self, dropped: IntCounter) -> AccessLog {
        AccessLog { dropped: Some(dropped), ..self }
    }

    /// Has each record told as a span as well.
    pub fn with_spans(self, spans: Spans) -> AccessLog {
        AccessLog { spans, ..self }
    }

    /// Where spans go.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Hands a record to the writer; never waits.
    pub fn write(&self, record: &Record) {
        self.spans.record(record);
        let writer = self.writer.load();
        let Some(sender) = &writer.sender else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(Message::Line(record.line(writer.format))) {
            self.dropped.iter().for_each(IntCounter::inc);
            tracing::warn!("The access log cannot keep up; a line was dropped.");
        }
    }

    /// Opens a log file anew (after it was rotated away).
    pub fn reopen(&self) {
        if let Some(sender) = &self.writer.load().sender {
            let _ = sender.try_send(Message::Reopen);
        }
    }

    /// Waits until all lines handed over so far are written. Blocks: for the end of the process.
    pub fn flush(&self) {
        let writer = self.writer.load_full();
        let Some(sender) = &writer.sender else { return };
        let (done, wait) = sync_channel(1);
        if sender.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv();
        }
    }
}

enum Target {
    Stdout,
    Stderr,
    File { path: PathBuf, file: File },
}

impl Target {
    fn file(path: PathBuf) -> io::Result<Target> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Target::File { path, file })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::Stdout => io::stdout().write_all(bytes),
            Target::Stderr => io::stderr().write_all(bytes),
            Target::File { file, .. } => file.write_all(bytes),
        }
    }
}

fn write_lines(mut target: Target, receiver: &Receiver<Message>) {
    let mut failing = false;
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => match target.write(line.as_bytes()) {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::error!(%error, "The access log cannot be written.");
                }
                Err(_) => {}
            },
            Message::Reopen => {
                if let Target::File { path, .. } = &target {
                    match Target::file(path.clone()) {
                        Ok(new) => target = new,
                        Err(error) => tracing::error!(%error, "The access log cannot be reopened."),
                    }
                }
            }
            Message::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
