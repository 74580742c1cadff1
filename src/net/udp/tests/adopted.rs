//! Sockets that another process has opened.

use std::net::UdpSocket as Plain;

use socket2::{Domain, SockRef, Socket, Type};

use super::*;

fn adopt(socket: Plain) -> io::Result<UdpSocket> {
    UdpSocket::adopt(socket, BUFFERS)
}

/// The options that tell how a socket is served.
fn options(socket: &UdpSocket) -> (bool, Buffers) {
    let descriptor = SockRef::from(socket);
    (descriptor.nonblocking().unwrap(), socket.buffers().unwrap())
}

#[tokio::test]
async fn a_listening_socket_of_another_tells_addresses_marks_and_runs_as_one_of_ours() {
    let mut wildcards = vec![("0.0.0.0:0", "127.0.0.2")];
    if has_ipv6() {
        wildcards.extend([("[::]:0", "127.0.0.3"), ("[::]:0", "::1")]);
    }
    for (listen, ip) in wildcards {
        let door = Waiting::new(adopt(Plain::bind(listen).unwrap()).unwrap());
        let ours = UdpSocket::listen(listen.parse().unwrap(), false, BUFFERS).unwrap();
        assert_eq!(options(door.socket()), options(&ours));
        let client = Waiting::connect(to(ip, door.port()));
        let bytes = [7; 3000];
        client.socket().send(Way::default(), 2, &[io::IoSlice::new(&bytes)], Some(1000)).unwrap();
        let asked = door.receive().await.unwrap().remove(0);
        assert_eq!((asked.bytes.len(), asked.stride, asked.ecn), (3000, 1000, 2), "{listen}");
        assert_eq!(asked.to, Some(ip.parse().unwrap()));
        let way = Way { to: Some(asked.from), from: asked.to };
        door.socket().send(way, 1, &[io::IoSlice::new(&bytes)], Some(1500)).unwrap();
        let answer = client.receive().await.unwrap().remove(0);
        assert_eq!((answer.bytes.len(), answer.stride, answer.ecn), (3000, 1500, 1), "{listen}");
    }
}

#[tokio::test]
async fn what_waits_in_a_socket_is_not_lost_when_it_is_handed_over() {
    let first = UdpSocket::listen("127.0.0.1:0".parse().unwrap(), false, BUFFERS).unwrap();
    let client = Plain::bind("127.0.0.1:0").unwrap();
    for i in 0..5 {
        client.send_to(&[i], first.local_address().unwrap()).unwrap();
    }
    let handed = first.share().unwrap().into();
    drop(first);
    let second = Waiting::new(adopt(handed).unwrap());
    assert_eq!(second.datagrams(5).await, [[0], [1], [2], [3], [4]]);
}

#[tokio::test]
async fn what_came_before_a_socket_was_handed_over_tells_where_it_was_sent_to() {
    let mut wildcards = vec![("0.0.0.0:0", "127.0.0.2")];
    if has_ipv6() {
        wildcards.push(("[::]:0", "::1"));
    }
    for (listen, ip) in wildcards {
        let other = Plain::bind(listen).unwrap();
        let client = Plain::bind(to(if listen.starts_with('[') { "::1" } else { "127.0.0.1" }, 0)).unwrap();
        client.send_to(b"x", to(ip, other.local_addr().unwrap().port())).unwrap();
        let door = Waiting::new(adopt(other).unwrap());
        assert_eq!(door.receive().await.unwrap()[0].to, Some(ip.parse().unwrap()), "{listen}");
    }
}

#[tokio::test]
async fn a_connected_socket_goes_on_from_the_same_port() {
    let node = Waiting::listen("127.0.0.1:0");
    let first = UdpSocket::connect(node.socket().local_address().unwrap(), BUFFERS).unwrap();
    let port = first.local_address().unwrap();
    let second = Waiting::new(UdpSocket::handed(first.share().unwrap()).unwrap());
    drop(first);
    second.socket().send(Way::default(), 1, &[io::IoSlice::new(b"x")], None).unwrap();
    let asked = node.receive().await.unwrap().remove(0);
    assert_eq!((asked.from, asked.ecn), (port, 1));
    node.socket().send(Way { to: Some(port), from: None }, 3, &[io::IoSlice::new(b"yy")], Some(1)).unwrap();
    let answer = second.receive().await.unwrap().remove(0);
    assert_eq!((answer.bytes.as_slice(), answer.stride, answer.ecn), (&b"yy"[..], 1, 3));
}

#[test]
fn a_socket_is_not_taken_for_what_it_is_not() {
    let bound = Plain::bind("127.0.0.1:0").unwrap();
    bound.connect(bound.local_addr().unwrap()).unwrap();
    assert!(adopt(bound).is_err());
    let unbound = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    assert!(adopt(unbound.into()).is_err());
}
