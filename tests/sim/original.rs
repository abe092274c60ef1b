//! Another controller: what it left before the world began, and what it does meanwhile.
//!
//! It writes PodDNATs as ack-pod-dnat.txt has them, with entries that carry no mark of ours, under its own name as the
//! manager. One of its PodDNATs is that of a pod which is not there, without an entry.

use std::net::Ipv4Addr;

use natgw::cluster::poddnat::{
    API_VERSION, CLAIM_ANNOTATION, Entry, FINALIZER, KIND, OwnerReference, PodDnat, PortMapping, Spec,
};
use natgw::controller::step::Input;
use natgw::machine::identity::{EntryId, PodKey, Protocol, Tuple};
use natgw::sandbox::cluster::Pod;
use natgw::sandbox::vpc::NewEntry;

use crate::faults::Fault;
use crate::plan::Adoption;
use crate::workload::{Wish, key};
use crate::world::World;

/// The manager of its writes.
pub const ORIGINAL: &str = "ack-extend-network-controller";

/// Its entries are named with this before the port.
const NAME: &str = "ack-";

/// The first port that it gave. One of them is excluded from our pools.
const FIRST_PORT: u16 = 512;

/// Until its pods have addresses.
const SETTLED_MS: u64 = 2_000;

/// The longest time that a PodDNAT of it stays which it made meanwhile.
const STAYS_MS: u64 = 120_000;

/// Whether an entry of that name is one that it made.
pub fn is_of_original(name: &str) -> bool {
    name.starts_with(NAME)
}

/// Whether a PodDNAT is its: it made it, and natgw has not taken it over.
pub fn is_its(object: &PodDnat) -> bool {
    let by_it = object.metadata.managed_fields.iter().any(|writer| writer.manager == ORIGINAL);
    by_it && !object.metadata.annotations.contains_key(CLAIM_ANNOTATION)
}

impl World {
    /// Whether what it left may be taken over by now.
    pub fn adopts(&self) -> bool {
        self.plan.configuration.settings.adopt
    }

    /// What it left before anybody else was there.
    pub(crate) fn leave_originals(&mut self) {
        if self.plan.original.is_none() {
            return;
        }
        let pods = (self.plan.pods - 1).min(3);
        for at in 0..pods {
            self.wish(Wish::Pod { at, ports: 0, gate: at == 0, fixed: at == 1 });
        }
        let now = self.now.get() + SETTLED_MS;
        self.now.set(now);
        self.vpc.borrow_mut().advance(now);
        self.model.borrow_mut().advance(now);
        let there: Vec<Pod> = (0..pods).filter_map(|at| self.model.borrow().pod(&key(at)).cloned()).collect();
        for (pod, port) in there.iter().zip(FIRST_PORT..) {
            self.leave(pod, port);
        }
        // Of a pod that is not there.
        let absent =
            object(&key(pods), None, ([203, 0, 113, 1].into(), FIRST_PORT + 8), [172, 16, 0, 250].into(), None);
        self.model.borrow_mut().insert_claim(ORIGINAL, absent);
        self.outside.faults.borrow_mut().happened(Fault::OriginalFound, 1);
    }

    fn leave(&mut self, pod: &Pod, port: u16) {
        let Some(ip) = pod.ip else { return };
        let Some((eip, table)) = self.gateway_of(ip) else { return };
        let tuple = Tuple {
            external_ip: eip,
            external_port: port,
            internal_ip: ip,
            internal_port: 80,
            protocol: Protocol::Tcp,
        };
        let spec = NewEntry::of(table, tuple, format!("{NAME}{port}"));
        let Ok(entry) = self.vpc.borrow_mut().insert_entry(self.now.get(), spec) else { return };
        let object = object(&pod.key, Some(&pod.uid), (eip, port), ip, Some(&entry));
        self.model.borrow_mut().insert_claim(ORIGINAL, object);
    }

    /// First EIP and table of the gateway in the zone of an address.
    fn gateway_of(&self, ip: Ipv4Addr) -> Option<(Ipv4Addr, natgw::machine::identity::TableId)> {
        let vpc = self.vpc.borrow();
        let gateway = vpc.world().gateways.iter().find(|gateway| gateway.id.as_str() == gateway_id(ip))?;
        Some((gateway.eips.first()?.address, gateway.table.clone()))
    }

    /// The configuration changes while everything runs.
    pub(crate) fn adopt_from_now(&mut self) {
        let due = matches!(self.plan.original, Some(Adoption::From(step)) if self.steps >= step);
        if due && !self.adopts() {
            self.switch_on();
        }
    }

    fn switch_on(&mut self) {
        self.plan.configuration.settings.adopt = true;
        for at in 0..self.replicas.len() {
            let configuration = Box::new(self.plan.configuration.clone());
            self.input(at, Input::Configured(configuration));
        }
    }

