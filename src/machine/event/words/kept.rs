//! Sentences of kinds 100-119.

use super::phrase::{count, stamp};
use crate::machine::event::kept::{
    AllocationKept, ClaimKept, EipKept, FrameKept, IntentKept, ItemsKept, PodKept, RestsKept, StrayKept, TableKept,
    WorkKept,
};

pub(super) fn frame_kept(body: &FrameKept) -> String {
    format!("in the snapshot the highest term seen is {}", body.term_seen)
}

pub(super) fn eip_kept(body: &EipKept) -> String {
    format!("in the snapshot is EIP {}", body.eip)
}

pub(super) fn table_kept(body: &TableKept) -> String {
    format!(
        "in the snapshot is forward table {} with {} that are there or may come",
        body.table,
        count(body.committed, "entry", "entries")
    )
}

pub(super) fn pod_kept(body: &PodKept) -> String {
    format!("in the snapshot is pod {}/{} (UID {})", body.namespace, body.name, body.uid)
}

pub(super) fn allocation_kept(body: &AllocationKept) -> String {
    format!(
        "in the snapshot is allocation {} of pod {}/{} (UID {}) on {}",
        stamp(body.allocation),
        body.namespace,
        body.name,
        body.pod,
        body.eip
    )
}

pub(super) fn items_kept(body: &ItemsKept) -> String {
    format!("in the snapshot are {} of allocation {}", body.items.len(), stamp(body.allocation))
}

pub(super) fn stray_kept(body: &StrayKept) -> String {
    format!("in the snapshot entry {} of table {} is bound to no item", body.entry, body.table)
}

pub(super) fn rests_kept(body: &RestsKept) -> String {
    format!("in the snapshot {} rest", count(body.rests.len() as u64, "port", "ports"))
}

pub(super) fn claim_kept(body: &ClaimKept) -> String {
    format!("in the snapshot PodDNAT {}/{} belongs to no allocation", body.namespace, body.name)
}

pub(super) fn intent_kept(body: &IntentKept) -> String {
    format!("in the snapshot event {} wants {:?}", body.rests_on, body.wanted)
}

pub(super) fn work_kept(body: &WorkKept) -> String {
    format!("in the snapshot a decision may be due about {body:?}")
}
