//! What users want, as data: so that the same wishes can be made in another world.

use natgw::machine::identity::PodKey;
use natgw::sandbox::cluster::{Manifest, Model};

use crate::dice::Dice;

/// One thing that a user does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A bare pod of that number exists and asks for these ports.
    Pod { at: usize, ports: usize, gate: bool, fixed: bool },
    /// No such pod is wanted.
    NoPod { at: usize },
    /// The pod is deleted, with that grace; if it is wanted it comes again under its name.
    Delete { at: usize, grace_ms: Option<u64> },
    /// The pod gets another address.
    Move { at: usize },
    /// The pod's containers end for good.
    Finish { at: usize, well: bool },
    /// The pod no longer asks, or says that it does not want to, or asks again.
    Annotate { at: usize, how: usize },
    /// A Deployment has that many pods.
    Scale { replicas: u32 },
    /// A StatefulSet has that many pods.
    ScaleSet { replicas: u32 },
    /// A StatefulSet whose pods ask for fixed mappings has that many pods.
    ScaleFixed { replicas: u32 },
    /// The second namespace is deleted with all that is in it.
    DeleteNamespace,
}

/// What pods may ask for.
pub const PORTS: [&str; 6] = ["80", "80,443", "53/udp,53/tcp", "7,8,9", "80,80", "70000"];

/// The first of these that are no mistake.
pub const GOOD_PORTS: usize = 4;

const PREFIX: &str = "k8s.aliyun.com/";

/// Something in each pod that is nobody's business and must be found nowhere (S12).
pub const CANARY: &str = "canary-2f9c51";

/// The wishes that stand: they are what the manifests say.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Ports, readiness gate, fixed.
    pods: Vec<Option<(usize, bool, bool)>>,
    deployment: u32,
    set: u32,
    fixed_set: u32,
    /// Nobody wants anything any more, not even what is reserved.
    nothing: bool,
    /// What is wished could not be asked for yet: a namespace that is being deleted takes nothing.
    open: bool,
}

impl Wishes {
    pub fn new(pods: usize) -> Self {
        Self { pods: vec![None; pods], ..Self::default() }
    }

    /// Asks for everything that is wished.
    pub fn ask(&mut self, model: &mut Model) {
        self.apply(model);
    }

    /// Asks again for what could not be asked for.
    pub fn insist(&mut self, model: &mut Model) {
        if self.open {
            self.apply(model);
        }
        if self.nothing {
            free_reservations(model);
        }
    }

    /// Whether everything wished was asked for.
    pub const fn is_asked(&self) -> bool {
        !self.open
    }

    /// Draws something that a user may do.
    pub fn draw(&self, dice: &mut Dice, many: u32) -> Wish {
        let at = dice.index(self.pods.len());
        match dice.draw(17) {
            0..=4 => {
                let mistaken = dice.one_in(12);
                let ports =
                    if mistaken { GOOD_PORTS + dice.index(PORTS.len() - GOOD_PORTS) } else { dice.index(GOOD_PORTS) };
                Wish::Pod { at, ports, gate: dice.one_in(2), fixed: dice.one_in(3) }
            }
            5 | 6 => Wish::NoPod { at },
            7 | 8 => {
                let grace_ms = [None, Some(0), Some(1_000), Some(2_000)][dice.index(4)];
                Wish::Delete { at, grace_ms }
            }
            9 => Wish::Move { at },
            10 => Wish::Finish { at, well: dice.one_in(2) },
            11 => Wish::Annotate { at, how: dice.index(6) },
            12 | 13 => Wish::Scale { replicas: u32::try_from(dice.draw(u64::from(many))).expect("few") },
            14 => Wish::ScaleSet { replicas: u32::try_from(dice.draw(4)).expect("few") },
            15 => Wish::ScaleFixed { replicas: u32::try_from(dice.draw(4)).expect("few") },
            _ if dice.one_in(4) => Wish::DeleteNamespace,
            _ => Wish::NoPod { at },
        }
    }

