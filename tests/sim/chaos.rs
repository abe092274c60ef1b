//! What goes wrong by itself: processes, volumes, watches, the API server, other people's hands, the lock.

mod cloud;

use std::rc::Rc;

use natgw::cluster::poddnat::{CLAIM_ANNOTATION, PodDnat};
use natgw::controller::step::Seen;
use natgw::machine::event::{Event, Record};
use natgw::machine::identity::PodKey;
use natgw::ports::cluster::LeaseRecord;
use natgw::sandbox::cluster::Change;
use natgw::sandbox::vpc::GatewayStatus;

use crate::faults::Fault;
use crate::invariants::Happening;
use crate::volume::Volume;
use crate::world::World;

/// The longest time that something stays away.
const AWAY_MS: u64 = 600_000;

/// Changes that a watch may be behind, at most.
const BEHIND_MAX: u64 = 40;

impl World {
    /// Whatever strikes now.
    pub(crate) fn disturb(&mut self) {
        self.disturb_processes();
        self.disturb_volumes();
        self.disturb_watches();
        self.disturb_cluster();
        self.disturb_claims();
        self.disturb_by_rival();
        self.disturb_cloud();
        self.disturb_lease();
    }

    /// What other people did to the account and is no wish of the users is undone.
    pub(crate) fn mend_outside(&mut self) {
        let mut vpc = self.vpc.borrow_mut();
        for (table, gateway) in [("vtb-sandbox-j", "ngw-sandbox-j"), ("vtb-sandbox-k", "ngw-sandbox-k")] {
            vpc.set_default_route(table, Some(gateway.into()));
            vpc.hide_gateway(self.now.get(), &gateway.into(), false);
            vpc.set_gateway_status(&gateway.into(), GatewayStatus::Available);
        }
        let addresses: Vec<_> =
            vpc.world().gateways.iter().flat_map(|gateway| gateway.eips.iter().map(|eip| eip.address)).collect();
        for address in addresses {
            if let Some(eip) = vpc.eip_mut(address) {
                (eip.locked, eip.snat) = (false, false);
            }
        }
    }

    fn strikes(&mut self, fault: Fault) -> bool {
        self.outside.faults.borrow_mut().strikes(fault)
    }

    fn chance(&mut self, fault: Fault, below: u64) -> u64 {
        self.outside.faults.borrow_mut().draw(fault, below)
    }

    /// A number drawn for a fault as a position in something of that length.
    fn place(&mut self, fault: Fault, length: usize) -> usize {
        usize::try_from(self.chance(fault, length as u64)).expect("below a usize")
    }

    /// Some replica whose process runs.
    fn victim(&mut self, fault: Fault) -> Option<usize> {
        let running: Vec<usize> = (0..self.replicas.len()).filter(|at| self.replicas[*at].process.is_some()).collect();
        (!running.is_empty()).then(|| running[self.place(fault, running.len())])
    }

    fn disturb_processes(&mut self) {
        let now = self.now.get();
        for (fault, power) in [(Fault::Crash, false), (Fault::PowerCut, true)] {
            if self.strikes(fault)
                && let Some(at) = self.victim(fault)
            {
                if self.strikes(Fault::CrashStorm) {
                    self.replicas[at].storm = 2 + self.chance(Fault::CrashStorm, 19);
                }
                self.crash(at, power);
            }
        }
        for at in 0..self.replicas.len() {
            let young = self.replicas[at].process.as_ref().is_some_and(|process| now > process.clock.boot_ms + 50);
            if self.replicas[at].storm > 0 && young {
                self.crash(at, false);
            }
        }
        if self.strikes(Fault::Pause)
            && let Some(at) = self.victim(Fault::Pause)
        {
            let until = now + 1 + self.chance(Fault::Pause, 60_000);
            self.replicas[at].process.iter_mut().for_each(|process| process.paused_until = until);
        }
        if self.strikes(Fault::Terminate)
            && let Some(at) = self.victim(Fault::Terminate)
        {
            self.terminate(at);
        }
        if self.strikes(Fault::WallClockJumps)
            && let Some(at) = self.victim(Fault::WallClockJumps)
        {
            let by = i64::try_from(self.chance(Fault::WallClockJumps, 7_200_001)).expect("two hours") - 3_600_000;
            self.replicas[at].process.iter_mut().for_each(|process| process.clock.wall_offset_ms = by);
        }
        let leading =
            |at: &usize| self.replicas[*at].process.as_ref().is_some_and(|process| process.controller.leads());
        let leaders = (0..self.replicas.len()).filter(leading).count();
        self.outside.faults.borrow_mut().happened(Fault::TwoLeaders, u64::from(leaders > 1));
    }

