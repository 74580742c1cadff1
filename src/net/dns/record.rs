//! All that a name has in the DNS, and how long that holds: for those who follow what becomes of it.

use std::{future::Future, net::IpAddr, time::Duration};

use hickory_resolver::{
    lookup::Lookup,
    net::NetError,
    proto::rr::{Name, RData, RecordType},
};
use tokio::time::timeout;

use super::{DnsError, Resolver};

/// What name servers say of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What there is; never nothing where the answer is whole.
    pub found: Vec<T>,
    /// How long it holds.
    pub ttl: Duration,
    /// Why it is not all that there is: one family of addresses could not be looked up.
    pub missing: Option<String>,
}

/// One host that serves what a name stands for (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, in lower case and without the last dot.
    pub host: String,
    /// Where it serves; never 0.
    pub port: u16,
    /// Those of the least are asked first.
    pub priority: u16,
    /// Its share among those of its priority; may be 0.
    pub weight: u16,
}

impl Resolver {
    /// The addresses of a name, of both families, as they came.
    ///
    /// # Errors
    /// It has none, or the servers did not say in time.
    pub async fn all_addresses(&self, name: &str) -> Result<Answer<IpAddr>, DnsError> {
        let name = whole(name)?;
        let of = |kind| self.in_time(self.inner.lookup(name.clone(), kind));
        let (mut answer, mut failed) = (None::<Answer<IpAddr>>, None);
        let (v4, v6) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
        for family in [v4, v6] {
            let found = match family {
                Ok(lookup) => read(&lookup, |data| match data {
                    RData::A(ip) => Some(IpAddr::V4(ip.0)),
                    RData::AAAA(ip) => Some(IpAddr::V6(ip.0).to_canonical()),
                    _ => None,
                }),
                Err(DnsError::NotFound) => continue,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            answer = match answer {
                None => Some(found),
                Some(first) => Some(Answer {
                    found: [first.found, found.found].concat(),
                    ttl: first.ttl.min(found.ttl),
                    missing: None,
                }),
            };
        }
        match (answer.filter(|answer| !answer.found.is_empty()), failed) {
            (Some(answer), failed) => Ok(Answer { missing: failed.map(|error| error.to_string()), ..answer }),
            (None, Some(failed)) => Err(failed),
            (None, None) => Err(DnsError::NotFound),
        }
    }

    /// The hosts that SRV records of a name tell. One that says that there is no such service is none.
    ///
    /// # Errors
    /// There is none, or the servers did not say in time.
    pub async fn services(&self, name: &str) -> Result<Answer<Service>, DnsError> {
        let lookup = self.in_time(self.inner.lookup(whole(name)?, RecordType::SRV)).await?;
        let answer = read(&lookup, |data| match data {
            RData::SRV(record) => {
                let host = record.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
                let (port, priority, weight) = (record.port, record.priority, record.weight);
                (!host.is_empty() && port > 0).then_some(Service { host, port, priority, weight })
            }
            _ => None,
        });
        if answer.found.is_empty() { Err(DnsError::NotFound) } else { Ok(answer) }
    }

    async fn in_time(&self, lookup: impl Future<Output = Result<Lookup, NetError>>) -> Result<Lookup, DnsError> {
        match timeout(self.timeout, lookup).await {
            Err(_) | Ok(Err(NetError::Timeout)) => Err(DnsError::Timeout),
            Ok(Err(error)) if error.is_no_records_found() => Err(DnsError::NotFound),
            Ok(found) => found.map_err(DnsError::Failed),
        }
    }
}

fn whole(name: &str) -> Result<Name, DnsError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}

/// An answer holds as long as the record of it, or alias on the way to it, that holds the shortest.
fn read<T>(lookup: &Lookup, of: impl Fn(&RData) -> Option<T>) -> Answer<T> {
    let found = lookup.answers().iter().filter_map(|record| of(&record.data)).collect();
    let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    Answer { found, ttl: Duration::from_secs(ttl.into()), missing: None }
}
