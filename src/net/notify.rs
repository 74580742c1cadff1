//! Telling the service manager how it goes (sd_notify(3)): that the process serves, reloads, stops, or goes on as another.
//!
//! The manager names a socket in `NOTIFY_SOCKET`; where it names none, nobody is told, and nothing is done.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// How long a manager that does not listen is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// The way to the service manager, if there is one. What cannot be told is dropped: the process serves all the same.
///
/// Telling takes no time, and half a second at most where the manager hangs.
#[derive(Debug, Default)]
pub struct Notifier {
    to: Option<SocketAddr>,
}

impl Notifier {
    /// To the manager that the environment names.
    ///
    /// # Errors
    /// It names one that cannot be: neither a path nor an abstract name, which begins with `@`.
    pub fn from_env() -> io::Result<Notifier> {
        let named = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        named.map_or(Ok(Notifier::default()), |name| Notifier::to(&name))
    }

    /// To the manager at this socket: a path, or an abstract name after `@`.
    ///
    /// # Errors
    /// It is neither, or too long.
    pub fn to(name: &OsStr) -> io::Result<Notifier> {
        let to = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "NOTIFY_SOCKET is no path and no @name")),
        };
        Ok(Notifier { to: Some(to) })
    }

    /// The process serves, for the first time or again after a reload.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// A reload begins; [`Notifier::ready`] ends it, also where the old config stays.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The process drains, or is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The service goes on in another process. With `NotifyAccess=main` only the one that was the main process until now
    /// is heard.
    pub fn main_pid(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// How it goes, in a line for operators.
    pub fn status(&self, text: &str) {
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.tell(&format!("STATUS={line}"));
    }

    fn tell(&self, message: &str) {
        let Some(to) = &self.to else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.send_to_addr(message.as_bytes(), to)
        });
        if let Err(error) = sent {
            tracing::debug!(%error, "The service manager does not hear.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a manager hears while `tell` is done.
    fn heard(manager: &UnixDatagram, tell: impl FnOnce()) -> String {
        tell();
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut room = [0; 500];
        let n = manager.recv(&mut room).unwrap();
        String::from_utf8_lossy(&room[..n]).into_owned()
    }

    fn hears_all(manager: &UnixDatagram, notifier: &Notifier) {
        assert_eq!(heard(manager, || notifier.ready()), "READY=1");
        assert_eq!(heard(manager, || notifier.stopping()), "STOPPING=1");
        assert_eq!(heard(manager, || notifier.main_pid(17)), "MAINPID=17");
        assert_eq!(heard(manager, || notifier.status("3 sessions\nREADY=1 ä")), "STATUS=3 sessions READY=1 ä");
        let before = clock_gettime(ClockId::Monotonic);
        let reloading = heard(manager, || notifier.reloading());
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse::<i64>().unwrap();
        assert!((before.tv_sec..=before.tv_sec + 10).contains(&(micros / 1_000_000)), "{reloading}");
    }

    #[test]
    fn a_manager_at_a_path_hears_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        hears_all(&manager, &Notifier::to(path.as_os_str()).unwrap());
    }

    #[test]
    fn a_manager_with_an_abstract_name_hears_everything() {
        let name = format!("fallgate-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        hears_all(&manager, &Notifier::to(OsStr::new(&format!("@{name}"))).unwrap());
    }

    #[test]
    fn a_manager_that_does_not_listen_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notifier = Notifier::to(path.as_os_str()).unwrap();
        notifier.ready();
        let _manager = UnixDatagram::bind(&path).unwrap();
        // Its queue is full at some time, and there the wait ends.
        let begun = std::time::Instant::now();
        let mut told = 0;
        while begun.elapsed() < PATIENCE {
            notifier.ready();
            told += 1;
        }
        assert!(told > 1 && begun.elapsed() < 4 * PATIENCE);
    }

    #[test]
    fn without_a_manager_nothing_is_done_and_what_is_none_is_told() {
        Notifier::default().ready();
        for wrong in ["vsock:2:1234", "relative", &format!("/{}", "x".repeat(200))] {
            assert!(Notifier::to(OsStr::new(wrong)).is_err(), "{wrong}");
        }
    }
}
