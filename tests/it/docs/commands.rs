//! Commands in the pages: each is run as it stands, or it is said here why not; and what is shown of one comes out of it.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Page, configs, page, pages, root};
use crate::support::{TOKEN, netns::Host, programs, secrets};

/// Commands that are not run here, by how they begin, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("scripts/demo --once", "it builds first; `fallgate demo --once`, in which it ends, is run below"),
    ("scripts/test", "it runs this test"),
    ("scripts/fuzz", "it builds all anew, and takes minutes"),
    ("cargo ", "it builds; the names of its targets are looked at below"),
    ("PATH=\"$(scripts/cmake):$PATH\"", "it is for the build"),
    ("scripts/pages target/release/fallgate", "there is no such build; tests/it/usage.rs runs it beside another one"),
    ("PATH=\"$(scripts/cargo-deb):$PATH\" cargo deb", "it builds; tests/deploy/machine.rs does it"),
    ("docker ", "there is no engine; tests/deploy/container.rs does what can be done without"),
    ("kubectl ", "there is no cluster; tests/deploy/kubernetes renders what is applied"),
    ("helm ", "likewise"),
    ("asconfigurator ", "a program of nodes"),
    ("nc -w 5 transfer.example.com 33001", "there is no node with an SSH server"),
];

/// Commands that end well with another status than 0, by how they begin, and why.
const OTHER_STATUS: &[(&str, i32, &str)] = &[(
    "fallgate doctor --host",
    1,
    "only the fallback is served here, and its first choice would be the nominal path",
)];

/// The gateway of the commands runs by this one.
const RUN: &str = "fallgate run --config fallgate.yaml";

const PATIENCE: Duration = Duration::from_secs(20);

/// The commands of a page's blocks, without their comments.
fn commands(page: &Page) -> Vec<String> {
    let blocks = page.blocks().into_iter().filter(|block| block.language == "sh");
    let text: String = blocks.map(|block| block.text.replace("\\\n", " ")).collect();
    let lines = text.lines().map(|line| line.split(" # ").next().unwrap().trim().to_owned());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// A host of its own, whose ports are all free, with a gateway that runs by the README's config.
struct Scene {
    host: Arc<Host>,
    dir: tempfile::TempDir,
    gateway: Child,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.gateway.kill();
        let _ = self.gateway.wait();
    }
}

impl Scene {
    fn open() -> Option<Scene> {
        let host = Host::new()?;
        let dir = tempfile::tempdir().unwrap();
        configs::fill(dir.path());
        let blocks = page("README.md").blocks();
        let shown: Vec<_> = blocks.iter().filter(|block| block.language == "yaml").map(|block| &block.text).collect();
        let more = "access_log: { path: access.log }\nadmin: { token_file: token }\n";
        std::fs::write(dir.path().join("fallgate.yaml"), format!("{}{more}", shown[0])).unwrap();
        std::fs::write(dir.path().join("next.yaml"), configs::completed(shown[1])).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let gateway = shell(&host, dir.path(), &format!("exec {RUN}")).stderr(log).spawn().unwrap();
        let scene = Scene { host, dir, gateway };
        scene.patiently("curl -sf localhost:9180/readyz");
        Some(scene)
    }

    fn run(&self, command: &str) -> Output {
        let command = command.replace("transfer.example.com", "localhost");
        let said = shell(&self.host, self.dir.path(), &command).output().unwrap();
        secrets::none_in(&command, &said.stdout);
        secrets::none_in(&command, &said.stderr);
        said
    }

    fn patiently(&self, command: &str) {
        let begin = Instant::now();
        while !self.run(command).status.success() {
            assert!(begin.elapsed() < PATIENCE, "never came: {command}");
        }
    }

    /// A session that is refused for its token.
    fn refused(&self) {
        let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        let url = format!("https://localhost:8443/aspera/https/{id}/session_start/OOB/{id}.ashttp");
        let bad = TOKEN.get(..8).unwrap();
        let body = format!("<session><id>{id}</id><operation>put</operation><token>{bad}</token></session>");
        secrets::learn(body.as_bytes());
        self.run(&format!("curl -sk --request-target {url} --data-binary '{body}' {url}"));
        self.patiently("grep -q token_shape access.log");
    }
}

