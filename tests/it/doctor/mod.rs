//! The doctor against peers of which the truth is known: what it says of each is right.

mod between;
mod command;
mod far;
mod hostile;
mod others;
mod paths;
mod probes;
mod run;
mod sample;
mod table;
mod tls;
mod tried;

use std::{net::SocketAddr, time::Duration};

use fallgate::doctor::{Path, Place, Question, Report, State, examine};

use crate::support::peer::DeadPort;

/// A question to loopback whose ports refuse, but those that a test sets.
struct Seat {
    question: Question,
    _dead: DeadPort,
}

impl Seat {
    async fn new() -> Seat {
        let dead = DeadPort::new();
        let port = dead.address.port();
        let question = Question {
            host: "127.0.0.1".to_owned(),
            ssh_port: port,
            udp_port: port,
            https_port: port,
            http_port: port,
            proxy: None,
            token: None,
            secret: None,
            user: "xfer".to_owned(),
            timeout: Duration::from_secs(2),
            idle: Duration::from_secs(2),
        };
        Seat { question, _dead: dead }
    }

    fn http(mut self, address: SocketAddr) -> Seat {
        self.question.http_port = address.port();
        self
    }

    fn https(mut self, address: SocketAddr) -> Seat {
        self.question.https_port = address.port();
        self
    }

    fn ssh(mut self, address: SocketAddr) -> Seat {
        self.question.ssh_port = address.port();
        self
    }

    fn udp(mut self, address: SocketAddr) -> Seat {
        self.question.udp_port = address.port();
        self
    }

    fn proxy(mut self, address: SocketAddr) -> Seat {
        self.question.proxy = Some(Place { host: address.ip().to_string(), port: address.port() });
        self
    }

    fn token(mut self, token: &str) -> Seat {
        self.question.token = Some(token.to_owned());
        self
    }

    async fn examine(&self) -> Report {
        Box::pin(examine(&self.question)).await
    }

    /// The words for one path.
    async fn words(&self, path: Path) -> Vec<&'static str> {
        words(&self.examine().await, path)
    }
}

/// The words for one path; what cannot be told of a fallback is left out, for it always stands there.
fn words(report: &Report, path: Path) -> Vec<&'static str> {
    let of_path = report.findings.iter().filter(|finding| finding.path == path);
    let told = of_path.map(|finding| finding.diagnosis.as_str()).filter(|word| *word != "body_held_untold");
    told.collect()
}

/// Every finding that is not good tells a cure.
fn has_cures(report: &Report) {
    for finding in &report.findings {
        assert!(finding.diagnosis.state() == State::Good || !finding.diagnosis.cure().is_empty(), "{finding:?}");
    }
}
