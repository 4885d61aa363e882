//! How files and directories stood when they were read: while they stand so, reading them again would
//! tell the same.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What changed so shortly before it was looked at can have changed once more within the same tick of
/// the file system's clock: its time stamps prove nothing. FAT counts in steps of two seconds.
const TICK: Duration = Duration::from_secs(2);

/// How a file or a directory stands (stat(2)): another content has another stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what this was asked of.
    pub fn of(stood: &Metadata) -> Self {
        Self {
            device: stood.dev(),
            inode: stood.ino(),
            size: stood.size(),
            modified: (stood.mtime(), stood.mtime_nsec()),
            changed: (stood.ctime(), stood.ctime_nsec()),
        }
    }
}

/// Everything that one reading of the disk depends on, and how it stood.
#[derive(Debug)]
pub struct Stamps {
    /// When the reading began.
    began: SystemTime,
    /// `None`: nothing was there.
    seen: RefCell<HashMap<PathBuf, Option<Stamp>>>,
    /// False once something was seen that may have changed since without a trace.
    settled: Cell<bool>,
}

impl Stamps {
    /// Of a reading that begins at this moment.
    pub fn new(began: SystemTime) -> Self {
        Self {
            began,
            seen: RefCell::default(),
            settled: Cell::new(true),
        }
    }

    /// Asks how this stands, links followed, and remembers the answer.
    ///
    /// # Errors
    ///
    /// Those of stat(2).
    pub fn stat(&self, path: &Path) -> io::Result<Metadata> {
        let stood = fs::metadata(path);
        let stamp = match &stood {
            Ok(stood) => Some(Stamp::of(stood)),
            Err(error) => {
                // Of what cannot be asked nobody knows whether it changes.
                if error.kind() != ErrorKind::NotFound {
                    self.settled.set(false);
                }
                None
            }
        };
        if stamp.is_some_and(|stamp| !self.is_settled(stamp)) {
            self.settled.set(false);
        }
        let mut seen = self.seen.borrow_mut();
        // Whatever changed under the reading's eyes was read in part.
        if seen
            .insert(path.to_owned(), stamp)
            .is_some_and(|before| before != stamp)
        {
            self.settled.set(false);
        }
        drop(seen);
        stood
    }

    /// Remembers that something could not be read though it stands there. Where that is not permitted,
    /// stamps tell when it is; of other errors nobody knows when they pass.
    pub fn unread(&self, error: &io::Error) {
        if error.kind() != ErrorKind::PermissionDenied {
            self.settled.set(false);
        }
    }

    /// True if what stood so had for a while when the reading began.
    pub fn is_settled(&self, stamp: Stamp) -> bool {
        let (changed, _) = stamp.changed;
        let before = self.began.checked_sub(TICK);
        let before = before.and_then(|before| before.duration_since(UNIX_EPOCH).ok());
        before.is_some_and(|before| u64::try_from(changed).is_ok_and(|at| at < before.as_secs()))
    }

    /// True if everything stands as it stood.
    pub fn hold(&self) -> bool {
        self.settled.get()
            && self
                .seen
                .borrow()
                .iter()
                .all(|(path, stamp)| match fs::metadata(path) {
                    Ok(stands) => *stamp == Some(Stamp::of(&stands)),
                    Err(error) => stamp.is_none() && error.kind() == ErrorKind::NotFound,
                })
    }
}
