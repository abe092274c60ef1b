//! Sentences of kinds 60-99: how effects ended, and timers.

use super::phrase::{endpoint, stamp};
use crate::machine::demand::{Note, Phase};
use crate::machine::event::outcome::{
    ClaimRefused, ClaimReleased, ClaimWritten, DeleteUnknown, EntryCreated, EntryDeleted, EntryNeverSent, EntryRefused,
    EntryUnknown, MarkUnknown, PodMarked, StatusUnknown, StatusWithdrawn, StatusWritten,
};
use crate::machine::event::timer::{
    ContestEnded, CooldownEnded, GraceEnded, ProbeDue, RetentionEnded, RetryDue, TableRested,
};

pub(super) fn claim_written(body: &ClaimWritten) -> String {
    format!(
        "the claim of allocation {} is written in PodDNAT UID {}, as decided by entry {} of this journal",
        stamp(body.allocation),
        body.uid,
        body.revision
    )
}

pub(super) fn claim_refused(body: &ClaimRefused) -> String {
    let why = match body.reason {
        1 => "another object of that name exists".to_owned(),
        2 => "the pod is gone".to_owned(),
        3 => "the API server refused it".to_owned(),
        number => format!("reason {number}, which this build does not know"),
    };
    format!("the claim of allocation {} could not be written: {why} ({:?})", stamp(body.allocation), body.detail)
}

pub(super) fn claim_released(body: &ClaimReleased) -> String {
    format!("the claim of allocation {} is released: the allocation is over", stamp(body.allocation))
}

pub(super) fn status_written(body: &StatusWritten) -> String {
    format!(
        "the PodDNAT's status shows all entries of allocation {}, as decided by entry {} of this journal",
        stamp(body.allocation),
        body.revision
    )
}

pub(super) fn status_withdrawn(body: &StatusWithdrawn) -> String {
    format!("the PodDNAT's status shows no entry of allocation {} any more", stamp(body.allocation))
}

pub(super) fn status_unknown(body: &StatusUnknown) -> String {
    format!("a write of the PodDNAT's status for allocation {} was not answered", stamp(body.allocation))
}

pub(super) fn pod_marked(body: &PodMarked) -> String {
    let (number, reason, allocation, _content) = body.note;
    let Some(phase) = Phase::from_number(number) else {
        return format!("the pod with UID {} carries note {number}, which this build does not know", body.pod);
    };
    let note = Note { phase, reason, allocation: allocation.into(), content: 0 };
    let (word, sentence) = note.words();
    let why = if word == phase.word() { String::new() } else { format!("{word}: ") };
    let about = if allocation == (0, 0) { String::new() } else { format!(" for allocation {}", stamp(allocation)) };
    format!("the pod with UID {} carries our note {phase}{about}; {why}{sentence}", body.pod)
}

pub(super) fn mark_unknown(body: &MarkUnknown) -> String {
    format!("a note on the pod with UID {} was not answered", body.pod)
}

pub(super) fn entry_created(body: &EntryCreated) -> String {
    format!(
        "the cloud accepted the creation of entry {} for allocation {}, generation {}",
        body.entry,
        stamp(body.allocation),
        stamp(body.generation)
    )
}

pub(super) fn entry_refused(body: &EntryRefused) -> String {
    let class = match body.class {
        1 => "something with this tuple or token exists".to_owned(),
        2 => "the table is full".to_owned(),
        3 => "the table does not exist".to_owned(),
        4 => "it is not allowed".to_owned(),
        5 => "the request is malformed".to_owned(),
        number => format!("class {number}, which this build does not know"),
    };
    format!(
        "the cloud refused the creation for allocation {}, generation {}: {class} ({:?}: {:?})",
        stamp(body.allocation),
        stamp(body.generation),
        body.code,
        body.message
    )
}

pub(super) fn entry_unknown(body: &EntryUnknown) -> String {
    format!(
        "the creation for allocation {}, generation {} was not answered ({:?}): it may have happened, or happen late",
        stamp(body.allocation),
        stamp(body.generation),
        body.code
    )
}

pub(super) fn entry_never_sent(body: &EntryNeverSent) -> String {
    format!(
        "the creation for allocation {}, generation {} was never sent",
        stamp(body.allocation),
        stamp(body.generation)
    )
}

pub(super) fn entry_deleted(body: &EntryDeleted) -> String {
    format!("the cloud accepted the deletion of entry {} of table {}, or has no such entry", body.entry, body.table)
}

pub(super) fn delete_unknown(body: &DeleteUnknown) -> String {
    format!("the deletion of entry {} of table {} was not answered ({:?})", body.entry, body.table, body.code)
}

pub(super) fn cooldown_ended(body: &CooldownEnded) -> String {
    format!("the rest of {} is over", endpoint(body.eip, (body.port, body.port), body.protocol))
}

pub(super) fn grace_ended(body: &GraceEnded) -> String {
    format!("the grace period of the pod with UID {} is over", body.pod)
}

pub(super) fn retry_due(body: &RetryDue) -> String {
    format!("what was refused of allocation {} may be decided again", stamp(body.allocation))
}

pub(super) fn probe_due(body: &ProbeDue) -> String {
    format!("table {}, which was full, may be probed", body.table)
}

pub(super) fn retention_ended(body: &RetentionEnded) -> String {
    format!("the time for which fixed allocation {} stays reserved is over", stamp(body.allocation))
}

pub(super) fn table_rested(body: &TableRested) -> String {
    format!("the free ports of table {} have rested: they may be given", body.table)
}

pub(super) fn contest_ended(body: &ContestEnded) -> String {
    format!("allocation {}, which was left alone to another writer, is looked after again", stamp(body.allocation))
}
