//! The metrics as a scraper sees them.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::secrets;

/// One scrape.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    pub(crate) async fn scrape(admin: SocketAddr) -> Metrics {
        Metrics(get(admin, "/metrics").await.1)
    }

    /// Over a connection that there is already.
    pub(crate) async fn over(stream: TcpStream) -> Metrics {
        Metrics(get_over(stream, "/metrics").await.1)
    }

    /// The sum of the series of a family (without `fallgate_`) that have all of these labels.
    pub(crate) fn sum(&self, family: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        self.0
            .lines()
            .filter_map(|line| line.strip_prefix("fallgate_")?.strip_prefix(family))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter(|rest| wanted.iter().all(|w| rest.contains(w.as_str())))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

/// Scrapes until the sum of these series is `value`; nobody waits longer than `patience`.
pub(crate) async fn until<F: Future<Output = Metrics>>(
    scrape: impl Fn() -> F,
    series: (&str, &[(&str, &str)]),
    value: f64,
    patience: Duration,
) {
    let (begin, (family, labels)) = (Instant::now(), series);
    loop {
        let now = scrape().await.sum(family, labels);
        if now == value {
            return;
        }
        assert!(begin.elapsed() < patience, "{family} {labels:?} is {now}, never {value}");
    }
}

/// Status and body of a GET over plain HTTP.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    get_over(TcpStream::connect(address).await.unwrap(), path).await
}

async fn get_over(mut stream: TcpStream, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    if path != "/metrics" {
        secrets::none_in(path, &text);
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