    /// Does it.
    pub fn make(&mut self, model: &mut Model, wish: &Wish) {
        match *wish {
            Wish::Pod { at, ports, gate, fixed } => {
                self.pods[at] = Some((ports, gate, fixed));
                self.apply(model);
            }
            Wish::NoPod { at } => {
                self.pods[at] = None;
                self.apply(model);
            }
            Wish::Delete { at, grace_ms } => drop(model.delete_pod(&key(at), grace_ms)),
            Wish::Move { at } => drop(model.move_pod(&key(at))),
            Wish::Finish { at, well } => drop(model.finish_pod(&key(at), well)),
            Wish::Annotate { at, how } => {
                let (name, value) = [
                    ("pod-dnat", Some("false")),
                    ("pod-dnat", None),
                    ("pod-dnat", Some("")),
                    ("pod-dnat-expose-port", None),
                    ("pod-dnat-fixed", Some("")),
                    ("pod-dnat-fixed", None),
                ][how];
                model.annotate_pod(&key(at), &format!("{PREFIX}{name}"), value);
            }
            Wish::Scale { replicas } => {
                self.deployment = replicas;
                self.apply(model);
            }
            Wish::ScaleSet { replicas } => {
                self.set = replicas;
                self.apply(model);
            }
            Wish::ScaleFixed { replicas } => {
                self.fixed_set = replicas;
                self.apply(model);
            }
            Wish::DeleteNamespace => {
                for (at, pod) in self.pods.iter_mut().enumerate() {
                    if key(at).namespace() == SECOND {
                        *pod = None;
                    }
                }
                self.apply(model);
                model.delete_namespace(SECOND);
            }
        }
    }

    /// From now on nothing is wanted.
    pub fn want_nothing(&mut self, model: &mut Model) {
        self.pods.iter_mut().for_each(|pod| *pod = None);
        (self.deployment, self.set, self.fixed_set) = (0, 0, 0);
        self.nothing = true;
        self.apply(model);
        free_reservations(model);
    }

    fn apply(&mut self, model: &mut Model) {
        let pods = self.pods.iter().enumerate().filter_map(|(at, pod)| Some(bare(at, (*pod)?)));
        let workloads = [
            workload("Deployment", "game", self.deployment, false),
            workload("StatefulSet", "room", self.set, false),
            workload("StatefulSet", "seat", self.fixed_set, true),
        ];
        // Scaled to nothing a StatefulSet still owns what is reserved for its pods; it goes when nobody wants anything.
        let kept = if self.nothing { 2 } else { workloads.len() };
        let manifests: Vec<Manifest> = pods.chain(workloads.into_iter().take(kept)).collect();
        self.open = model.apply_manifests(&manifests, model.now_ms()).is_err();
    }
}

const SECOND: &str = "lobby";

/// Every fourth pod is in the second namespace.
pub fn key(at: usize) -> PodKey {
    PodKey::new(if at % 4 == 3 { SECOND } else { "default" }, format!("p{at}"))
}

/// A bare pod's reservation is freed by deleting the PodDNAT: nobody else owns it.
fn free_reservations(model: &mut Model) {
    let key = |object: &natgw::cluster::poddnat::PodDnat| {
        PodKey::new(object.metadata.namespace.as_str(), object.metadata.name.as_str())
    };
    let left = model.poddnats().filter(|object| {
        object.metadata.owner_references.is_empty()
            && object.metadata.deletion_timestamp.is_none()
            && model.pod(&key(object)).is_none_or(|pod| !pod.active())
    });
    let left: Vec<_> = left.map(|object| (key(object), object.metadata.uid.clone())).collect();
    for (key, uid) in left {
        model.delete_claim(&key, &uid);
    }
}

fn annotations(ports: &str, fixed: bool) -> serde_json::Value {
    let mut annotations = serde_json::json!({
        "k8s.aliyun.com/pod-dnat": "",
        "k8s.aliyun.com/pod-dnat-expose-port": ports,
        "example.com/token": CANARY,
    });
    if fixed {
        annotations["k8s.aliyun.com/pod-dnat-fixed"] = "true".into();
    }
    annotations
}

fn spec(gate: bool) -> serde_json::Value {
    let container = serde_json::json!({
        "name": "game", "image": "game", "env": [{ "name": "PASSWORD", "value": CANARY }],
    });
    if gate {
        let gates = serde_json::json!([{ "conditionType": "k8s.aliyun.com/pod-dnat-ready" }]);
        serde_json::json!({ "containers": [container], "readinessGates": gates })
    } else {
        serde_json::json!({ "containers": [container] })
    }
}

fn bare(at: usize, (ports, gate, fixed): (usize, bool, bool)) -> Manifest {
    let key = key(at);
    let document = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": key.name(), "namespace": key.namespace(), "annotations": annotations(PORTS[ports], fixed) },
        "spec": spec(gate),
    });
    Manifest { source: "sim".to_owned(), document }
}

/// A workload whose pods ask for one port each.
pub fn workload(kind: &str, name: &str, replicas: u32, fixed: bool) -> Manifest {
    let document = serde_json::json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "replicas": replicas, "serviceName": name, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name }, "annotations": annotations("80", fixed) },
                "spec": spec(true) } },
    });
    Manifest { source: "sim".to_owned(), document }
}
