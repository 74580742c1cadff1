//! One request and its answer, as ascp makes them: head and body in separate writes, the head of the answer read and no more.
//! What comes is bounded in bytes and time, whoever sends it.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout, timeout_at},
};
use uuid::Uuid;

use super::reach::Place;
use crate::net::http1::{AnswerHead, AnswerProblem, BodyFraming};

/// How often the patience for one silence may go by until the whole head must be there: drops in turn are no answer.
const WHOLE: u32 = 3;
/// Interim answers that are read before the final one.
const MAX_INTERIM: u32 = 1000;

/// A connection of either kind.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A final answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) head: AnswerHead,
    /// 100 and 102 before it.
    pub(super) interim: u32,
    /// From the last byte of the request.
    pub(super) after: Duration,
}

impl Answered {
    /// A field as text.
    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.head.field(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    #[error("no answer in time")]
    Silent,
    #[error("the connection ended")]
    Closed,
    /// It comes without a length, in chunks for one, or is too large.
    #[error("an answer without a length that could be read")]
    Unframed,
    #[error("{0}")]
    Malformed(#[from] AnswerProblem),
}

impl From<io::Error> for Unanswered {
    fn from(_: io::Error) -> Unanswered {
        Unanswered::Closed
    }
}

/// A final answer with its body.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) head: AnswerHead,
    /// 100 and 102 before it.
    pub(super) interim: u32,
    /// How long before it the first of them came.
    pub(super) ahead: Duration,
    pub(super) body: Vec<u8>,
    /// When the first byte of the body was here, and the last.
    pub(super) first: Instant,
    pub(super) last: Instant,
}

/// Sends a request whose body is in two parts, with a pause between them, and reads the final answer with its body, of at
/// most `room` bytes. Only a body with a length is one that ascp can read.
pub(super) async fn converse(
    stream: &mut (impl Duplex + ?Sized),
    [head, one, other]: [&[u8]; 3],
    pause: Duration,
    patience: Duration,
    room: usize,
) -> Result<Said, Unanswered> {
    let _ = send(stream, head, one, patience).await?;
    tokio::time::sleep(pause).await;
    let _ = send(stream, b"", other, patience).await?;
    let (mut held, late) = (BytesMut::new(), Instant::now() + patience * WHOLE);
    let Final { head, interim, ahead } = answer(stream, &mut held, patience, late).await?;
    let BodyFraming::Length(length) = head.body(b"PUT") else { return Err(Unanswered::Unframed) };
    let length = usize::try_from(length).ok().filter(|length| *length <= room).ok_or(Unanswered::Unframed)?;
    let mut first = (!held.is_empty()).then(Instant::now);
    while held.len() < length {
        let until = late.min(Instant::now() + patience);
        match timeout_at(until, stream.read_buf(&mut held)).await {
            Err(_) => return Err(Unanswered::Silent),
            Ok(Ok(0)) | Ok(Err(_)) => return Err(Unanswered::Closed),
            Ok(Ok(_)) => first = first.or_else(|| Some(Instant::now())),
        }
    }
    let last = Instant::now();
    held.truncate(length);
    Ok(Said { head, interim, ahead, body: held.to_vec(), first: first.unwrap_or(last), last })
}

/// Sends in separate writes. Whoever answers early may not read the rest: what it said counts.
async fn send(
    stream: &mut (impl Duplex + ?Sized),
    head: &[u8],
    body: &[u8],
    patience: Duration,
) -> Result<io::Result<()>, Unanswered> {
    let sending = async {
        stream.write_all(head).await?;
        stream.flush().await?;
        stream.write_all(body).await?;
        stream.flush().await
    };
    timeout(patience, sending).await.map_err(|_| Unanswered::Silent)
}

/// Sends a request and reads the head of the final answer.
pub(super) async fn exchange(
    stream: &mut (impl Duplex + ?Sized),
    (head, body): (&[u8], &[u8]),
    patience: Duration,
) -> Result<Answered, Unanswered> {
    let _ = send(stream, head, body, patience).await?;
    let begin = Instant::now();
    let Final { head, interim, .. } = answer(stream, &mut BytesMut::new(), patience, begin + patience * WHOLE).await?;
    Ok(Answered { head, interim, after: begin.elapsed() })
}

/// The head of a final answer, how many interim ones came before it, and how long before it the first.
struct Final {
    head: AnswerHead,
    interim: u32,
    ahead: Duration,
}

/// Reads to the head of the final answer. What was read of the body is in `held`.
async fn answer(
    stream: &mut (impl Duplex + ?Sized),
    held: &mut BytesMut,
    patience: Duration,
    late: Instant,
) -> Result<Final, Unanswered> {
    let (mut interim, mut first) = (0, None);
    loop {
        let head = AnswerHead::parse(read_head(stream, held, patience, late).await?)?;
        if matches!(head.status(), 100 | 102) && interim < MAX_INTERIM {
            interim += 1;
            first.get_or_insert_with(Instant::now);
            continue;
        }
        return Ok(Final { head, interim, ahead: first.map_or(Duration::ZERO, |first| first.elapsed()) });
    }
}

async fn read_head(
    stream: &mut (impl Duplex + ?Sized),
    held: &mut BytesMut,
    patience: Duration,
    late: Instant,
) -> Result<Bytes, Unanswered> {
    let mut seen = 0;
    loop {
        if let Some(end) = AnswerHead::end(held, &mut seen)? {
            return Ok(held.split_to(end).freeze());
        }
        let until = late.min(Instant::now() + patience);
        match timeout_at(until, stream.read_buf(held)).await {
            Err(_) => return Err(Unanswered::Silent),
            Ok(Ok(0)) | Ok(Err(_)) => return Err(Unanswered::Closed),
            Ok(Ok(_)) => {}
        }
    }
}

/// The requests of one session.
#[derive(Debug)]
pub(super) struct Requests<'a> {
    pub(super) place: &'a Place,
    pub(super) tls: bool,
    pub(super) session: Uuid,
}

