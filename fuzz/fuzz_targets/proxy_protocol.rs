//! The PROXY protocol: a header is read to its end and no further, whatever comes behind it.

#![no_main]

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use fallgate::net::proxy_protocol::read;
use libfuzzer_sys::fuzz_target;

/// A slice is always ready, so one poll is enough.
fn run(mut bytes: &[u8]) -> (std::io::Result<Option<std::net::SocketAddr>>, usize) {
    let whole = bytes.len();
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(result) = pin!(read(&mut bytes)).poll(&mut context) else { panic!("it waits") };
    (result, whole - bytes.len())
}

fuzz_target!(|data: &[u8]| {
    let (result, taken) = run(data);
    let Ok(client) = result else { return };
    let (header, rest) = data.split_at(taken);
    assert_eq!(run(header).0.expect("the header alone"), client);
    assert_eq!(run(&[header, b"\r\nPROXY UNKNOWN\r\n"].concat()).1, taken, "what follows has a say");
    assert!(run(&header[..taken - 1]).0.is_err(), "half a header passes");
    assert!(rest.len() + taken == data.len());
    if header.starts_with(b"PROXY ") {
        assert!(taken <= 107 && header.ends_with(b"\r\n"));
        assert_eq!(header.windows(2).filter(|w| *w == b"\r\n").count(), 1);
        if let Some(client) = client {
            assert!(String::from_utf8_lossy(header).contains(&format!(" {} ", client.port())) || client.port() == 0);
        }
    } else {
        assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n") && (16..=16 + 4096).contains(&taken));
    }
});
