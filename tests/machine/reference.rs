//! The reference: who gets which EIP and ports, who waits, what is free. Slow and obvious: everything is found by looking
//! at everything, and nothing of the machine's is used.

use std::collections::{BTreeMap, BTreeSet};

use natgw::machine::identity::Protocol;

/// The rest of a freed port.
pub const COOLDOWN_MS: u64 = 30_000;

/// A range of ports so small that it is full most of the time.
pub const FIRST: u16 = 65_530;
pub const LAST: u16 = 65_535;

/// A pod's port, and its protocol.
pub type Want = (u16, Protocol);

/// The position of an EIP, a protocol, a port.
pub type Tuple = (usize, Protocol, u16);

/// What a pod has: an EIP, and a port for each want.
pub type Given = (usize, BTreeSet<(Want, u16)>);

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A pod is seen for the first time, or asks for something else while it waits.
    Seen(u64, &'static str),
    Gone(u64),
    Passes(u64),
    /// An EIP is locked, or usable again.
    Eip(usize, bool),
}

/// How a reference is made to differ. Each stands for the same fault of the machine: the comparison has no sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    ForgetsTheRest,
    RestsForEver,
    SecondLowest,
    HighestFirst,
    FirstEip,
    GivesWhatIsLocked,
    OvertakesTheHead,
    LastComesFirst,
    ForgetsTheProtocol,
    LeaksAPort,
    TwoNumbersForTwins,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::ForgetsTheRest,
        Self::RestsForEver,
        Self::SecondLowest,
        Self::HighestFirst,
        Self::FirstEip,
        Self::GivesWhatIsLocked,
        Self::OvertakesTheHead,
        Self::LastComesFirst,
        Self::ForgetsTheProtocol,
        Self::LeaksAPort,
        Self::TwoNumbersForTwins,
    ];
}

pub struct Reference {
    fault: Fault,
    usable: Vec<bool>,
    now_ms: u64,
    owned: BTreeMap<Tuple, u64>,
    resting: BTreeMap<Tuple, u64>,
    pub given: BTreeMap<u64, Given>,
    waiting: BTreeMap<u64, Vec<Want>>,
    /// When each pod that is there came: the number of the step with which it first asked.
    arrived: BTreeMap<u64, u64>,
    steps: u64,
    /// Who asks for what could never fit.
    refused: BTreeSet<u64>,
    /// Who was given something since this was last taken, in order.
    pub served: Vec<(u64, Given)>,
}

impl Reference {
    pub fn new(eips: usize, fault: Fault) -> Self {
        Self {
            fault,
            usable: vec![true; eips],
            now_ms: 0,
            owned: BTreeMap::new(),
            resting: BTreeMap::new(),
            given: BTreeMap::new(),
            waiting: BTreeMap::new(),
            arrived: BTreeMap::new(),
            steps: 0,
            refused: BTreeSet::new(),
            served: Vec::new(),
        }
    }

    pub fn is_free(&self, tuple: Tuple) -> bool {
        let (eip, _, port) = tuple;
        let taken = |tuple: &Tuple| self.owned.contains_key(tuple) || self.resting.contains_key(tuple);
        match self.fault {
            Fault::ForgetsTheProtocol => !Protocol::ALL.iter().any(|protocol| taken(&(eip, *protocol, port))),
            _ => !taken(&tuple),
        }
    }

    /// Who waits. While no EIP can be used everybody does: what could never fit is refused by the EIPs that there are.
    pub fn waits(&self) -> BTreeSet<u64> {
        let refused = self.refused.iter().filter(|_| !self.usable.contains(&true));
        self.waiting.keys().chain(refused).copied().collect()
    }

    /// Takes a step and serves whoever can be.
    pub fn take(&mut self, step: &Step) {
        self.steps += 1;
        match step {
            Step::Seen(pod, asked) => {
                self.arrived.entry(*pod).or_insert(self.steps);
                let wants = wants(asked);
                self.waiting.remove(pod);
                self.refused.remove(pod);
                let of = |protocol: &Protocol| wants.iter().filter(|want| want.1 == *protocol).count();
                if Protocol::ALL.iter().all(|protocol| of(protocol) <= usize::from(LAST - FIRST) + 1) {
                    self.waiting.insert(*pod, wants);
                } else {
                    self.refused.insert(*pod);
                }
            }
            Step::Gone(pod) => self.let_go(*pod),
            Step::Passes(ms) => {
                self.now_ms += ms;
                if self.fault != Fault::RestsForEver {
                    self.resting.retain(|_, due| *due > self.now_ms);
                }
            }
            Step::Eip(eip, usable) => self.usable[*eip] = *usable,
        }
        self.serve();
    }

