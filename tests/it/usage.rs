//! What the command line says of itself: help, mistakes and their hints, exit status, completions, the manual page, the demo.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{cli::said, support::programs::is_here};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fallgate");

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn printed(arguments: &[&str]) -> String {
    let (status, stdout, stderr) = said(arguments);
    assert_eq!(status, 0, "{arguments:?}: {stderr}");
    stdout
}

/// What the long help of each command says of its exit status, as rows of a table.
fn exit_statuses() -> String {
    let row = |command: &String| {
        let help = printed(&[command, "--help"]);
        let (_, told) = help.split_once("Exit status: ").unwrap();
        let told = told.split("\n\n").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        format!("| `{command}` | {told} |\n")
    };
    commands().iter().map(row).collect()
}

#[test]
fn every_exit_status_of_every_command_stands_in_one_place() {
    let (path, [begin, end]) = (repository("docs/operating.md"), ["<!-- exit status -->\n", "<!-- /exit status -->"]);
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    let wanted = format!("{before}{begin}| command | exit status |\n|---|---|\n{}{end}{after}", exit_statuses());
    if std::env::var_os("FALLGATE_BLESS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(page == wanted, "docs/operating.md does not have what the help says; bless it");
    }
}

/// The names of all commands, as the short help has them.
fn commands() -> Vec<String> {
    let help = printed(&["-h"]);
    let rows = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    rows.map(|row| row.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_exit_status_means_what_the_help_and_the_readme_say() {
    let meaning = "0 done, 1 failed while running, 2 wrong usage or config.";
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    assert!(readme.contains(&format!("**Exit status.** {meaning}")));
    for help in ["-h", "--help"] {
        assert!(printed(&[help]).contains(&format!("Exit status: {meaning}")));
    }
    let config = repository("config/minimal.yaml");
    let config = config.to_str().unwrap();
    for (arguments, wanted) in [
        (&["--version"][..], 0),
        (&["schema"], 0),
        (&["explain", "--config", config], 0),
        (&["completions", "fish"], 0),
        (&["man"], 0),
        (&["help", "run"], 0),
        (&["help", "help"], 0),
        (&["doctor", "code", "47"], 0),
        (&["health", "--url", "http://127.0.0.1:1"], 1),
        (&["node", "--address", "192.0.2.1:1", "--root", "/"], 1),
        (&[], 2),
        (&["fly"], 2),
        (&["run"], 2),
        (&["check", "--config", "/nowhere/fallgate.yaml"], 2),
        (&["explain", "--config", "/nowhere/fallgate.yaml"], 2),
        (&["upgrade", "--config", config], 2),
        (&["health", "--url", "gate:9180"], 2),
        (&["node", "--root", "/nowhere"], 2),
        (&["completions", "csh"], 2),
        (&["doctor"], 2),
    ] {
        let (status, stdout, stderr) = said(arguments);
        assert_eq!(status, wanted, "{arguments:?}: {stdout}{stderr}");
        assert_eq!(stderr.is_empty(), wanted == 0, "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_slip_is_told_what_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.yaml"), "").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "").unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for (arguments, hint) in [
        (vec!["chekc".to_owned()], "'check'".to_owned()),
        (vec!["check".into(), "--confg".into(), "x".into()], "'--config'".into()),
        (vec!["check".into(), "--config".into(), at("gatway.yaml")], "hint: did you mean \"gateway.yaml\"?".into()),
        (vec!["run".into(), "--config".into(), at("x.yaml")], format!("hint: in {} there is gateway.yaml", at(""))),
        (
            vec!["explain".into(), "--config".into(), at("")],
            "hint: this is a folder; in it there is gateway.yaml".into(),
        ),
        (vec!["check".into(), "--config".into(), at("etc/x.yaml")], format!("hint: there is no folder {}", at("etc"))),
        (vec!["node".into(), "--root".into(), at("none")], "hint: make it first".into()),
        (
            vec!["node".into(), "--root".into(), at(""), "--address".into(), "80".into()],
            "such as 127.0.0.1:8080".into(),
        ),
        (vec!["health".into(), "--url".into(), "http://127.0.0.1:1".into()], "hint: nothing listens there".into()),
        (vec!["run".into(), "gateway.yaml".into()], "hint: write --config gateway.yaml".into()),
        (vec!["run".into(), "-c".into(), "x".into()], "hint: write --config FILE".into()),
        (vec!["--config".into(), "gateway.yaml".into()], "hint: the command comes first".into()),
        (vec!["start".into()], "hint: write fallgate run --config FILE".into()),
        (vec!["configtest".into()], "hint: write fallgate check --config FILE".into()),
        (vec!["version".into()], "hint: write fallgate --version".into()),
        (vec!["doctor".into(), "gate.example.com".into()], "hint: write --host gate.example.com".into()),
        (vec!["doctor".into(), "--host".into(), "https://gate:8443".into()], "without a scheme".into()),
    ] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (status, _, stderr) = said(&arguments);
        let hint = hint.trim_end_matches('/').replace("/ there", " there");
        assert!(status > 0 && stderr.replace("/ there", " there").contains(&hint), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_reader_who_goes_away_early_is_no_failure_and_a_full_disk_is_one() {
    for command in ["schema", "man", "completions bash", "explain --config config/fallgate.yaml"] {
        let run = |script: String| {
            let done = Command::new("bash").args(["-c", &script]).current_dir(repository(".")).output().unwrap();
            (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
        };
        let early = run(format!("set -o pipefail; '{PROGRAM}' {command} | true"));
        assert_eq!(early, (0, String::new()), "{command}");
        let (status, stderr) = run(format!("'{PROGRAM}' {command} >/dev/full"));
        assert!(status == 1 && stderr.contains("No space left"), "{command}: {status} {stderr}");
    }
}

#[test]
fn bash_completes_commands_options_values_and_files() {
    if !is_here("bash", &["--version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gateway.yaml"), "").unwrap();
    // As bash itself does it: the words so far, which of them is meant, and what stands there.
    let ask = |words: &[&str]| -> Vec<String> {
        let script = "source <(\"$0\" completions bash) || exit 3
            COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _fallgate fallgate \"${@: -1}\" \"${@: -2:1}\"
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", script, PROGRAM, "fallgate"]).args(words).current_dir(dir.path());
        let done = command.stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().lines().filter(|l| !l.is_empty()).map(str::to_owned).collect()
    };
    assert_eq!(ask(&["che"]), ["check"]);
    for command in commands() {
        assert!(ask(&[""]).contains(&command), "{command}");
    }
    assert_eq!(ask(&["check", "--ag"]), ["--against"]);
    assert_eq!(ask(&["explain", "--part", "ou"]), ["outer"]);
    assert_eq!(ask(&["completions", "z"]), ["zsh"]);
    assert_eq!(ask(&["run", "--config", "gate"]), ["gateway.yaml"]);
}

#[test]
fn zsh_and_fish_take_their_completions() {
    for shell in ["zsh", "fish"] {
        if !is_here(shell, &["--version"]) {
            continue;
        }
        let text = printed(&["completions", shell]);
        let mut child = Command::new(shell)
            .arg("-n")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{shell}: {}", String::from_utf8_lossy(&done.stderr));
        for command in commands() {
            assert!(text.contains(&command), "{shell}: {command}");
        }
    }
}

#[test]
fn the_manual_page_has_every_command_and_groff_no_warning() {
    let page = printed(&["man"]);
    for command in commands() {
        assert!(page.contains(&format!(".SH \"fallgate {command}\"")), "{command}");
    }
    assert!(page.contains(".SH \"fallgate doctor code\""));
    assert!(page.contains(".SH \"EXIT STATUS\""));
    if !is_here("groff", &["--version"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fallgate.1");
    std::fs::write(&file, &page).unwrap();
    let done = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-rLL=80n"]).arg(&file).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    let shown = String::from_utf8(done.stdout).unwrap();
    assert!(shown.contains("SIGHUP"), "{shown}");
}

#[test]
fn pages_for_the_package_are_written_beside_the_program() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("fallgate");
    std::os::unix::fs::symlink(PROGRAM, &program).unwrap();
    assert!(Command::new(repository("scripts/pages")).arg(&program).status().unwrap().success());
    let manifest = std::fs::read_to_string(repository("Cargo.toml")).unwrap();
    for file in ["fallgate.1.gz", "fallgate.bash", "_fallgate", "fallgate.fish"] {
        assert!(std::fs::metadata(dir.path().join(file)).unwrap().len() > 100, "{file}");
        assert!(manifest.contains(&format!("[\"target/release/{file}\", \"usr/share/")), "{file}");
    }
}

#[test]
fn the_demo_moves_real_files_with_little_work_and_ends_with_what_to_try_next() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    // Seconds of processors and not of the clock, for others may be at work here.
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\" demo --once; status=$?; times >&2; exit $status", PROGRAM]);
    command.env("TMPDIR", dir.path()).env("TERM", "xterm").env_remove("ASCP");
    let done = command.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8(done.stdout).unwrap();
    let told = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{shown}{told}");
    let seconds = |word: &str| -> f64 {
        let (minutes, seconds) = word.trim_end_matches('s').split_once('m').unwrap();
        minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
    };
    let worked: f64 = told.lines().last().unwrap().split_whitespace().map(seconds).sum();
    assert!(worked > 0.0 && worked < 10.0, "{worked}");
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it left files behind");
    assert!(shown.contains("All good") && shown.contains("What to try next"), "{shown}");
    // No terminal: neither colours nor a line that is drawn over.
    assert!(!shown.contains(['\x1b', '\r']), "{shown}");
    let here = |line: &str| line.contains(PROGRAM) || line.contains(dir.path().to_str().unwrap());
    assert!(shown.lines().all(|line| here(line) || line.chars().count() <= 80), "{shown}");
    // Sessions have the names that they have in the records.
    let rows: Vec<_> = shown.lines().filter(|line| line.contains("  upload    ")).collect();
    let is_named = |row: &&str| row.split_whitespace().next().unwrap().chars().all(|c| c.is_ascii_hexdigit());
    assert!(rows.len() == 7 && rows.iter().all(is_named), "{rows:?}");
    // The README shows it: every step in these words.
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let is_step = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit()) && !line.starts_with("10.");
    assert_eq!(shown.lines().filter(is_step).count(), 9);
    for step in shown.lines().filter(is_step) {
        assert!(readme.lines().any(|line| line == step), "the README does not show: {step}");
    }
}

#[test]
fn the_demo_counts_along_at_a_terminal_and_leaves_colours_to_who_wants_them() {
    if !is_here("script", &["--version"]) {
        return;
    }
    let shown = |environment: &[(&str, &str)]| {
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--command", &format!("'{PROGRAM}' demo --once"), "/dev/null"]);
        command.env_remove("NO_COLOR").envs(environment.iter().copied());
        let done = command.stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{environment:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    for (environment, has_colours, counts_along) in [
        (&[("TERM", "xterm")][..], true, true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], false, true),
        (&[("TERM", "dumb")], false, false),
    ] {
        let text = shown(environment);
        assert_eq!(text.contains("\x1b[1m"), has_colours, "{environment:?}");
        assert_eq!(text.contains(" of 25.5 MB"), counts_along, "{environment:?}");
        assert_eq!(text.contains('\x1b'), counts_along, "{environment:?}");
    }
}