    /// A process ends in order: what is under way is dropped, the journal is closed, the lock given back last.
    pub(crate) fn terminate(&mut self, at: usize) {
        let cut = self.strikes(Fault::TerminateCut);
        let replica = &mut self.replicas[at];
        let Some(process) = &mut replica.process else { return };
        let group = process.handed.take().map(|(group, _)| group);
        if let Some(group) = group.filter(|group| replica.volume.append(group).is_ok()) {
            self.judge(vec![Happening::Durable { replica: at, records: group }]);
        }
        let replica = &mut self.replicas[at];
        let Some(process) = &mut replica.process else { return };
        replica.volume.close();
        let lock = self.model.borrow().read_lease();
        if !cut && lock.holder.starts_with(&format!("natgw-{at}-{}", process.life)) {
            let back = process.controller.give_back(&lock);
            drop(self.model.borrow_mut().write_lease(&back));
        }
        self.crash(at, false);
    }

    fn disturb_volumes(&mut self) {
        for at in 0..self.replicas.len() {
            if self.replicas[at].process.is_some() {
                continue;
            }
            self.damage(at);
        }
    }

    /// Something befalls the volume of a replica that is down.
    fn damage(&mut self, at: usize) {
        let others = self.replicas.len() > 1;
        let mut faults = self.outside.faults.borrow_mut();
        let replica = &mut self.replicas[at];
        let volume = &mut replica.volume;
        for (fault, page) in [(Fault::BitFlip, false), (Fault::PageZeroed, true)] {
            if faults.strikes(fault) {
                // The anchor's older slot beside a shorter end of the data is as if both had been put back.
                replica.rolled_back |= volume.disk.damage(faults.dice(fault), page);
            }
        }
        if faults.strikes(Fault::VolumeOld) {
            volume.disk.restore(&self.images[at]);
            replica.rolled_back = true;
        }
        if faults.strikes(Fault::VolumeEmpty) {
            *volume = Volume::new(volume.is_sled());
        }
        for (fault, image) in [(Fault::AnchorLost, None), (Fault::AnchorOld, Some(&self.images[at]))] {
            if faults.strikes(fault) {
                volume.disk.restore_file("anchor", image);
                // With a damaged end of the data beside it, that is as if both had been put back.
                replica.rolled_back |= fault == Fault::AnchorOld;
            }
        }
        if others && faults.strikes(Fault::VolumeForeign) {
            let other = (at + 1) % self.images.len();
            volume.disk.restore(&self.images[other]);
            replica.rolled_back = true;
        }
    }

    fn disturb_watches(&mut self) {
        let now = self.now.get();
        if self.strikes(Fault::WatchBehind)
            && let Some(at) = self.victim(Fault::WatchBehind)
        {
            let changes = 1 + self.place(Fault::WatchBehind, usize::try_from(BEHIND_MAX).expect("few"));
            let until = now + self.chance(Fault::WatchBehind, AWAY_MS);
            self.replicas[at].process.iter_mut().for_each(|process| process.watch.behind = (changes, until));
        }
        if self.strikes(Fault::WatchSilent)
            && let Some(at) = self.victim(Fault::WatchSilent)
        {
            let until = now + self.chance(Fault::WatchSilent, AWAY_MS);
            self.replicas[at].process.iter_mut().for_each(|process| process.watch.silent_until = until);
        }
        if self.strikes(Fault::WatchGone)
            && let Some(at) = self.victim(Fault::WatchGone)
        {
            self.watch_anew(at);
        }
    }

    /// A watch ended and begins anew, from a list.
    pub(crate) fn watch_anew(&mut self, at: usize) {
        let (end, model) = (self.history.len(), Rc::clone(&self.model));
        let Some(process) = &mut self.replicas[at].process else { return };
        for seen in process.watch.begin_anew(&model.borrow(), end) {
            self.input(at, natgw::controller::step::Input::Seen(seen));
        }
    }

