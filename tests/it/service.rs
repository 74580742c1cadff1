//! What a service manager gives and hears: sockets that outlive the process, and its signs of life.

use std::{
    net::UdpSocket,
    os::unix::net::UnixListener,
    process::{Command, Stdio},
    time::Duration,
};

use fallgate::net::{
    activation, notify, tcp,
    udp::{self, Buffers},
};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::support::{programs::is_here, supervisor::Supervisor};

/// Says which sockets it has, and serves all of them.
const SERVER: &str = r#"
import os, select, socket
assert os.environ["LISTEN_PID"] == str(os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
sockets = [socket.socket(fileno=3 + at) for at in range(int(os.environ["LISTEN_FDS"]))]
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
say = lambda text: manager.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
ports = [f"{name}={one.getsockname()[1]}" for name, one in zip(names, sockets)]
say("STATUS=" + " ".join(ports) + "\nREADY=1")
while True:
    for one in select.select(sockets, [], [])[0]:
        if one.type == socket.SOCK_STREAM:
            client, _ = one.accept()
            client.sendall(str(os.getpid()).encode())
            client.close()
        else:
            _, client = one.recvfrom(100)
            one.sendto(str(os.getpid()).encode(), client)
"#;

/// Who answers at a connection.
async fn answers(mut connection: TcpStream) -> String {
    let mut text = String::new();
    tokio::time::timeout(Duration::from_secs(20), connection.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

/// Who answers a datagram.
fn answers_datagram(client: &UdpSocket) -> String {
    let mut room = [0; 100];
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let n = client.recv(&mut room).unwrap();
    String::from_utf8_lossy(&room[..n]).into_owned()
}

#[tokio::test]
async fn sockets_of_the_manager_outlive_a_program_and_lose_nobody() {
    if !is_here("python3", &["--version"]) {
        return;
    }
    let mut manager = Supervisor::new();
    let (door, other, data) = (manager.tcp("door"), manager.tcp("other"), manager.udp("data", 3));
    let mut server = Command::new("python3");
    server.args(["-c", SERVER]);
    for _ in 0..2 {
        // Nobody is there, and still nobody is refused.
        let connections = [TcpStream::connect(door).await.unwrap(), TcpStream::connect(other).await.unwrap()];
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(data).unwrap();
        client.send(b"?").unwrap();
        manager.start(&server);
        let ports = format!("door={} other={} data={2} data={2} data={2}", door.port(), other.port(), data.port());
        assert_eq!(manager.hears("STATUS=").await, format!("STATUS={ports}"));
        manager.hears("READY=1").await;
        let pid = manager.pid().to_string();
        for connection in connections {
            assert_eq!(answers(connection).await, pid);
        }
        assert_eq!(answers_datagram(&client), pid);
        manager.kill();
    }
}

#[tokio::test]
async fn a_manager_without_sockets_tells_of_none_and_follows_the_main_process() {
    if !is_here("python3", &["--version"]) {
        return;
    }
    let mut manager = Supervisor::new();
    let script = r#"
import os, socket, sys
assert "LISTEN_FDS" not in os.environ
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.sendto(b"MAINPID=999999999\nSTATUS=gone on", os.environ["NOTIFY_SOCKET"])
sys.stderr.write("bye")
"#;
    let mut program = Command::new("python3");
    manager.start(program.args(["-c", script]));
    manager.hears("STATUS=gone on").await;
    assert_eq!(manager.pid(), 999_999_999);
    assert!(manager.ended().await);
    assert_eq!(manager.log(), "bye");
}

/// Set where the test is the program that is started.
const STARTED: &str = "FALLGATE_TEST_STARTED";
const BUFFERS: Buffers = Buffers { receive: 1 << 20, send: 1 << 20 };

#[tokio::test]
async fn what_the_manager_hands_over_is_taken_once_by_whom_it_is_meant_for() {
    if std::env::var_os(STARTED).is_some() {
        return take_and_serve().await;
    }
    if !is_here("python3", &["--version"]) {
        return;
    }
    let mut manager = Supervisor::new();
    let folder = tempfile::tempdir().unwrap();
    let (door, data) = (manager.tcp("door"), manager.udp("data", 2));
    manager.hold("local", UnixListener::bind(folder.path().join("local")).unwrap());
    let file = std::fs::File::open("/dev/null").unwrap();
    manager.hold("file", file);
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(data).unwrap();
    manager.hold("connected", connected);
    let other = manager.tcp("other");
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args([
        "--exact",
        "service::what_the_manager_hands_over_is_taken_once_by_whom_it_is_meant_for",
        "--nocapture",
    ]);
    for meant in [true, false] {
        manager.start(program.env(STARTED, if meant { "yes" } else { "no" }));
        let sockets = if meant { format!("[{door}, {other}] [({data}, 2)]") } else { "[] []".to_owned() };
        assert_eq!(manager.hears("STATUS=").await, format!("STATUS={sockets}"));
        manager.hears("READY=1").await;
        if meant {
            assert_eq!(answers(TcpStream::connect(other).await.unwrap()).await, "");
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(b"hello", data).unwrap();
            assert_eq!(manager.hears("STATUS=").await, "STATUS=hello");
        }
        manager.hears("STOPPING=1").await;
        assert!(manager.ended().await, "{}", manager.log());
    }
}

/// What the program does that is started: it tells what it got, answers one connection and tells one datagram.
async fn take_and_serve() {
    if std::env::var(STARTED).is_ok_and(|meant| meant == "no") {
        // A child that got the environment of its parent.
        let mut child = Command::new(std::env::current_exe().unwrap());
        let name = "service::what_the_manager_hands_over_is_taken_once_by_whom_it_is_meant_for";
        child.args(["--exact", name]).env(STARTED, "child").stdin(Stdio::null());
        assert!(child.status().unwrap().success());
        return;
    }
    let notifier = notify::Notifier::from_env().unwrap();
    let mut all = activation::take().unwrap();
    assert!(["LISTEN_FDS", "LISTEN_PID"].iter().all(|name| std::env::var_os(name).is_none()));
    assert!(activation::take().unwrap().is_empty());
    let tcp: Vec<_> = all.tcp.iter().map(|(address, _)| *address).collect();
    let udp: Vec<_> = all.udp.iter().map(|(address, sockets)| (*address, sockets.len())).collect();
    notifier.status(&format!("{tcp:?} {udp:?}"));
    notifier.ready();
    if let Some(other) = tcp.get(1) {
        let listener = tcp::adopt(all.take_tcp(*other).unwrap()).unwrap();
        assert!(all.take_tcp(*other).is_none() && all.take_udp(*other).is_empty());
        drop(listener.accept().await.unwrap());
        let sockets = all.take_udp(udp[0].0).into_iter().map(|socket| udp::UdpSocket::adopt(socket, BUFFERS).unwrap());
        let sockets: Vec<_> = sockets.collect();
        let mut batch = udp::Batch::new();
        crate::support::eventually("a datagram", || {
            let got = sockets.iter().any(|socket| socket.receive(&mut batch).is_ok());
            got.then(|| batch.messages().for_each(|it| notifier.status(&String::from_utf8_lossy(it.bytes))))
        })
        .await;
    }
    notifier.stopping();
}
