//! The lock as a `coordination.k8s.io/v1` Lease, written only over what was read.
//!
//! Holder, duration and time of renewal stand where client-go keeps them, so that `kubectl get lease` tells who leads. Term
//! and heads of journals stand in annotations. `renewTime` is the wall clock's for people; what counts is that it changes,
//! so it never goes back.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::Method;
use serde::{Deserialize, Serialize};

use super::api::{Content, Failure};
use super::client::{KubeCluster, found, no_lock};
use super::list::{Resource, list};
use crate::machine::identity::PodKey;
use crate::ports::cluster::{ClusterError, ClusterErrorClass, Lease, LeaseRecord};

/// The annotation with the term.
pub const TERM_ANNOTATION: &str = "k8s.aliyun.com/natgw-term";

/// The annotation with the heads of journals: `JOURNAL/SEQ/HASH`, the newest first, blanks between them.
pub const HEADS_ANNOTATION: &str = "k8s.aliyun.com/natgw-journals";

/// Heads that are read: twice what is written, for who writes more is no natgw.
const HEADS_MAX: usize = 10;

/// A Lease, what of others is in it included.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeaseObject {
    api_version: String,
    kind: String,
    metadata: LeaseMetadata,
    spec: LeaseSpec,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseMetadata {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource_version: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LeaseSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    acquire_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_duration_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_transitions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_time: Option<String>,
}

impl Lease for KubeCluster {
    async fn read_lease(&self) -> Result<LeaseRecord, ClusterError> {
        let (collection, name) = &self.lease;
        let read: Result<LeaseObject, Failure> = self.api.get(&format!("{collection}/{name}")).await;
        let object = found(read).map_err(|failure| failure.of("read_lease"))?;
        let record = object.as_ref().map_or_else(no_lock, record_of);
        self.lock.replace(object);
        Ok(record)
    }

    async fn write_lease(&self, record: &LeaseRecord) -> Result<LeaseRecord, ClusterError> {
        let (collection, name) = &self.lease;
        let before =
            self.lock.borrow().clone().filter(|lock| lock.metadata.resource_version == record.resource_version);
        let object = object_of(name, record, before.unwrap_or_default(), micros((self.clock)()));
        let written: Result<LeaseObject, Failure> = if record.resource_version.is_empty() {
            self.api.write_unfenced(Method::POST, collection, Content::Json, &object).await
        } else {
            self.api.write_unfenced(Method::PUT, &format!("{collection}/{name}"), Content::Json, &object).await
        };
        match written {
            Ok(object) => {
                let record = record_of(&object);
                self.lock.replace(Some(object));
                Ok(record)
            }
            Err(mut failure) => {
                failure.class = compared(failure.class, record.resource_version.is_empty());
                let refused = failure.class == ClusterErrorClass::Refused;
                let error = failure.of("write_lease");
                if refused {
                    tracing::warn!("nobody can lead: {error}");
                }
                Err(error)
            }
        }
    }
}

/// How a compare-and-swap ended. A lock that is there where none was, or gone where one was, is not what was read. Where
/// none can be made there is no Namespace for it, and that is somebody else's to mend.
const fn compared(class: ClusterErrorClass, creating: bool) -> ClusterErrorClass {
    match class {
        ClusterErrorClass::AlreadyExists => ClusterErrorClass::Conflict,
        ClusterErrorClass::Gone if creating => ClusterErrorClass::Refused,
        ClusterErrorClass::Gone => ClusterErrorClass::Conflict,
        ClusterErrorClass::Conflict
        | ClusterErrorClass::Refused
        | ClusterErrorClass::Busy
        | ClusterErrorClass::Unknown => class,
    }
}

impl KubeCluster {
    /// Every lock of natgw's in the cluster, whatever its name, by Namespace and name.
    ///
    /// # Errors
    /// Fails when the Leases of all Namespaces cannot be read: natgw itself never needs to.
    pub async fn locks(&self) -> Result<Vec<(PodKey, LeaseRecord)>, ClusterError> {
        let leases = list::<LeaseObject>(&self.api, &Resource::locks()).await.map_err(|failure| failure.of("list"))?;
        let ours = leases.items.iter().filter(|lease| lease.metadata.annotations.contains_key(TERM_ANNOTATION));
        let key = |lease: &LeaseObject| PodKey::new(lease.metadata.namespace.as_str(), lease.metadata.name.as_str());
        Ok(ours.map(|lease| (key(lease), record_of(lease))).collect())
    }
}

fn record_of(object: &LeaseObject) -> LeaseRecord {
    let LeaseObject { metadata, spec, .. } = object;
    let annotation = |name| metadata.annotations.get(name).map(String::as_str).unwrap_or_default();
    LeaseRecord {
        resource_version: metadata.resource_version.clone(),
        holder: spec.holder_identity.clone().unwrap_or_default(),
        term: annotation(TERM_ANNOTATION).parse().unwrap_or(0),
        duration_ms: u64::from(spec.lease_duration_seconds.unwrap_or(0)).saturating_mul(1_000),
        renewals: spec.renew_time.as_deref().and_then(parse_micros).unwrap_or(0),
        heads: annotation(HEADS_ANNOTATION).split_whitespace().take(HEADS_MAX).filter_map(parse_head).collect(),
    }
}

