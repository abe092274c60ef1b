//! The Lease: read, and written only over what was read.

use serde::{Deserialize, Serialize};

use super::Model;
use super::claims::refused;
use crate::ports::cluster::{ClusterError, ClusterErrorClass, LeaseRecord};

/// The Lease as it is saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StoredLease {
    version: u64,
    holder: String,
    term: u64,
    duration_ms: u64,
    renewals: u64,
    heads: Vec<([u8; 16], u64, [u8; 32])>,
}

impl Model {
    /// Reads the Lease. Where there is none, everything is empty.
    #[must_use]
    pub fn read_lease(&self) -> LeaseRecord {
        self.lease.as_ref().map_or_else(LeaseRecord::default, |lease| LeaseRecord {
            resource_version: lease.version.to_string(),
            holder: lease.holder.clone(),
            term: lease.term,
            duration_ms: lease.duration_ms,
            renewals: lease.renewals,
            heads: lease.heads.clone(),
        })
    }

    /// Writes the Lease, and gives it back with its new version.
    ///
    /// # Errors
    /// `Conflict` unless the version is the one that stands: an empty one where there is no Lease yet.
    pub fn write_lease(&mut self, record: &LeaseRecord) -> Result<LeaseRecord, ClusterError> {
        let standing = self.lease.as_ref().map(|lease| lease.version.to_string()).unwrap_or_default();
        if record.resource_version != standing {
            let message = format!("the Lease is at version {standing:?}, not at {:?}", record.resource_version);
            return Err(refused("write_lease", ClusterErrorClass::Conflict, message));
        }
        let version = self.next_version();
        self.lease = Some(StoredLease {
            version,
            holder: record.holder.clone(),
            term: record.term,
            duration_ms: record.duration_ms,
            renewals: record.renewals,
            heads: record.heads.clone(),
        });
        Ok(self.read_lease())
    }

    /// Takes the Lease from whoever holds it; term and heads stay. For whoever knows that the holder has gone, because it
    /// is the only one that can open this cluster.
    pub fn drop_lease_holder(&mut self) {
        if self.lease.is_some() {
            let version = self.next_version();
            self.lease.iter_mut().for_each(|lease| {
                lease.version = version;
                lease.holder.clear();
            });
        }
    }
}
