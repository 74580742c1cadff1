//! A fallback port: connect, TLS, the start of a session without a token and with one, and how large a body may be. Each
//! start is followed by its session_end, so nothing is left behind.

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Question,
    diagnosis::Diagnosis as D,
    exchange::{Answered, Duplex, Requests, Unanswered, exchange},
    finding::{Finding, Path},
    proxy,
    reach::{self, Fault, Place},
    tls, way,
};

/// The sizes of bodies that are announced, the largest first: the first one that is not refused ends it.
const SIZES: &[u64] = &[5 << 30, 1 << 30, 100 << 20, 10 << 20, 2 << 20];
/// What is sent of such a body, in bytes.
const SOME: usize = 16 * 1024;
/// How long a refusal by size may take, which is made by the head alone; and the end of a session that was not answered.
const SOON: Duration = Duration::from_secs(2);

/// One way to a fallback server.
#[derive(Debug, Clone)]
pub(super) struct Way<'a> {
    pub(super) place: Place,
    pub(super) proxy: Option<&'a Place>,
    pub(super) tls: bool,
    pub(super) question: &'a Question,
}

/// What was found on a way, and the answer to the start without a token, where a server of the fallback gave it.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
    pub(super) answer: Option<Answered>,
}

/// Looks at one way.
pub(super) async fn look(way: Way<'_>) -> Looked {
    let mut looked = Looked::default();
    if let Err(fault) = way.all(&mut looked).await {
        looked.findings.push(way.finding(fault));
    }
    looked
}

