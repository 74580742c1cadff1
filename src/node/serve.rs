//! One connection of the node: requests are read one after the other, faults applied, answers sent.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fault::{Action, Fault, Verb};
use super::head::{Head, Target};
use super::record::Seen;
use super::wire::{Stream, Wire};
use super::{Shared, date, download, start, upload};

const HANDSHAKE: Duration = Duration::from_secs(20);
const IDLE: Duration = Duration::from_secs(300);
const FAREWELL: Duration = Duration::from_secs(2);
const PROCESSING_EVERY: Duration = Duration::from_secs(5);
/// The longest text body that is kept.
pub(super) const MAX_TEXT: usize = 16 << 20;

/// What becomes of the connection after a request.
pub(super) enum Then {
    Keep,
    Close,
    Abort,
}

/// A connection and the memory it reuses.
pub(super) struct Conn {
    pub(super) shared: Arc<Shared>,
    pub(super) wire: Wire,
    /// The node is about to leave.
    leave: CancellationToken,
    id: u64,
    out: Vec<u8>,
}

/// A request whose head was read.
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) target: Target,
    verb: Verb,
    /// Body bytes not read yet.
    pub(super) left: u64,
    /// Body bytes read or sent.
    pub(super) moved: u64,
    pub(super) body: Vec<u8>,
    entry: Option<usize>,
}

/// A status and the field lines that belong to it.
pub(super) struct Outcome {
    pub(super) status: u16,
    pub(super) fields: Vec<u8>,
}

impl From<u16> for Outcome {
    fn from(status: u16) -> Outcome {
        let fields = Vec::new();
        Outcome { status, fields }
    }
}

impl Outcome {
    /// Adds a field line.
    pub(super) fn field(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.fields.extend_from_slice(part);
        }
    }
}

/// Serves a connection until one side ends it, or the node leaves.
pub(super) async fn connection(shared: Arc<Shared>, tcp: TcpStream, id: u64, leave: CancellationToken) {
    // Without the option the answers are only slower.
    let _ = tcp.set_nodelay(true);
    let stream = match &shared.tls {
        None => Stream::Plain(tcp),
        Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => Stream::Tls(Box::new(tls.into())),
            _ => return,
        },
    };
    let wire = Wire::new(stream, Arc::clone(&shared.pool));
    let out = Vec::with_capacity(512);
    let mut conn = Conn { shared, wire, leave, id, out };
    loop {
        let head = tokio::select! {
            biased;
            () = conn.leave.cancelled() => break,
            head = timeout(IDLE, conn.wire.head()) => head,
        };
        let Ok(Ok(Some(head))) = head else { break };
        match conn.request(head).await {
            Ok(Then::Keep) => {}
            Ok(Then::Close) => break,
            Ok(Then::Abort) | Err(_) => return,
        }
    }
    // The client waits for this close before it goes on.
    let _ = timeout(FAREWELL, conn.wire.finish()).await;
}

fn verb_of(operation: &str, method: &[u8]) -> Option<Verb> {
    match (operation, method) {
        ("session_start", b"POST") => Some(Verb::Start),
        ("session_end", b"POST") => Some(Verb::End),
        ("file", b"PUT") => Some(Verb::Put),
        ("file", b"GET") => Some(Verb::Get),
        ("create_dir", b"PUT") => Some(Verb::Dir),
        ("mgmt_msg", b"PUT") => Some(Verb::Msg),
        _ => None,
    }
}

/// The body length, or the status for a request that has none to rely on.
fn length_of(head: &Head, method: &[u8]) -> Result<u64, u16> {
    match head.field("content-length") {
        _ if head.field("transfer-encoding").is_some() => Err(411),
        Some(_) => head.number("content-length").filter(|&n| n < 1 << 62).ok_or(400),
        None if method == b"GET" => Ok(0),
        None => Err(411),
    }
}

impl Conn {
    async fn request(&mut self, head: Head) -> io::Result<Then> {
        let mut words = head.line().split(|&b| b == b' ');
        let method = words.next().unwrap_or_default().to_vec();
        let target = words.next().and_then(Target::parse);
        let entry = target.as_ref().and_then(|target| {
            self.shared.recorder.add(|| Seen {
                connection: self.id,
                session: target.session.clone(),
                operation: target.operation.clone(),
                method: String::from_utf8_lossy(&method).into_owned(),
                head: head.raw().to_vec(),
                body: Vec::new(),
                body_bytes: 0,
            })
        });
        let left = match length_of(&head, &method) {
            Ok(left) => left,
            Err(status) => return self.refuse(status).await,
        };
        let Some(target) = target else {
            return self.refuse(404).await;
        };
        let Some(verb) = verb_of(&target.operation, &method) else {
            return self.refuse(405).await;
        };
        if (self.wire.buffered() as u64) < left {
            self.hurry();
        }
        let plan = self.shared.plan.load_full();
        let fault = plan.next(verb);
        let mut request = Request { head, target, verb, left, moved: 0, body: Vec::new(), entry };
        let result = self.act(&mut request, fault).await;
        self.note(&request);
        result
    }

    /// Acknowledges at once: the client holds the body back until its head is acknowledged.
    fn hurry(&self) {
        // Only a matter of speed.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(self.wire.tcp()).set_tcp_quickack(true);
    }

    /// Has what follows go out together with the end of the connection, so that nobody can see the one without the other.
    fn cork(&self) {
        // Without the option the end comes a moment later.
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(self.wire.tcp()).set_tcp_cork(true);
    }

    /// Brings the record of this request up to date.
    pub(super) fn note(&self, request: &Request) {
        let recorder = &self.shared.recorder;
        recorder.update(request.entry, &request.body, request.moved);
    }

