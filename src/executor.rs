//! One async fn an effect: idempotent, over the ports, one suspension point a port call.
//!
//! Nothing is spawned, slept or selected here, and nothing chosen: retries, pauses and order are the step's. A future that
//! is dropped half-way leaves the world in a state from which the same effect, run again, ends the same.

mod pages;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;

use self::pages::{PAGES_MAX, chained, count, incomplete, numbered};
use crate::machine::demand::bounded;
use crate::machine::identity::{AllocationId, PodKey, TableId};
use crate::ports::cloud::{ADDRESSES_MAX, Cloud, CloudError, ErrorClass, ListedEntry, Page, Reading, flow_control};
use crate::ports::cluster::{ClaimFound, Cluster, ClusterError, ClusterErrorClass, Mapping, PodMark, Publication};
use crate::ports::effect::{Effect, Ended, Incomplete, ListError, ListRequest, Listing, Refusal, Why};

/// Pages of a table that are asked for at once, so that a large table is read before it moves.
const PAGES_AT_ONCE: u32 = 4;

/// Carries out one effect.
pub async fn execute(cluster: &impl Cluster, cloud: &impl Cloud, effect: &Effect) -> Ended {
    match effect {
        Effect::WriteClaim(mapping, uid) => write_claim(cluster, mapping, uid.as_deref()).await.unwrap_or_else(ended),
        Effect::WriteStatus(publication) => write_status(cluster, publication).await.unwrap_or_else(ended),
        Effect::ReleaseClaim { key, allocation, uid } => {
            release_claim(cluster, key, *allocation, uid.as_deref()).await.unwrap_or_else(ended)
        }
        Effect::DropClaim { key, uid } => drop_claim(cluster, key, uid).await.unwrap_or_else(ended),
        Effect::MarkPod(mark) => mark_pod(cluster, mark).await.unwrap_or_else(ended),
        Effect::Create(request) => match cloud.create_entry(request).await {
            Ok(id) => Ended::Created(id),
            Err(error) => refused(error),
        },
        Effect::Delete(request) => match cloud.delete_entry(request).await {
            Ok(()) => Ended::Done,
            Err(error) => refused(error),
        },
    }
}

/// Reads something completely.
///
/// # Errors
/// Fails when a page fails or the pages do not add up to one consistent listing. Then nothing may be concluded.
pub async fn list(cluster: &impl Cluster, cloud: &impl Cloud, request: &ListRequest) -> Result<Listing, ListError> {
    match request {
        ListRequest::Cluster => {
            let unread = |error: ClusterError| failed("the cluster", error.to_string());
            let pods = cluster.list_pods().await.map_err(unread)?;
            let claims = cluster.list_claims().await.map_err(unread)?;
            Ok(Listing::Cluster { pods, claims })
        }
        ListRequest::Gateways => {
            let page = async |page| cloud.list_gateways(page).await;
            numbered(Reading::Gateways, page, |gateway| gateway.id.clone()).await.map(Listing::Gateways)
        }
        ListRequest::Eips(gateway) => {
            let page = async |page| cloud.list_eips(gateway, page).await;
            numbered(Reading::Eips, page, |eip| eip.address).await.map(Listing::Eips)
        }
        ListRequest::RouteTables => {
            let page = async |page| cloud.list_route_tables(page).await;
            numbered(Reading::RouteTables, page, |table| table.id.clone()).await.map(Listing::RouteTables)
        }
        ListRequest::Routes(table) => {
            let part = async |next: Option<String>| cloud.list_default_routes(table, next.as_deref()).await;
            chained(Reading::Routes, part).await.map(Listing::Routes)
        }
        ListRequest::Interfaces(addresses) => {
            let mut interfaces = Vec::new();
            for addresses in addresses.chunks(ADDRESSES_MAX) {
                let part = async |next: Option<String>| cloud.list_interfaces(addresses, next.as_deref()).await;
                interfaces.extend(chained(Reading::Interfaces, part).await?);
            }
            Ok(Listing::Interfaces(interfaces))
        }
        ListRequest::Table(table) => list_table(cloud, table).await,
    }
}