    /// What a watch shows up to a point of the history.
    pub(crate) fn shown(&mut self, at: usize, end: usize) -> Vec<Seen> {
        let mut faults = self.outside.faults.borrow_mut();
        let Some(process) = &mut self.replicas[at].process else { return Vec::new() };
        let watch = &mut process.watch;
        let apart = faults.strikes(Fault::Interleaved);
        let (mut pods_to, mut claims_to) = (end.max(watch.pods_at), end.max(watch.claims_at));
        if apart {
            let held = if faults.draw(Fault::Interleaved, 2) == 0 { &mut pods_to } else { &mut claims_to };
            *held = (*held).min(watch.pods_at.min(watch.claims_at));
            (pods_to, claims_to) = (pods_to.max(watch.pods_at), claims_to.max(watch.claims_at));
        }
        let from = watch.pods_at.min(watch.claims_at);
        let due = |(index, change): &(usize, &Change)| match change {
            Change::Pod(_) | Change::PodGone(_) => (watch.pods_at..pods_to).contains(index),
            Change::Claim(_) | Change::ClaimGone(_) => (watch.claims_at..claims_to).contains(index),
        };
        let to = pods_to.max(claims_to);
        let range = self.history.iter().enumerate().take(to).skip(from);
        let mut changes: Vec<Change> = range.filter(due).map(|(_, change)| change.clone()).collect();
        (watch.pods_at, watch.claims_at) = (pods_to, claims_to);
        if !changes.is_empty() && faults.strikes(Fault::EventLost) {
            let lost = usize::try_from(faults.draw(Fault::EventLost, changes.len() as u64)).expect("below a length");
            changes.remove(lost);
        }
        if faults.is_on(Fault::Collapsed)
            && let Some(gone) = replaced(&changes, &self.history)
            && faults.strikes(Fault::Collapsed)
        {
            changes.remove(gone);
        }
        if let Some(last) = changes.last().cloned()
            && faults.strikes(Fault::Duplicated)
        {
            changes.push(last);
        }
        drop(faults);
        changes.iter().map(|change| watch.show(change)).collect()
    }

    fn disturb_cluster(&mut self) {
        let now = self.now.get();
        if self.strikes(Fault::ApiOutage) {
            let until = now + self.chance(Fault::ApiOutage, AWAY_MS);
            self.outside.outage_until.set(until);
        }
        if self.strikes(Fault::ApiForbidden) {
            let kind = crate::wire::KINDS[self.place(Fault::ApiForbidden, crate::wire::KINDS.len())];
            let until = now + self.chance(Fault::ApiForbidden, 120_000);
            self.outside.forbidden.set((kind, until));
        }
        if self.strikes(Fault::LeaderCutOff)
            && let Some(at) = self.victim(Fault::LeaderCutOff)
        {
            let until = now + self.chance(Fault::LeaderCutOff, 60_000);
            self.outside.cut_until.borrow_mut()[at] = until;
        }
        if self.strikes(Fault::Burst) {
            let replicas = 100 + u32::try_from(self.chance(Fault::Burst, 200)).expect("few");
            self.wish(crate::workload::Wish::Scale { replicas });
        }
        self.restore_cluster();
    }

    /// Somebody puts the cluster back to a backup that was made a while ago.
    fn restore_cluster(&mut self) {
        if !self.outside.faults.borrow().is_on(Fault::ApiRestored) {
            return;
        }
        if self.backup.is_none() || self.steps.is_multiple_of(400) {
            self.backup = Some(Box::new(self.model.borrow().clone()));
        }
        if self.strikes(Fault::ApiRestored)
            && let Some(backup) = &self.backup
        {
            let before = self.running();
            self.model.borrow_mut().restore(backup);
            self.checker.revived(self.running().difference(&before).cloned().collect());
            let shown = self.model.borrow();
            let keys =
                shown.poddnats().map(|object| (object.metadata.namespace.as_str(), object.metadata.name.as_str()));
            for (namespace, name) in keys {
                self.checker.edited(&PodKey::new(namespace, name));
            }
            drop(shown);
            self.seen_version = self.model.borrow().version();
            for at in 0..self.replicas.len() {
                self.watch_anew(at);
            }
        }
    }

    /// Pods that run and do not end.
    fn running(&self) -> std::collections::BTreeSet<String> {
        self.model.borrow().pods().filter(|pod| pod.active()).map(|pod| pod.uid.to_string()).collect()
    }

    fn disturb_claims(&mut self) {
        type Edit = fn(&mut PodDnat, u64);
        let edits: [(Fault, Edit); 5] = [
            (Fault::StatusCleared, |object, _| object.status.entries.clear()),
            (Fault::StatusEdited, edit_status),
            (Fault::FinalizerStripped, |object, _| object.metadata.finalizers.clear()),
            (Fault::ClaimEdited, edit_claim),
            (Fault::ClaimMalformed, |object, how| {
                if how.is_multiple_of(2) {
                    object.metadata.annotations.remove(CLAIM_ANNOTATION);
                } else {
                    object.metadata.annotations.insert(CLAIM_ANNOTATION.to_owned(), "{\"allocation\":".to_owned());
                }
            }),
        ];
        for (fault, edit) in edits {
            if self.strikes(fault)
                && let Some(key) = self.some_claim(fault)
                && (fault != Fault::ClaimMalformed || self.is_known(&key))
            {
                let how = self.chance(fault, 1_000);
                let mut left = Vec::new();
                self.model.borrow_mut().edit_claim(&key, |object| {
                    edit(object, how);
                    left.clone_from(&object.status.entries);
                });
                match fault {
                    Fault::StatusCleared => {}
                    Fault::StatusEdited => self.checker.status_left(&key, left),
                    _ => self.checker.edited(&key),
                }
            }
        }
        if self.strikes(Fault::ClaimDeleted)
            && let Some(key) = self.some_claim(Fault::ClaimDeleted)
        {
            let mut model = self.model.borrow_mut();
            if let Some(found) = model.read_claim(&key) {
                model.delete_claim(&key, &found.uid);
            }
        }
    }

