//! Lines on their way to standard error, which a thread of its own writes: whoever reads them slowly, or not at all, holds
//! up no transfer.
//!
//! When the writer falls behind by `QUEUE` lines, further lines are dropped and counted, and told once all
//! that waited is written. A standard error that is closed takes what it is given, and it is gone.

use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    time::Duration,
};

use prometheus::IntCounter;
use tracing_subscriber::fmt::MakeWriter;

use crate::telemetry::behind;

/// Lines that may wait for the writer.
const QUEUE: usize = 4096;

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Takes whole lines, and never waits. Cloning shares the writer.
#[derive(Clone)]
pub(super) struct Lines {
    sender: SyncSender<Message>,
    lost: Arc<Lost>,
}

/// Lines that were dropped.
#[derive(Default)]
struct Lost {
    /// Those of which nobody was told yet.
    untold: AtomicU64,
    counter: OnceLock<IntCounter>,
}

impl Lost {
    fn tell(&self) {
        let lines = self.untold.swap(0, Ordering::Relaxed);
        if lines > 0 {
            tracing::warn!(lines, "The log could not keep up; lines were dropped.");
        }
    }
}

impl Lines {
    /// Starts the thread, which ends with the last clone.
    pub(super) fn start(target: impl Write + Send + 'static) -> io::Result<Lines> {
        let (sender, receiver) = sync_channel(QUEUE);
        let lost = Arc::<Lost>::default();
        let of_thread = lost.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write(target, &receiver, &of_thread))?;
        Ok(Lines { sender, lost })
    }

    pub(super) fn count_drops(&self, dropped: IntCounter) {
        let _ = self.lost.counter.set(dropped);
    }

    pub(super) fn flush(&self, patience: Duration) {
        behind::wait(&self.sender, Message::Flush, patience);
    }

    fn take(&self, line: Vec<u8>) {
        if self.sender.try_send(Message::Line(line)).is_err() {
            self.lost.untold.fetch_add(1, Ordering::Relaxed);
            self.lost.counter.get().into_iter().for_each(IntCounter::inc);
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines")
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { bytes: Vec::new(), lines: self }
    }
}

/// One line, which goes when it drops.
pub(super) struct Line<'a> {
    bytes: Vec<u8>,
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            self.lines.take(std::mem::take(&mut self.bytes));
        }
    }
}

/// What the thread does. What cannot be written is lost: there is no other place to say so.
fn write(mut target: impl Write, receiver: &Receiver<Message>, lost: &Lost) {
    loop {
        let message = match receiver.try_recv() {
            Err(TryRecvError::Empty) => {
                lost.tell();
                receiver.recv().ok()
            }
            other => other.ok(),
        };
        match message {
            Some(Message::Line(line)) => drop(target.write_all(&line)),
            Some(Message::Flush(done)) => drop(done.send(())),
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Mutex, mpsc},
        time::Instant,
    };

    use super::*;

    /// Takes a line for each turn it is given, and keeps it.
    struct Slow(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (turns, taken) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let lines = Lines::start(Slow(taken, written.clone())).unwrap();
        let dropped = IntCounter::new("dropped", "Dropped.").unwrap();
        lines.count_drops(dropped.clone());
        let all = QUEUE + 100;
        for n in 0..all {
            lines.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        // One may be with the writer already.
        let lost = usize::try_from(dropped.get()).unwrap();
        assert!((99..=100).contains(&lost), "{lost}");
        let begun = Instant::now();
        lines.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(10));
        (0..all - lost).for_each(|_| turns.send(()).unwrap());
        lines.flush(Duration::from_secs(20));
        let written = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        let wanted: String = (0..all - lost).map(|n| format!("{n}\n")).collect();
        assert_eq!(written, wanted, "in their order, and each whole");
    }

    #[test]
    fn what_cannot_be_written_is_no_reason_to_stop() {
        let (turns, taken) = mpsc::channel();
        let lines = Lines::start(Slow(taken, Arc::default())).unwrap();
        drop(turns);
        (0..3).for_each(|_| lines.make_writer().write_all(b"line\n").unwrap());
        let begun = Instant::now();
        lines.flush(Duration::from_secs(20));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
