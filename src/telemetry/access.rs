//! The access log: one line for each session, control connection, flow and tunnel, written by a thread of its own so
//! that a slow disk never holds up a transfer.
//!
//! When the writer falls behind by `QUEUE` lines, further lines are dropped; so are lines that a full disk does not take.
//! Each is counted, and the log says when that begins and when it is over: a log line is worth less than a transfer.

mod target;

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use prometheus::IntCounter;

use self::target::Target;
use super::{Record, behind, spans::Spans};
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
    health: Arc<Health>,
    spans: Spans,
}

/// An open destination of records.
#[derive(Debug)]
pub struct AccessWriter {
    format: AccessLogFormat,
    sender: Option<SyncSender<Message>>,
}

impl AccessWriter {
    fn open(config: &AccessLogConfig, health: &Arc<Health>) -> io::Result<AccessWriter> {
        let Some(target) = Target::open(&config.path)? else {
            return Ok(AccessWriter { format: config.format, sender: None });
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let of_thread = health.clone();
        std::thread::Builder::new().name("access-log".into()).spawn(move || of_thread.write(target, &receiver))?;
        Ok(AccessWriter { format: config.format, sender: Some(sender) })
    }
}

/// How it goes.
#[derive(Debug, Default)]
struct Health {
    /// The writer is behind: the last line found no place.
    is_behind: AtomicBool,
    /// The last line could not be written.
    is_failing: AtomicBool,
    /// Counts lines that were dropped.
    dropped: OnceLock<IntCounter>,
}

impl AccessLog {
    /// Opens the destination; fails when a file cannot be opened for appending.
    pub fn open(config: &AccessLogConfig) -> io::Result<AccessLog> {
        let health = Arc::<Health>::default();
        let writer = Arc::new(ArcSwap::from_pointee(AccessWriter::open(config, &health)?));
        Ok(AccessLog { writer, health, spans: Spans::default() })
    }

    /// Opens another destination, which nothing goes to yet; fails when a file cannot be opened for appending.
    pub fn other(&self, config: &AccessLogConfig) -> io::Result<AccessWriter> {
        AccessWriter::open(config, &self.health)
    }

    /// Has records go there from now on, for all who share it. What was handed over before goes where it was to go.
    pub fn replace(&self, writer: AccessWriter) {
        self.writer.store(Arc::new(writer));
    }

    /// Has lines that are dropped counted there; the first counter stays.
    pub fn counting_drops(self, dropped: IntCounter) -> AccessLog {
        let _ = self.health.dropped.set(dropped);
        self
    }

    /// Has each record told as a span as well.
    pub fn with_spans(self, spans: Spans) -> AccessLog {
        AccessLog { spans, ..self }
    }

    /// Where spans go.
    pub fn spans(&self) -> &Spans {
        &self.spans
    }

    /// Whether the last line was neither dropped nor failed.
    pub fn is_well(&self) -> bool {
        !self.health.is_behind.load(Ordering::Relaxed) && !self.health.is_failing.load(Ordering::Relaxed)
    }

    /// Hands a record to the writer; never waits.
    pub fn write(&self, record: &Record) {
        self.spans.record(record);
        let writer = self.writer.load();
        let Some(sender) = &writer.sender else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(Message::Line(record.line(writer.format))) {
            self.health.dropped();
            if !self.health.is_behind.swap(true, Ordering::Relaxed) {
                tracing::warn!("The access log cannot keep up; lines are dropped.");
            }
        }
    }

    /// Opens a log file anew (after it was rotated away).
    pub fn reopen(&self) {
        if let Some(sender) = &self.writer.load().sender {
            let _ = sender.try_send(Message::Reopen);
        }
    }

    /// Waits until all lines handed over so far are written, at most for `patience`; whether they are. Blocks: for the end
    /// of the process.
    pub fn flush(&self, patience: Duration) -> bool {
        let writer = self.writer.load_full();
        let Some(sender) = &writer.sender else { return true };
        behind::wait(sender, Message::Flush, patience)
    }
}

impl Health {
    fn dropped(&self) {
        self.dropped.get().into_iter().for_each(IntCounter::inc);
    }

    /// What the thread does.
    fn write(&self, mut target: Target, receiver: &Receiver<Message>) {
        while let Ok(message) = receiver.recv() {
            match message {
                Message::Line(line) => self.written(target.write(line.as_bytes())),
                Message::Reopen => {
                    if let Err(error) = target.reopen() {
                        tracing::error!(%error, "The access log cannot be reopened.");
                    }
                }
                Message::Flush(done) => drop(done.send(())),
            }
        }
    }

    fn written(&self, result: io::Result<()>) {
        let is_failing = result.is_err();
        let was_failing = self.is_failing.swap(is_failing, Ordering::Relaxed);
        match result {
            Err(error) => {
                self.dropped();
                if !was_failing {
                    tracing::error!(%error, "The access log cannot be written; lines are dropped.");
                }
            }
            Ok(()) => {
                let was_behind = self.is_behind.swap(false, Ordering::Relaxed);
                if was_failing || was_behind {
                    tracing::info!("The access log is written again.");
                }
            }
        }
    }
}