impl Way<'_> {
    pub(super) fn path(&self) -> Path {
        Path::fallback(self.tls, self.proxy.is_some())
    }

    fn finding(&self, fault: Fault) -> Finding {
        Finding::new(self.path(), fault.diagnosis, fault.seen)
    }

    async fn all(&self, looked: &mut Looked) -> Result<(), Fault> {
        looked.findings.extend(self.reach().await?);
        let refused = match self.start("", true).await {
            Err(fault) if !self.tls && self.proxy.is_none() && fault.diagnosis != D::AnswerSilent => {
                let stream = self.stream().await?;
                let is_tls = tls::is_spoken(stream, self.question.timeout).await;
                return Err(if is_tls { Fault::new(D::IsTls, "a TLS handshake comes through") } else { fault });
            }
            answered => answered?,
        };
        let fault = self.read(&refused);
        let is_there =
            matches!(fault.diagnosis, D::FallbackOk | D::FallbackLikely | D::TokenUnneeded | D::RequestChanged);
        looked.findings.push(self.finding(fault));
        // A fallgate names no server, so whoever does stands before it.
        let is_fronted = refused.field("x-fallgate-error").is_some() && refused.field("server").is_some();
        if is_fronted || refused.field("via").is_some() || refused.field("x-cache").is_some() {
            looked
                .findings
                .push(self.finding(Fault::new(D::Intermediary, format!("an answer{}", proxy::by(&refused)))));
        }
        if !is_there {
            return Ok(());
        }
        looked.answer = Some(refused);
        if let Some(token) = &self.question.token {
            looked.findings.push(self.token(token).await?);
        }
        let Some(secret) = &self.question.secret else {
            looked.findings.push(self.bodies().await);
            let why = "without a secret no far end tells how a request came to it";
            looked.findings.push(self.finding(Fault::new(D::BodyHeldUntold, why)));
            return Ok(());
        };
        let (bodies, treated) = tokio::join!(self.bodies(), way::look(self, secret, self.question.idle));
        looked.findings.push(bodies);
        looked.findings.extend(treated);
        Ok(())
    }

    /// Connects, and shakes hands where that is part of the way; tells of both.
    async fn reach(&self) -> Result<Vec<Finding>, Fault> {
        let stream = self.stream().await?;
        let mut findings = Vec::new();
        if self.tls {
            if let Some(proxy) = self.proxy {
                let seen = format!("{proxy} opens a tunnel to {}", self.place);
                findings.push(self.finding(Fault::new(D::ConnectOk, seen)));
            }
            match tls::shake(stream, &self.place, self.path(), self.question.timeout).await {
                Ok((_, of_tls)) => findings.extend(of_tls),
                Err(fault) => {
                    let stream = || async { self.stream().await.ok() };
                    return Err(tls::why(fault, &self.place, self.question.timeout, stream).await);
                }
            }
        }
        Ok(findings)
    }

    /// A TCP connection that leads to the server.
    async fn stream(&self) -> Result<tokio::net::TcpStream, Fault> {
        let patience = self.question.timeout;
        match (self.proxy, self.tls) {
            (None, _) => reach::connect(&self.place, patience).await,
            (Some(proxy), true) => proxy::tunnel(proxy, &self.place, patience).await,
            (Some(proxy), false) => reach::connect(proxy, patience).await,
        }
    }

    /// A connection on which requests can be sent.
    pub(super) async fn open(&self) -> Result<Box<dyn Duplex>, Fault> {
        let stream = self.stream().await?;
        if !self.tls {
            return Ok(Box::new(stream));
        }
        let conn = tls::again(stream, self.question.timeout).await;
        conn.map(|conn| Box::new(conn) as Box<dyn Duplex>)
            .ok_or_else(|| Fault::new(D::TlsClosed, "only the first handshake came through"))
    }

    async fn ask(&self, head: &[u8], body: &[u8]) -> Result<Answered, Fault> {
        let mut conn = self.open().await?;
        let heard = exchange(&mut *conn, (head, body), self.question.timeout).await;
        heard.map_err(|error| match error {
            Unanswered::Silent => {
                Fault::new(D::AnswerSilent, format!("no answer in {}", super::ssh::secs(self.question.timeout)))
            }
            Unanswered::Closed => Fault::new(D::AnswerClosed, "closed before the answer to a session_start"),
            Unanswered::Unframed | Unanswered::Malformed(_) => Fault::new(D::BadAnswer, error.to_string()),
        })
    }

    /// A start and its end.
    async fn start(&self, token: &str, upload: bool) -> Result<Answered, Fault> {
        let requests = Requests { place: &self.place, tls: self.tls, session: Uuid::new_v4() };
        let (head, body) = requests.start(token, &self.question.user, upload);
        let answered = self.ask(&head, &body).await;
        let (head, body) = requests.end();
        // Whatever becomes of it, the session is over for this side; ascp looks at nothing in the answer either.
        let ending = self.ask(&head, &body);
        match &answered {
            Ok(_) => drop(ending.await),
            // The start may have come through all the same.
            Err(fault) if matches!(fault.diagnosis, D::AnswerSilent | D::AnswerClosed | D::BadAnswer) => {
                drop(timeout(SOON, ending).await);
            }
            Err(_) => {}
        }
        answered
    }

    /// What the answer to a start without a token means.
    fn read(&self, answered: &Answered) -> Fault {
        let status = answered.head.status();
        let interim = match answered.interim {
            0 => String::new(),
            n => format!(" and {n} interim answers"),
        };
        let after = format!("{} ms{interim}", answered.after.as_millis());
        let seen = format!("{status} to a start without a token{} after {after}", proxy::by(answered));
        if answered.head.fields().next().is_none() {
            return Fault::new(D::BadAnswer, format!("{status} without a single field"));
        }
        let is_own = self.proxy.is_some() && !self.tls && proxy::is_its_own(answered);
        let word = answered.field("x-fallgate-error");
        match status {
            407 => return Fault::new(D::ProxyAuth, proxy::asks(answered)),
            403 if is_own => return Fault::new(D::ProxyDenied, own(seen, word)),
            500..=504 if is_own => return Fault::new(D::ProxyFailed, own(seen, word)),
            _ => {}
        }
        if let Some(word) = word {
            let seen = format!("a fallgate, {status} {word} after {after}");
            return Fault::new(of_fallgate(&word, status), seen);
        }
        match status {
            // With a number ascp gives up after a 200 too.
            200..500 if status != 429 && code(answered).is_some() => Fault::new(D::FallbackOk, seen),
            200 | 201 if answered.field("content-type").is_none_or(|kind| !kind.contains("html")) => {
                Fault::new(D::TokenUnneeded, seen)
            }
            403 => Fault::new(D::FallbackLikely, seen),
            500 => Fault::new(D::ServerError, seen),
            429 | 502..=504 => Fault::new(D::GatewayError, seen),
            _ => Fault::new(D::NotFallback, seen),
        }
    }

    /// Whether the token opens a session, for upload or for download.
    async fn token(&self, token: &str) -> Result<Finding, Fault> {
        let mut heard = String::new();
        for (upload, what) in [(true, "upload"), (false, "download")] {
            let answered = self.start(token, upload).await?;
            let code = code(&answered);
            if matches!(answered.head.status(), 200 | 201) && code.is_none() {
                return Ok(self.finding(Fault::new(D::TokenOk, format!("a session of {what} was opened and ended"))));
            }
            let word = answered.field("x-fallgate-error").or(code.map(|code| format!("code {code}")));
            heard = format!("{} {}", answered.head.status(), word.unwrap_or_default());
        }
        Ok(self.finding(Fault::new(D::TokenRefused, heard)))
    }

    /// Whether a large body is refused by its size, before it is sent. The session is none, so nothing is stored.
    async fn bodies(&self) -> Finding {
        let mut refused = None;
        for size in SIZES {
            let requests = Requests { place: &self.place, tls: self.tls, session: Uuid::new_v4() };
            let (head, some) = (requests.put(*size), vec![0; SOME]);
            let Ok(mut conn) = self.open().await else { break };
            match exchange(&mut *conn, (&head, &some), self.question.timeout.min(SOON)).await {
                Ok(answered) if answered.head.status() == 413 => refused = Some((*size, proxy::by(&answered))),
                Err(Unanswered::Closed | Unanswered::Unframed | Unanswered::Malformed(_)) => {
                    let why = format!("the connection ends after the head of {} MiB", size >> 20);
                    return self.finding(Fault::new(D::BodyUntold, why));
                }
                _ => {
                    let Some((least, by)) = refused else {
                        return self.finding(Fault::new(D::BodyUncapped, format!("{} MiB announced", size >> 20)));
                    };
                    let seen = format!("413{by} to {} MiB, none to {} MiB", least >> 20, size >> 20);
                    return self.finding(Fault::new(D::BodyCapped, seen));
                }
            }
        }
        match refused {
            Some((least, by)) => self.finding(Fault::new(D::BodyCapped, format!("413{by} to {} MiB", least >> 20))),
            None => self.finding(Fault::new(D::BodyUntold, "no connection")),
        }
    }
}

