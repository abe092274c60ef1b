//! The state as rows of JSON, a piece at a time.
//!
//! Each row says with `event` up to which record it is true: between two pieces the controller goes on.

use serde::Serialize;

use super::scrape::word;
use crate::admin::{Cursor, Piece, Section};
use crate::controller::step::Controller;
use crate::machine::demand::HaltReason;
use crate::machine::identity::{AllocationId, PodUid, Protocol};
use crate::machine::state::{Allocation, Entry, Gateway, Item, Pod, Standing, State, Table};

/// Pods or allocations in a piece: about a millisecond of the controller's thread.
const ROWS_MAX: usize = 500;

/// The piece at a cursor.
pub(super) fn piece(controller: &Controller, cursor: Option<Cursor>) -> Piece {
    let state = controller.state();
    match cursor {
        None => Piece { sections: beginning(controller), next: Some(Cursor::Pods(None)) },
        Some(Cursor::Pods(after)) => {
            let pods: Vec<_> = state.pods_after(after.as_ref()).take(ROWS_MAX).collect();
            let last = pods.last().filter(|_| pods.len() == ROWS_MAX).map(|(uid, _)| (*uid).clone());
            let rows = pods.into_iter().map(|(uid, pod)| pod_row(state, uid, pod)).collect();
            let next = last.map_or(Cursor::Allocations(None), |last| Cursor::Pods(Some(last)));
            Piece { sections: vec![Section { name: "pods", rows }], next: Some(next) }
        }
        Some(Cursor::Allocations(after)) => {
            let allocations: Vec<_> = state.allocations_after(after).take(ROWS_MAX).collect();
            let last = allocations.last().filter(|_| allocations.len() == ROWS_MAX).map(|(id, _)| **id);
            let rows = allocations.into_iter().map(|(id, allocation)| allocation_row(state, *id, allocation)).collect();
            let next = last.map(|last| Cursor::Allocations(Some(last)));
            Piece { sections: vec![Section { name: "allocations", rows }], next }
        }
    }
}

fn beginning(controller: &Controller) -> Vec<Section> {
    let state = controller.state();
    let about = About {
        event: state.seq(),
        term: state.term(),
        leads: controller.leads(),
        settled: controller.is_settled(),
        digest: state.digest().iter().map(|byte| format!("{byte:02x}")).collect(),
        intents: state.agenda().len(),
        halted: state.halted().map(HaltReason::word),
    };
    let gateways = state.gateways().map(|(id, gateway)| gateway_row(state, id.as_str(), gateway)).collect();
    let tables = state.tables().map(|(id, table)| table_row(state, id.as_str(), table)).collect();
    vec![
        Section { name: "controller", rows: vec![json(&about)] },
        Section { name: "gateways", rows: gateways },
        Section { name: "tables", rows: tables },
    ]
}

#[derive(Serialize)]
struct About {
    event: u64,
    term: u64,
    leads: bool,
    settled: bool,
    digest: String,
    intents: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    halted: Option<&'static str>,
}

#[derive(Serialize)]
struct GatewayRow<'a> {
    event: u64,
    gateway: &'a str,
    available: bool,
    eips: Vec<EipRow>,
}

#[derive(Serialize)]
struct EipRow {
    eip: String,
    usable: bool,
    snat: bool,
    first: u16,
    last: u16,
    free_tcp: u32,
    free_udp: u32,
}

fn gateway_row(state: &State, id: &str, gateway: &Gateway) -> String {
    let eip = |eip: &crate::machine::pool::Eip| EipRow {
        eip: eip.address.to_string(),
        usable: eip.usable,
        snat: eip.snat,
        first: eip.range.first,
        last: eip.range.last,
        free_tcp: eip.ports(Protocol::Tcp).free(),
        free_udp: eip.ports(Protocol::Udp).free(),
    };
    let eips = gateway.eips().iter().map(eip).collect();
    json(&GatewayRow { event: state.seq(), gateway: id, available: gateway.is_available(), eips })
}

#[derive(Serialize)]
struct TableRow<'a> {
    event: u64,
    table: &'a str,
    open: bool,
    entries: u32,
    limit: Option<u32>,
    queue: usize,
}

fn table_row(state: &State, id: &str, table: &Table) -> String {
    json(&TableRow {
        event: state.seq(),
        table: id,
        open: table.is_open(),
        entries: table.entries(),
        limit: table.limit(),
        queue: table.queue_length(),
    })
}

#[derive(Serialize)]
struct PodRow<'a> {
    event: u64,
    uid: &'a str,
    pod: String,
    standing: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allocation: Option<String>,
}

fn pod_row(state: &State, uid: &PodUid, pod: &Pod) -> String {
    let (standing, reason, allocation) = match pod.standing() {
        Standing::Open => ("open", None, None),
        Standing::Waiting { reason, .. } => ("waiting", Some(reason.word()), None),
        Standing::Refused(reason) => ("refused", Some(reason.word()), None),
        Standing::Allocated(id) => ("allocated", None, Some(id.to_string())),
    };
    let detail = pod.refusal_detail();
    json(&PodRow {
        event: state.seq(),
        uid: uid.as_str(),
        pod: pod.key().to_string(),
        standing,
        reason,
        detail,
        allocation,
    })
}

#[derive(Serialize)]
struct AllocationRow<'a> {
    event: u64,
    allocation: String,
    pod: String,
    uid: &'a str,
    state: &'static str,
    fixed: bool,
    gateway: &'a str,
    table: &'a str,
    eip: String,
    ip: String,
    items: Vec<ItemRow<'a>>,
}

#[derive(Serialize)]
struct ItemRow<'a> {
    external: u16,
    internal: u16,
    protocol: &'static str,
    generation: String,
    entry: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

fn allocation_row(state: &State, id: AllocationId, allocation: &Allocation) -> String {
    json(&AllocationRow {
        event: state.seq(),
        allocation: id.to_string(),
        pod: allocation.key().to_string(),
        uid: allocation.pod().as_str(),
        state: word(allocation),
        fixed: allocation.is_fixed(),
        gateway: allocation.gateway().as_str(),
        table: allocation.table().as_str(),
        eip: allocation.eip().to_string(),
        ip: allocation.ip().to_string(),
        items: allocation.items().iter().map(item_row).collect(),
    })
}

fn item_row(item: &Item) -> ItemRow<'_> {
    let (entry, id) = match item.entry() {
        Entry::Planned => ("planned", None),
        Entry::Unknown { .. } => ("unknown", None),
        Entry::Refused { .. } => ("refused", None),
        Entry::Present { id, available: true, .. } => ("available", Some(id.as_str())),
        Entry::Present { id, available: false, .. } => ("pending", Some(id.as_str())),
        Entry::Deleting { id, .. } => ("deleting", Some(id.as_str())),
        Entry::Gone => ("gone", None),
    };
    ItemRow {
        external: item.external(),
        internal: item.want().internal,
        protocol: item.want().protocol.as_str(),
        generation: item.generation().to_string(),
        entry,
        id,
    }
}

#[expect(clippy::expect_used, reason = "strings, numbers and lists under fixed names are always JSON")]
fn json(row: &impl Serialize) -> String {
    serde_json::to_string(row).expect("a row is JSON")
}
