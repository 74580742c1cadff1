//! The doctor: a client that moves nothing and tells which path to a server works, why another does not, and how ascp is told.
//!
//! Each check is in a file of its own (`ssh`, `udp`, `tls`, `fallback`, `proxy`, `way`) and gives findings; what they are called and
//! what helps is one table ([`Diagnosis`]), what follows from them is worked out without a socket (`advice`). All checks
//! run at once, and each wait has an end: nothing that a server says, or leaves unsaid, keeps the doctor. What is sent is
//! what ascp would send; every session that is started is ended at once.

mod advice;
mod codes;
mod diagnosis;
mod exchange;
mod fallback;
mod fields;
mod finding;
mod proxy;
mod reach;
mod ssh;
mod text;
mod tls;
mod udp;
mod way;

use std::time::Duration;

pub use advice::{Advice, Verdict, Works};
pub use codes::{CODES, Code, code_of};
pub use diagnosis::{Diagnosis, State};
pub use finding::{Finding, Path};
pub use reach::Place;
pub use text::{json, lines};

pub use crate::net::probe::way::LONGEST;

use crate::net::probe::Secret;
use fallback::{Looked, Way};

/// What is asked of which server.
#[derive(Debug)]
pub struct Question {
    /// Its name or address.
    pub host: String,
    /// Its control port.
    pub ssh_port: u16,
    /// Its data port.
    pub udp_port: u16,
    /// Its fallback port with TLS.
    pub https_port: u16,
    /// Its fallback port in the clear.
    pub http_port: u16,
    /// A forward proxy to try as well.
    pub proxy: Option<Place>,
    /// A transfer token.
    pub token: Option<String>,
    /// What the gateway shares with us; without it neither UDP nor how a way treats requests can be told.
    pub secret: Option<Secret>,
    /// The transfer user.
    pub user: String,
    /// How long to wait in silence; ascp's own patience is 20 seconds.
    pub timeout: Duration,
    /// How long a silent request and an idle connection must last; at most [`LONGEST`].
    pub idle: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// The server.
    pub host: String,
    /// What was found, path by path.
    pub findings: Vec<Finding>,
    /// The paths, the best first.
    pub advice: Vec<Advice>,
    /// All in one word.
    pub verdict: Verdict,
}

/// Looks at every path.
pub async fn examine(question: &Question) -> Report {
    let place = |port| Place { host: question.host.clone(), port };
    let way = |tls: bool, proxy| {
        let place = place(if tls { question.https_port } else { question.http_port });
        fallback::look(Way { place, proxy, tls, question })
    };
    let by_proxy = async |tls| match &question.proxy {
        Some(proxy) => way(tls, Some(proxy)).await,
        None => Looked::default(),
    };
    let (ssh_place, udp_place) = (place(question.ssh_port), place(question.udp_port));
    let (mut findings, udp, https, http, https_proxy, mut http_proxy) = tokio::join!(
        ssh::look(&ssh_place, question.timeout),
        udp::look(&udp_place, question.secret.as_ref(), question.timeout),
        way(true, None),
        way(false, None),
        by_proxy(true),
        by_proxy(false),
    );
    if let (Some(direct), Some(proxied)) = (&http.answer, &http_proxy.answer)
        && let Some(names) = fallback::changed(direct, proxied)
    {
        http_proxy.findings.push(Finding::new(Path::HttpProxy, Diagnosis::FieldsChanged, names));
    }
    findings.extend(udp);
    findings.extend([https, http, https_proxy, http_proxy].into_iter().flat_map(|looked| looked.findings));
    let (advice, verdict) = advice::advise(question, &findings);
    Report { host: question.host.clone(), findings, advice, verdict }
}
