//! How a way treats requests, as a far end tells that takes part: a fallgate that shares a secret with us. It answers an
//! upload to a session that there is not, whose name is the signed question; what it saw is compared with what was sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    diagnosis::Diagnosis as D,
    exchange::{Duplex, Requests, Said, Unanswered, converse},
    fallback::Way,
    fields,
    finding::Finding,
    reach::Fault,
    ssh::secs,
};
use crate::net::probe::{
    Secret,
    way::{Ask, BREAK, MOST_ANSWER, ROW, Told},
};

/// One part of a body, in bytes.
const PART: usize = 8 * 1024;
/// Between the two parts.
const PAUSE: Duration = Duration::from_secs(1);
/// How many 102 are asked for, and how far apart.
const NOTICES: u32 = 3;
const SPACING: Duration = Duration::from_millis(300);

/// An answer of a far end that takes part.
struct Answer {
    said: Said,
    told: Told,
    /// What was sent.
    head: Vec<u8>,
}

/// Why there is none.
enum Untold {
    /// The question was answered as any other request.
    Status(u16),
    /// The gateway answers no further question now: the word of a limit.
    Refused(String),
    /// There was no whole answer, after so long.
    Nothing(Unanswered, Duration),
    /// No connection.
    Fault(Fault),
}

/// Looks at one way.
pub(super) async fn look(way: &Way<'_>, secret: &Secret, idle: Duration) -> Vec<Finding> {
    let find = |fault: Fault| Finding::new(way.path(), fault.diagnosis, fault.seen);
    let probes = Probes { way, secret };
    let begin = Ask { halves: true, idle, ..Ask::default() };
    let (answer, conn) = match probes.ask(&begin, PAUSE).await {
        Ok(answered) => answered,
        // No far end says so, whether it takes part or not.
        Err(Untold::Status(status @ (408 | 504))) => {
            let seen = format!("{status} in a pause of {} within a body", secs(PAUSE));
            return vec![find(Fault::new(D::SilenceCut, seen))];
        }
        Err(none) => {
            let why = match none {
                Untold::Status(403) => {
                    "403 to a signed question: no such secret there, or a clock that differs by a minute".to_owned()
                }
                Untold::Status(status) => format!("{status} to a signed question"),
                Untold::Refused(word) => refused(&word).seen,
                Untold::Nothing(error, after) => format!("a signed question: {error} after {}", secs(rounded(after))),
                Untold::Fault(fault) => fault.seen,
            };
            return vec![find(Fault::new(D::BodyHeldUntold, why))];
        }
    };
    let mut faults = vec![body(&answer), probes.fields(&answer), halves(&answer)];
    let (interim, silence, idle) =
        tokio::join!(probes.interim(), probes.silence(idle), probes.idle(&answer, conn, idle));
    faults.extend([interim, silence, idle]);
    faults.into_iter().map(find).collect()
}

struct Probes<'a> {
    way: &'a Way<'a>,
    secret: &'a Secret,
}

