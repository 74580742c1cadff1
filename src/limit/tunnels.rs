//! How many tunnels may be open at once, in all and for each client.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Counts open tunnels against maxima that may change while it runs. An IPv6 client is its network of 64 bits.
#[derive(Debug, Clone)]
pub struct TunnelLimit(Arc<Mutex<Tunnels>>);

#[derive(Debug)]
struct Tunnels {
    open: u32,
    of_client: HashMap<IpAddr, u32>,
    max: u32,
    max_per_client: u32,
}

impl TunnelLimit {
    /// Allows `max` tunnels at once, and to each client `max_per_client` of them.
    #[must_use]
    pub fn new(max: u32, max_per_client: u32) -> TunnelLimit {
        TunnelLimit(Arc::new(Mutex::new(Tunnels { open: 0, of_client: HashMap::new(), max, max_per_client })))
    }

    /// Changes the maxima; tunnels over a lower one stay open.
    pub fn set_max(&self, max: u32, max_per_client: u32) {
        let mut tunnels = self.lock();
        (tunnels.max, tunnels.max_per_client) = (max, max_per_client);
    }

    /// A permit for one more tunnel of a client, or nothing when a maximum is reached.
    #[must_use]
    pub fn try_acquire(&self, client: IpAddr) -> Option<TunnelPermit> {
        let client = key(client);
        let mut tunnels = self.lock();
        let of_client = tunnels.of_client.get(&client).copied().unwrap_or(0);
        if tunnels.open >= tunnels.max || of_client >= tunnels.max_per_client {
            return None;
        }
        tunnels.open += 1;
        tunnels.of_client.insert(client, of_client + 1);
        Some(TunnelPermit { limit: self.clone(), client })
    }

    /// How many are open now.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.lock().open
    }

    fn lock(&self) -> MutexGuard<'_, Tunnels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open tunnel.
#[derive(Debug)]
pub struct TunnelPermit {
    limit: TunnelLimit,
    client: IpAddr,
}

impl Drop for TunnelPermit {
    fn drop(&mut self) {
        let mut tunnels = self.limit.lock();
        tunnels.open = tunnels.open.saturating_sub(1);
        match tunnels.of_client.get_mut(&self.client) {
            Some(n) if *n > 1 => *n -= 1,
            _ => {
                tunnels.of_client.remove(&self.client);
            }
        }
    }
}

fn key(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_all_have_the_whole() {
        let limit = TunnelLimit::new(3, 2);
        let take = |text: &str| limit.try_acquire(text.parse().unwrap());
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(Option::is_some) && take("192.0.2.1").is_none());
        let other = take("2001:db8::1");
        assert!(other.is_some() && take("192.0.2.2").is_none());
        drop(held);
        let held = [take("2001:db8::ffff:1"), take("2001:db8::2"), take("2001:db8:0:1::1")];
        assert_eq!(held.each_ref().map(Option::is_some), [true, false, true]);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let limit = TunnelLimit::new(10, 2);
        let held: Vec<_> = (0..10).map(|i| limit.try_acquire(IpAddr::from([192, 0, 2, i]))).collect();
        limit.set_max(1, 1);
        assert_eq!((limit.open(), held.iter().flatten().count()), (10, 10));
        drop(held);
        assert!(limit.lock().of_client.is_empty() && limit.open() == 0);
    }
}
