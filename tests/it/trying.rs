//! What the demo says to try next can be tried, as it is printed.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::{
    cli::said,
    support::{ascp, certificate, programs},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fallgate");

/// Kills its process, by its id, when a test ends before it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The commands under "What to try next".
fn next(shown: &str) -> Vec<Vec<String>> {
    let lines = shown.lines().skip_while(|line| *line != "What to try next").skip(1);
    let commands = lines.filter_map(|line| line.trim().strip_prefix("fallgate ")?.split("  ").next());
    commands.map(|command| command.split(' ').map(str::to_owned).collect()).collect()
}

#[test]
fn what_the_demo_says_to_try_next_is_right_usage() {
    let (status, shown, _) = demo(&["demo", "--once"]);
    assert_eq!(status, 0);
    let dir = tempfile::tempdir().unwrap();
    certificate(dir.path(), "tls", &rcgen::PKCS_ECDSA_P256_SHA256);
    let file = dir.path().join("fallgate.yaml");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/minimal.yaml"), &file).unwrap();
    let commands = next(&shown);
    assert!(commands.len() >= 5, "{shown}");
    for mut command in commands {
        for word in &mut command {
            match word.as_str() {
                "FILE" => file.to_str().unwrap().clone_into(word),
                "NAME" => "127.0.0.1".clone_into(word),
                _ => {}
            }
        }
        // These stay, and are tried below and everywhere.
        if ["demo", "run"].contains(&command[0].as_str()) {
            command.push("--help".to_owned());
        }
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let (status, _, told) = said(&words);
        // Whatever the doctor finds on this machine.
        assert!(status == 0 || words[0] == "doctor" && status != 2, "{words:?}: {told}");
    }
}

fn demo(arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new(PROGRAM).args(arguments).env_remove("ASCP").stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

/// All that is shown until the demo stays.
fn shown(demo: &mut Child) -> String {
    let (mut text, mut lines) = (String::new(), BufReader::new(demo.stdout.as_mut().unwrap()));
    while !text.contains("until Ctrl-C") {
        assert!(lines.read_line(&mut text).unwrap() > 0, "{text}");
    }
    text
}

#[test]
fn what_can_be_tried_at_the_gateway_of_the_demo_works_as_it_is_printed() {
    if !programs::is_here("curl", &["--version"]) || !ascp::is_here() {
        return;
    }
    let mut command = Command::new(PROGRAM);
    command.arg("demo").env_remove("ASCP").env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut demo = Running(command.spawn().unwrap());
    let shown = shown(&mut demo.0);
    let turn = shown.split("Your turn\n").nth(1).unwrap().split("What to try next").next().unwrap();
    let after = |what: &str| turn.lines().find_map(|line| line.trim().strip_prefix(what)).unwrap().trim().to_owned();
    let folder = ascp::program().unwrap().parent().unwrap();
    let sh = |script: &str| {
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let done = Command::new("sh").args(["-ec", script]).env("PATH", path).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    let look = after("Look at it:");
    let url = look.split_whitespace().next().unwrap();
    assert!(sh(&format!("curl --silent --fail {url}")).contains("<html"));
    assert!(sh(&format!("curl --silent --fail {url}metrics")).contains("fallgate_build_info"));
    assert!(
        sh(&format!("{} --silent --include", after("Knock as a scanner:"))).contains("x-fallgate-error: not_found")
    );
    let begin = turn.find("   export ").unwrap();
    let script = &turn[begin..turn.find("Read the records:").unwrap()];
    sh(script);
    assert!(
        sh(&format!("cat {}", after("Read the records:"))).lines().last().unwrap().contains("\"outcome\":\"done\"")
    );
    sh(&format!("kill -INT {}", demo.0.id()));
    assert!(demo.0.wait().unwrap().success());
}
