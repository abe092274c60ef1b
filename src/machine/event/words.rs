//! Events in words: one sentence for each record, and whom and what it speaks of.
//!
//! The sentences are for people who look for a cause: they name the pod, the public side as `EIP:port/protocol`, gateway,
//! table, entry and allocation, and the reason in the words of [`crate::machine::demand`]. They say what the record
//! says and nothing that would need another record. Text from outside is quoted, and no sentence holds a control
//! character, so one sentence is one line. Their wording is no interface: scripts read the record itself.

mod control;
mod decided;
mod kept;
mod outcome;
mod phrase;
mod seen;
mod subjects;

use crate::machine::event::{Event, Record};

pub use subjects::{External, Subjects, subjects};

/// The record as one sentence of one line.
#[must_use]
pub fn sentence(record: &Record) -> String {
    let words = words_of(&record.event);
    if words.contains(char::is_control) { words.escape_debug().to_string() } else { words }
}

fn words_of(event: &Event) -> String {
    match event {
        Event::Configured(body) => control::configured(body),
        Event::PoolConfigured(body) => control::pool_configured(body),
        Event::TermStarted(body) => control::term_started(body),
        Event::Rebased(body) => control::rebased(body),
        Event::ClusterRead(body) => control::cluster_read(body),
        Event::TableOpened(body) => control::table_opened(body),
        Event::DigestTaken(body) => control::digest_taken(body),
        Event::SnapshotBegun(body) => control::snapshot_begun(body),
        Event::SnapshotEnded(body) => control::snapshot_ended(body),
        Event::PodSeen(body) => seen::pod_seen(body),
        Event::PodGone(body) => seen::pod_gone(body),
        Event::ClaimSeen(body) => seen::claim_seen(body),
        Event::ClaimGone(body) => seen::claim_gone(body),
        Event::GatewaySeen(body) => seen::gateway_seen(body),
        Event::GatewayGone(body) => seen::gateway_gone(body),
        Event::RouteSeen(body) => seen::route_seen(body),
        Event::AddressSeen(body) => seen::address_seen(body),
        Event::AddressMissing(body) => seen::address_missing(body),
        Event::EntrySeen(body) => seen::entry_seen(body),
        Event::EntryVanished(body) => seen::entry_vanished(body),
        Event::EntriesMissed(body) => seen::entries_missed(body),
        Event::TableListed(body) => seen::table_listed(body),
        Event::TableGone(body) => seen::table_gone(body),
        Event::RoomSeen(body) => seen::room_seen(body),
        Event::Allocated(body) => decided::allocated(body),
        Event::Recovered(body) => decided::recovered(body),
        Event::Adopted(body) => decided::adopted(body),
        Event::Waited(body) => decided::waited(body),
        Event::Refused(body) => decided::refused(body),
        Event::ReleaseDecided(body) => decided::release_decided(body),
        Event::RebindDecided(body) => decided::rebind_decided(body),
        Event::Regenerated(body) => decided::regenerated(body),
        Event::ItemMoved(body) => decided::item_moved(body),
        Event::ItemsChanged(body) => decided::items_changed(body),
        Event::StaleDecided(body) => decided::stale_decided(body),
        Event::GhostDecided(body) => decided::ghost_decided(body),
        Event::QuotaLearned(body) => decided::quota_learned(body),
        Event::Reserved(body) => decided::reserved(body),
        Event::FixedBound(body) => decided::fixed_bound(body),
        Event::FixedMoved(body) => decided::fixed_moved(body),
        Event::Superseded(body) => decided::superseded(body),
        Event::Halted(body) => decided::halted(body),
        Event::Resumed(body) => decided::resumed(body),
        Event::Contested(body) => decided::contested(body),
        Event::ClaimWritten(body) => outcome::claim_written(body),
        Event::ClaimRefused(body) => outcome::claim_refused(body),
        Event::ClaimReleased(body) => outcome::claim_released(body),
        Event::StatusWritten(body) => outcome::status_written(body),
        Event::StatusWithdrawn(body) => outcome::status_withdrawn(body),
        Event::PodMarked(body) => outcome::pod_marked(body),
        Event::EntryCreated(body) => outcome::entry_created(body),
        Event::EntryRefused(body) => outcome::entry_refused(body),
        Event::EntryUnknown(body) => outcome::entry_unknown(body),
        Event::EntryNeverSent(body) => outcome::entry_never_sent(body),
        Event::EntryDeleted(body) => outcome::entry_deleted(body),
        Event::DeleteUnknown(body) => outcome::delete_unknown(body),
        Event::StatusUnknown(body) => outcome::status_unknown(body),
        Event::MarkUnknown(body) => outcome::mark_unknown(body),
        Event::CooldownEnded(body) => outcome::cooldown_ended(body),
        Event::GraceEnded(body) => outcome::grace_ended(body),
        Event::RetryDue(body) => outcome::retry_due(body),
        Event::ProbeDue(body) => outcome::probe_due(body),
        Event::RetentionEnded(body) => outcome::retention_ended(body),
        Event::TableRested(body) => outcome::table_rested(body),
        Event::ContestEnded(body) => outcome::contest_ended(body),
        Event::Kept(body) => kept::kept(body),
    }
}

#[cfg(test)]
pub(super) mod tests;
