//! Control messages and addresses read by hand.

use std::net::{IpAddr, SocketAddr};

use proptest::{collection::vec, prelude::*};

use super::super::{address, cmsg, send::Way};

fn outgoing(to: &str, from: &str, ecn: u8, segment: Option<u16>) -> Vec<u8> {
    let way = Way { to: Some(to.parse().unwrap()), from: Some(from.parse().unwrap()) };
    cmsg::Outgoing::new(way, true, ecn, segment).as_bytes().to_vec()
}

#[test]
fn what_is_written_is_read_again() {
    let told = cmsg::told(&outgoing("[2001:db8::1]:1", "2001:db8::2", 2, Some(1472)));
    assert_eq!(told.to, Some("2001:db8::2".parse::<IpAddr>().unwrap()));
    assert_eq!((told.ecn, told.segment), (2, None));
    let told = cmsg::told(&outgoing("192.0.2.1:1", "192.0.2.2", 3, None));
    assert_eq!((told.to, told.ecn), (Some("192.0.2.2".parse::<IpAddr>().unwrap()), 3));
}

#[test]
fn nothing_is_written_where_nothing_is_said() {
    assert!(cmsg::Outgoing::new(Way::default(), true, 0, None).as_bytes().is_empty());
}

#[test]
fn a_local_address_of_the_other_family_is_left_out() {
    assert!(outgoing("192.0.2.1:1", "2001:db8::2", 0, None).is_empty());
    assert!(outgoing("[2001:db8::1]:1", "192.0.2.2", 0, None).is_empty());
}

#[test]
fn an_address_of_another_family_is_none() {
    assert_eq!(address::read(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    assert_eq!(address::read(&[]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..160)) {
        cmsg::told(&bytes);
        address::read(&bytes);
    }

    #[test]
    fn no_header_makes_the_reader_panic_or_run_forever(
        heads in vec((0usize..80, 0i32..64, 0i32..128, 0usize..40), 0..4),
    ) {
        let mut bytes = Vec::new();
        for (length, level, kind, data) in heads {
            bytes.extend(length.to_ne_bytes());
            bytes.extend(level.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(vec![1; data]);
        }
        cmsg::told(&bytes);
    }

    #[test]
    fn an_address_survives_the_trip_to_a_socket_and_back(v4 in any::<bool>(), ip in any::<u128>(), port in any::<u16>()) {
        let ip = if v4 { IpAddr::from((ip as u32).to_be_bytes()) } else { IpAddr::from(ip.to_be_bytes()) };
        let ip = ip.to_canonical();
        let address = SocketAddr::new(ip, port);
        let mapped = address::for_socket(address, true);
        prop_assert!(mapped.is_ipv6());
        let mut name = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        name.extend(port.to_be_bytes());
        name.extend([0; 4]);
        let IpAddr::V6(bits) = mapped.ip() else { unreachable!() };
        name.extend(bits.octets());
        name.extend([0; 4]);
        prop_assert_eq!(address::read(&name), Some(address));
    }
}
