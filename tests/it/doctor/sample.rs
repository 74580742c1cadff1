//! The sample of a doctor's words in the README is what it prints, but for names, times and the lines that `...` stands for.

use std::path::Path;

use fallgate::{doctor::lines, net::probe::Secret};
use tokio::net::UdpSocket;

use super::{
    Seat,
    run::{free, nginx},
};
use crate::support::{Plan, loopback, nominal::ssh, programs::is_here};

/// With `#` for every time.
fn masked(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    let is_unit = |word: &str| matches!(word.trim_end_matches([',', ';', '.', ')']), "ms" | "s" | "days");
    let mask = |(n, word): (usize, &&str)| match words.get(n + 1) {
        Some(next) if is_unit(next) && word.parse::<f64>().is_ok() => "#".to_owned(),
        _ => (*word).to_owned(),
    };
    words.iter().enumerate().map(mask).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_is_printed() {
    if !is_here("nginx", &["-v"]) {
        return;
    }
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "0123456789abcdef").unwrap();
    let sandbox = Plan::new().top(&format!("doctor: {{secret_file: '{}'}}", secret.path().display())).start().await;
    let (plain, tls) = (sandbox.address("plain").await, sandbox.address("tls").await);
    let (dir, front) = (tempfile::tempdir().unwrap(), free());
    let server =
        format!("server {{ listen {front}; location / {{ proxy_http_version 1.1; proxy_pass http://{plain}; }} }}");
    let _nginx = nginx(dir.path(), &server, front.port()).await;
    let control = tokio::net::TcpListener::bind(loopback(0)).await.unwrap();
    let at = control.local_addr().unwrap();
    let node = tokio::spawn(ssh("OpenSSH_9.2", control));
    // Nobody reads of it.
    let deaf = UdpSocket::bind(loopback(0)).await.unwrap();
    let mut seat = Seat::new().await.ssh(at).udp(deaf.local_addr().unwrap()).https(tls).http(front);
    seat.question.host = "localhost".to_owned();
    seat.question.secret = Some(Secret::read(secret.path()).unwrap());
    let mut printed = lines(&seat.examine().await).replace("localhost", "transfer.example.com");
    let ports = [
        (seat.question.ssh_port, "33001"),
        (seat.question.udp_port, "33001"),
        (tls.port(), "8443"),
        (front.port(), "8080"),
    ];
    for (port, shown) in ports {
        printed = printed.replace(&port.to_string(), shown);
    }
    node.abort();

    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let begin = "```console\n$ fallgate doctor --host transfer.example.com --secret-file doctor.secret\n";
    let sample =
        readme.split(begin).nth(1).and_then(|rest| rest.split("```").next()).expect("the README has the sample");
    let mut real = printed.lines();
    let mut skips = false;
    for line in sample.lines() {
        if line == "..." {
            skips = true;
            continue;
        }
        let is_it = |other: &str| masked(other) == masked(line);
        let found = if skips { real.any(is_it) } else { real.next().is_some_and(is_it) };
        assert!(found, "not printed: {line}\nthis is:\n{printed}");
        skips = false;
    }
    assert_eq!(real.next(), None, "the sample ends too early");
}

#[test]
fn times_are_masked_and_nothing_else_is() {
    let line = "udp (h:33001, after 35 ms, banner in 0.5 s). 413 to 2 MiB, 89 days left";
    assert_eq!(masked(line), "udp (h:33001, after # ms, banner in # s). 413 to 2 MiB, # days left");
}