impl Requests<'_> {
    fn head(&self, line: (&str, &str), fields: &str) -> Vec<u8> {
        let (method, what) = line;
        let scheme = if self.tls { "https" } else { "http" };
        let (place, session, request) = (self.place, self.session, Uuid::new_v4());
        format!(
            "{method} {scheme}://{place}/aspera/{scheme}/{session}/{what}/{request}.ashttp HTTP/1.1\r\n\
             User-Agent: Aspera FASP HTTP Client\r\nHost: {place}\r\n{fields}\r\n"
        )
        .into_bytes()
    }

    /// A session_start with its body.
    pub(super) fn start(&self, token: &str, user: &str, upload: bool) -> (Vec<u8>, Vec<u8>) {
        let (session, operation) = (self.session, if upload { "put" } else { "get" });
        let encryption = if self.tls { "Yes" } else { "No" };
        let body = format!(
            "<session>\n\n  <id>{session}</id>\n  <operation>{operation}</operation>\n\n  <token>{token}</token>\n\n  \
             <source>fallgate-doctor</source>\n  <destination>/</destination>\n\n  <createdir>no</createdir>\n  \
             <client_encrypt>none</client_encrypt>\n  <encryption>{encryption}</encryption>\n\n  \
             <allow_resume>no</allow_resume>\n  <overwrite>yes</overwrite>\n\n  <user>{user}</user>\n\n  <rate>\n    \
             <limit>1250000</limit>\n  </rate>\n\n  <license></license>\n\n  <chunk_size>1</chunk_size>\n</session>\n"
        );
        let fields = format!(
            "Content-Length: {}\r\nKeep-Alive: 300\r\nConnection: keep-alive\r\nx-session-protocol-version: 1\r\n",
            body.len()
        );
        (self.head(("POST", "session_start/OOB"), &fields), body.into_bytes())
    }

    /// The session_end that follows every start, also one that was refused.
    pub(super) fn end(&self) -> (Vec<u8>, Vec<u8>) {
        let body = b"<session>\n\n  <reason>ERROR</reason>\n  <code>28</code>\n</session>\n".to_vec();
        (self.head(("POST", "session_end/OOB"), &format!("Content-Length: {}\r\n", body.len())), body)
    }

    /// The head of an upload of so many bytes.
    pub(super) fn put(&self, length: u64) -> Vec<u8> {
        let fields = format!(
            "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: {length}\r\n\
             Connection: keep-alive\r\nx-file-access-permissions: 33188\r\nx-File-accessible: 1\r\n"
        );
        self.head(("PUT", "file/fallgate-doctor"), &fields)
    }

    /// The head of an upload of so many bytes whose name is a question, with all that ascp may say of a file.
    pub(super) fn probe(&self, name: &str, length: usize) -> Vec<u8> {
        let last = length.saturating_sub(1);
        let fields = format!(
            "Accept: application/octet-stream\r\nKeep-Alive: 300\r\nContent-Length: {length}\r\n\
             Connection: keep-alive\r\nx-Content-range: 0-{last}\r\nx-file-access-permissions: 33188\r\n\
             x-next-wire-file: fallgate-doctor.next\r\nx-next-wire-file-time: 1700000000\r\n\
             x-next-wire-file-size: 1\r\nx-File-accessible: 1\r\n"
        );
        self.head(("PUT", &format!("file/{name}")), &fields)
    }
}

