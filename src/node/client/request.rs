//! Request heads: which fields, in which order and case.

use std::time::SystemTime;

use uuid::Uuid;

use super::super::{date, percent};

/// What all requests of a session have in common.
#[derive(Debug)]
pub(super) struct Heads<'a> {
    pub(super) host: &'a str,
    pub(super) tls: bool,
    pub(super) session: &'a str,
}

/// The file that comes after this one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next<'a> {
    pub(super) name: Option<&'a [u8]>,
    pub(super) time: Option<u64>,
    pub(super) size: Option<u64>,
}

/// How the body of an upload relates to its file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// All of it.
    Whole(u64),
    /// From `start` to the end; past the end the length wraps around, as it does in the real client.
    From { start: u64, size: u64 },
    /// Nothing: the node has it.
    Skip,
    /// Nothing: the file cannot be read.
    Unreadable,
}

impl Part {
    /// The body length as the head announces it.
    pub(super) fn length(self) -> u64 {
        match self {
            Part::Whole(size) => size,
            Part::From { start, size } => size.wrapping_sub(start),
            Part::Skip | Part::Unreadable => 0,
        }
    }
}

fn field(head: &mut Vec<u8>, name: &str, value: impl AsRef<[u8]>) {
    for part in [name.as_bytes(), b": ", value.as_ref(), b"\r\n"] {
        head.extend_from_slice(part);
    }
}

fn ended(mut head: Vec<u8>) -> Vec<u8> {
    head.extend_from_slice(b"\r\n");
    head
}

fn next_fields(head: &mut Vec<u8>, next: Next<'_>) {
    if let Some(name) = next.name {
        field(head, "x-next-wire-file", name);
    }
    if let Some(time) = next.time {
        field(head, "x-next-wire-file-time", time.to_string());
    }
    if let Some(size) = next.size.filter(|&n| n > 0) {
        field(head, "x-next-wire-file-size", size.to_string());
    }
}

impl Heads<'_> {
    fn begin(&self, method: &str, operation: &str, name: &[u8]) -> Vec<u8> {
        let scheme = if self.tls { "https" } else { "http" };
        let (host, session) = (self.host, self.session);
        let mut head = Vec::with_capacity(512 + name.len() * 3);
        let line = format!("{method} {scheme}://{host}/aspera/{scheme}/{session}/{operation}/");
        head.extend_from_slice(line.as_bytes());
        percent::encode_into(name, &mut head);
        let line = format!("/{}.ashttp HTTP/1.1\r\n", Uuid::new_v4());
        head.extend_from_slice(line.as_bytes());
        field(&mut head, "User-Agent", "Aspera FASP HTTP Client");
        field(&mut head, "Host", host);
        head
    }

    pub(super) fn start(&self, length: usize, next: Next<'_>) -> Vec<u8> {
        let mut head = self.begin("POST", "session_start", b"OOB");
        field(&mut head, "Content-Length", length.to_string());
        field(&mut head, "Keep-Alive", "300");
        field(&mut head, "Connection", "keep-alive");
        field(&mut head, "x-session-protocol-version", "1");
        next_fields(&mut head, next);
        ended(head)
    }

    pub(super) fn end(&self, length: usize) -> Vec<u8> {
        let mut head = self.begin("POST", "session_end", b"OOB");
        field(&mut head, "Content-Length", length.to_string());
        ended(head)
    }

    fn put(&self, operation: &str, name: &[u8], length: u64) -> Vec<u8> {
        let mut head = self.begin("PUT", operation, name);
        field(&mut head, "Accept", "application/octet-stream");
        field(&mut head, "Keep-Alive", "300");
        field(&mut head, "Content-Length", length.to_string());
        field(&mut head, "Connection", "keep-alive");
        head
    }

    pub(super) fn create_dir(&self, name: &[u8]) -> Vec<u8> {
        ended(self.put("create_dir", name, 0))
    }

    pub(super) fn message(&self, length: usize) -> Vec<u8> {
        ended(self.put("mgmt_msg", b"", length as u64))
    }

    pub(super) fn file(&self, name: &[u8], part: Part, mode: u32, next: Next<'_>) -> Vec<u8> {
        let mut head = self.put("file", name, part.length());
        match part {
            Part::Skip => {
                field(&mut head, "x-Content-range", "0-0");
                next_fields(&mut head, next);
                field(&mut head, "x-skip-file", "1");
                return ended(head);
            }
            Part::From { start, size } => {
                let range = format!("bytes {start}-{}/*", size.saturating_sub(1));
                field(&mut head, "x-Content-range", range);
            }
            Part::Whole(_) | Part::Unreadable => {}
        }
        let readable = !matches!(part, Part::Unreadable);
        let mode = if readable { mode } else { 0 };
        field(&mut head, "x-file-access-permissions", mode.to_string());
        let now = date::unix(SystemTime::now());
        field(&mut head, "Date", date::http_date(now));
        next_fields(&mut head, next);
        field(&mut head, "x-File-accessible", if readable { "1" } else { "0" });
        ended(head)
    }

    /// `from`: where to go on; `None` to skip the file.
    pub(super) fn get(&self, name: &[u8], index: u64, from: Option<u64>) -> Vec<u8> {
        let mut head = self.begin("GET", "file", name);
        field(&mut head, "x-get-file-index", index.to_string());
        match from {
            None => {
                field(&mut head, "x-Content-range", "bytes 0-0/*");
                field(&mut head, "x-skip-file", "1");
            }
            Some(0) => {}
            Some(start) => field(&mut head, "x-Content-range", format!("bytes {start}-*/*")),
        }
        field(&mut head, "x-client-supports", ";start-override;");
        ended(head)
    }
}
