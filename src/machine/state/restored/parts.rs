//! What is kept, turned back into what it was; `None` where a number in it is not known to this build.

use std::sync::Arc;

use crate::machine::at::At;
use crate::machine::demand::{
    Demand, Note, Phase as NotePhase, Refusal, RefusalReason, ReleaseReason, WaitReason, Want,
};
use crate::machine::event::kept::{
    AllocationKept, DemandKept, EntryKept, ItemKept, NoteKept, StandingKept, WantedKept, WorkKept,
};
use crate::machine::identity::{PodKey, protocol_of};
use crate::machine::intent::{Held, Intent};
use crate::machine::seldom::Seldom;
use crate::machine::state::{
    Allocation, Claim, Controller, Entry, Item, Phase, Place, Published, RefusedClass, Standing, Subject, Unusual,
};

pub(super) fn place((eni, vswitch, zone): (&str, &str, &str)) -> Place {
    Place { eni: eni.into(), vswitch: vswitch.into(), zone: zone.into() }
}

pub(super) fn want(internal: u16, protocol: u8) -> Option<Want> {
    Some(Want { internal, protocol: protocol_of(protocol)? })
}

pub(super) fn demand(kept: &DemandKept) -> Option<Demand> {
    Some(match kept {
        DemandKept::Off => Demand::Off,
        DemandKept::Kept => Demand::Kept,
        DemandKept::On(wants, fixed) => {
            let wants = wants.iter().map(|(internal, protocol)| want(*internal, *protocol));
            Demand::On { wants: wants.collect::<Option<_>>()?, fixed: *fixed }
        }
        DemandKept::Refused(reason, detail) => {
            let reason = RefusalReason::from_number(*reason)?;
            Demand::Refused(Box::new(Refusal { reason, detail: detail.as_str().into() }))
        }
    })
}

pub(super) fn standing(kept: &StandingKept) -> Option<Standing> {
    Some(match kept {
        StandingKept::Open => Standing::Open,
        StandingKept::Waiting(reason, queue) => {
            Standing::Waiting { reason: WaitReason::from_number(*reason)?, queue: queue.as_deref().map(Into::into) }
        }
        StandingKept::Refused(reason) => Standing::Refused(RefusalReason::from_number(*reason)?),
        StandingKept::Allocated(id) => Standing::Allocated((*id).into()),
    })
}

pub(super) fn note((phase, reason, allocation, content): NoteKept) -> Option<Note> {
    Some(Note { phase: NotePhase::from_number(phase)?, reason, allocation: allocation.into(), content })
}

pub(super) fn allocation(
    body: &AllocationKept,
    place: Arc<Place>,
    owner: Option<Arc<Controller>>,
) -> Option<Allocation> {
    let (phase, since, reason) = body.phase;
    Some(Allocation {
        pod: body.pod.as_str().into(),
        key: PodKey::new(body.namespace.as_str(), body.name.as_str()),
        gateway: body.gateway.as_str().into(),
        table: body.table.as_str().into(),
        eip: body.eip,
        ip: body.ip,
        place,
        fixed: body.fixed,
        items: Vec::new(),
        phase: match phase {
            1 => Phase::Live,
            2 => Phase::Rebinding { since },
            3 => Phase::Releasing { since, reason: ReleaseReason::from_number(reason)? },
            4 => Phase::Reserved { since },
            _ => return None,
        },
        claim: match body.claim {
            (0, _) => Claim::Absent,
            (1, content) => Claim::Written(content),
            (2, _) => Claim::Refused,
            _ => return None,
        },
        claimed: body.claimed.map(At::new),
        claim_uid: body.claim_uid.as_ref().map(|(uid, since)| (uid.as_str().into(), *since)),
        claim_deleting: body.claim_deleting,
        revision: body.revision,
        claim_revision: body.claim_revision,
        published: match body.published {
            (0, _) => Published::Nothing,
            (1, content) => Published::Content(content),
            (2, _) => Published::Unknown,
            _ => return None,
        },
        lacks: body.lacks,
        established: body.established,
        probe: body.probe,
        owner,
        expired: body.expired,
        moved: body.moved,
        relocated: body.relocated,
        kept: body.kept,
        edited: body.edited,
        unusual: Seldom::new(unusual(body)),
        held: Held::default(),
        hashed: [0; 4],
    })
}

