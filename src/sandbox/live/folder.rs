//! The folder that keeps a sandbox, for one process at a time.
//!
//! | name | content |
//! | --- | --- |
//! | `journal/` | the journal, as `natgw-replay` reads it |
//! | `cluster.json` | the simulated cluster |
//! | `cloud.json` | the simulated cloud, unless another one was named |
//! | `sandbox.lock` | empty; locked by the process that runs |

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another sandbox runs there.
    #[error("NATGW-SANDBOX-IN-USE: another sandbox runs in {}, so nothing was started; end it or name another folder", .0.display())]
    InUse(PathBuf),
    /// A file cannot be read or written.
    #[error("NATGW-SANDBOX-FILE: {} cannot be used, so the sandbox ended; nothing was answered that is not kept", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The saved cluster cannot be understood.
    #[error("NATGW-SANDBOX-FILE: {} holds no saved cluster; it is left as it is; name another folder", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// A folder that is locked by this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is missing, or a new temporary one, and locks it.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let path = match path {
            Some(path) => {
                std::fs::create_dir_all(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
                path.to_owned()
            }
            None => {
                let made = tempfile::Builder::new().prefix("natgw-sandbox-").tempdir();
                made.map_err(|source| Error::File { path: std::env::temp_dir(), source })?.keep()
            }
        };
        let lock = path.join("sandbox.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&lock);
        let file = file.map_err(|source| Error::File { path: lock.clone(), source })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _lock: file }),
            Err(TryLockError::WouldBlock) => Err(Error::InUse(path)),
            Err(TryLockError::Error(source)) => Err(Error::File { path: lock, source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.path.join("cluster.json")
    }

    pub(super) fn cloud(&self) -> PathBuf {
        self.path.join("cloud.json")
    }
}
