//! How many tunnels of forward proxies may be open at once.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{
    client::ClientKey,
    maxima::{Claims, Full, Maxima, OfListener, Scope},
    permits::{Permit, Permits},
};
use crate::telemetry::Reason;

/// Counts open tunnels against maxima that may change while it runs.
#[derive(Debug, Clone)]
pub struct TunnelLimit {
    permits: Permits<Scope>,
    maxima: Arc<ArcSwap<Maxima>>,
}

impl TunnelLimit {
    /// Allows so many tunnels at once.
    pub fn new(maxima: Maxima) -> TunnelLimit {
        TunnelLimit { permits: Permits::new(), maxima: Arc::new(ArcSwap::from_pointee(maxima)) }
    }

    /// Changes the maxima; tunnels over lower ones stay open.
    pub fn set(&self, maxima: Maxima) {
        self.maxima.store(Arc::new(maxima));
    }

    /// A permit for one more tunnel through `listener`, or which maximum is reached; the client's is looked at first.
    pub fn try_acquire(&self, listener: &OfListener, client: ClientKey) -> Result<TunnelPermit, Full> {
        let maxima = **self.maxima.load();
        let claims = Claims::default().of_client(client, maxima, listener).of_all(maxima, listener);
        claims.acquire(&self.permits).map(|permit| TunnelPermit { _permit: permit })
    }

    /// How many tunnels there may be, over all listeners; `None` is no maximum.
    pub fn max(&self) -> Option<u32> {
        self.maxima.load().all
    }

    /// How many tunnels are open.
    pub fn open(&self) -> u32 {
        self.permits.held(&Scope::All)
    }

    /// The word for a maximum that is reached, whichever it is.
    pub fn reason(_: Full) -> Reason {
        Reason::TooManyTunnels
    }
}

/// One open tunnel.
#[derive(Debug)]
pub struct TunnelPermit {
    _permit: Permit<Scope>,
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::{LimitsConfig, ListenerLimitsConfig};

    #[test]
    fn tunnels_have_the_maxima_of_the_config() {
        let limits = LimitsConfig { max_tunnels: 3, max_tunnels_per_client: 2, ..LimitsConfig::default() };
        let limit = TunnelLimit::new(Maxima::of_tunnels(&limits));
        let own = ListenerLimitsConfig { max_tunnels: Some(1), ..ListenerLimitsConfig::default() };
        let (small, other) = (OfListener::tunnels("small", &own), OfListener::tunnels("other", &Default::default()));
        let (one, two) = (IpAddr::from([192, 0, 2, 1]).into(), IpAddr::from([192, 0, 2, 2]).into());
        let first = limit.try_acquire(&small, one).unwrap();
        assert_eq!(limit.try_acquire(&small, two).unwrap_err(), Full::Listener);
        let second = limit.try_acquire(&other, one).unwrap();
        assert_eq!(limit.try_acquire(&other, one).unwrap_err(), Full::Client);
        let third = limit.try_acquire(&other, two).unwrap();
        assert_eq!(limit.try_acquire(&other, two).unwrap_err(), Full::All);
        limit.set(Maxima::default());
        assert!(limit.try_acquire(&other, two).is_ok());
        drop((first, second, third));
        assert_eq!((limit.open(), limit.permits.keys()), (0, 0));
    }
}