    /// It makes a PodDNAT for some pod that asks and has none, and takes it away later.
    pub(crate) fn disturb_by_rival(&mut self) {
        let now = self.now.get();
        if self.outside.faults.borrow_mut().strikes(Fault::OtherWriter) {
            let model = self.model.borrow();
            let asks = |pod: &&Pod| pod.active() && pod.annotations.contains_key("k8s.aliyun.com/pod-dnat");
            let free = |pod: &&Pod| model.read_claim(&pod.key).is_none();
            let pods: Vec<Pod> = model.pods().filter(asks).filter(free).cloned().collect();
            drop(model);
            let mut faults = self.outside.faults.borrow_mut();
            let (at, stays) = (faults.draw(Fault::OtherWriter, 1_000), faults.draw(Fault::OtherWriter, STAYS_MS));
            drop(faults);
            let place = usize::try_from(at).expect("few").checked_rem(pods.len());
            if let Some(pod) = place.map(|place| &pods[place])
                && let Some(ip) = pod.ip
                && let Some((eip, _)) = self.gateway_of(ip)
            {
                let port = FIRST_PORT + 9 + u16::try_from(at % 8).expect("below 8");
                let object = object(&pod.key, Some(&pod.uid), (eip, port), ip, None);
                if self.model.borrow_mut().insert_claim(ORIGINAL, object) {
                    self.rivals.push((pod.key.clone(), now + stays));
                }
            }
        }
        let (over, left) = std::mem::take(&mut self.rivals).into_iter().partition(|(_, until)| *until <= now);
        self.rivals = left;
        let over: Vec<(PodKey, u64)> = over;
        over.iter().for_each(|(key, _)| self.take_away(key));
    }

    /// Nothing goes wrong any more: it ends, and takes with it what nobody may take over, and what it made meanwhile.
    pub(crate) fn end_originals(&mut self) {
        if matches!(self.plan.original, Some(Adoption::From(_))) && !self.adopts() {
            self.switch_on();
        }
        let rivals: Vec<PodKey> = std::mem::take(&mut self.rivals).into_iter().map(|(key, _)| key).collect();
        let its: Vec<PodKey> = {
            let model = self.model.borrow();
            let its = model.poddnats().filter(|object| is_its(object));
            its.map(|object| PodKey::new(object.metadata.namespace.as_str(), object.metadata.name.as_str())).collect()
        };
        // What a backup brought back it would bring in order, too.
        let restored = self.outside.faults.borrow().counts()[Fault::ApiRestored as usize] > 0;
        let ends = |key: &PodKey| !self.adopts() || restored || rivals.contains(key);
        let ended: Vec<PodKey> = its.into_iter().filter(ends).collect();
        ended.iter().for_each(|key| self.take_away(key));
    }

    /// It takes away a PodDNAT of its own, and the entries that this names.
    fn take_away(&mut self, key: &PodKey) {
        let now = self.now.get();
        let object = self.model.borrow().poddnats().find(|object| is_named(object, key)).cloned();
        let Some(object) = object.filter(is_its) else { return };
        for entry in &object.status.entries {
            drop(self.vpc.borrow_mut().remove_entry(now, &entry.forward_entry_id.as_str().into()));
        }
        let mut model = self.model.borrow_mut();
        model.edit_claim(key, |object| object.metadata.finalizers.clear());
        model.delete_claim(key, &object.metadata.uid);
    }
}

fn is_named(object: &PodDnat, key: &PodKey) -> bool {
    *object.metadata.namespace == *key.namespace() && *object.metadata.name == *key.name()
}

fn gateway_id(ip: Ipv4Addr) -> String {
    format!("ngw-sandbox-{}", zone(ip))
}

/// The second octet tells the zone.
fn zone(ip: Ipv4Addr) -> &'static str {
    if ip.octets()[1] == 17 { "k" } else { "j" }
}

fn object(
    key: &PodKey,
    pod: Option<&str>,
    (eip, port): (Ipv4Addr, u16),
    ip: Ipv4Addr,
    entry: Option<&EntryId>,
) -> PodDnat {
    let mut object = PodDnat { api_version: API_VERSION.to_owned(), kind: KIND.to_owned(), ..PodDnat::default() };
    (object.metadata.namespace, object.metadata.name) = (key.namespace().to_string(), key.name().to_string());
    object.metadata.finalizers = vec![FINALIZER.to_owned()];
    object.metadata.owner_references = pod
        .map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            block_owner_deletion: true,
            kind: "Pod".to_owned(),
            name: key.name().to_string(),
            uid: uid.to_owned(),
        })
        .into_iter()
        .collect();
    object.spec = Spec {
        eni: format!("eni-{ip}"),
        external_ip: eip.to_string(),
        internal_ip: ip.to_string(),
        port_mapping: vec![PortMapping {
            external_port: port.to_string(),
            internal_port: "80".to_owned(),
            protocol: None,
        }],
        protocol: "tcp".to_owned(),
        table_id: gateway_id(ip),
        vswitch: format!("vsw-sandbox-{}", zone(ip)),
        zone_id: format!("cn-hangzhou-{}", zone(ip)),
        ..Spec::default()
    };
    object.status.entries = entry
        .map(|entry| Entry {
            external_ip: eip.to_string(),
            external_port: port.to_string(),
            forward_entry_id: entry.to_string(),
            internal_ip: ip.to_string(),
            internal_port: "80".to_owned(),
            ip_protocol: "tcp".to_owned(),
        })
        .into_iter()
        .collect();
    object
}
