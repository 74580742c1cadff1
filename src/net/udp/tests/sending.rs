//! Segmented sends, what is done where they are refused, and ICMP errors.

use std::io::IoSlice;

use super::super::{send::why, sys};
use super::*;

const TEN: [usize; 10] = [1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 77];

/// Datagrams of these lengths, each of its own bytes.
fn datagrams(lengths: &[usize]) -> Vec<Vec<u8>> {
    lengths.iter().enumerate().map(|(i, length)| vec![i as u8; *length]).collect()
}

fn run(datagrams: &[Vec<u8>]) -> Run<'_> {
    let mut run = Run::new();
    for bytes in datagrams {
        assert_eq!(run.push(Datagrams { bytes, stride: bytes.len(), ecn: 2 }), None);
    }
    run
}

#[tokio::test]
async fn a_run_is_sent_and_received_as_one_message_and_is_the_same_datagrams() {
    let node = Waiting::listen("127.0.0.1:0");
    let flow = Waiting::connect(node.socket().local_address().unwrap());
    let ten = datagrams(&TEN);
    let sent = flow.socket().send_run(Way::default(), &run(&ten), &mut Segmenting::default());
    assert_eq!(sent, Sent { datagrams: 10, bytes: 9077, ..Sent::default() });
    let got = node.receive().await.unwrap();
    assert_eq!((got.len(), got[0].stride, got[0].ecn), (1, 1000, 2));
    assert_eq!(got[0].each(), ten);
}

#[tokio::test]
async fn a_received_run_goes_on_as_a_run_from_the_address_spoken_to() {
    let door = Waiting::listen("0.0.0.0:0");
    let client = Waiting::connect(to("127.0.0.4", door.port()));
    let ten = datagrams(&TEN);
    client.socket().send_run(Way::default(), &run(&ten), &mut Segmenting::default());
    let mut batch = Batch::new();
    door.ready(Interest::READABLE).await;
    assert_eq!(door.socket().receive(&mut batch).unwrap(), 1);
    let message = batch.messages().next().unwrap();
    let mut echo = Run::new();
    assert_eq!(echo.push(message.datagrams()), None);
    let way = Way { to: Some(message.from), from: message.to };
    assert_eq!(door.socket().send_run(way, &echo, &mut Segmenting::default()).datagrams, 10);
    let got = client.receive().await.unwrap();
    assert_eq!((got.len(), got[0].ecn, got[0].from), (1, 2, to("127.0.0.4", door.port())));
    assert_eq!(got[0].each(), ten);
}

#[tokio::test]
async fn a_run_of_many_parts_keeps_their_order() {
    let node = Waiting::listen("127.0.0.1:0");
    let flow = Waiting::connect(node.socket().local_address().unwrap());
    let many = datagrams(&[500; MAX_DATAGRAMS]);
    assert_eq!(flow.socket().send_run(Way::default(), &run(&many), &mut Segmenting::default()).dropped, 0);
    assert_eq!(node.datagrams(MAX_DATAGRAMS).await, many);
}

#[tokio::test]
async fn where_segments_are_refused_the_datagrams_go_one_by_one_and_it_is_remembered() {
    let node = Waiting::listen("127.0.0.1:0");
    let flow = Waiting::connect(node.socket().local_address().unwrap());
    // The kernel cuts no datagrams that are to go without checksums.
    sys::set_option(flow.socket().as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let ten = datagrams(&TEN);
    let mut segmenting = Segmenting::default();
    for _ in 0..2 {
        let sent = flow.socket().send_run(Way::default(), &run(&ten), &mut segmenting);
        assert_eq!(sent, Sent { datagrams: 10, bytes: 9077, ..Sent::default() });
        assert_eq!(node.datagrams(10).await, ten);
    }
    // It could again, but is not asked any more: the datagrams come as they were sent.
    sys::set_option(flow.socket().as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 0).unwrap();
    flow.socket().send_run(Way::default(), &run(&ten), &mut segmenting);
    assert_eq!(node.receive().await.unwrap()[0].bytes.len(), 1000);
}

#[tokio::test]
async fn a_send_that_fails_for_another_reason_does_not_end_segmenting() {
    let door = Waiting::listen("0.0.0.0:0");
    let node = Waiting::listen("127.0.0.1:0");
    let ten = datagrams(&TEN);
    let mut segmenting = Segmenting::default();
    let way = Way { to: Some(to("127.0.0.1", node.port())), from: None };
    // Not an address of this machine.
    let stray = Way { from: Some("192.0.2.1".parse().unwrap()), ..way };
    let sent = door.socket().send_run(stray, &run(&ten), &mut segmenting);
    assert_eq!((sent.datagrams, sent.dropped), (0, 10));
    assert!(sent.why.is_some());
    door.socket().send_run(way, &run(&ten), &mut segmenting);
    assert_eq!(node.receive().await.unwrap()[0].bytes.len(), 9077);
}

#[tokio::test]
async fn a_closed_port_is_told_and_the_flow_lives_on_when_it_opens() {
    let node = UdpSocket::listen("127.0.0.1:0".parse().unwrap(), false, BUFFERS).unwrap();
    let address = node.local_address().unwrap();
    let (flow, other) = (Waiting::connect(address), Waiting::connect(address));
    drop(node);
    let ten = datagrams(&TEN);
    other.socket().send_run(Way::default(), &run(&ten), &mut Segmenting::default());
    let told = other.receive().await.unwrap_err();
    assert!(is_icmp(&told), "{told}");
    // Who does not receive hears of it at the next send.
    flow.socket().send_run(Way::default(), &run(&ten), &mut Segmenting::default());
    flow.ready(Interest::ERROR).await;
    let node = Waiting::listen(&address.to_string());
    let sent = flow.socket().send_run(Way::default(), &run(&ten), &mut Segmenting::default());
    assert_eq!(sent, Sent { datagrams: 10, bytes: 9077, icmp: true, ..Sent::default() });
    assert_eq!(node.datagrams(10).await, ten);
}

#[test]
fn a_full_send_buffer_a_lack_of_a_route_and_a_fault_are_told_apart() {
    let of = |error| why(&io::Error::from_raw_os_error(error));
    assert_eq!([libc::EAGAIN, libc::ENOBUFS].map(of), [Unsent::Full; 2]);
    assert_eq!([libc::ENETUNREACH, libc::ECONNREFUSED].map(of), [Unsent::Unreachable; 2]);
    assert_eq!([libc::EPERM, libc::EINVAL].map(of), [Unsent::Failed; 2]);
}

#[tokio::test]
async fn a_datagram_that_is_too_long_is_dropped_and_no_other() {
    let node = Waiting::listen("127.0.0.1:0");
    let flow = Waiting::connect(node.socket().local_address().unwrap());
    let long = vec![0; 65_527];
    let mut run = Run::new();
    run.push(Datagrams { bytes: &long, stride: long.len(), ecn: 0 });
    let sent = flow.socket().send_run(Way::default(), &run, &mut Segmenting::default());
    assert_eq!((sent.dropped, sent.why), (1, Some(Unsent::TooLong)));
    flow.socket().send(Way::default(), 0, &[IoSlice::new(b"x")], None).unwrap();
    assert_eq!(node.datagrams(1).await, [b"x"]);
}
