//! Control messages of datagrams: what was written is read, and no bytes mean more than they say.

#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr};

use fallgate::net::udp::{Told, told};
use libfuzzer_sys::fuzz_target;

const WORD: usize = size_of::<usize>();

/// One message as the kernel writes it.
fn message(level: i32, kind: i32, data: &[u8]) -> Vec<u8> {
    let mut bytes = (WORD + 8 + data.len()).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(WORD), 0);
    bytes
}

/// Takes one message from the input, with what it adds to what is told.
fn next(data: &mut &[u8], expected: &mut Told) -> Option<Vec<u8>> {
    let (kind, rest) = data.split_first()?;
    let (content, rest) = rest.split_at_checked(20)?;
    *data = rest;
    let number = i32::from_ne_bytes(*content.first_chunk()?);
    Some(match kind % 6 {
        0 => {
            let place = if content[4..8] == [0; 4] { 8 } else { 4 };
            expected.to = Some(Ipv4Addr::from(*content[place..].first_chunk::<4>()?).into());
            message(libc::IPPROTO_IP, libc::IP_PKTINFO, &content[..12])
        }
        1 => {
            let ip = Ipv6Addr::from(*content.first_chunk::<16>()?);
            expected.to = Some(ip.to_canonical());
            message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, content)
        }
        2 => {
            expected.ecn = content[0] & 3;
            message(libc::IPPROTO_IP, libc::IP_TOS, &content[..1])
        }
        3 => {
            expected.ecn = (number & 3) as u8;
            message(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &content[..4])
        }
        4 => {
            expected.segment = usize::try_from(number).ok().filter(|size| *size > 0);
            message(libc::SOL_UDP, libc::UDP_GRO, &content[..4])
        }
        _ => message(libc::SOL_SOCKET, number, content),
    })
}

fuzz_target!(|data: &[u8]| {
    let any = told(data);
    assert!(any.ecn < 4 && any.segment != Some(0));

    let (mut rest, mut written, mut expected) = (data, Vec::new(), Told::default());
    while let Some(message) = next(&mut rest, &mut expected) {
        written.extend(message);
    }
    assert_eq!(told(&written), expected);
    // What is no message ends the reading: a header that is cut off, or one that says it is shorter than it is.
    let cut = &data[..data.len().min(WORD + 7)];
    assert_eq!(told(&[&written, cut].concat()), expected);
    assert_eq!(told(&[&written, WORD.to_ne_bytes().as_slice(), data].concat()), expected);
});
