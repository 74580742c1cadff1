//! The command as a process: what it says, and its exit status.

use std::process::{Command, Stdio};

use crate::support::{
    peer::{DeadPort, Peer},
    secrets,
};

fn said(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    let output = command.arg("doctor").args(arguments).stdin(Stdio::null()).output().unwrap();
    secrets::none_in("stdout", &output.stdout);
    secrets::none_in("stderr", &output.stderr);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn an_error_number_is_explained_and_an_unknown_one_gives_the_list() {
    let (status, told, _) = said(&["code", "47"]);
    assert!(status == 0 && told.starts_with("47: Error establishing HTTP connection") && told.contains("\ncures: "));
    let (status, told, _) = said(&["code", "99"]);
    assert!(status == 1 && told.contains("\n 47  Error establishing HTTP connection"), "{told}");
}

#[test]
fn wrong_usage_is_told_with_2() {
    assert_eq!(said(&[]).0, 2);
    for wrong in ["http://proxy:3128", "user@proxy:3128", "[::1]:3128", "::1:3128", "proxy", "proxy:0"] {
        let (status, _, told) = said(&["--host", "h", "--proxy", wrong]);
        assert!(status == 2 && told.contains("a proxy is HOST:PORT"), "{wrong}: {told}");
    }
    assert_eq!(said(&["--host", "h", "--timeout", "5"]).0, 2);
    let (status, _, told) = said(&["--host", "h", "--secret-file", "/nowhere"]);
    assert!(status == 2 && told.contains("/nowhere cannot be read"), "{told}");
}

#[test]
fn an_ipv6_address_is_taken_with_and_without_brackets_and_told_as_ascp_takes_it() {
    for host in ["::1", "[::1]"] {
        let (status, told, _) = said(&["--host", host, "--json", "--timeout", "1s", "--proxy", "127.0.0.1:1"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((status, told["host"].as_str()), (3, Some("::1")));
        let words: Vec<_> =
            told["findings"].as_array().unwrap().iter().map(|f| f["diagnosis"].as_str().unwrap()).collect();
        assert_eq!(words, ["no_ipv4", "no_ipv4", "no_ipv4", "no_ipv4", "refused", "refused"]);
        let flags = told["advice"].as_array().unwrap().iter().map(|advice| advice["flags"].to_string());
        assert!(flags.into_iter().all(|flags| flags.contains("--host=[::1]")));
    }
    assert_eq!(said(&["--host", "a\nb"]).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_something_works_the_status_is_1_and_where_nothing_does_3() {
    let dead = DeadPort::new();
    let refusing = Peer::start(|mut stream: tokio::net::TcpStream| async move {
        let _ = crate::support::peer::read_request(&mut stream).await;
        let head = b"HTTP/1.1 403 Forbidden\r\nx-real-mgmt-error: 19\r\nContent-Length: 0\r\n\r\n";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, head).await;
    })
    .await;
    let (none, http) = (dead.address.port().to_string(), refusing.address.port().to_string());
    for (port, expected, verdict) in [(http, 1, "some"), (none.clone(), 3, "none")] {
        let none = none.clone();
        let told = tokio::task::spawn_blocking(move || {
            let ports = ["--ssh-port", &none, "--udp-port", &none, "--https-port", &none, "--http-port", &port];
            said(&[&["--host", "127.0.0.1", "--json", "--timeout", "1s"][..], &ports].concat())
        });
        let (status, told, _) = told.await.unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((status, told["verdict"].as_str()), (expected, Some(verdict)), "{told}");
        let keys = |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(keys(&told), "advice findings host verdict");
        assert_eq!(keys(&told["findings"][0]), "cure diagnosis meaning path seen state");
        assert_eq!(keys(&told["advice"][0]), "flags path spec works");
    }
}
