//! The image without an engine: its file system, made as the Dockerfile says, and the program run in it with no more
//! rights than compose.yaml leaves it.

use std::{
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use crate::support::{Ended, brought, eventually, here, netns::Host, text};

/// What a Dockerfile may say here. A word that is not listed is a mistake, or wants a test.
const WORDS: &[&str] =
    &["FROM", "RUN", "WORKDIR", "COPY", "LABEL", "USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"];
/// What of the base the program needs: glibc and what GCC adds to it.
const LIBRARIES: &[&str] = &["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"];

/// Becomes the program in a root that nobody can write to, as process 1, without any right.
const RUN: &str = r#"
set -e
mount --bind "$1" "$1"
mount --bind "$2" "$1/etc/fallgate"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/tmp"
mount -t tmpfs tmpfs "$1/dev"
for device in null zero full random urandom; do
    : >"$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done
mount -o remount,bind,ro "$1"
root=$1 user=$3
shift 3
exec capsh --drop=all --inh= --no-new-privs --chroot="$root" --groups= --gid="${user#*:}" --uid="${user%:*}" "$@"
"#;

/// A stage of the Dockerfile: its base, its name, and its instructions.
pub(crate) struct Stage {
    pub(crate) base: String,
    pub(crate) name: String,
    pub(crate) lines: Vec<(String, String)>,
}

impl Stage {
    /// What an instruction says that stands there once.
    #[track_caller]
    pub(crate) fn one(&self, word: &str) -> &str {
        let all: Vec<_> = self.lines.iter().filter(|(it, _)| it == word).collect();
        assert_eq!(all.len(), 1, "{word}");
        &all[0].1
    }

    /// A command in its exact form; there is no shell that could read another.
    #[track_caller]
    pub(crate) fn command(&self, word: &str) -> Vec<String> {
        let said = self.one(word);
        let list = &said[said.find('[').unwrap_or_else(|| panic!("{word} needs a shell"))..];
        serde_json::from_str(list).unwrap_or_else(|e| panic!("{word}: {e}"))
    }

    /// What is copied in: from which stage, what, to where.
    pub(crate) fn copies(&self) -> Vec<(Option<String>, String, String)> {
        let all = self.lines.iter().filter(|(word, _)| word == "COPY").map(|(_, said)| {
            let (options, files): (Vec<_>, Vec<_>) = said.split(' ').partition(|part| part.starts_with("--"));
            let from = options.iter().find_map(|option| option.strip_prefix("--from=")).map(str::to_owned);
            let [source, target] = files[..] else { panic!("COPY {said}") };
            (from, source.to_owned(), target.to_owned())
        });
        all.collect()
    }
}

/// The stages of the Dockerfile, read strictly: one instruction in a line, none that is not known.
pub(crate) fn stages() -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for line in text("deploy/container/Dockerfile").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (word, said) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(WORDS.contains(&word) && !line.ends_with('\\') && !line.contains("  "), "{line}");
        if word == "FROM" {
            let (base, name) = said.split_once(" AS ").unwrap_or((said, ""));
            stages.push(Stage { base: base.to_owned(), name: name.to_owned(), lines: Vec::new() });
        } else {
            let stage = stages.last_mut().unwrap_or_else(|| panic!("{line} comes before FROM"));
            stage.lines.push((word.to_owned(), said.to_owned()));
        }
    }
    stages
}

/// A container of the image.
pub(crate) struct Container {
    outer: Ended,
    /// Its first process, as this machine counts.
    pub(crate) first: u32,
    stage: Stage,
    host: Arc<Host>,
    root: tempfile::TempDir,
    /// What is mounted at `/etc/fallgate`, and the log.
    pub(crate) config: tempfile::TempDir,
}

impl Container {
    /// One that runs with a config; none where that cannot be.
    pub(crate) async fn run(host: &Arc<Host>, config: &str) -> Option<Container> {
        let (stage, debian) = (stages().pop().unwrap(), brought("tests/get-debian")?);
        let (root, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fill(root.path(), &debian, &stage);
        std::fs::write(folder.path().join("fallgate.yaml"), config).unwrap();
        // The program of the image is nobody's here, and looks into both.
        for path in [root.path(), folder.path()] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let program = [stage.command("ENTRYPOINT"), stage.command("CMD")].concat();
        let mut command = host.command("unshare");
        command.args(["--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--", "sh", "-c", RUN, "sh"]);
        command.arg(root.path()).arg(folder.path()).arg(stage.one("USER")).arg(format!("--shell={}", program[0]));
        command.arg("--").args(&program[1..]).env("NO_COLOR", "1").stdin(Stdio::null());
        let outer = Ended(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let mut container = Container { outer, first: 0, stage, host: host.clone(), root, config: folder };
        container.first = eventually("the program in its container", || {
            let pid = container.outer.0.id();
            let child = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            let child = child.trim().parse().ok()?;
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (name == "fallgate\n").then_some(child)
        })
        .await;
        Some(container)
    }

    /// Whether its own health check finds it well.
    pub(crate) fn is_healthy(&self) -> bool {
        let check = self.stage.command("HEALTHCHECK");
        let user = self.stage.one("USER").split_once(':').unwrap();
        let mut command = self.host.command("capsh");
        command.args(["--drop=all", "--inh=", "--no-new-privs"]);
        command.arg(format!("--chroot={}", self.root.path().display()));
        command.args(["--groups=", &format!("--gid={}", user.1), &format!("--uid={}", user.0)]);
        command.arg(format!("--shell={}", check[0])).arg("--").args(&check[1..]);
        command.stdin(Stdio::null()).output().unwrap().status.success()
    }

    /// The status of its first process, by name.
    pub(crate) fn status(&self) -> BTreeMap<String, String> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.first)).unwrap();
        let fields = text.lines().filter_map(|line| line.split_once(":\t"));
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Sends the signal that an engine would, and waits for the end; whether it went well.
    pub(crate) async fn stop(&mut self) -> bool {
        let signal = self.stage.one("STOPSIGNAL").strip_prefix("SIG").unwrap();
        Command::new("kill").args([&format!("-{signal}"), &self.first.to_string()]).status().unwrap();
        eventually("the end of the container", || self.outer.0.try_wait().unwrap()).await.success()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.config.path().join("log")).unwrap()
    }
}

/// Makes the file system: what of the base the program needs, taken from the same Debian, and what is copied in.
fn fill(root: &Path, debian: &Path, stage: &Stage) {
    let libraries = root.join("lib/x86_64-linux-gnu");
    let dirs = ["etc/ssl/certs", "etc/fallgate", "lib64", "dev", "proc", "tmp"].map(|dir| root.join(dir));
    dirs.iter().chain([&libraries]).for_each(|dir| std::fs::create_dir_all(dir).unwrap());
    for name in LIBRARIES {
        std::fs::copy(debian.join("lib/x86_64-linux-gnu").join(name), libraries.join(name)).unwrap();
    }
    symlink("../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", root.join("lib64/ld-linux-x86-64.so.2")).unwrap();
    let certificates = "etc/ssl/certs/ca-certificates.crt";
    std::fs::copy(debian.join(certificates), root.join(certificates)).unwrap();
    std::fs::write(root.join("etc/passwd"), "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n").unwrap();
    for (from, source, target) in stage.copies() {
        let source = match from.as_deref() {
            Some("build") => {
                assert_eq!(source, "/fallgate");
                env!("CARGO_BIN_EXE_fallgate").into()
            }
            Some(other) => panic!("no stage {other}"),
            None => here(&source),
        };
        let target = root.join(target.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(source, target).unwrap();
    }
}
