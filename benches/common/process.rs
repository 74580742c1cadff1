//! A proxy as a process on a processor of its own.

use std::{
    ffi::OsString,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::machine::{self, PROXY_CPU};

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command on the proxies' processor and waits until all of `addresses` take connections; `dir` gets
    /// what it says.
    pub(crate) fn start(name: &str, command: &[OsString], dir: &Path, addresses: &[SocketAddr]) -> Process {
        Process::try_start(command, dir, addresses).unwrap_or_else(|said| panic!("{name} does not start: {said}"))
    }

    /// The same for a proxy that may be unable to; what it said then.
    pub(crate) fn try_start(command: &[OsString], dir: &Path, addresses: &[SocketAddr]) -> Result<Process, String> {
        let errors = fs::File::create(dir.join("stderr")).expect("a writable folder");
        let child = Command::new("taskset")
            .args(["-c", PROXY_CPU])
            .args(command)
            .env("TOKIO_WORKER_THREADS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("taskset is there");
        let mut process = Process { child };
        let start = Instant::now();
        while !addresses.iter().all(|a| TcpStream::connect(a).is_ok()) {
            if start.elapsed() > Duration::from_secs(10) || matches!(process.child.try_wait(), Ok(Some(_))) {
                let said = fs::read_to_string(dir.join("stderr")).unwrap_or_default();
                return Err(format!("{command:?}: {}", said.trim()));
            }
            pause(Duration::from_millis(20));
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds of processor time so far.
    pub(crate) fn cpu_ns(&self) -> u64 {
        machine::cpu_ns(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.pid().to_string();
        // SIGKILL would leave nginx's worker behind; a second signal ends fallgate without a drain.
        for _ in 0..50 {
            let _ = Command::new("kill").arg(&pid).stderr(Stdio::null()).status();
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits where there is nothing to wait for but time.
#[expect(clippy::disallowed_methods, reason = "no runtime is blocked, and no condition can be asked")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Writes a file of a proxy's folder and tells its path.
pub(crate) fn written(dir: &Path, name: &str, text: &str) -> OsString {
    let path = dir.join(name);
    fs::write(&path, text).expect("a writable folder");
    path.into_os_string()
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free() -> SocketAddr {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("an address")
}
