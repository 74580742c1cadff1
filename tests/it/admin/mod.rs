//! The admin door: what operators see, what they can do, and who may not.

mod access;
mod cancel;
mod commands;
mod events;
mod nodes;
mod openapi;
mod page;
mod sessions;

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Sandbox, Wire};

/// The token of every sandbox's `token` file.
pub(crate) use crate::support::ADMIN_TOKEN;

/// Who asks the admin door.
#[derive(Clone, Copy)]
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    /// Brings the token.
    pub(crate) has_token: bool,
}

/// What it says.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Said {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The word of a refusal.
    pub(crate) fn word(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }

    /// Status and word of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.word())
    }
}

impl Operator {
    /// One with the token.
    pub(crate) fn of(sandbox: &Sandbox) -> Operator {
        Operator { address: sandbox.gateway.admin_address().unwrap(), has_token: true }
    }

    /// Somebody without it.
    pub(crate) fn stranger(sandbox: &Sandbox) -> Operator {
        Operator { has_token: false, ..Operator::of(sandbox) }
    }

    pub(crate) async fn get(&self, path: &str) -> Said {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Said {
        self.ask("POST", path, &[], body).await
    }

    /// With these fields, of which a `Host` stands for the usual one.
    pub(crate) async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Said {
        let mut wire = Wire::plain(self.address).await;
        let reply = wire.ask(self.head(method, path, fields, body).as_bytes()).await;
        let rest = if method == "HEAD" { Vec::new() } else { wire.rest().await };
        Said { status: reply.status, head: reply.text, body: String::from_utf8(rest).unwrap() }
    }

    /// The bytes of a request.
    pub(crate) fn head(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !fields.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        if self.has_token {
            head += &format!("Authorization: Bearer {ADMIN_TOKEN}\r\n");
        }
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        format!("{head}\r\n{body}")
    }

    /// What is open and matches the query.
    pub(crate) async fn sessions(&self, query: &str) -> Vec<Value> {
        let said = self.get(&format!("/api/v1/sessions{query}")).await;
        assert_eq!(said.status, 200, "{said:?}");
        said.json()["sessions"].as_array().unwrap().clone()
    }

    /// The first that matches the query and of which this holds.
    pub(crate) async fn until(&self, query: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begin = std::time::Instant::now();
        loop {
            let all = self.sessions(query).await;
            if let Some(found) = all.iter().find(|session| is_so(session)) {
                return found.clone();
            }
            assert!(begin.elapsed() < std::time::Duration::from_secs(20), "never came; there is {all:#?}");
        }
    }
}