/// The number that ascp would show; it reads no other value, and no zero.
fn code(answered: &Answered) -> Option<String> {
    let digits = |value: &String| value.bytes().take_while(u8::is_ascii_digit).any(|digit| digit != b'0');
    answered.field("x-real-mgmt-error").filter(digits)
}

/// What a proxy said, with its word if it is a fallgate.
fn own(seen: String, word: Option<String>) -> String {
    word.map_or(seen.clone(), |word| format!("{seen}, a fallgate: {word}"))
}

/// What the word of a fallgate means in answer to a start that is sound but for its token.
fn of_fallgate(word: &str, status: u16) -> D {
    match status {
        403 if word != "session_mismatch" => D::FallbackOk,
        429 | 500.. => D::GatewayError,
        // It is not what was sent that breaks a rule.
        _ => D::RequestChanged,
    }
}

/// Fields of answers by which ascp goes, and that of a fallgate. Others may differ from one answer to the next.
const OF_ANSWERS: &[&str] = &[
    "x-fallgate-error",
    "x-next-file-start",
    "x-next-wire-file",
    "x-next-wire-file-size",
    "x-next-wire-file-time",
    "x-persistent-connection",
    "x-real-mgmt-error",
    "x-session-protocol-version",
    "x-target-must-be-dir",
];

/// Fields of the server that are missing or renamed in what comes by way of the proxy.
pub(super) fn changed(direct: &Answered, proxied: &Answered) -> Option<String> {
    let is_ours = |name: &[u8]| OF_ANSWERS.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()));
    if direct.head.status() != proxied.head.status() {
        return None;
    }
    let missing: Vec<_> = direct
        .head
        .fields()
        .filter(|(name, _)| is_ours(name))
        .filter(|(name, value)| {
            let other = std::str::from_utf8(name).ok().and_then(|name| proxied.head.field(name));
            other != Some(*value)
        })
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    (!missing.is_empty()).then(|| missing.join(", "))
}