    /// Whether the journals tell the PodDNAT for ours: without our annotation only its UID does.
    fn is_known(&self, key: &PodKey) -> bool {
        let uid = self.model.borrow().read_claim(key).map(|found| found.uid);
        let written = |record: &Record| match &record.event {
            Event::ClaimWritten(body) => Some(&body.uid) == uid.as_ref(),
            _ => false,
        };
        self.replicas.iter().all(|replica| replica.volume.records().iter().any(written))
    }

    fn some_claim(&mut self, fault: Fault) -> Option<PodKey> {
        let model = self.model.borrow();
        let keys: Vec<PodKey> = model
            .poddnats()
            .map(|object| PodKey::new(object.metadata.namespace.as_str(), object.metadata.name.as_str()))
            .collect();
        drop(model);
        (!keys.is_empty()).then(|| keys[self.place(fault, keys.len())].clone())
    }

    fn disturb_lease(&mut self) {
        if self.strikes(Fault::LeaseEdited) {
            let mut lock = self.model.borrow().read_lease();
            match self.chance(Fault::LeaseEdited, 4) {
                0 => lock.holder = "somebody".to_owned(),
                1 => lock.term = 0,
                2 => lock.heads.clear(),
                _ => lock.term += 1 + self.chance(Fault::LeaseEdited, 5),
            }
            drop(self.model.borrow_mut().write_lease(&lock));
        }
        if self.strikes(Fault::LeaseDeleted) {
            let version = self.model.borrow().read_lease().resource_version;
            let nothing = LeaseRecord { resource_version: version, ..LeaseRecord::default() };
            drop(self.model.borrow_mut().write_lease(&nothing));
        }
        if self.strikes(Fault::LeaseChurn) {
            self.model.borrow_mut().drop_lease_holder();
        }
    }
}

/// The deletion in a batch after which a pod of the same name comes.
fn replaced(changes: &[Change], history: &[Change]) -> Option<usize> {
    let name = |uid: &str| {
        history.iter().rev().find_map(|change| match change {
            Change::Pod(pod) if pod.uid == uid => Some((pod.namespace.clone(), pod.name.clone())),
            Change::Pod(_) | Change::PodGone(_) | Change::Claim(_) | Change::ClaimGone(_) => None,
        })
    };
    changes.iter().enumerate().find_map(|(at, change)| {
        let Change::PodGone(gone) = change else { return None };
        let key = name(&gone.uid)?;
        let again = changes[at..].iter().any(|change| match change {
            Change::Pod(pod) => pod.namespace == key.0 && pod.name == key.1,
            Change::PodGone(_) | Change::Claim(_) | Change::ClaimGone(_) => false,
        });
        again.then_some(at)
    })
}

/// Somebody writes another id or another port into a status. Not into the original's: a claim is made of what it shows.
fn edit_status(object: &mut PodDnat, how: u64) {
    if crate::original::is_its(object) {
        return;
    }
    let Some(entry) = object.status.entries.last_mut() else { return };
    match how % 2 {
        0 => entry.forward_entry_id = format!("fwd-by-hand-{how}"),
        _ => entry.external_port = "700".to_owned(),
    }
}

/// Somebody changes what the claim annotation says, and it is still a claim.
fn edit_claim(object: &mut PodDnat, how: u64) {
    let Some(text) = object.metadata.annotations.get(CLAIM_ANNOTATION) else { return };
    let Ok(mut claim) = serde_json::from_str::<serde_json::Value>(text) else { return };
    match how % 4 {
        0 => claim["items"][0]["external"] = 700.into(),
        1 => claim["podUID"] = "nobody".into(),
        2 => claim["term"] = (how * 1_000_000).into(),
        _ => claim["allocation"] = format!("{}.7", 1 + how % 5).into(),
    }
    object.metadata.annotations.insert(CLAIM_ANNOTATION.to_owned(), claim.to_string());
}
