//! Where the lines of the access log end up.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
};

/// An open destination.
#[derive(Debug)]
pub(super) struct Target {
    place: Place,
    /// The last line was written in part; what follows must not be taken for the rest of it.
    is_torn: bool,
}

#[derive(Debug)]
enum Place {
    Stdout,
    Stderr,
    File { path: PathBuf, file: File },
}

impl Target {
    /// What `access_log.path` names; none where it is `off`.
    pub(super) fn open(name: &str) -> io::Result<Option<Target>> {
        let place = match name {
            "off" => return Ok(None),
            "stdout" => Place::Stdout,
            "stderr" => Place::Stderr,
            path => Place::file(path.into())?,
        };
        Ok(Some(Target { place, is_torn: false }))
    }

    /// Opens a file anew; on failure the old one stays.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Place::File { path, .. } = &self.place {
            *self = Target { place: Place::file(path.clone())?, is_torn: false };
        }
        Ok(())
    }

    /// Writes a line. Where that fails in its middle, what is there of it gets an end before the next one.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Target { place, is_torn } = self;
        match place {
            Place::Stdout => write(&mut io::stdout(), is_torn, line),
            Place::Stderr => write(&mut io::stderr(), is_torn, line),
            Place::File { file, .. } => write(file, is_torn, line),
        }
    }
}

impl Place {
    fn file(path: PathBuf) -> io::Result<Place> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        Ok(Place::File { path, file })
    }
}

fn write(to: &mut impl Write, is_torn: &mut bool, line: &[u8]) -> io::Result<()> {
    if *is_torn {
        to.write_all(b"\n")?;
        *is_torn = false;
    }
    let mut rest = line;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                rest = rest.get(n..).unwrap_or_default();
                *is_torn = !rest.is_empty();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes more.
    struct Full(Vec<u8>, usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.1);
            if n == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1 -= n;
            self.0.extend_from_slice(&bytes[..n]);
            Ok(n)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_took_in_part_spoils_no_other() {
        let (mut disk, mut is_torn) = (Full(Vec::new(), 13), false);
        let mut line = |disk: &mut Full, text: &[u8]| write(disk, &mut is_torn, text).is_ok();
        assert!(line(&mut disk, b"one two\n"));
        assert!(!line(&mut disk, b"three four\n") && !line(&mut disk, b"five\n"));
        disk.1 = 100;
        assert!(line(&mut disk, b"six\n") && line(&mut disk, b"seven\n"));
        assert_eq!(String::from_utf8(disk.0).unwrap(), "one two\nthree\nsix\nseven\n");
    }
}
