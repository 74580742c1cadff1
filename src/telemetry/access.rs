//! The access log: one line per session, written by a thread of its own so that a slow disk never
//! holds up a transfer.
//!
//! When the writer falls behind by `QUEUE` lines, further lines are dropped and counted in a
//! warning; a log line is worth less than a transfer.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    time::SystemTime,
};

use serde_json::Value;

use super::spans::Spans;
use crate::config::{AccessLogConfig, AccessLogFormat};

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;

/// One access line: fields in a fixed order.
#[derive(Debug, Clone)]
pub struct Record(Vec<(&'static str, Value)>);

impl Record {
    /// Starts a record with its time and kind.
    pub fn new(kind: &'static str) -> Record {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Record(vec![("time", (now.as_millis() as u64 as f64 / 1000.0).into()), ("kind", kind.into())])
    }

    /// Adds a field; `null` stands where there is nothing to say, so that every line has every field.
    pub fn field(mut self, name: &'static str, value: impl Into<Value>) -> Record {
        self.0.push((name, value.into()));
        self
    }

    /// Its fields in their order.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "spans are made of them"))]
    pub(super) fn fields(&self) -> &[(&'static str, Value)] {
        &self.0
    }

    /// The line in the given format, with its newline.
    pub fn line(&self, format: AccessLogFormat) -> String {
        let mut out = String::with_capacity(512);
        match format {
            AccessLogFormat::Json => {
                for (i, (name, value)) in self.0.iter().enumerate() {
                    out.push_str(if i == 0 { "{\"" } else { ",\"" });
                    out.push_str(name);
                    out.push_str("\":");
                    out.push_str(&value.to_string());
                }
                out.push_str("}\n");
            }
            AccessLogFormat::Logfmt => {
                for (i, (name, value)) in self.0.iter().enumerate() {
                    if i > 0 {
                        out.push(' ');
                    }
                    out.push_str(name);
                    out.push('=');
                    match value {
                        Value::String(s) if !s.is_empty() && s.bytes().all(is_bare) => out.push_str(s),
                        other => out.push_str(&other.to_string()),
                    }
                }
                out.push('\n');
            }
        }
        out
    }
}

fn is_bare(b: u8) -> bool {
    b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\')
}

enum Message {
    Line(String),
    Reopen,
    Flush(SyncSender<()>),
}

/// Where records go. Cloning shares the writer.
#[derive(Debug, Clone)]
pub struct AccessLog {
    format: AccessLogFormat,
    sender: Option<SyncSender<Message>>,
    spans: Spans,
}

impl AccessLog {
    /// Opens the destination; fails when a file cannot be opened for appending.
    pub fn open(config: &AccessLogConfig) -> io::Result<AccessLog> {
        let target = match config.path.as_str() {
            "off" => {
                return Ok(AccessLog { format: config.format, sender: None, spans: Spans::default() });
            }
            "stdout" => Target::Stdout,
            "stderr" => Target::Stderr,
            path => Target::file(path.into())?,
        };
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_lines(target, &receiver))?;
        Ok(AccessLog { format: config.format, sender: Some(sender), spans: Spans::default() })
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
        let Some(sender) = &self.sender else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(Message::Line(record.line(self.format))) {
            tracing::warn!("The access log cannot keep up; a line was dropped.");
        }
    }

    /// Opens a log file anew (after it was rotated away).
    pub fn reopen(&self) {
        if let Some(sender) = &self.sender {
            let _ = sender.try_send(Message::Reopen);
        }
    }

    /// Waits until all lines handed over so far are written. Blocks: for the end of the process.
    pub fn flush(&self) {
        let Some(sender) = &self.sender else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_the_order_of_its_fields_in_both_formats() {
        let record = Record(vec![("b", "x y".into()), ("a", 1.into()), ("c", Value::Null), ("d", "z".into())]);
        assert_eq!(record.line(AccessLogFormat::Json), "{\"b\":\"x y\",\"a\":1,\"c\":null,\"d\":\"z\"}\n");
        assert_eq!(record.line(AccessLogFormat::Logfmt), "b=\"x y\" a=1 c=null d=z\n");
    }

    #[test]
    fn a_newline_in_a_value_cannot_forge_a_second_line() {
        let record = Record(vec![("user", "a\nkind=session".into())]);
        for format in [AccessLogFormat::Json, AccessLogFormat::Logfmt] {
            assert_eq!(record.line(format).matches('\n').count(), 1);
        }
    }
}