/// `sh` on the host, with `fallgate` on its path.
fn shell(host: &Host, dir: &Path, command: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_fallgate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut shell = host.command("sh");
    shell.args(["-ec", command]).current_dir(dir).env("PATH", path);
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[test]
fn every_command_of_the_pages_runs_or_is_told_why_not() {
    if !programs::is_here("curl", &["--version"]) {
        return;
    }
    let Some(scene) = Scene::open() else { return };
    scene.refused();
    let (mut used, mut ran) = (vec![false; NOT_RUN.len()], 0);
    let readme = commands(&page("README.md"));
    assert!(readme.iter().any(|command| command == RUN), "the README does not say `{RUN}`");
    for page in pages() {
        for command in commands(&page).iter().filter(|command| *command != RUN) {
            if let Some(at) = NOT_RUN.iter().position(|(begin, _)| command.starts_with(begin)) {
                used[at] = true;
                continue;
            }
            let said = scene.run(command);
            let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
            let other = OTHER_STATUS.iter().find(|(begin, ..)| command.starts_with(begin));
            let wanted = other.map_or(0, |(_, status, _)| *status);
            assert_eq!(said.status.code(), Some(wanted), "{}: {command}\n{out}{err}", page.path);
            assert!(!out.contains("\"error\":"), "{}: {command}\n{out}", page.path);
            ran += 1;
        }
    }
    assert!(ran >= 9, "{ran}");
    for name in ["log", "access.log"] {
        secrets::none_in(name, std::fs::read(scene.dir.path().join(name)).unwrap());
    }
    let stale: Vec<_> = NOT_RUN.iter().zip(used).filter(|(_, used)| !used).map(|((begin, _), _)| begin).collect();
    assert!(stale.is_empty(), "nobody says this any more: {stale:?}");
}

#[test]
fn what_the_readme_shows_of_the_demo_comes_out_of_it() {
    let script = std::fs::read_to_string(root().join("scripts/demo")).unwrap();
    assert!(script.ends_with("--bin fallgate -- demo \"$@\"\n"), "the script is not the demo alone");
    let readme = page("README.md").blocks();
    let at = readme.iter().position(|block| block.text.starts_with("scripts/demo --once")).unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_fallgate"));
    // Where there is no real client.
    demo.args(["demo", "--once"]).env_remove("ASCP").env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    let said = String::from_utf8(demo.output().unwrap().stdout).unwrap();
    let (shown, said) = (masked(&readme[at + 1].text), masked(&said));
    for (shown, said) in shown.iter().zip(&said) {
        assert_eq!(shown, said);
    }
    assert_eq!(shown.len(), said.len());
}

/// Lines word by word; words with a figure in them, and paths, differ each time, and the order of lines is not promised where
/// they are records of the access log.
fn masked(text: &str) -> Vec<String> {
    let differs = |word: &str| word.matches('/').count() > 1 || word.contains(|c: char| c.is_ascii_digit());
    let word = |word: &str| match differs(word) {
        true => "#".to_owned(),
        false => word.to_owned(),
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    let is_record = |line: &String| line.starts_with("# upload") || line.starts_with("# download");
    let mut lines = Vec::new();
    for line in text.trim().lines().map(line) {
        lines.push(line);
        let from = lines.iter().rposition(|line| !is_record(line)).map_or(0, |at| at + 1);
        lines[from..].sort();
    }
    lines
}

/// Commands in the middle of a sentence: there is such a command, and it has those flags.
#[test]
fn commands_in_sentences_have_names_and_flags_that_there_are() {
    let mut seen = 0;
    for page in pages() {
        let blocks = page.blocks().into_iter().map(|block| block.text.replace("\\\n", " "));
        let lines: Vec<_> = blocks.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        for said in page.spans().iter().chain(&lines).filter_map(|line| line.trim().strip_prefix("fallgate ")) {
            let said = said.split(" # ").next().unwrap();
            let Some(name) = said.split_whitespace().next().filter(|name| name.starts_with(char::is_lowercase)) else {
                continue;
            };
            let mut help = Command::new(env!("CARGO_BIN_EXE_fallgate"));
            let help = help.args([name, "--help"]).stdin(Stdio::null()).output().unwrap();
            assert!(help.status.success(), "{}: fallgate {said}", page.path);
            let help = String::from_utf8(help.stdout).unwrap();
            for flag in said.split([' ', '=']).filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{}: fallgate {said}: {flag}", page.path);
            }
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn targets_of_cargo_that_pages_name_are_there() {
    let (manifest, root) = (std::fs::read_to_string(root().join("Cargo.toml")).unwrap(), root());
    for page in pages() {
        for command in commands(&page).iter().filter(|command| command.starts_with("cargo ")) {
            let words: Vec<_> = command.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| ["--bench", "--test", "--bin"].contains(&pair[0])) {
                let (kind, name) = (pair[0].trim_start_matches('-'), pair[1]);
                let folder = if kind == "bench" { "benches" } else { "tests" };
                let is_there = manifest.contains(&format!("name = \"{name}\""))
                    || root.join(folder).join(name).join("main.rs").exists()
                    || root.join(folder).join(format!("{name}.rs")).exists();
                assert!(is_there, "{}: {command}", page.path);
            }
        }
    }
}
