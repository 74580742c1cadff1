//! One question to an admin door, or one command, over plain HTTP, as little of it as that takes.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    str::FromStr,
    time::{Duration, Instant},
};

/// A connect, or the answer to a question, may take so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a command brings about may take so long.
const WORK: Duration = Duration::from_secs(90);
/// No answer is longer than this, in bytes.
const LONGEST: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("cannot be reached: {0}{hint}", hint = hint(.0))]
    Unreachable(io::Error),
    #[error("the answer broke off: {0}")]
    Broken(io::Error),
    #[error("what answers there is no admin door")]
    NoHttp,
    #[error("the token is not one line of visible characters")]
    BadToken,
    #[error("it answers {status}: {message}")]
    Refused { status: u16, message: String },
}

/// Where to look when nobody is there.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "\n  hint: nothing listens there; admin.address of the gateway's config says where its door is"
        }
        _ => "",
    }
}

/// Where an admin door is: `http://HOST:PORT`, with a path where a proxy stands in front of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Host and port, as a `Host` field has them.
    authority: String,
    /// What stands before each path, without a slash at its end.
    prefix: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

impl From<SocketAddr> for Url {
    /// That of the admin door of a gateway on this host, which listens there.
    fn from(mut address: SocketAddr) -> Url {
        if address.ip().is_unspecified() {
            let loopback =
                if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { IpAddr::from(Ipv6Addr::LOCALHOST) };
            address.set_ip(loopback);
        }
        Url { authority: address.to_string(), prefix: String::new() }
    }
}

impl FromStr for Url {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Url, Self::Err> {
        const WANTED: &str = "expected http://HOST:PORT, in the clear and without a login";
        let rest = text.strip_prefix("http://").ok_or(WANTED)?;
        let (authority, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '@' | '?' | '#'));
        if authority.is_empty() || authority.starts_with(':') || !is_plain(rest) {
            return Err(WANTED);
        }
        Ok(Url { authority: authority.to_owned(), prefix: prefix.trim_end_matches('/').to_owned() })
    }
}

impl Url {
    /// What is at this path.
    pub(super) fn get(&self, path: &str, token: Option<&str>) -> Result<String, AskError> {
        self.ask("GET", path, token, PATIENCE)
    }

    /// What comes of the command at this path.
    pub(super) fn post(&self, path: &str, token: Option<&str>) -> Result<String, AskError> {
        self.ask("POST", path, token, WORK)
    }

    fn ask(&self, method: &str, path: &str, token: Option<&str>, patience: Duration) -> Result<String, AskError> {
        let authorization = match token {
            Some(token) if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) => {
                return Err(AskError::BadToken);
            }
            Some(token) => format!("Authorization: Bearer {token}\r\n"),
            None => String::new(),
        };
        let mut stream = self.connect().map_err(AskError::Unreachable)?;
        // To HTTP/1.0 nobody answers in chunks, and the end of the answer is that of the connection.
        let head = format!(
            "{method} {}{path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\nContent-Length: 0\r\n{authorization}\r\n",
            self.prefix, self.authority
        );
        stream.write_all(head.as_bytes()).map_err(AskError::Broken)?;
        read(&String::from_utf8_lossy(&until_end(stream, patience).map_err(AskError::Broken)?))
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let place = if has_port { self.authority.clone() } else { format!("{}:80", self.authority) };
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for address in place.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// All that comes until the other side closes, which takes no longer than that, however slowly it comes.
fn until_end(mut stream: TcpStream, patience: Duration) -> io::Result<Vec<u8>> {
    let (deadline, mut answer, mut room) = (Instant::now() + patience, Vec::new(), [0; 16 * 1024]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let n = match stream.read(&mut room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            n => n?,
        };
        answer.extend(room.iter().take(n));
        if n == 0 || answer.len() > LONGEST {
            return Ok(answer);
        }
    }
}

/// The body of an answer that says yes and is whole.
fn read(answer: &str) -> Result<String, AskError> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(AskError::NoHttp)?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    let status = words.next().and_then(|status| status.parse().ok()).filter(|_| is_http).ok_or(AskError::NoHttp)?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|length| body.len() < length) {
        return Err(AskError::Broken(io::ErrorKind::UnexpectedEof.into()));
    }
    if status == 200 {
        return Ok(body.to_owned());
    }
    let said = serde_json::from_str::<serde_json::Value>(body).ok();
    let said = said.as_ref();
    let message = said.and_then(|said| said.get("message")?.as_str());
    let message = message.or_else(|| word(body)).unwrap_or("no reason is given");
    let problems = said.and_then(|said| said.get("problems")?.as_array()).into_iter().flatten();
    let all: Vec<_> = std::iter::once(message).chain(problems.filter_map(|problem| problem.as_str())).collect();
    Err(AskError::Refused { status, message: all.join("\n  ") })
}

/// A body that is a line of plain words, as those of health are.
fn word(body: &str) -> Option<&str> {
    let line = body.trim_end();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_');
    (!line.is_empty() && line.len() <= 100 && line.chars().all(is_plain)).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_host_in_the_clear() {
        for (text, shown) in [
            ("http://127.0.0.1:9180", "http://127.0.0.1:9180"),
            ("http://[::1]:9180/", "http://[::1]:9180"),
            ("http://gate/fallgate/", "http://gate/fallgate"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), shown);
        }
        for text in
            ["", "127.0.0.1:9180", "https://gate:9180", "http://", "http://:1", "http://a:b@gate:1", "http://a b/"]
        {
            assert!(text.parse::<Url>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn only_a_whole_answer_that_says_yes_is_one() {
        let of = |text: &str| read(text).map_err(|error| error.to_string());
        assert_eq!(of("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").as_deref(), Ok("{}"));
        assert_eq!(of("HTTP/1.0 200 OK\r\n\r\n{}").as_deref(), Ok("{}"));
        for (answer, part) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", "broke off"),
            ("HTTP/1.1 401 No\r\n\r\n{\"message\": \"This needs a token.\"}", "401: This needs a token."),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "502: no reason is given"),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n", "503: draining"),
            ("SSH-2.0-x\r\n", "no admin door"),
            ("SMTP 200 x\r\n\r\n", "no admin door"),
            ("", "no admin door"),
        ] {
            let error = of(answer).unwrap_err();
            assert!(error.contains(part), "{answer:?}: {error}");
        }
    }

    #[test]
    fn an_answer_that_never_ends_is_not_waited_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        // A byte after the other, as long as somebody reads them.
        let drip = std::thread::spawn(move || while peer.write_all(b"x").is_ok() {});
        let error = until_end(stream, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock), "{error}");
        drip.join().unwrap();
    }

    #[test]
    fn a_token_that_could_say_more_than_itself_is_not_sent() {
        let url: Url = "http://127.0.0.1:1".parse().unwrap();
        for token in ["", "a b", "a\r\nX: y", "ä"] {
            assert!(matches!(url.get("/", Some(token)), Err(AskError::BadToken)), "{token:?}");
        }
    }
}