/// The CONNECT that ascp sends.
pub(super) fn connect_head(place: &Place) -> Vec<u8> {
    format!(
        "CONNECT {place} HTTP/1.1\r\nUser-Agent: Aspera HTTP FASP\r\nProxy-Connection: keep-alive\r\nHost: {place}\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    async fn hear(sent: Vec<u8>) -> Result<Answered, Unanswered> {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        let far = tokio::spawn(async move {
            let _ = far.write_all(&sent).await;
            let _ = far.shutdown().await;
            let mut rest = Vec::new();
            let _ = far.read_to_end(&mut rest).await;
        });
        let heard = exchange(&mut near, (b"head", b"body"), PATIENCE).await;
        drop(near);
        far.await.unwrap();
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn interim_answers_are_counted_and_the_final_one_is_told() {
        let heard =
            hear(b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 403 F\r\na: b\r\n\r\nrest".to_vec()).await;
        let heard = heard.unwrap();
        assert_eq!((heard.head.status(), heard.interim, heard.field("A").as_deref()), (403, 2, Some("b")));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_head_and_a_drip_come_to_an_end() {
        let endless = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a: b\r\n".repeat(100_000)].concat();
        assert!(matches!(hear(endless).await, Err(Unanswered::Malformed(_))));
        let (mut near, mut far) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            for byte in b"HTTP/1.1 200 OK\r\n".iter().cycle() {
                tokio::time::sleep(PATIENCE / 2).await;
                if far.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
        let begin = Instant::now();
        assert!(matches!(exchange(&mut near, (b"", b""), PATIENCE).await, Err(Unanswered::Silent)));
        assert!(begin.elapsed() <= PATIENCE * WHOLE);
    }

    async fn say(sent: &'static [(u64, &'static [u8])]) -> Result<Said, Unanswered> {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(async move {
            for (after, part) in sent {
                tokio::time::sleep(Duration::from_millis(*after)).await;
                let _ = far.write_all(part).await;
            }
        });
        converse(&mut near, [b"head", b"one", b"two"], Duration::ZERO, PATIENCE, 100).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_to_its_end_and_what_came_when_is_told() {
        let said = say(&[
            (0, b"HTTP/1.1 102 P\r\n\r\n"),
            (300, b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 F\r\nContent-Length: 6\r\n\r\n"),
            (100, b"abc"),
            (800, b"defmore"),
        ]);
        let said = said.await.unwrap();
        assert_eq!((said.interim, said.ahead.as_millis(), &said.body[..]), (2, 300, &b"abcdef"[..]));
        assert_eq!((said.last - said.first).as_millis(), 800);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_ascp_could_not_read_or_that_never_ends_is_none() {
        let chunked = say(&[(0, b"HTTP/1.1 200 F\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")]);
        assert!(matches!(chunked.await, Err(Unanswered::Unframed)));
        assert!(matches!(say(&[(0, b"HTTP/1.1 200 F\r\na: b\r\n\r\nx")]).await, Err(Unanswered::Unframed)));
        let large = say(&[(0, b"HTTP/1.1 200 F\r\nContent-Length: 101\r\n\r\n")]);
        assert!(matches!(large.await, Err(Unanswered::Unframed)));
        let short = say(&[(0, b"HTTP/1.1 200 F\r\nContent-Length: 9\r\n\r\nabc")]);
        assert!(matches!(short.await, Err(Unanswered::Closed)));
        let slow = say(&[(0, b"HTTP/1.1 200 F\r\nContent-Length: 9\r\n\r\nabc"), (5_000, b"def")]);
        assert!(matches!(slow.await, Err(Unanswered::Silent)));
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_is_answered_or_named(sent in proptest::collection::vec(any::<u8>(), 0..300), sound in any::<bool>()) {
            let sent = if sound { [b"HTTP/1.1 200 OK\r\n".as_slice(), &sent].concat() } else { sent };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _ = runtime.block_on(hear(sent));
        }
    }
}