    async fn refuse(&mut self, status: u16) -> io::Result<Then> {
        let mut outcome = Outcome::from(status);
        outcome.field("Connection", b"close");
        self.write_head(&outcome, &[], 0).await?;
        Ok(Then::Close)
    }

    async fn act(&mut self, rq: &mut Request, fault: Option<&Fault>) -> io::Result<Then> {
        let action = fault.map_or(&Action::Normal, |f| &f.action);
        let extra = fault.map_or(&[][..], |f| &f.fields);
        match action {
            Action::Delay(time) => sleep(*time).await,
            Action::Early(status) => {
                let mut outcome = Outcome::from(*status);
                outcome.field("Connection", b"close");
                self.answer(rq, &outcome, extra).await?;
                return Ok(Then::Close);
            }
            Action::Drain(status) => {
                self.answer(rq, &Outcome::from(*status), extra).await?;
                self.take_body(rq).await?;
                return Ok(Then::Keep);
            }
            Action::Status(status) if rq.verb != Verb::Start || !matches!(status, 200 | 201) => {
                self.take_body(rq).await?;
                self.answer(rq, &Outcome::from(*status), extra).await?;
                return Ok(Then::Keep);
            }
            Action::Raw(text) => {
                self.take_body(rq).await?;
                self.note(rq);
                self.wire.send(text).await?;
                return Ok(Then::Close);
            }
            Action::Fin(count) | Action::Rst(count) | Action::Stall(count, _) if rq.verb != Verb::Get => {
                match rq.verb {
                    Verb::Put => drop(upload::receive(self, rq, Some(*count)).await?),
                    _ => self.take_body(rq).await?,
                }
                self.note(rq);
                return self.break_off(action).await;
            }
            _ => {}
        }
        let mut outcome = match rq.verb {
            Verb::Get => return download::send(self, rq, action, extra).await,
            Verb::Put => upload::receive(self, rq, None).await?,
            Verb::Dir => upload::make_dir(self, rq).await?,
            Verb::Start => start::begin(self, rq).await?,
            Verb::Msg => {
                self.take_body(rq).await?;
                Outcome::from(201)
            }
            Verb::End => {
                self.take_body(rq).await?;
                self.shared.sessions.remove(&rq.target.session);
                Outcome::from(200)
            }
        };
        match action {
            Action::Processing(time) => self.processing(*time).await?,
            Action::Status(status) => outcome.status = *status,
            _ => {}
        }
        self.answer(rq, &outcome, extra).await?;
        Ok(Self::after(rq, action))
    }

    /// Whether the connection goes on after a normal answer.
    pub(super) fn after(rq: &Request, action: &Action) -> Then {
        let close = rq.head.field("connection");
        if *action == Action::CloseAfter || close.is_some_and(|v| v.eq_ignore_ascii_case(b"close")) {
            Then::Close
        } else {
            Then::Keep
        }
    }

    /// Ends the connection as a fault wants it.
    pub(super) async fn break_off(&mut self, action: &Action) -> io::Result<Then> {
        match action {
            Action::Rst(_) => self.wire.tcp().set_zero_linger()?,
            Action::Stall(_, time) => sleep(*time).await,
            _ => socket2::SockRef::from(self.wire.tcp()).shutdown(std::net::Shutdown::Both)?,
        }
        Ok(Then::Abort)
    }

    /// Sends `102 Processing` until `time` is over.
    pub(super) async fn processing(&mut self, time: Duration) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            self.wire.send(b"HTTP/1.1 102 Processing\r\n\r\n").await?;
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            sleep(rest.min(PROCESSING_EVERY)).await;
            if end <= Instant::now() {
                return Ok(());
            }
        }
    }

    /// Reads what is left of the body; that of a text request is kept.
    pub(super) async fn take_body(&mut self, rq: &mut Request) -> io::Result<()> {
        let keep = matches!(rq.verb, Verb::Start | Verb::End | Verb::Msg);
        while rq.left > 0 {
            let chunk = self.wire.chunk(rq.left).await?;
            let count = chunk.len();
            if keep && rq.body.len() + count <= MAX_TEXT {
                rq.body.extend_from_slice(chunk);
            }
            self.wire.consume(count);
            rq.read(count);
        }
        Ok(())
    }

    /// Sends an answer without a body.
    pub(super) async fn answer(&mut self, rq: &Request, outcome: &Outcome, extra: &[String]) -> io::Result<()> {
        self.note(rq);
        self.write_head(outcome, extra, 0).await
    }

    /// Sends an answer head in one write.
    pub(super) async fn write_head(&mut self, outcome: &Outcome, extra: &[String], length: u64) -> io::Result<()> {
        use std::io::Write;
        let status = outcome.status;
        if self.leave.is_cancelled() {
            self.cork();
        }
        let date = date::http_date(date::unix(SystemTime::now()));
        let out = &mut self.out;
        out.clear();
        write!(out, "HTTP/1.1 {status} {}\r\nDate: {date}\r\n", reason(status))?;
        write!(out, "Server: {}\r\n", self.shared.name)?;
        out.extend_from_slice(&outcome.fields);
        for line in extra {
            write!(out, "{line}\r\n")?;
        }
        write!(out, "Content-Length: {length}\r\n\r\n")?;
        self.wire.send(&self.out).await
    }
}

impl Request {
    /// Counts body bytes that were read.
    pub(super) fn read(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        self.moved += count as u64;
    }
}

fn reason(status: u16) -> &'static str {
    let code = http::StatusCode::from_u16(status).ok();
    code.and_then(|code| code.canonical_reason()).unwrap_or("Other")
}
