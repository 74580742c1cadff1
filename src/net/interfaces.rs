//! The addresses and the name of this host.

use std::net::IpAddr;

/// Every address that an interface of this host has now, loopback too. None where the system does not say.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let ip = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(ip).collect()
}

/// The name that the system goes by; empty where it does not say.
#[must_use]
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.into_string().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_among_them() {
        assert!(super::addresses().contains(&std::net::Ipv4Addr::LOCALHOST.into()));
    }
}
