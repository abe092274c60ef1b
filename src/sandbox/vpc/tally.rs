//! What the model did to its callers besides its faults, counted: a test that means to meet something can see that it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::refusal::Refusal;
use super::request::Request;

/// Something that happened to a request, an entry or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Incident {
    /// A creation was refused because the table is full.
    QuotaRefused,
    /// A creation was refused because an entry of the table is Pending ([`super::Behaviour::table_serialised`]).
    TableSerialised,
    /// A creation was refused because another one was too near ([`super::Behaviour::create_conflict_ms`]).
    CreateConflict,
    /// A deletion was refused because another entry is Pending ([`super::Behaviour::delete_blocked_by_pending`]).
    DeleteBlocked,
    /// A deletion was refused because the entry itself is Pending.
    DeletedWhilePending,
    /// A deletion was refused because the entry is being deleted already.
    DeletedTwice,
    /// A deletion was refused because there is no such entry.
    DeletedNothing,
    /// A change was refused because the gateway is not Available.
    GatewayRefused,
    /// A creation was refused because its external address, port and protocol are taken.
    ExternalClash,
    /// A creation was refused because its internal address, port and protocol are taken.
    InternalClash,
    /// A change was refused with `IdempotentParameterMismatch` because the parameters did differ.
    TokenMismatched,
    /// A change was refused with `LastTokenProcessing`.
    TokenProcessing,
    /// A known token brought the first answer back.
    TokenRepeated,
    /// The answer to a token was forgotten, by age or by [`super::FaultKind::ForgottenToken`].
    TokenForgotten,
    /// A request was carried out again after its token had been forgotten.
    SecondExecution,
    /// A late request landed and was done.
    LateLanded,
    /// A late request landed, but its token was known by then.
    LateRepeated,
    /// A late request was refused when it landed.
    LateRefused,
    /// A view left out entries that are there.
    EntryOmitted,
    /// A view showed entries that are gone.
    GoneShown,
    /// A page missed entries or repeated them.
    PageShifted,
}

impl Incident {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::QuotaRefused,
        Self::TableSerialised,
        Self::CreateConflict,
        Self::DeleteBlocked,
        Self::DeletedWhilePending,
        Self::DeletedTwice,
        Self::DeletedNothing,
        Self::GatewayRefused,
        Self::ExternalClash,
        Self::InternalClash,
        Self::TokenMismatched,
        Self::TokenProcessing,
        Self::TokenRepeated,
        Self::TokenForgotten,
        Self::SecondExecution,
        Self::LateLanded,
        Self::LateRepeated,
        Self::LateRefused,
        Self::EntryOmitted,
        Self::GoneShown,
        Self::PageShifted,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuotaRefused => "quota-refused",
            Self::TableSerialised => "table-serialised",
            Self::CreateConflict => "create-conflict",
            Self::DeleteBlocked => "delete-blocked",
            Self::DeletedWhilePending => "deleted-while-pending",
            Self::DeletedTwice => "deleted-twice",
            Self::DeletedNothing => "deleted-nothing",
            Self::GatewayRefused => "gateway-refused",
            Self::ExternalClash => "external-clash",
            Self::InternalClash => "internal-clash",
            Self::TokenMismatched => "token-mismatched",
            Self::TokenProcessing => "token-processing",
            Self::TokenRepeated => "token-repeated",
            Self::TokenForgotten => "token-forgotten",
            Self::SecondExecution => "second-execution",
            Self::LateLanded => "late-landed",
            Self::LateRepeated => "late-repeated",
            Self::LateRefused => "late-refused",
            Self::EntryOmitted => "entry-omitted",
            Self::GoneShown => "gone-shown",
            Self::PageShifted => "page-shifted",
        }
    }

    /// What a refusal that followed from the rules was about.
    pub(super) fn of(request: &Request, refusal: &Refusal) -> Option<Self> {
        let creation = matches!(request, Request::CreateForwardEntry { .. });
        let is = |other: Refusal| *refusal == other;
        Some(match refusal.code.as_str() {
            "QuotaExceeded.ForwardEntry" => Self::QuotaRefused,
            "OperationConflict" => Self::CreateConflict,
            "IdempotentParameterMismatch" => Self::TokenMismatched,
            "LastTokenProcessing" => Self::TokenProcessing,
            "IncorrectStatus.NATGW" => Self::GatewayRefused,
            "ForwardEntry.Duplicated" | "DuplicatedParam.ExternalPort" => Self::ExternalClash,
            "DuplicatedParam.InternalPort" => Self::InternalClash,
            "InvalidForwardEntryId.NotFound" => Self::DeletedNothing,
            _ if is(Refusal::blocked_by_entry()) => {
                if creation {
                    Self::TableSerialised
                } else {
                    Self::DeleteBlocked
                }
            }
            _ if is(Refusal::entry_unstable()) => Self::DeletedWhilePending,
            _ if is(Refusal::entry_deleting()) => Self::DeletedTwice,
            _ => return None,
        })
    }
}

/// How often each happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally(BTreeMap<Incident, u64>);

impl Tally {
    pub(super) fn count(&self, incident: Incident) -> u64 {
        self.0.get(&incident).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, incident: Incident, times: usize) {
        if times > 0 {
            let count = self.0.entry(incident).or_default();
            *count = count.saturating_add(u64::try_from(times).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn one(&mut self, incident: Incident) {
        self.add(incident, 1);
    }
}
