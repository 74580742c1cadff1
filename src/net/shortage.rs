//! When descriptors run out: connections wait in the system's queue, and are taken as soon as others end.
//!
//! A few descriptors are kept in reserve, so that an operator gets in all the same. They are lent out for his connection
//! alone, and all others wait until they are back.

use std::{
    fs::File,
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::net::{TcpListener, TcpStream};

/// Descriptors in reserve: for a connection, and what it takes to answer there.
const RESERVE: usize = 4;
/// After this a connection that could not be taken is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// When nothing has failed for so long it is over.
const OVER: Duration = Duration::from_secs(1);
/// The log says at most so often that it begins.
const TOLD: Duration = Duration::from_secs(10);

/// Whether an error tells that we have no descriptor, port or memory left, and so nothing of the far side.
pub fn is_ours(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| is_shortage(code) || code == libc::EADDRNOTAVAIL)
}

fn is_shortage(code: i32) -> bool {
    [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].contains(&code)
}

/// Takes connections for all listeners of a process, and knows when that fails.
#[derive(Debug)]
pub struct Shortage {
    reserve: Mutex<Vec<File>>,
    spell: Mutex<Spell>,
}

/// A time in which connections cannot be taken. Pure.
#[derive(Debug, Default)]
struct Spell {
    failed: Option<Instant>,
    told: Option<Instant>,
    /// The log has said that it began, and not that it is over.
    is_told: bool,
}

impl Spell {
    /// A connection could not be taken; true when that is to be said.
    fn failed(&mut self, now: Instant) -> bool {
        self.failed = Some(now);
        if self.is_told || self.told.is_some_and(|told| now.saturating_duration_since(told) < TOLD) {
            return false;
        }
        (self.is_told, self.told) = (true, Some(now));
        true
    }

    fn is_on(&self, now: Instant) -> bool {
        self.failed.is_some_and(|failed| now.saturating_duration_since(failed) < OVER)
    }

    /// True when it is over, and that is to be said.
    fn is_over(&mut self, now: Instant) -> bool {
        !self.is_on(now) && std::mem::take(&mut self.is_told)
    }
}

impl Default for Shortage {
    /// None, with a full reserve if the system lets us have it.
    fn default() -> Shortage {
        let shortage = Shortage { reserve: Mutex::default(), spell: Mutex::default() };
        shortage.refill();
        shortage
    }
}

impl Shortage {
    /// Whether connections cannot be taken now.
    pub fn is_on(&self) -> bool {
        lock(&self.spell).is_on(Instant::now())
    }

    /// The next connection of a listener.
    pub async fn accept(&self, socket: &TcpListener) -> (TcpStream, SocketAddr) {
        loop {
            match socket.accept().await {
                Ok(taken) => return taken,
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.failed(&error);
                    tokio::time::sleep(AGAIN).await;
                    // Operators first.
                    while !self.refill() {
                        self.failed(&error);
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        }
    }

    /// The next connection of a door for operators, at the cost of the reserve if need be; [`Shortage::look`] once it is
    /// over.
    pub async fn accept_first(&self, socket: &TcpListener) -> (TcpStream, SocketAddr) {
        loop {
            match socket.accept().await {
                Ok(taken) => return taken,
                Err(error) if is_of_connection(&error) => {}
                Err(error) => {
                    self.failed(&error);
                    if !self.lend() {
                        tokio::time::sleep(AGAIN).await;
                        self.refill();
                    }
                }
            }
        }
    }

    /// Fills the reserve up, and says so where a shortage is over: from time to time.
    pub fn look(&self) {
        if self.refill() && lock(&self.spell).is_over(Instant::now()) {
            tracing::info!("Connections are accepted again.");
        }
    }

    fn failed(&self, error: &io::Error) {
        if lock(&self.spell).failed(Instant::now()) {
            tracing::error!(%error, "Connections cannot be accepted; they wait.");
        }
    }

    /// Gives the reserve away; whether there was any.
    fn lend(&self) -> bool {
        !std::mem::take(&mut *lock(&self.reserve)).is_empty()
    }

    /// Whether the reserve is full now.
    fn refill(&self) -> bool {
        let mut reserve = lock(&self.reserve);
        while reserve.len() < RESERVE {
            match File::open("/dev/null") {
                Ok(file) => reserve.push(file),
                // Where it is for another reason there is no reserve, and nobody waits for it.
                Err(error) => return !is_ours(&error),
            }
        }
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether only the connection is lost that would have come next (accept(2), "Error handling").
fn is_of_connection(error: &io::Error) -> bool {
    const LOST: [i32; 9] = [
        libc::ECONNABORTED,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::ENETDOWN,
        libc::ENETUNREACH,
        libc::EHOSTDOWN,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| LOST.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_when_it_begins_and_when_it_is_over_and_no_flapping_fills_the_log() {
        let (mut spell, start) = (Spell::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert!(!spell.is_on(at(0)) && !spell.is_over(at(0)));
        assert!(spell.failed(at(0)));
        assert!((1..40).all(|n| !spell.failed(at(50 * n))));
        assert!(spell.is_on(at(2500)) && !spell.is_over(at(2500)));
        assert!(!spell.is_on(at(3000)) && spell.is_over(at(3000)) && !spell.is_over(at(3100)));
        // It comes and goes every other second.
        let told = (2..30).filter(|n| spell.failed(at(2000 * n)) | spell.is_over(at(2000 * n + 1500))).count();
        assert_eq!(told, 5);
    }

    #[test]
    fn what_is_ours_is_no_fault_of_the_far_side_nor_of_a_connection() {
        for ours in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL] {
            let error = io::Error::from_raw_os_error(ours);
            assert!(is_ours(&error) && !is_of_connection(&error));
        }
        assert!(!is_ours(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(is_of_connection(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }

    #[test]
    fn the_reserve_is_lent_once_and_filled_up_again() {
        let shortage = Shortage::default();
        assert!(shortage.lend() && !shortage.lend());
        shortage.look();
        assert!(shortage.lend() && !shortage.is_on());
    }
}
