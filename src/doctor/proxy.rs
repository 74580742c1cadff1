//! A forward proxy between client and server: its CONNECT, and what its own answers look like among those of servers.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{
    diagnosis::Diagnosis as D,
    exchange::{Answered, Unanswered, connect_head, exchange},
    reach::{self, Fault, Place},
};

/// A tunnel to `place`.
pub(super) async fn tunnel(proxy: &Place, place: &Place, patience: Duration) -> Result<TcpStream, Fault> {
    let mut stream = reach::connect(proxy, patience).await?;
    match exchange(&mut stream, (&connect_head(place), b""), patience).await {
        Ok(answered) => match answered.head.status() {
            200 => Ok(stream),
            407 => Err(Fault::new(D::ProxyAuth, asks(&answered))),
            status @ (500 | 502 | 503 | 504) => {
                Err(Fault::new(D::ProxyFailed, format!("{status} to CONNECT {place}{}", by(&answered))))
            }
            status => Err(Fault::new(D::ProxyDenied, format!("{status} to CONNECT {place}{}", by(&answered)))),
        },
        Err(Unanswered::Silent) => Err(Fault::new(D::ProxySilent, format!("{proxy}: no answer to CONNECT"))),
        Err(error) => Err(Fault::new(D::NotProxy, format!("{proxy}: {error} after CONNECT"))),
    }
}

/// What a 407 asks for.
pub(super) fn asks(answered: &Answered) -> String {
    let schemes = answered.head.fields().filter(|(name, _)| name.eq_ignore_ascii_case(b"proxy-authenticate"));
    let schemes: Vec<_> = schemes.filter_map(|(_, value)| value.split(|b| *b == b' ').next()).collect();
    format!("407, {}", String::from_utf8_lossy(&schemes.join(&b", "[..])))
}

/// Who answers, where that is shown.
pub(super) fn by(answered: &Answered) -> String {
    let name = ["via", "server", "proxy-agent"].into_iter().find_map(|name| answered.field(name));
    name.map_or_else(String::new, |name| format!(" by {}", name.chars().take(60).collect::<String>()))
}

/// Whether the answer is one of the proxy itself. ascp cannot tell that.
pub(super) fn is_its_own(answered: &Answered) -> bool {
    let server = answered.field("server").unwrap_or_default().to_ascii_lowercase();
    let is_known = ["squid", "tinyproxy", "privoxy"].iter().any(|name| server.starts_with(name));
    let has_failed = answered.field("proxy-status").is_some_and(|status| status.contains("error="));
    is_known
        || has_failed
        || answered.field("x-squid-error").is_some()
        || answered.field("proxy-authenticate").is_some()
}