/// What few have. What was adopted comes with the items.
fn unusual(body: &AllocationKept) -> Unusual {
    Unusual {
        retries: body.retries,
        retry_ms: body.retry_ms,
        absent_since_wall_ms: body.absent_since_wall_ms,
        retention_ms: body.retention_ms,
        successor: body.successor.map(Into::into),
        predecessors: body.predecessors.iter().copied().map(Into::into).collect(),
        adopted: Vec::new(),
        heals: body.heals.clone(),
        contest_ms: body.contest_ms,
    }
}

pub(super) fn item(kept: &ItemKept) -> Option<Item> {
    Some(Item {
        want: want(kept.internal, kept.protocol)?,
        external: kept.external,
        generation: kept.generation.into(),
        port_break: kept.port_break,
        leaving: kept.leaving.map(At::new),
        touched: kept.touched,
        entry: match &kept.entry {
            EntryKept::Planned => Entry::Planned,
            EntryKept::Unknown(since, looked, missed_ms) => {
                Entry::Unknown { since: *since, looked: *looked, missed_ms: missed_ms.map(At::new) }
            }
            EntryKept::Refused(since, class, looked) => {
                Entry::Refused { since: *since, class: RefusedClass::from_number(*class)?, looked: *looked }
            }
            EntryKept::Present(id, since, available, verified, missed_ms) => Entry::Present {
                id: id.as_str().into(),
                since: *since,
                available: *available,
                verified: *verified,
                missed_ms: missed_ms.map(At::new),
            },
            EntryKept::Deleting(id, since, since_ms, acknowledged, missed_ms) => Entry::Deleting {
                id: id.as_str().into(),
                since: *since,
                since_ms: *since_ms,
                acknowledged: *acknowledged,
                missed_ms: missed_ms.map(At::new),
            },
            EntryKept::Gone => Entry::Gone,
        },
    })
}

pub(super) fn intent(kept: &WantedKept) -> Option<Intent> {
    Some(match kept {
        WantedKept::Locate(ip, pod) => Intent::Locate { ip: *ip, pod: pod.as_str().into() },
        WantedKept::WriteClaim(id, revision) => Intent::WriteClaim { allocation: (*id).into(), revision: *revision },
        WantedKept::Bind(table, id, generation) => {
            Intent::Bind { table: table.as_str().into(), allocation: (*id).into(), generation: (*generation).into() }
        }
        WantedKept::Forgo(id, generation) => {
            Intent::Forgo { allocation: (*id).into(), generation: (*generation).into() }
        }
        WantedKept::Unbind(table, entry, _) => {
            Intent::Unbind { table: table.as_str().into(), entry: entry.as_str().into() }
        }
        WantedKept::Observe(table) => Intent::Observe { table: table.as_str().into() },
        WantedKept::Publish(id, revision) => Intent::Publish { allocation: (*id).into(), revision: *revision },
        WantedKept::Withdraw(id) => Intent::Withdraw { allocation: (*id).into() },
        WantedKept::ReleaseClaim(id) => Intent::ReleaseClaim { allocation: (*id).into() },
        WantedKept::DropClaim(namespace, name, uid) => {
            Intent::DropClaim { key: PodKey::new(namespace.as_str(), name.as_str()), uid: uid.as_str().into() }
        }
        WantedKept::MarkPod(pod, said) => Intent::MarkPod { pod: pod.as_str().into(), note: note(*said)? },
    })
}

pub(super) fn work(kept: &WorkKept) -> Subject {
    match kept {
        WorkKept::Claim(namespace, name) => Subject::Claim(PodKey::new(namespace.as_str(), name.as_str())),
        WorkKept::Allocation(id) => Subject::Allocation((*id).into()),
        WorkKept::Stray(table, entry) => Subject::Stray(table.as_str().into(), entry.as_str().into()),
        WorkKept::Queue(table) => Subject::Queue(table.as_str().into()),
        WorkKept::Pod(arrival, uid) => Subject::Pod(*arrival, uid.as_str().into()),
    }
}