impl Probes<'_> {
    /// Asks on a connection of its own, which is given back.
    async fn ask(&self, ask: &Ask, pause: Duration) -> Result<(Answer, Box<dyn Duplex>), Untold> {
        let mut conn = self.way.open().await.map_err(Untold::Fault)?;
        let answer = self.ask_on(&mut *conn, ask, pause).await?;
        Ok((answer, conn))
    }

    /// Asks; the pause is in the middle of the body.
    async fn ask_on(&self, conn: &mut dyn Duplex, ask: &Ask, pause: Duration) -> Result<Answer, Untold> {
        let nonce = Uuid::new_v4().into_bytes();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = self.secret.name(&nonce, u64::try_from(now.as_millis()).unwrap_or(0), ask);
        let requests = Requests { place: &self.way.place, tls: self.way.tls, session: Uuid::new_v4() };
        let (head, part) = (requests.probe(&name, 2 * PART), vec![0; PART]);
        let patience = self.way.question.timeout + ask.silence;
        let begin = Instant::now();
        let said = converse(conn, [&head, &part, &part], pause, patience, MOST_ANSWER).await;
        let said = said.map_err(|error| Untold::Nothing(error, begin.elapsed()))?;
        match self.secret.read_told(&said.body, &nonce) {
            Some(told) => Ok(Answer { said, told, head }),
            None => {
                let word = said.head.field("x-fallgate-error").map(|word| String::from_utf8_lossy(word).into_owned());
                match (said.head.status(), word) {
                    (429 | 503, Some(word)) => Err(Untold::Refused(word)),
                    (status, _) => Err(Untold::Status(status)),
                }
            }
        }
    }

    /// What became of the fields.
    fn fields(&self, answer: &Answer) -> Fault {
        let sent = fields::of_request(&answer.head);
        let seen = fields::of_request(&answer.told.head);
        let there = fields::compare(&sent, &seen);
        let row: Vec<_> =
            ROW.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect();
        let here: Vec<_> = answer.said.head.fields().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        let back = fields::compare(&row, &here);
        let told = [("requests", &there), ("answers", &back)].map(|(of, compared)| compared.told(of));
        let told = told.into_iter().filter(|told| !told.is_empty()).collect::<Vec<_>>().join("; ");
        match () {
            () if there.is_lossy() || back.is_lossy() => Fault::new(D::FieldsChanged, told),
            () if there.is_rewritten() || back.is_rewritten() => Fault::new(D::FieldsRewritten, told),
            () if told.is_empty() => Fault::new(D::FieldsOk, format!("{} and {} fields", sent.len(), row.len())),
            () => Fault::new(D::FieldsOk, told),
        }
    }

    async fn interim(&self) -> Fault {
        let ask = Ask { notices: NOTICES, spacing: SPACING, ..Ask::default() };
        match self.ask(&ask, Duration::ZERO).await {
            Ok((answer, _)) if answer.said.interim >= NOTICES && answer.said.ahead >= SPACING / 2 => {
                Fault::new(D::InterimOk, format!("{NOTICES} of {NOTICES} came"))
            }
            // A sign of life that comes when all is over is none.
            Ok((answer, _)) if answer.said.interim >= NOTICES => {
                Fault::new(D::InterimSwallowed, format!("{NOTICES} of {NOTICES} came, but with the answer"))
            }
            Ok((answer, _)) => Fault::new(D::InterimSwallowed, format!("{} of {NOTICES} came", answer.said.interim)),
            Err(Untold::Refused(word)) => refused(&word),
            Err(Untold::Status(status)) => Fault::new(D::InterimBroken, format!("{status} in the place of the answer")),
            Err(Untold::Nothing(error, after)) => {
                Fault::new(D::InterimBroken, format!("behind a 102: {error} after {}", secs(rounded(after))))
            }
            Err(Untold::Fault(fault)) => fault,
        }
    }

    async fn silence(&self, time: Duration) -> Fault {
        let begin = Instant::now();
        match self.ask(&Ask { silence: time, ..Ask::default() }, Duration::ZERO).await {
            Ok(_) => Fault::new(D::SilenceOk, format!("answered after {}", secs(time))),
            Err(Untold::Refused(word)) => refused(&word),
            Err(Untold::Status(status)) => {
                Fault::new(D::SilenceCut, format!("{status} after {}", secs(rounded(begin.elapsed()))))
            }
            Err(Untold::Nothing(error, after)) => {
                Fault::new(D::SilenceCut, format!("{error} after {}", secs(rounded(after))))
            }
            Err(Untold::Fault(fault)) => fault,
        }
    }

    /// On the connection of the answer.
    async fn idle(&self, answer: &Answer, mut conn: Box<dyn Duplex>, time: Duration) -> Fault {
        if answer.said.head.has_token("connection", "close") {
            return Fault::new(D::IdleCut, "each answer says that its connection is closed");
        }
        let begin = Instant::now();
        // Nobody has anything to say here, so whatever comes is the end.
        if timeout(time, conn.read_u8()).await.is_ok() {
            return Fault::new(D::IdleCut, format!("closed after {}", secs(rounded(begin.elapsed()))));
        }
        match self.ask_on(&mut *conn, &Ask::default(), Duration::ZERO).await {
            Ok(_) => Fault::new(D::IdleOk, format!("still served after {}", secs(time))),
            Err(Untold::Refused(word)) => refused(&word),
            Err(_) => Fault::new(D::IdleCut, format!("no longer served after {}", secs(time))),
        }
    }
}

/// A limit of the gateway says nothing of the way.
fn refused(word: &str) -> Fault {
    Fault::new(D::BodyHeldUntold, format!("the gateway answers no more questions now: {word}"))
}

/// Whether the second part of the body came later than the first.
fn body(answer: &Answer) -> Fault {
    let Told { first, last, .. } = answer.told;
    let apart = Duration::from_millis(last.saturating_sub(first));
    let seen = format!("two parts sent {} apart came {} apart", secs(PAUSE), secs(apart));
    Fault::new(if apart < PAUSE / 4 { D::BodyHeld } else { D::BodyStreamed }, seen)
}

/// Whether the second half of the answer came later than the first.
fn halves(answer: &Answer) -> Fault {
    let apart = answer.said.last - answer.said.first;
    let seen = format!("two halves sent {} apart came {} apart", secs(BREAK), secs(rounded(apart)));
    Fault::new(if apart < BREAK / 4 { D::AnswerHeld } else { D::AnswerStreamed }, seen)
}

/// To a tenth of a second.
fn rounded(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / 100 * 100)
}