async fn write_claim(cluster: &impl Cluster, mapping: &Mapping, uid: Option<&str>) -> Result<Ended, ClusterError> {
    match cluster.create_claim(mapping).await {
        Ok(found) => return Ok(Ended::Claimed { uid: found.uid }),
        Err(error) if error.class == ClusterErrorClass::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let Some(found) = cluster.read_claim(&mapping.key).await? else { return Ok(again("the claim went meanwhile")) };
    // Written by us before, and the answer was lost; or it is of an earlier content; or somebody edited the annotation of
    // ours. Any other is not ours to change.
    let ours = found.allocation == Some(mapping.allocation) || uid == Some(found.uid.as_str());
    if !ours || found.deleting {
        return Ok(refuse(Why::Taken, "AlreadyExists", "another PodDNAT has the name"));
    }
    let replaced = cluster.replace_claim(mapping, &found).await?;
    Ok(Ended::Claimed { uid: replaced.uid })
}

async fn write_status(cluster: &impl Cluster, publication: &Publication) -> Result<Ended, ClusterError> {
    let Some(found) = cluster.read_claim(&publication.key).await? else {
        // Nothing is shown where nothing is.
        return Ok(match publication.mapping {
            None => Ended::Done,
            Some(_) => refuse(Why::Gone, "NotFound", "the PodDNAT is gone"),
        });
    };
    let ours = publication.mapping.is_none() && publication.uid.as_deref() == Some(found.uid.as_str());
    if found.allocation != Some(publication.allocation) && !ours {
        return Ok(match publication.mapping {
            None => Ended::Done,
            Some(_) => refuse(Why::Taken, "Conflict", "another PodDNAT has the name"),
        });
    }
    cluster.write_status(publication, &found).await?;
    Ok(Ended::Done)
}

async fn release_claim(
    cluster: &impl Cluster,
    key: &PodKey,
    allocation: AllocationId,
    uid: Option<&str>,
) -> Result<Ended, ClusterError> {
    let Some(found) = cluster.read_claim(key).await? else { return Ok(Ended::Done) };
    if found.allocation != Some(allocation) && uid != Some(found.uid.as_str()) {
        return Ok(Ended::Done);
    }
    end_claim(cluster, key, found).await
}

async fn drop_claim(cluster: &impl Cluster, key: &PodKey, uid: &str) -> Result<Ended, ClusterError> {
    match cluster.read_claim(key).await? {
        Some(found) if found.uid == uid => end_claim(cluster, key, found).await,
        Some(_) | None => Ok(Ended::Done),
    }
}

/// Deletes a PodDNAT, if nobody has asked for that yet (where its pod is gone, the garbage collector has), and takes our
/// finalizer off what is left of it.
async fn end_claim(cluster: &impl Cluster, key: &PodKey, mut found: ClaimFound) -> Result<Ended, ClusterError> {
    if !found.deleting {
        match cluster.delete_claim(key, &found.uid).await {
            Ok(()) => {}
            Err(error) if error.class == ClusterErrorClass::Gone => return Ok(Ended::Done),
            Err(error) => return Err(error),
        }
        match cluster.read_claim(key).await? {
            Some(left) if left.uid == found.uid => found = left,
            Some(_) | None => return Ok(Ended::Done),
        }
    }
    if !found.finalizer {
        return Ok(Ended::Done);
    }
    match cluster.strip_finalizer(key, &found).await {
        Ok(()) => Ok(Ended::Done),
        Err(error) if error.class == ClusterErrorClass::Gone => Ok(Ended::Done),
        Err(error) => Err(error),
    }
}

async fn mark_pod(cluster: &impl Cluster, mark: &PodMark) -> Result<Ended, ClusterError> {
    cluster.mark_pod(mark).await?;
    if mark.phase.is_some() {
        // An Event is for people; the note is what counts.
        cluster.announce(mark).await.ok();
    }
    Ok(Ended::Done)
}

async fn list_table(cloud: &impl Cloud, table: &TableId) -> Result<Listing, ListError> {
    let first = read_page(cloud, table, 1).await?;
    let total = first.total;
    let size = u32::try_from(first.items.len()).unwrap_or(u32::MAX);
    // Who shows less than there is in a page shows as much in each, as far as there is more.
    let pages = total.div_ceil(size.max(1));
    if size > 0 && pages > PAGES_MAX {
        return Err(incomplete(Reading::Entries, Incomplete::Endless { pages: PAGES_MAX }));
    }
    let mut entries = first.items;
    let mut steady = true;
    let (mut next, mut more) = (2, size > 0);
    while next <= pages && more {
        let last = pages.min(next.saturating_add(PAGES_AT_ONCE).saturating_sub(1));
        for part in join((next..=last).map(|page| read_page(cloud, table, page)).collect()).await {
            let part = part?;
            steady &= part.total == total;
            more &= !part.items.is_empty();
            entries.extend(part.items);
        }
        next = last.saturating_add(1);
    }
    let distinct: BTreeSet<_> = entries.iter().map(|entry| &entry.id).collect();
    let whole = steady && distinct.len() == entries.len() && entries.len() == count(total);
    Ok(if whole { Listing::Table(entries) } else { Listing::Moved(entries) })
}

async fn read_page(cloud: &impl Cloud, table: &TableId, page: u32) -> Result<Page<ListedEntry>, ListError> {
    cloud.list_entries(table, page).await.map_err(|error| unread(Reading::Entries, &error))
}

/// Waits for all of them at once; their answers in the order in which they were asked.
async fn join<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    poll_fn(|context| {
        for (call, answer) in calls.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let Poll::Ready(ready) = call.as_mut().poll(context) {
                *answer = Some(ready);
            }
        }
        if calls.iter().all(|(_, answer)| answer.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, answer)| answer).collect()
}

