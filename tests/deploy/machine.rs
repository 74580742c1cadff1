//! A machine of a test: a Debian of its own with systemd as its first process, on a network of its own, on which the
//! package is installed. What changes there is in memory and gone when it drops.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::support::{brought, eventually, here, is_root, netns::Host, programs::is_here};

pub(crate) struct Machine {
    nspawn: Child,
    groups: Vec<PathBuf>,
    /// Its first process, as this machine counts.
    first: u32,
    pub(crate) host: Arc<Host>,
    /// A folder of this machine that is `/mnt` there, to read.
    pub(crate) shared: tempfile::TempDir,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With the first process end all.
        let _ = Command::new("kill").args(["-KILL", &self.first.to_string()]).stderr(Stdio::null()).status();
        let _ = self.nspawn.wait();
        self.groups.iter().for_each(|group| remove(group));
    }
}

/// Machines so far: no two of this process are the same.
static MACHINES: AtomicU32 = AtomicU32::new(0);

/// Becomes a program within control groups of its own, which come first.
const ENTER: &str = r#"
for group in $FALLGATE_GROUPS; do
    mkdir "$group" && echo $$ >"$group/cgroup.procs" || exit 1
done
exec "$@"
"#;

/// Control groups for a machine, below those of this process: two service managers must not have the same.
fn groups(name: &str) -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let all = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let named = match kind {
            "cgroup2" => "0::",
            "cgroup" if options.contains("name=systemd") => ":name=systemd:",
            _ => return None,
        };
        let path = own.lines().find_map(|line| line.split_once(named).map(|(_, path)| path))?;
        Some(Path::new(at).join(path.trim_start_matches('/')).join(name))
    });
    all.collect()
}

/// Removes a control group with those below it.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// The Debian package of this build, made once; none where that cannot be.
pub(crate) fn package() -> Option<&'static Path> {
    static PACKAGE: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let make = || {
        if !is_here("dpkg-shlibdeps", &["--version"]) {
            return None;
        }
        let (tool, dir) = (brought("scripts/cargo-deb")?, tempfile::tempdir().unwrap());
        // It looks for the program of a release, and that of the tests will do.
        fs::create_dir(dir.path().join("release")).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_fallgate"), dir.path().join("release/fallgate")).unwrap();
        let pages = Command::new(here("scripts/pages")).arg(dir.path().join("release/fallgate")).status().unwrap();
        assert!(pages.success(), "no pages for the package");
        let mut command = Command::new(tool.join("cargo-deb"));
        command
            .args(["--no-build", "--strip", "--fast", "--quiet", "--offline", "--locked", "--output"])
            .arg(dir.path());
        let said = command.current_dir(here(".")).env("CARGO_TARGET_DIR", dir.path()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let mut files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        let made = files.find(|path| path.extension().is_some_and(|end| end == "deb")).unwrap();
        Some((dir, made))
    };
    PACKAGE.get_or_init(make).as_ref().map(|(_, path)| path.as_path())
}

impl Machine {
    /// One that has booted, with the package installed. None where it cannot be had.
    pub(crate) async fn with_package() -> Option<Machine> {
        if !is_root() || !is_here("systemd-nspawn", &["--version"]) || !is_here("mmdebstrap", &["--version"]) {
            return None;
        }
        let (package, root, host) = (package()?, brought("tests/get-debian")?, Host::new()?);
        let shared = tempfile::tempdir().unwrap();
        fs::copy(package, shared.path().join("fallgate.deb")).unwrap();
        let name = format!("fallgate-{}-{}", std::process::id(), MACHINES.fetch_add(1, Ordering::Relaxed));
        let groups = groups(&name);
        let listed: Vec<_> = groups.iter().map(|group| group.to_str().unwrap()).collect();
        let mut command = Command::new("sh");
        command.args(["-c", ENTER, "sh", "systemd-nspawn"]).env("FALLGATE_GROUPS", listed.join(" "));
        // It needs nobody else on this machine: no service manager, and no registry of machines.
        command.args([
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--volatile=overlay",
            "--console=pipe",
            "--directory",
        ]);
        command.arg(root).arg(format!("--bind-ro={}:/mnt", shared.path().display()));
        command.arg(format!("--machine={name}"));
        command.arg(format!("--network-namespace-path={}", host.path()));
        command.args(["--boot", "systemd.unit=multi-user.target"]).env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
        let log = fs::File::create(shared.path().join("console")).unwrap();
        let errors = log.try_clone().unwrap();
        let nspawn = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().unwrap();
        let mut machine = Machine { nspawn, groups, first: 0, host, shared };
        machine.first = machine.first().await;
        eventually("a machine that has booted", || {
            let state = machine.run(&["systemctl", "is-system-running"]).1;
            matches!(state.trim(), "running" | "degraded").then_some(())
        })
        .await;
        machine.ok(&["dpkg", "--install", "/mnt/fallgate.deb"]);
        Some(machine)
    }

    async fn first(&mut self) -> u32 {
        let pid = self.nspawn.id();
        eventually("the first process of a machine", || {
            assert!(self.nspawn.try_wait().unwrap().is_none(), "systemd-nspawn has ended: {}", self.console());
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
            children.split_whitespace().find_map(|child| {
                let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
                let is_first = status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
                is_first.then(|| child.parse().unwrap())
            })
        })
        .await
    }

    fn console(&self) -> String {
        fs::read_to_string(self.shared.path().join("console")).unwrap()
    }

    /// A program there.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    }

    /// Runs a program there; whether it went well, and what it said.
    pub(crate) fn run(&self, arguments: &[&str]) -> (bool, String) {
        let said = self.command(arguments).output().unwrap();
        (said.status.success(), String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned())
    }

    /// What a program there says, which must do well.
    #[track_caller]
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let (is_ok, said) = self.run(arguments);
        assert!(is_ok, "{arguments:?}: {said}{}", self.run(&["journalctl", "--no-pager", "--unit=fallgate"]).1);
        said.trim_end().to_owned()
    }

    /// A file there, by its whole name.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// What systemd says of the service.
    pub(crate) fn of_service(&self, property: &str) -> String {
        self.ok(&["systemctl", "show", "--property", property, "--value", "fallgate.service"])
    }

    /// A line of the status of the service's main process.
    pub(crate) fn of_process(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.of_service("MainPID"));
        let status = self.ok(&["cat", &path]);
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap().to_owned()
    }

    /// All that the service has logged.
    pub(crate) fn journal(&self) -> String {
        self.ok(&["journalctl", "--no-pager", "--unit=fallgate"])
    }
}
