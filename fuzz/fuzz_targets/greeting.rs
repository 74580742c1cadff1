//! The beginning of a control connection: the banner that a node shows, and the header that tells it of its client.

#![no_main]

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use fallgate::net::{
    proxy_protocol,
    ssh::{Banner, look, read_banner},
};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf};

/// Gives its bytes in pieces, at once.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let (now, later) = self.0.split_at(self.1.min(self.0.len()).min(to.remaining()));
        to.put_slice(now);
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    let Poll::Ready(result) = pin!(future).poll(&mut Context::from_waker(Waker::noop())) else { panic!("it waits") };
    result
}

fn banner(size: usize, sent: &[u8]) {
    let begins = |bytes: &[u8]| bytes.starts_with(b"SSH-") || bytes.windows(5).any(|w| w == b"\nSSH-");
    assert_eq!(look(sent) == Banner::Here, begins(sent));
    assert!(sent.len() < 4096 || look(sent) != Banner::NotYet, "it is waited for without end");
    let mut pieces = Pieces(sent, size);
    match ready(read_banner(&mut pieces)) {
        Ok(read) => {
            assert_eq!([&read, pieces.0].concat(), sent, "a byte is lost");
            assert!(begins(&read) && !begins(&read[..read.len().saturating_sub(size)]), "more is read than need be");
        }
        Err(_) => assert!(!begins(&sent[..sent.len().min(4096)])),
    }
}

fn address(bytes: &[u8; 19]) -> SocketAddr {
    let [kind, high, low, ip @ ..] = bytes;
    let v4 = ip.first_chunk::<4>().map(|ip| IpAddr::from(*ip)).filter(|_| kind % 2 == 0);
    SocketAddr::new(v4.unwrap_or(IpAddr::from(*ip)), u16::from_be_bytes([*high, *low]))
}

fuzz_target!(|data: &[u8]| {
    let Some((size, sent)) = data.split_first() else { return };
    banner(usize::from(*size).max(1), sent);

    let Some((client, rest)) = data.split_first_chunk::<19>() else { return };
    let Some((to, rest)) = rest.split_first_chunk::<19>() else { return };
    let (client, to) = (address(client), address(to));
    let whole = [proxy_protocol::header(client, to), rest.to_vec()].concat();
    let mut left = whole.as_slice();
    let read = ready(proxy_protocol::read(&mut left)).expect("a header of ours").expect("a client");
    assert_eq!((read.ip().to_canonical(), read.port()), (client.ip().to_canonical(), client.port()));
    assert_eq!(left, rest, "what follows is left");
});