fn unread(reading: Reading, error: &CloudError) -> ListError {
    let after_ms = match error.class {
        ErrorClass::Throttled { after_ms } => after_ms,
        ErrorClass::RetryNow
        | ErrorClass::RetryLater
        | ErrorClass::Conflict
        | ErrorClass::Duplicate
        | ErrorClass::Quota
        | ErrorClass::Gone
        | ErrorClass::Denied
        | ErrorClass::Malformed
        | ErrorClass::Unknown => None,
    };
    let flow = flow_control(&error.code);
    ListError { gone: error.class == ErrorClass::Gone, flow, after_ms, ..failed(reading.word(), error.to_string()) }
}

const fn failed(what: &'static str, message: String) -> ListError {
    ListError { what, gone: false, flow: None, after_ms: None, incomplete: None, message }
}

fn refused(error: CloudError) -> Ended {
    let CloudError { class, code, message, .. } = error;
    match class {
        ErrorClass::RetryNow => Ended::Again { after_ms: Some(0), conflict: true, code },
        ErrorClass::RetryLater => Ended::Again { after_ms: None, conflict: false, code },
        ErrorClass::Conflict => Ended::Again { after_ms: None, conflict: true, code },
        ErrorClass::Throttled { after_ms } => Ended::Again { after_ms, conflict: false, code },
        ErrorClass::Unknown => Ended::Unknown { code },
        ErrorClass::Duplicate | ErrorClass::Quota | ErrorClass::Gone | ErrorClass::Denied | ErrorClass::Malformed => {
            Ended::Refused(Refusal { why: Why::Cloud(class), code, message: bounded(&message) })
        }
    }
}

fn ended(error: ClusterError) -> Ended {
    let ClusterError { call, class, message } = error;
    let code = format!("{call} {class:?}");
    match class {
        ClusterErrorClass::Conflict | ClusterErrorClass::AlreadyExists => {
            Ended::Again { after_ms: None, conflict: true, code }
        }
        ClusterErrorClass::Busy => Ended::Again { after_ms: None, conflict: false, code },
        ClusterErrorClass::Gone => Ended::Refused(Refusal { why: Why::Gone, code, message: bounded(&message) }),
        ClusterErrorClass::Refused => Ended::Refused(Refusal { why: Why::Denied, code, message: bounded(&message) }),
        ClusterErrorClass::Unknown => Ended::Unknown { code },
    }
}

fn again(code: &str) -> Ended {
    Ended::Again { after_ms: None, conflict: true, code: code.to_owned() }
}

fn refuse(why: Why, code: &str, message: &str) -> Ended {
    Ended::Refused(Refusal { why, code: code.to_owned(), message: message.to_owned() })
}
