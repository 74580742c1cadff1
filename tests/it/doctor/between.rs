//! A box on the way that does one thing wrong, as products do by their settings.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::peer::Peer;

/// What it does to heads, and what else; as it stands it passes all.
#[derive(Clone, Copy)]
pub(super) struct Between {
    /// To the head of a request.
    pub(super) request: fn(String) -> String,
    /// To the head of a final answer.
    pub(super) answer: fn(String) -> String,
    /// Interim answers end here.
    pub(super) swallows: bool,
    /// It takes them for the answer.
    pub(super) confuses: bool,
    /// The body of a request goes on when it is whole.
    pub(super) gathers: bool,
    /// And that of an answer.
    pub(super) hoards: bool,
    /// How long an answer may take, after which this is what the client hears.
    pub(super) silence: Option<(Duration, &'static str)>,
    /// How long a connection may be idle.
    pub(super) idle: Option<Duration>,
}

impl Between {
    pub(super) const NOTHING: Between = Between {
        request: |head| head,
        answer: |head| head,
        swallows: false,
        confuses: false,
        gathers: false,
        hoards: false,
        silence: None,
        idle: None,
    };

    /// Such a box before a server.
    pub(super) async fn start(self, far: SocketAddr) -> Peer {
        Peer::start(move |near: TcpStream| async move {
            if let Ok(far) = TcpStream::connect(far).await {
                let _ = self.serve(Half::of(near), Half::of(far)).await;
            }
        })
        .await
    }

    async fn serve(self, mut near: Half, mut far: Half) -> io::Result<()> {
        const FOR_EVER: Duration = Duration::from_secs(3600);
        loop {
            let head = timeout(self.idle.unwrap_or(FOR_EVER), near.head()).await??;
            let (whole, head) = (length(&head), (self.request)(head));
            if !self.gathers {
                far.stream.write_all(head.as_bytes()).await?;
            }
            let body = near.body(whole, (!self.gathers).then_some(&mut far.stream)).await?;
            if self.gathers {
                far.stream.write_all(&[head.as_bytes(), &body].concat()).await?;
            }
            loop {
                let (patience, or) = self.silence.unwrap_or((FOR_EVER, ""));
                let Ok(head) = timeout(patience, far.head()).await else {
                    return near.stream.write_all(or.as_bytes()).await;
                };
                let head = head?;
                if head.starts_with("HTTP/1.1 1") && !self.confuses {
                    if !self.swallows {
                        near.stream.write_all(head.as_bytes()).await?;
                    }
                    continue;
                }
                let (whole, head) = (length(&head), (self.answer)(head));
                if !self.hoards {
                    near.stream.write_all(head.as_bytes()).await?;
                }
                let body = far.body(whole, (!self.hoards).then_some(&mut near.stream)).await?;
                if self.hoards {
                    near.stream.write_all(&[head.as_bytes(), &body].concat()).await?;
                }
                if head.starts_with("HTTP/1.1 1") {
                    return Ok(());
                }
                break;
            }
        }
    }
}

/// Has a rewritten head end as it must.
pub(super) fn lines(head: &str, change: impl Fn(&mut Vec<String>)) -> String {
    let mut lines: Vec<_> = head.trim_end().split("\r\n").map(str::to_owned).collect();
    change(&mut lines);
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

fn length(head: &str) -> usize {
    let head = head.to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok()).unwrap_or(0)
}

/// A connection, and what was read ahead of it.
struct Half {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Half {
    fn of(stream: TcpStream) -> Half {
        Half { stream, ahead: Vec::new() }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.ahead).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|part| part == b"\r\n\r\n") {
                let rest = self.ahead.split_off(at + 4);
                let head = std::mem::replace(&mut self.ahead, rest);
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.more().await?;
        }
    }

    /// Reads a body, and passes it on as it comes where there is somebody to pass it to.
    async fn body(&mut self, length: usize, mut to: Option<&mut TcpStream>) -> io::Result<Vec<u8>> {
        let (mut body, mut left) = (Vec::new(), length);
        while left > 0 {
            if self.ahead.is_empty() {
                self.more().await?;
            }
            let rest = self.ahead.split_off(self.ahead.len().min(left));
            let part = std::mem::replace(&mut self.ahead, rest);
            left -= part.len();
            match &mut to {
                Some(to) => to.write_all(&part).await?,
                None => body.extend(part),
            }
        }
        Ok(body)
    }
}
