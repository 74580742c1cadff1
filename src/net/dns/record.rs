//! All that a name has in the DNS, and how long that holds: for those who follow what becomes of it.

use std::{future::Future, net::IpAddr, time::Duration};

use hickory_resolver::{
    lookup::Lookup,
    net::{DnsError as Said, NetError},
    proto::{
        op::ResponseCode,
        rr::{Name, RData, RecordType},
    },
};
use tokio::time::timeout;

use super::{DnsError, Resolver};

/// What name servers say of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What there is; never nothing.
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
            Ok(Err(error)) if is_nothing(&error) => Err(DnsError::NotFound),
            Ok(found) => found.map_err(DnsError::Failed),
        }
    }
}

/// Whether servers say that there is nothing. One that points at other servers, or answers by a code that nobody knows, does
/// not say so.
fn is_nothing(error: &NetError) -> bool {
    let NetError::Dns(Said::NoRecordsFound(said)) = error else { return false };
    let is_said = matches!(said.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    is_said && (said.soa.is_some() || said.ns.is_none())
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

#[cfg(test)]
mod tests {
    use hickory_resolver::{net::NoRecords, proto::op::Query};

    use super::*;

    fn said(response_code: ResponseCode) -> NoRecords {
        NoRecords::new(Query::query(Name::root(), RecordType::A), response_code)
    }

    #[test]
    fn only_a_server_that_speaks_for_itself_says_that_there_is_nothing() {
        let is_nothing = |said: NoRecords| is_nothing(&NetError::Dns(Said::NoRecordsFound(said)));
        assert!(is_nothing(said(ResponseCode::NXDomain)) && is_nothing(said(ResponseCode::NoError)));
        assert!(!is_nothing(said(ResponseCode::Unknown(12))) && !is_nothing(said(ResponseCode::ServFail)));
        let mut elsewhere = said(ResponseCode::NoError);
        elsewhere.ns = Some(Vec::new().into());
        assert!(!is_nothing(elsewhere), "it points at others");
    }
}
