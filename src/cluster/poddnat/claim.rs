//! The claim annotation: JSON with stable field order, what a leader without history needs.
//!
//! Stamps are `term.n` as in the mark. What does not hold together is refused whole: half a claim is worse than none.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::Spec;
use crate::cluster::{timestamp, wall_ms_of};
use crate::machine::demand::ENTRIES_MAX;
use crate::machine::event::decided::Item;
use crate::machine::event::seen::{Claim, Releasing};
use crate::machine::identity::{Protocol, Stamp};
use crate::ports::cluster::{Leaving, MappedPort, Mapping};

/// The longest annotation that is read. 64 items and as many releasing ones take about 20 KiB.
pub const CLAIM_BYTES_MAX: usize = 32 * 1024;

/// The longest name of the cloud's that is kept: theirs have about 30 characters, and the claim must fit one record of
/// the journal.
pub(super) const NAME_BYTES_MAX: usize = 128;

/// The claim annotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimAnnotation {
    /// The allocation.
    #[serde(with = "as_text")]
    pub allocation: Stamp,
    /// The highest term that decided anything of it.
    pub term: u64,
    /// The pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The mapping is fixed.
    pub fixed: bool,
    /// RFC 3339: since when the pod of a fixed mapping has been absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_since: Option<String>,
    /// A reservation of the original controller's: only its deletion frees it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// The gateway.
    pub gateway: String,
    /// The forward table.
    pub table: String,
    /// The items.
    pub items: Vec<ClaimItem>,
    /// Earlier items whose entries may still exist elsewhere.
    #[serde(default)]
    pub releasing: Vec<ReleasingItem>,
}

/// One mapped port of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimItem {
    /// Its entry, where that was adopted and so carries no mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The public port.
    pub external: u16,
    /// The pod's port.
    pub internal: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The creation.
    #[serde(with = "as_text")]
    pub generation: Stamp,
    /// PortBreak is set.
    pub port_break: bool,
}

/// An item that goes down, with its own allocation, pod, gateway, table and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleasingItem {
    /// The allocation.
    #[serde(with = "as_text")]
    pub allocation: Stamp,
    /// The pod.
    #[serde(rename = "podUID")]
    pub pod_uid: String,
    /// The gateway.
    pub gateway: String,
    /// The forward table.
    pub table: String,
    /// The EIP.
    #[serde(rename = "externalIP")]
    pub external_ip: Ipv4Addr,
    /// The address to which it sends.
    #[serde(rename = "internalIP")]
    pub internal_ip: Ipv4Addr,
    /// The item.
    #[serde(flatten)]
    pub item: ClaimItem,
}

/// Why an annotation is no claim.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// It is too long.
    #[error("the claim has {0} bytes, more than the {CLAIM_BYTES_MAX} that are read, so it does not count")]
    TooLong(usize),
    /// It is not the JSON of a claim.
    #[error("the claim cannot be read, so it does not count: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A field has a value that no claim has.
    #[error("the claim's {0} is empty, zero, too long or there twice, so it does not count")]
    Impossible(&'static str),
}

impl ClaimAnnotation {
    /// The claim of a mapping.
    #[must_use]
    pub fn of(mapping: &Mapping) -> Self {
        let generations = mapping.items.iter().map(|item| item.generation.stamp().term);
        Self {
            allocation: mapping.allocation.stamp(),
            term: generations.fold(mapping.allocation.stamp().term, u64::max),
            pod_uid: mapping.pod.to_string(),
            fixed: mapping.fixed,
            absent_since: mapping.absent_since_wall_ms.map(timestamp),
            gateway: mapping.gateway.to_string(),
            table: mapping.table.to_string(),
            kept: mapping.adopted.kept,
            items: mapping
                .items
                .iter()
                .enumerate()
                .map(|(at, item)| ClaimItem::with_entry(item, mapping, at))
                .collect(),
            releasing: mapping.releasing.iter().flat_map(ReleasingItem::all_of).collect(),
        }
    }

    /// The highest term that decided anything of what the claim names.
    pub(super) fn term_of_items(&self) -> u64 {
        self.items.iter().map(|item| item.generation.term).fold(self.allocation.term, u64::max)
    }

    /// Reads an annotation.
    ///
    /// # Errors
    /// Fails when the text is too long, is not the JSON of a claim, or does not hold together.
    pub fn parse(text: &str) -> Result<Self, ClaimError> {
        if text.len() > CLAIM_BYTES_MAX {
            return Err(ClaimError::TooLong(text.len()));
        }
        let claim: Self = serde_json::from_str(text)?;
        claim.check()?;
        Ok(claim)
    }

