//! Sentences of kinds 40-59.

use super::phrase::{count, list, mapping, port, reason, renewals, stamp};
use crate::machine::demand::{HaltReason, RefusalReason, ReleaseReason, WaitReason};
use crate::machine::event::decided::{
    Allocated, Contested, FixedBound, FixedMoved, GhostDecided, Halted, ItemMoved, ItemsChanged, QuotaLearned,
    RebindDecided, Refused, Regenerated, ReleaseDecided, Reserved, Resumed, StaleDecided, Superseded, Waited,
};

pub(super) fn allocated(body: &Allocated) -> String {
    let passed_over = match body.passed_over.as_slice() {
        [] => String::new(),
        eips => format!("; passed over: {}", list(eips.iter().map(|(eip, why)| format!("{eip} ({})", passed(*why))))),
    };
    format!("{} gets {}{passed_over}", pod(body), allocation(body))
}

pub(super) fn recovered(body: &Allocated) -> String {
    format!("{} keeps {}; taken from the claim that an earlier leader wrote", pod(body), allocation(body))
}

pub(super) fn adopted(body: &Allocated) -> String {
    format!("{} keeps {}; taken over from the original controller", pod(body), allocation(body))
}

fn pod(body: &Allocated) -> String {
    format!("pod {}/{} (UID {}) at {}", body.namespace, body.name, body.pod, body.ip)
}

fn allocation(body: &Allocated) -> String {
    let items = list(body.items.iter().map(|item| mapping(body.eip, body.ip, item)));
    let fixed = if body.fixed { "fixed " } else { "" };
    format!(
        "{fixed}allocation {} on NAT gateway {}, table {}: {items}",
        stamp(body.allocation),
        body.gateway,
        body.table
    )
}

fn passed(why: u8) -> String {
    match why {
        1 => "not usable".to_owned(),
        2 => "fewer free ports".to_owned(),
        4 => "as many free ports, configured later".to_owned(),
        3 => "no room".to_owned(),
        number => format!("reason {number}, which this build does not know"),
    }
}

pub(super) fn waited(body: &Waited) -> String {
    let words = WaitReason::from_number(body.reason).map(|known| (known.word(), known.sentence()));
    let queue = body.table.as_deref().map(|table| format!(" in the queue of table {table}")).unwrap_or_default();
    let entries = count(body.entries, "entry", "entries");
    format!("the pod with UID {} waits{queue} for {entries}; {}", body.pod, reason(words, body.reason))
}

pub(super) fn refused(body: &Refused) -> String {
    let words = RefusalReason::from_number(body.reason).map(|known| (known.word(), known.sentence()));
    let detail = if body.detail.is_empty() { String::new() } else { format!(" ({})", body.detail) };
    format!("the pod with UID {} is refused; {}{detail}", body.pod, reason(words, body.reason))
}

pub(super) fn release_decided(body: &ReleaseDecided) -> String {
    let words = ReleaseReason::from_number(body.reason).map(|known| (known.word(), known.sentence()));
    format!("allocation {} is to be released; {}", stamp(body.allocation), reason(words, body.reason))
}

pub(super) fn rebind_decided(body: &RebindDecided) -> String {
    format!(
        "allocation {} is to be unbound and bound again, because its pod's address is now {}",
        stamp(body.allocation),
        body.ip
    )
}

pub(super) fn regenerated(body: &Regenerated) -> String {
    let why = match body.reason {
        1 => "the entry was lost".to_owned(),
        2 => "the pod's address changed".to_owned(),
        3 => "a creation was refused and is tried again".to_owned(),
        number => format!("reason {number}, which this build does not know"),
    };
    let (eni, vswitch, zone) = &body.place;
    format!(
        "entries of allocation {} are to be created anew for {} (network interface {eni}, vSwitch {vswitch}, zone {zone}), \
         because {why}: {}",
        stamp(body.allocation),
        body.ip,
        renewals(&body.items)
    )
}

pub(super) fn item_moved(body: &ItemMoved) -> String {
    format!(
        "port {} of allocation {} moves from external port {} to {} (generation {}), because somebody else holds the first",
        port(body.item.internal, body.item.protocol),
        stamp(body.allocation),
        body.from,
        body.item.external,
        stamp(body.item.generation)
    )
}

pub(super) fn items_changed(body: &ItemsChanged) -> String {
    let added = list(body.added.iter().map(|item| {
        let external = port(item.external, item.protocol);
        format!("{external} -> {} (generation {})", item.internal, stamp(item.generation))
    }));
    format!(
        "the pod of allocation {} asks for other ports than before; dropped: {}; added: {added}",
        stamp(body.allocation),
        list(body.dropped.iter().map(|(internal, protocol)| port(*internal, *protocol)))
    )
}

pub(super) fn stale_decided(body: &StaleDecided) -> String {
    format!(
        "entry {} of table {} carries our mark and stands for nothing, so it is to be deleted",
        body.entry, body.table
    )
}

pub(super) fn ghost_decided(body: &GhostDecided) -> String {
    format!("PodDNAT {}/{} (UID {}) stands for nothing, so it is to be deleted", body.namespace, body.name, body.uid)
}

pub(super) fn quota_learned(body: &QuotaLearned) -> String {
    match body.entries {
        Some(entries) => format!("table {} takes {}", body.table, count(entries, "entry", "entries")),
        None => format!("how many entries table {} takes is not known any more", body.table),
    }
}

pub(super) fn reserved(body: &Reserved) -> String {
    format!(
        "fixed allocation {} lost its pod and stays reserved, absent since {} ms of wall time",
        stamp(body.allocation),
        body.absent_since_wall_ms
    )
}

pub(super) fn fixed_bound(body: &FixedBound) -> String {
    let (eni, vswitch, zone) = &body.place;
    format!(
        "fixed allocation {} is bound to the new pod of its name with UID {} at {} (network interface {eni}, vSwitch \
         {vswitch}, zone {zone}): {}",
        stamp(body.allocation),
        body.pod,
        body.ip,
        renewals(&body.items)
    )
}

pub(super) fn fixed_moved(body: &FixedMoved) -> String {
    let why = match body.reason {
        1 => "its pod's route leads to another gateway".to_owned(),
        2 => "its EIP is not usable".to_owned(),
        3 => "its EIP left the pool".to_owned(),
        number => format!("reason {number}, which this build does not know"),
    };
    format!("fixed allocation {} is replaced by allocation {}, because {why}", stamp(body.from), stamp(body.to))
}

pub(super) fn superseded(body: &Superseded) -> String {
    format!("allocation {} gives way to the claim of PodDNAT UID {}", stamp(body.allocation), body.winner)
}

pub(super) fn halted(body: &Halted) -> String {
    let words = HaltReason::from_number(body.reason).map(|known| (known.word(), known.sentence()));
    format!("decisions stop at PodDNAT {}/{}; {}", body.namespace, body.name, reason(words, body.reason))
}

pub(super) fn resumed(body: &Resumed) -> String {
    let word = HaltReason::from_number(body.reason).map_or("OtherController", HaltReason::word);
    format!("decisions go on: what stopped them ({word}) is over")
}

pub(super) fn contested(body: &Contested) -> String {
    format!(
        "somebody undoes what is written of allocation {}: it was healed {}, and is left alone for a while",
        stamp(body.allocation),
        count(body.heals, "time", "times")
    )
}