    fn let_go(&mut self, pod: u64) {
        self.arrived.remove(&pod);
        self.waiting.remove(&pod);
        self.refused.remove(&pod);
        self.given.remove(&pod);
        let mut left: Vec<Tuple> =
            self.owned.iter().filter(|(_, owner)| **owner == pod).map(|(tuple, _)| *tuple).collect();
        if self.fault == Fault::LeaksAPort {
            left.pop();
        }
        for tuple in left {
            self.owned.remove(&tuple);
            if self.fault != Fault::ForgetsTheRest {
                self.resting.insert(tuple, self.now_ms + COOLDOWN_MS);
            }
        }
    }

    /// The head of the queue, who came first, is served as long as there is room for it; nobody overtakes it.
    fn serve(&mut self) {
        let mut queue: Vec<(u64, Vec<Want>)> = self.waiting.clone().into_iter().collect();
        queue.sort_by_key(|(pod, _)| self.arrived[pod]);
        if self.fault == Fault::LastComesFirst {
            queue.reverse();
        }
        for (pod, wants) in queue {
            match self.choose(&wants) {
                Some((eip, items)) => {
                    self.waiting.remove(&pod);
                    self.owned.extend(items.iter().map(|((_, protocol), port)| ((eip, *protocol, *port), pod)));
                    self.given.insert(pod, (eip, items.clone()));
                    self.served.push((pod, (eip, items)));
                }
                None if self.fault == Fault::OvertakesTheHead => {}
                None => return,
            }
        }
    }

    /// The EIP with most free ports of the scarcer protocol, the first configured of several; the next one where the
    /// wants do not fit.
    fn choose(&self, wants: &[Want]) -> Option<Given> {
        let free = |eip: usize, protocol| (FIRST..=LAST).filter(|port| self.is_free((eip, protocol, *port))).count();
        let room = |eip: &usize| wants.iter().map(|want| free(*eip, want.1)).min();
        let locked_too = self.fault == Fault::GivesWhatIsLocked;
        let mut eips: Vec<usize> = (0..self.usable.len()).filter(|eip| self.usable[*eip] || locked_too).collect();
        if self.fault != Fault::FirstEip {
            eips.sort_by_key(|eip| std::cmp::Reverse(room(eip)));
        }
        eips.into_iter().find_map(|eip| Some((eip, self.pick(eip, wants)?)))
    }

    /// Lowest free ports in the order asked; first those that need one number in both protocols.
    fn pick(&self, eip: usize, wants: &[Want]) -> Option<BTreeSet<(Want, u16)>> {
        let mut picked: BTreeSet<(Want, u16)> = BTreeSet::new();
        let twins = |want: &Want| {
            self.fault != Fault::TwoNumbersForTwins && wants.iter().filter(|other| other.0 == want.0).count() == 2
        };
        let mut ports: Vec<u16> = (FIRST..=LAST).collect();
        match self.fault {
            Fault::HighestFirst => ports.reverse(),
            Fault::SecondLowest => ports.rotate_left(1),
            _ => {}
        }
        let order = wants.iter().filter(|want| twins(want)).chain(wants.iter().filter(|want| !twins(want)));
        for want in order {
            if picked.iter().any(|(other, _)| other == want) {
                continue;
            }
            let protocols: Vec<Protocol> = if twins(want) { Protocol::ALL.to_vec() } else { vec![want.1] };
            let fits = |port: &u16| {
                protocols.iter().all(|protocol| {
                    let taken = picked.iter().any(|((_, other), number)| other == protocol && number == port);
                    !taken && self.is_free((eip, *protocol, *port))
                })
            };
            let port = ports.iter().copied().find(|port| fits(port))?;
            picked.extend(protocols.iter().map(|protocol| ((want.0, *protocol), port)));
        }
        Some(picked)
    }
}

fn wants(asked: &str) -> Vec<Want> {
    let want = |item: &str| {
        let (port, protocol) = item.split_once('/').unwrap_or((item, "tcp"));
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        (port.parse().expect("a port"), protocol)
    };
    asked.split(',').map(want).collect()
}