    /// The annotation's value.
    #[must_use]
    #[expect(clippy::expect_used, reason = "strings, numbers and lists under fixed names are always JSON")]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("the claim is JSON")
    }

    /// What the machine keeps, with addresses and place from the spec beside it.
    #[must_use]
    pub fn claim(self, spec: &Spec) -> Claim {
        let place = |text: &str| if text.len() > NAME_BYTES_MAX { String::new() } else { text.to_owned() };
        Claim {
            allocation: self.allocation.into(),
            pod: self.pod_uid,
            fixed: self.fixed,
            gateway: self.gateway,
            table: self.table,
            eip: spec.external_ip.parse().ok(),
            ip: spec.internal_ip.parse().ok(),
            place: (place(&spec.eni), place(&spec.vswitch), place(&spec.zone_id)),
            entries: entries(&self.items),
            kept: self.kept,
            items: self.items.iter().map(ClaimItem::item).collect(),
            absent_since_wall_ms: self.absent_since.as_deref().and_then(wall_ms_of),
            releasing: by_allocation(&self.releasing),
        }
    }

    fn check(&self) -> Result<(), ClaimError> {
        let names = [("podUID", &self.pod_uid), ("gateway", &self.gateway), ("table", &self.table)];
        for (field, name) in names {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return Err(ClaimError::Impossible(field));
            }
        }
        if self.items.is_empty() || self.items.len() > ENTRIES_MAX {
            return Err(ClaimError::Impossible("items"));
        }
        let long = |entry: &String| entry.is_empty() || entry.len() > NAME_BYTES_MAX;
        if self.items.iter().filter_map(|item| item.entry.as_ref()).any(long) {
            return Err(ClaimError::Impossible("item entry"));
        }
        let mut taken = BTreeSet::new();
        for item in &self.items {
            let ports = [(false, item.internal), (true, item.external)];
            if ports.iter().any(|(side, port)| *port == 0 || !taken.insert((*side, *port, item.protocol))) {
                return Err(ClaimError::Impossible("item port"));
            }
        }
        self.check_releasing()
    }

    fn check_releasing(&self) -> Result<(), ClaimError> {
        if self.releasing.len() > ENTRIES_MAX {
            return Err(ClaimError::Impossible("releasing"));
        }
        for releasing in &self.releasing {
            let names = [&releasing.pod_uid, &releasing.gateway, &releasing.table];
            let ports = [releasing.item.internal, releasing.item.external];
            let impossible = |name: &&String| name.is_empty() || name.len() > NAME_BYTES_MAX;
            if names.iter().any(impossible) || ports.contains(&0) {
                return Err(ClaimError::Impossible("releasing item"));
            }
        }
        Ok(())
    }
}

/// The adopted entries, item by item; none at all where none was.
fn entries(items: &[ClaimItem]) -> Vec<String> {
    if items.iter().all(|item| item.entry.is_none()) {
        return Vec::new();
    }
    items.iter().map(|item| item.entry.clone().unwrap_or_default()).collect()
}

impl ReleasingItem {
    fn all_of(leaving: &Leaving) -> impl Iterator<Item = Self> {
        leaving.items.iter().map(|item| Self {
            allocation: leaving.allocation.stamp(),
            pod_uid: leaving.pod.to_string(),
            gateway: leaving.gateway.to_string(),
            table: leaving.table.to_string(),
            external_ip: leaving.eip,
            internal_ip: leaving.ip,
            item: ClaimItem::of(item),
        })
    }
}

/// The releasing items of one allocation belong together; what disagrees with the first of them does not count.
fn by_allocation(items: &[ReleasingItem]) -> Vec<Releasing> {
    let mut groups: Vec<Releasing> = Vec::new();
    for item in items {
        let allocation = <(u64, u64)>::from(item.allocation);
        let group = match groups.iter().position(|group| group.allocation == allocation) {
            Some(at) => at,
            None => {
                groups.push(Releasing {
                    allocation,
                    pod: item.pod_uid.clone(),
                    gateway: item.gateway.clone(),
                    table: item.table.clone(),
                    eip: item.external_ip,
                    ip: item.internal_ip,
                    items: Vec::new(),
                });
                groups.len().saturating_sub(1)
            }
        };
        if let Some(group) = groups.get_mut(group)
            && (group.table.as_str(), group.eip, group.ip) == (&item.table, item.external_ip, item.internal_ip)
        {
            group.items.push(item.item.item());
        }
    }
    groups
}

impl ClaimItem {
    fn of(port: &MappedPort) -> Self {
        Self {
            external: port.external,
            internal: port.internal,
            protocol: port.protocol,
            generation: port.generation.stamp(),
            port_break: port.port_break,
            entry: None,
        }
    }

    fn with_entry(port: &MappedPort, mapping: &Mapping, at: usize) -> Self {
        let entry = mapping.adopted.entries.get(at).and_then(Option::as_ref).map(ToString::to_string);
        Self { entry, ..Self::of(port) }
    }

    fn item(&self) -> Item {
        Item {
            internal: self.internal,
            external: self.external,
            protocol: self.protocol.number(),
            generation: self.generation.into(),
            port_break: self.port_break,
        }
    }
}

mod as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::machine::identity::Stamp;

    pub(super) fn serialize<S: Serializer>(stamp: &Stamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(stamp)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Stamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| D::Error::custom(format!("{text:?} is not term.number")))
    }
}