/// The Lease of a record, over the one that stands.
fn object_of(name: &str, record: &LeaseRecord, before: LeaseObject, now_us: u64) -> LeaseObject {
    let LeaseObject { mut metadata, mut spec, .. } = before;
    let renewed_us = record.renewals.max(now_us);
    metadata.name = name.to_owned();
    metadata.resource_version.clone_from(&record.resource_version);
    metadata.annotations.insert(TERM_ANNOTATION.to_owned(), record.term.to_string());
    let heads: Vec<_> = record.heads.iter().map(write_head).collect();
    metadata.annotations.insert(HEADS_ANNOTATION.to_owned(), heads.join(" "));
    let holder = (!record.holder.is_empty()).then(|| record.holder.clone());
    if holder.is_some() && holder != spec.holder_identity {
        spec.acquire_time = Some(write_micros(renewed_us));
        spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |transitions| transitions.saturating_add(1)));
    }
    spec.holder_identity = holder;
    // A Lease counts whole seconds and at least one; who waits longer takes over later, never too early.
    let seconds = record.duration_ms.div_ceil(1_000).max(1);
    spec.lease_duration_seconds = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
    spec.renew_time = Some(write_micros(renewed_us));
    LeaseObject { api_version: "coordination.k8s.io/v1".to_owned(), kind: "Lease".to_owned(), metadata, spec }
}

fn write_head((journal, seq, hash): &([u8; 16], u64, [u8; 32])) -> String {
    format!("{}/{seq}/{}", hex(journal), hex(hash))
}

fn parse_head(text: &str) -> Option<([u8; 16], u64, [u8; 32])> {
    let mut parts = text.split('/');
    let (journal, seq, hash) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Some((unhex(journal)?, seq.parse().ok()?, unhex(hash)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N.saturating_mul(2) || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

/// A MicroTime: RFC 3339 with six digits.
fn write_micros(micros: u64) -> String {
    let moment = i64::try_from(micros).ok().and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok());
    format!("{:.6}", moment.unwrap_or(jiff::Timestamp::UNIX_EPOCH))
}

fn parse_micros(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_microsecond()).ok()
}

fn micros(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LeaseRecord {
        LeaseRecord {
            resource_version: "7".to_owned(),
            holder: "a".to_owned(),
            term: 4,
            duration_ms: 15_000,
            renewals: 1_700_000_000_000_001,
            heads: vec![([1; 16], 9, [2; 32]), ([0xfe; 16], u64::MAX, [0xff; 32])],
        }
    }

    #[test]
    fn a_record_survives_the_way_through_an_object() {
        let object = object_of("natgw", &record(), LeaseObject::default(), 0);
        assert_eq!(record_of(&object), record());
        let json = serde_json::to_value(&object).unwrap();
        assert_eq!(json["spec"]["renewTime"], "2023-11-14T22:13:20.000001Z");
        assert_eq!(json["spec"]["leaseDurationSeconds"], 15);
        assert_eq!(json["metadata"]["annotations"][TERM_ANNOTATION], "4");
        let read: LeaseObject = serde_json::from_value(json).unwrap();
        assert_eq!(record_of(&read), record());
        let nobody = LeaseRecord { holder: String::new(), ..record() };
        let given_back = object_of("natgw", &nobody, object, 0);
        assert_eq!(serde_json::to_value(&given_back).unwrap()["spec"].get("holderIdentity"), None);
        assert_eq!(record_of(&given_back), nobody);
    }

    #[test]
    fn the_time_of_renewal_is_the_clocks_and_never_goes_back() {
        let renewed = |now_us| record_of(&object_of("natgw", &record(), LeaseObject::default(), now_us)).renewals;
        assert_eq!(renewed(1_800_000_000_000_000), 1_800_000_000_000_000);
        assert_eq!(renewed(5), record().renewals);
    }

    #[test]
    fn durations_are_rounded_up_to_whole_seconds() {
        let seconds = |duration_ms| {
            let record = LeaseRecord { duration_ms, ..record() };
            object_of("natgw", &record, LeaseObject::default(), 0).spec.lease_duration_seconds
        };
        assert_eq!([0, 1, 1_000, 1_001].map(seconds), [Some(1), Some(1), Some(1), Some(2)]);
    }

    #[test]
    fn a_new_holder_is_a_transition_and_a_renewal_is_none() {
        let first = object_of("natgw", &record(), LeaseObject::default(), 10);
        assert_eq!(first.spec.lease_transitions, Some(0));
        let renewed = object_of("natgw", &record(), first.clone(), u64::from(u32::MAX));
        assert_eq!((renewed.spec.lease_transitions, &renewed.spec.acquire_time), (Some(0), &first.spec.acquire_time));
        let other = LeaseRecord { holder: "b".to_owned(), ..record() };
        assert_eq!(object_of("natgw", &other, renewed, 0).spec.lease_transitions, Some(1));
    }

    #[test]
    fn what_others_wrote_stays_and_what_is_no_head_is_none() {
        let mut before = LeaseObject::default();
        before.metadata.labels.insert("team".to_owned(), "games".to_owned());
        let object = object_of("natgw", &record(), before, 0);
        assert_eq!(object.metadata.labels.len(), 1);
        for text in
            ["", "x", "01/2/03", &format!("{}/1", "0".repeat(32)), &format!("{}/-1/{}", "0".repeat(32), "0".repeat(64))]
        {
            assert_eq!(parse_head(text), None, "{text}");
        }
    }
}
