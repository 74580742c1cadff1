//! The file itself: opened safely, read whole once, written in batches.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use redb::{Builder, Database, ReadableTable, StorageError, Table, TableDefinition, backends::FileBackend};

use super::{
    Saved,
    ledger::{Changes, Name},
    record,
};

type Records = TableDefinition<'static, &'static [u8], &'static [u8]>;
const SESSIONS: Records = TableDefinition::new("sessions");
const PINS: Records = TableDefinition::new("pins");
/// Numbers about the file.
const ABOUT: TableDefinition<'static, &'static str, u64> = TableDefinition::new("about");
/// How records are written; a file with another number is not read.
const VERSION: u64 = 1;
/// What of the file is kept in memory, in bytes.
const CACHE: usize = 4 * 1024 * 1024;
/// Only its owner may read the file: the id of a session is all that it takes to have the session.
const MODE: u32 = 0o600;
/// How often the file may be moved away by others while it is being opened.
const TRIES: usize = 5;

/// The file, open or, after a failure, to be opened again.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    database: Option<Database>,
}

/// The keys of the records that are in the file.
pub(super) struct Stored {
    pub(super) sessions: HashSet<Name>,
    pub(super) pins: HashSet<Name>,
}

impl Stored {
    fn of(saved: &Saved) -> Stored {
        Stored {
            sessions: saved.sessions.iter().map(|session| record::session_name(session.key)).collect(),
            pins: saved.pins.iter().map(|pin| record::pin_name(&pin.upstream, pin.hash)).collect(),
        }
    }
}

/// Values to be written, or none where a record is to go.
pub(super) struct Batch {
    pub(super) sessions: Changes<Vec<u8>>,
    pub(super) pins: Changes<Vec<u8>>,
}

impl Disk {
    /// Opens the file, or begins one. One that cannot be understood is moved aside, and a new one begun.
    pub(super) fn open(path: &Path) -> io::Result<(Disk, Saved)> {
        for _ in 0..TRIES {
            let file = file(path)?;
            let kept = file.try_clone()?;
            match open(file) {
                Ok((database, saved)) if is_at(path, &kept)? => {
                    return Ok((Disk { path: path.to_owned(), database: Some(database) }, saved));
                }
                Ok(_) => {}
                Err(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) => break,
                Err(redb::Error::Io(error)) if !is_damage(error.kind()) => return Err(error),
                Err(error @ (redb::Error::PreviousIo | redb::Error::LockPoisoned(_) | redb::Error::Unsupported)) => {
                    return Err(io::Error::other(error));
                }
                Err(why) => set_aside(path, &kept, &why)?,
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process has it"))
    }

    /// Opens the file again where the last failure has closed it; then its keys are told.
    pub(super) fn reopen(&mut self) -> io::Result<Option<Stored>> {
        if self.database.is_some() {
            return Ok(None);
        }
        let (disk, saved) = Disk::open(&self.path)?;
        *self = disk;
        Ok(Some(Stored::of(&saved)))
    }

    /// Writes all of it or nothing; it survives the end of the process, and of the machine. On failure the file is closed.
    pub(super) fn commit(&mut self, batch: &Batch) -> io::Result<()> {
        let Some(database) = &self.database else { return Err(io::ErrorKind::NotConnected.into()) };
        let result = commit(database, batch).map_err(io::Error::other);
        if result.is_err() {
            // After a failure the library takes nothing more.
            self.database = None;
        }
        result
    }
}

/// Whether a file that is read with this error is damaged, and not the system.
fn is_damage(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(kind, InvalidData | InvalidInput | UnexpectedEof)
}

fn commit(database: &Database, batch: &Batch) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for (records, changes) in [(SESSIONS, &batch.sessions), (PINS, &batch.pins)] {
        let mut table = transaction.open_table(records)?;
        for (name, value) in changes {
            match value {
                Some(value) => drop(table.insert(name.as_slice(), value.as_slice())?),
                None => drop(table.remove(name.as_slice())?),
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Opens what is locked and whole, and reads it.
fn open(file: File) -> Result<(Database, Saved), redb::Error> {
    let backend = FileBackend::new(file)?;
    // A file that is trusted unread may bring the library down.
    let database =
        Builder::new().set_cache_size(CACHE).set_check_integrity_on_open(true).create_with_backend(backend)?;
    let transaction = database.begin_write()?;
    let mut saved = Saved { sessions: Vec::new(), pins: Vec::new() };
    {
        let mut about = transaction.open_table(ABOUT)?;
        let version = about.get("version")?.map(|found| found.value());
        match version {
            Some(VERSION) => {}
            Some(other) => return Err(redb::Error::Corrupted(format!("its records are of version {other}"))),
            None => drop(about.insert("version", VERSION)?),
        }
        let strange = read(&mut transaction.open_table(SESSIONS)?, &mut saved.sessions, record::session)?
            + read(&mut transaction.open_table(PINS)?, &mut saved.pins, record::pin)?;
        if strange > 0 {
            tracing::warn!(records = strange, "Records of the state file cannot be understood; they are dropped.");
        }
    }
    transaction.commit()?;
    Ok((database, saved))
}

/// Reads a table; what cannot be understood is taken out of it, and counted.
fn read<T>(
    table: &mut Table<'_, &'static [u8], &'static [u8]>,
    into: &mut Vec<T>,
    understand: fn(&[u8], &[u8]) -> Option<T>,
) -> Result<usize, StorageError> {
    let mut strange = 0;
    table.retain(|name, value| {
        let record = understand(name, value);
        let is_good = record.is_some();
        strange += usize::from(!is_good);
        into.extend(record);
        is_good
    })?;
    Ok(strange)
}

/// The file at a path, for its owner alone whatever it was before.
fn file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    if about.permissions().mode() & 0o7777 != MODE {
        file.set_permissions(Permissions::from_mode(MODE))?;
    }
    Ok(file)
}

/// Whether the path still leads to this file.
fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    let (open, now) = (file.metadata()?, std::fs::metadata(path));
    Ok(now.is_ok_and(|now| (now.dev(), now.ino()) == (open.dev(), open.ino())))
}

/// Moves a file aside that no other process has locked.
fn set_aside(path: &Path, file: &File, why: &redb::Error) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) if is_at(path, file)? => {}
        // Another process has just moved it.
        Ok(()) => return Ok(()),
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut aside = OsString::from(path);
    aside.push(".corrupt");
    std::fs::rename(path, &aside)?;
    tracing::warn!(
        file = %path.display(), aside = %Path::new(&aside).display(), error = %why,
        "The state file cannot be understood; it is moved aside and a new one begun.",
    );
    Ok(())
}
