//! Receiving: addresses, sizes, marks, and the buffers.

use std::{io, net::UdpSocket as Plain};

use super::*;

async fn replies_come_from_the_address_spoken_to(listen: &str, spoken_to: &[&str]) {
    let door = Waiting::listen(listen);
    for ip in spoken_to {
        // A connected client hears nobody but whom it spoke to.
        let client = Waiting::connect(to(ip, door.port()));
        client.socket().send(Way::default(), 0, &[io::IoSlice::new(b"hello")], None).unwrap();
        let asked = door.receive().await.unwrap().remove(0);
        assert_eq!((asked.bytes.as_slice(), asked.stride), (&b"hello"[..], 5));
        assert_eq!(asked.from, client.socket().local_address().unwrap());
        assert_eq!(asked.to, Some(ip.parse().unwrap()));
        let way = Way { to: Some(asked.from), from: asked.to };
        let parts = [io::IoSlice::new(b"wel"), io::IoSlice::new(b"come")];
        door.socket().send(way, 0, &parts, Some(3)).unwrap();
        assert_eq!(client.datagrams(3).await, [&b"wel"[..], b"com", b"e"]);
    }
}

#[tokio::test]
async fn an_ipv4_wildcard_replies_from_the_address_spoken_to() {
    replies_come_from_the_address_spoken_to("0.0.0.0:0", &["127.0.0.2", "127.0.0.3"]).await;
}

#[tokio::test]
async fn an_ipv6_wildcard_replies_to_ipv4_clients_from_the_address_spoken_to() {
    if has_ipv6() {
        replies_come_from_the_address_spoken_to("[::]:0", &["127.0.0.2", "127.0.0.3"]).await;
        replies_come_from_the_address_spoken_to("[::]:0", &["::1"]).await;
    }
}

#[tokio::test]
async fn a_door_at_one_address_needs_no_local_address() {
    let mut doors = vec!["127.0.0.1"];
    doors.extend(has_ipv6().then_some("::1"));
    for ip in doors {
        let door = Waiting::listen(&to(ip, 0).to_string());
        let client = Waiting::connect(door.socket().local_address().unwrap());
        client.socket().send(Way::default(), 0, &[io::IoSlice::new(b"x")], None).unwrap();
        let asked = door.receive().await.unwrap().remove(0);
        assert_eq!(asked.to, None);
        door.socket().send(Way { to: Some(asked.from), from: None }, 0, &[io::IoSlice::new(b"y")], None).unwrap();
        assert_eq!(client.receive().await.unwrap()[0].from, door.socket().local_address().unwrap());
    }
}

#[tokio::test]
async fn congestion_marks_arrive() {
    let mut doors = vec![("0.0.0.0:0", "127.0.0.1")];
    if has_ipv6() {
        doors.extend([("[::]:0", "127.0.0.1"), ("[::]:0", "::1")]);
    }
    for (listen, ip) in doors {
        let door = Waiting::listen(listen);
        let client = Waiting::connect(to(ip, door.port()));
        for ecn in [0, 1, 2, 3] {
            client.socket().send(Way::default(), ecn, &[io::IoSlice::new(b"x")], None).unwrap();
            let asked = door.receive().await.unwrap().remove(0);
            assert_eq!(asked.ecn, ecn, "{listen} {ip}");
            let way = Way { to: Some(asked.from), from: asked.to };
            door.socket().send(way, ecn, &[io::IoSlice::new(b"y")], None).unwrap();
            assert_eq!(client.receive().await.unwrap()[0].ecn, ecn, "{listen} {ip}");
        }
    }
}

#[tokio::test]
async fn the_longest_datagram_arrives_whole() {
    let door = Waiting::listen("0.0.0.0:0");
    let client = Plain::bind("127.0.0.1:0").unwrap();
    let long: Vec<u8> = (0..65_507u32).map(|i| (i % 251) as u8).collect();
    client.send_to(&long, to("127.0.0.1", door.port())).unwrap();
    let asked = door.receive().await.unwrap().remove(0);
    assert!(asked.bytes == long);
    let way = Way { to: Some(asked.from), from: asked.to };
    door.socket().send(way, 0, &[io::IoSlice::new(&long)], None).unwrap();
    let mut room = vec![0; 65_536];
    assert_eq!(client.recv(&mut room).unwrap(), long.len());
    assert!(room[..long.len()] == long);
}

#[tokio::test]
async fn empty_datagrams_are_seen() {
    let door = Waiting::listen("127.0.0.1:0");
    let client = Plain::bind("127.0.0.1:0").unwrap();
    for bytes in [&b""[..], b"x", b""] {
        client.send_to(bytes, to("127.0.0.1", door.port())).unwrap();
    }
    assert_eq!(door.datagrams(3).await, [&b""[..], b"x", b""]);
}

#[tokio::test]
async fn one_receive_takes_thirty_two_messages_and_fewer_mean_that_none_is_left() {
    let door = Waiting::listen("127.0.0.1:0");
    let client = Plain::bind("127.0.0.1:0").unwrap();
    for i in 0..MESSAGES as u8 + 3 {
        client.send_to(&vec![i; usize::from(i) + 1], to("127.0.0.1", door.port())).unwrap();
    }
    let mut got = door.receive().await.unwrap();
    let first = got.len();
    while got.len() < MESSAGES + 3 {
        got.extend(door.receive().await.unwrap());
    }
    assert!(first <= MESSAGES);
    assert!(got.iter().enumerate().all(|(i, m)| m.bytes == vec![i as u8; i + 1]));
    let none = door.socket().receive(&mut Batch::new()).unwrap_err();
    assert_eq!(none.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn several_sockets_share_a_port_only_when_asked() {
    let first = UdpSocket::listen("127.0.0.1:0".parse().unwrap(), true, BUFFERS).unwrap();
    let address = first.local_address().unwrap();
    assert!(UdpSocket::listen(address, true, BUFFERS).is_ok());
    let alone = UdpSocket::listen(address, false, BUFFERS).unwrap_err();
    assert_eq!(alone.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn the_buffers_are_told_as_they_are() {
    let small = Buffers { receive: 100_000, send: 50_000 };
    let socket = UdpSocket::listen("127.0.0.1:0".parse().unwrap(), false, small).unwrap();
    assert_eq!(socket.buffers().unwrap(), small);
}

#[tokio::test]
async fn what_the_kernel_threw_away_is_counted() {
    let small = Buffers { receive: 4096, send: 4096 };
    let door = UdpSocket::listen("127.0.0.1:0".parse().unwrap(), false, small).unwrap();
    assert_eq!(door.lost().unwrap(), 0);
    let client = Plain::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        client.send_to(&[0; 1000], door.local_address().unwrap()).unwrap();
    }
    let mut batch = Batch::new();
    let got = door.receive(&mut batch).unwrap();
    assert!(got < 100);
    assert_eq!(door.lost().unwrap() as usize, 100 - got);
}
