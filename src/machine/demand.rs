//! What a pod asks for, and every word we have for an answer.
//!
//! Reading annotations is a pure function of what was seen. The rules are those of design.md §4; the annotations are
//! those of ack-pod-dnat.txt. What cannot be read is refused with the field, the value, the reason and the remedy.

use std::fmt;

use crate::machine::identity::{AllocationId, Protocol};

/// The prefix of the documented annotations.
pub const PREFIX: &str = "k8s.aliyun.com/";

/// The other prefix under which the same annotations are read.
pub const PREFIX_ALTERNATIVE: &str = "network.alibabacloud.com/";

/// Switches the mapping on.
pub const ENABLE: &str = "pod-dnat";
/// Lists the ports.
pub const EXPOSE_PORT: &str = "pod-dnat-expose-port";
/// Names the protocol of ports that name none.
pub const EXPOSE_PROTOCOL: &str = "pod-dnat-expose-protocol";
/// Keeps EIP and ports across re-creation under one name.
pub const FIXED: &str = "pod-dnat-fixed";

/// The annotations that ask for something. Our own `pod-dnat-status` does not count.
pub const ASKING: [&str; 4] = [ENABLE, EXPOSE_PORT, EXPOSE_PROTOCOL, FIXED];

/// Entries that one pod may ask for. A table takes 100 by default (aliyun-api.md §4), and the decision must fit one
/// record of the journal.
pub const ENTRIES_MAX: usize = 64;

/// One port that a pod wants mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Want {
    /// The pod's port.
    pub internal: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// What the annotations of a pod say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing is asked. An existing allocation ends.
    Off,
    /// Nothing is asked, but annotations are left: an existing allocation stays, and a Warning says what to remove.
    Kept,
    /// These ports are asked for, in this order.
    On {
        /// At least one, at most [`ENTRIES_MAX`], none twice.
        wants: Box<[Want]>,
        /// EIP and ports survive re-creation under the same name.
        fixed: bool,
    },
    /// What is asked cannot be served.
    Refused(Box<Refusal>),
}

/// Why a pod cannot be served as it asks, with the field and the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reason: RefusalReason,
    /// `field "value"`, bounded; empty where the reason says all.
    pub detail: Box<str>,
}

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $number:literal $variant:ident = $words:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number,)*
        }

        impl $name {
            /// Every reason, in order of number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number in the journal.
            #[must_use]
            pub const fn number(self) -> u8 {
                self as u8
            }

            /// The reason of a number in the journal.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// One word, for Events, conditions and metrics.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            /// A sentence for people: what it means and what to do.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $words,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

reasons! {
    /// Why a pod is refused. It costs nothing, and is looked at again when it, or what refused it, changes.
    RefusalReason {
        /// `pod-dnat` has a value that is neither on nor off.
        1 NotEnabled = "pod-dnat is neither empty, true nor false, so nothing is mapped; set it to \"\" or \"true\"",
        /// The two prefixes disagree.
        2 PrefixesDisagree = "the two annotation prefixes carry different values, so nothing is mapped; keep one",
        /// A port cannot be read.
        3 BadPort = "a port is not a number from 1 to 65535, optionally with /tcp or /udp; correct it",
        /// One port twice.
        4 DuplicatePort = "a port is listed twice for one protocol; remove one",
        /// A protocol cannot be read.
        5 BadProtocol = "the protocol is neither tcp nor udp; correct it",
        /// No port is listed and none is declared.
        6 NoPorts = "no port is listed and no container declares one for the protocol; list the ports",
        /// Too many ports.
        7 TooManyPorts = "more ports are asked for than one pod may have; list fewer",
        /// The value of `pod-dnat-fixed` cannot be read.
        8 BadFixed = "pod-dnat-fixed is neither empty, true nor false; correct it",
        /// The pod uses its node's network.
        9 HostNetwork = "the pod uses its node's network, whose address is not the pod's own; switch hostNetwork off",
        /// The pod runs on a virtual node.
        10 VirtualNode = "pods on virtual nodes (ECI) cannot be mapped; run the pod on an ECS node",
        /// No configured gateway is on the pod's default route.
        11 NoGatewayOnRoute = "no configured NAT gateway is the next hop of the pod's default route; add one to natGwPool or to the route table",
        /// An annotation is too long.
        12 TooLong = "an annotation is longer than 512 characters; shorten it",
        /// The pod needs more ports or entries than the table could ever give.
        13 NeverFits = "the pod needs more ports or entries than its gateway could give when empty; ask for fewer or widen the range",
        /// The namespace is being deleted.
        14 NamespaceTerminating = "the namespace is being deleted",
    }
}

reasons! {
    /// Why a pod waits.
    WaitReason {
        /// No ports are free.
        1 NoFreePorts = "all ports of the gateway's EIPs are taken; it is served when one is freed or the range is widened",
        /// The table is full.
        2 TableFull = "the forward table takes no more entries; it is served when entries go or the quota is raised",
        /// The pod's address belongs to no interface yet.
        3 NotYetVisible = "the pod's address is not yet known to the cloud's network interfaces",
        /// The earlier pod of this name still has a mapping.
        4 PreviousMappingReleasing = "the mapping of the earlier pod of this name is still being removed",
        /// The address is still mapped to an earlier pod.
        5 AddressStillMapped = "the pod's address still carries an entry of an earlier pod, which is being removed",
        /// The gateway has not been read in this term.
        6 GatewayNotRead = "the NAT gateway and its forward table have not been read yet",
        /// Somebody else's entry maps the pod's address and port.
        7 AddressMappedByOthers = "an entry that is not ours maps the pod's address and port; remove it",
        /// PodDNATs exist that are not ours.
        8 OtherController = "PodDNATs of another controller are in the cluster, so nothing is decided; stop that controller, and set networkController.adopt to true or remove its PodDNATs",
        /// No EIP of the gateway can be used.
        9 NoUsableEip = "no configured EIP of the gateway is in use and unlocked; bind or unlock one",
        /// Another PodDNAT has the external port.
        11 ClaimSuperseded = "another PodDNAT has the better right to the external port that this pod's PodDNAT names, so the pod gets another one; find out who copied or restored it",
        /// The PodDNAT of this name is not ours and cannot be adopted.
        10 NotAdopted = "the PodDNAT of this name is another controller's and is left alone, because its ports are outside of the configured pools or taken, or its entries are not as it says; correct that or remove it, and the pod is mapped",
        /// The journal's disk is short.
        12 JournalShort = "the volume of natgw's journal is nearly full, so nothing new is mapped; make room on it or widen it",
    }
}

reasons! {
    /// Why nothing is decided.
    HaltReason {
        /// The original controller lives or lived here.
        1 OriginalFound = "PodDNATs of another controller are in the cluster, so nothing is decided; stop that controller and set networkController.adopt to true to take them over, or remove them",
        /// Another controller writes.
        2 OtherWriter = "another controller made a PodDNAT for a pod that is served here, so nothing more is decided; stop that controller and remove the PodDNAT, or restart with networkController.adopt set to true to take it over",
    }
}

reasons! {
    /// Why an allocation ends.
    ReleaseReason {
        /// The pod is gone.
        1 PodGone = "the pod is gone",
        /// The pod ended.
        2 PodEnded = "the pod has ended",
        /// The pod's grace period is over.
        3 GraceOver = "the pod's grace period is over",
        /// The annotations are gone or say no.
        4 Disabled = "the annotations are gone or say false",
        /// The PodDNAT was deleted.
        5 ClaimDeleted = "the PodDNAT was deleted",
        /// The table took only a part of the pod's entries.
        6 TableFull = "the forward table takes no more entries, and a pod is mapped as a whole or not at all",
        /// The pod's route leads elsewhere.
        7 RouteMoved = "the pod's default route leads to another gateway",
        /// The table does not exist any more.
        8 TableGone = "the forward table does not exist any more",
        /// None of the ports stays, and there is no room for the new ones.
        10 PortsChanged = "the pod asks for other ports than before, and there is no room for them beside the old ones",
        /// Somebody else's entry holds the external port, and the EIP has no other.
        11 PortTaken = "somebody else's entry holds the external port, and no other port of the EIP is free",
        /// A reservation's time is over.
        12 RetentionOver = "no pod of the name has come for as long as fixedRetention keeps a reservation",
        /// The pod of a reserved name does not want it.
        13 FixedEnded = "the pod of that name does not ask for a fixed mapping, or may not have one",
        /// The EIP is lost.
        14 EipLost = "the EIP was seen unusable twice, a minute apart, and none of its entries is in effect",
        /// The name moves to another EIP.
        15 Moved = "the fixed mapping moves to another EIP; its earlier entries are being removed",
        /// The pod asks for something that cannot be served.
        9 NowRefused = "the pod now asks for something that cannot be served",
    }
}

reasons! {
    /// What people should know of a mapping that is ready.
    Remark {
        /// The mapping is not fixed though it was asked for.
        1 FixedIgnored = "all entries are in effect; pod-dnat-fixed is ignored, because only StatefulSet pods, bare pods and the configured customStatefulWorkloadKinds keep their address",
        /// The fixed mapping has another address than before.
        2 FixedMoved = "all entries are in effect; the fixed mapping had to move to another EIP, because the route, the EIP or the pool no longer allowed the earlier one",
    }
}

reasons! {
    /// What we say on the pod.
    Phase {
        /// Nothing was said.
        0 Silent = "nothing is said",
        /// All entries are in effect.
        1 Ready = "all entries are in effect",
        /// Entries are being created or repaired.
        2 Pending = "entries are being created",
        /// The pod waits.
        3 Waiting = "the pod waits",
        /// The pod is refused.
        4 Refused = "the pod cannot be served as it asks",
        /// The pod lists our gate but asks for nothing.
        5 NotRequested = "the pod asks for no mapping",
        /// Annotations are left that keep an allocation.
        6 Kept = "the annotations no longer ask for a mapping that can be read, so the one there is kept; correct them, or remove all of them to end it",
    }
}

/// What the pod's annotation and readiness condition say: enough to tell whether they are up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The phase.
    pub phase: Phase,
    /// Number of the wait or refusal reason, or of the remark; 0 where the phase has none.
    pub reason: u8,
    /// The allocation, where the phase has one; else zero.
    pub allocation: AllocationId,
    /// What exactly is said: the revision of the mapping, or the hash of what was refused; else zero.
    pub content: u64,
}

impl Note {
    /// Nothing was said.
    pub const SILENT: Self = Self::of(Phase::Silent);

    /// A note that has a phase only.
    #[must_use]
    pub const fn of(phase: Phase) -> Self {
        Self { phase, reason: 0, allocation: AllocationId::ZERO, content: 0 }
    }

    /// The word and the sentence of the reason, or of the phase where it has none.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        let phase = (self.phase.word(), self.phase.sentence());
        match self.phase {
            Phase::Waiting => WaitReason::from_number(self.reason).map_or(phase, |r| (r.word(), r.sentence())),
            Phase::Refused => RefusalReason::from_number(self.reason).map_or(phase, |r| (r.word(), r.sentence())),
            Phase::Ready => Remark::from_number(self.reason).map_or(phase, |r| (r.word(), r.sentence())),
            Phase::Silent | Phase::Pending | Phase::NotRequested | Phase::Kept => phase,
        }
    }
}

/// What of a pod its demand depends on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Our annotations, both prefixes.
    pub annotations: &'a [(String, String)],
    /// An annotation was too long to be kept.
    pub oversized: bool,
    /// Declared container ports and IANA protocol numbers.
    pub declared: &'a [(u16, u8)],
}

/// Reads the annotations of a pod.
#[must_use]
pub fn read(asked: Asked<'_>) -> Demand {
    match try_read(asked) {
        Ok(demand) => demand,
        Err((reason, detail)) => Demand::Refused(Box::new(Refusal { reason, detail: bounded(&detail).into() })),
    }
}

type Rejected = (RefusalReason, String);

fn try_read(asked: Asked<'_>) -> Result<Demand, Rejected> {
    if asked.oversized {
        return Err((RefusalReason::TooLong, String::new()));
    }
    let value = |name: &str| lookup(asked.annotations, name);
    let [enable, ports, protocol, fixed] =
        [value(ENABLE)?, value(EXPOSE_PORT)?, value(EXPOSE_PROTOCOL)?, value(FIXED)?];
    match enable.map(|text| (text, switch(text))) {
        Some((_, Some(true))) => {}
        Some((_, Some(false))) => return Ok(Demand::Off),
        Some((text, None)) => return Err((RefusalReason::NotEnabled, format!("{ENABLE} {text:?}"))),
        None if ports.or(protocol).or(fixed).is_some() => return Ok(Demand::Kept),
        None => return Ok(Demand::Off),
    }
    let fixed = match fixed.map(|text| (text, switch(text))) {
        None => false,
        Some((_, Some(fixed))) => fixed,
        Some((text, None)) => return Err((RefusalReason::BadFixed, format!("{FIXED} {text:?}"))),
    };
    let default = match protocol.map(str::trim) {
        None | Some("") => Protocol::Tcp,
        Some(text) => {
            parse_protocol(text).ok_or_else(|| (RefusalReason::BadProtocol, format!("{EXPOSE_PROTOCOL} {text:?}")))?
        }
    };
    let wants = match ports {
        Some(list) => listed(list, default)?,
        None => declared(asked.declared, default)?,
    };
    if wants.len() > ENTRIES_MAX {
        let detail = format!("{EXPOSE_PORT}: {} entries, at most {ENTRIES_MAX}", wants.len());
        return Err((RefusalReason::TooManyPorts, detail));
    }
    Ok(Demand::On { wants: wants.into(), fixed })
}

fn lookup<'a>(annotations: &'a [(String, String)], name: &str) -> Result<Option<&'a str>, Rejected> {
    let with = |prefix: &str| {
        annotations.iter().find(|(key, _)| key.strip_prefix(prefix) == Some(name)).map(|(_, value)| value.as_str())
    };
    match (with(PREFIX), with(PREFIX_ALTERNATIVE)) {
        (Some(one), Some(other)) if one != other => {
            Err((RefusalReason::PrefixesDisagree, format!("{name} {one:?} and {other:?}")))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.trim() {
        "" => Some(true),
        text if text.eq_ignore_ascii_case("true") => Some(true),
        text if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn parse_protocol(text: &str) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
}

fn listed(list: &str, default: Protocol) -> Result<Vec<Want>, Rejected> {
    let mut wants = Vec::new();
    for item in list.split(',') {
        let bad = |reason| (reason, format!("{EXPOSE_PORT} {:?}", item.trim()));
        let (port, protocol) = match item.split_once('/') {
            None => (item, default),
            Some((port, text)) => (port, parse_protocol(text.trim()).ok_or_else(|| bad(RefusalReason::BadProtocol))?),
        };
        let internal = parse_port(port.trim()).ok_or_else(|| bad(RefusalReason::BadPort))?;
        let want = Want { internal, protocol };
        if wants.contains(&want) {
            return Err(bad(RefusalReason::DuplicatePort));
        }
        wants.push(want);
        if wants.len() > ENTRIES_MAX {
            break;
        }
    }
    Ok(wants)
}

fn parse_port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|port| *port != 0)
}

fn declared(ports: &[(u16, u8)], protocol: Protocol) -> Result<Vec<Want>, Rejected> {
    let mut wants = Vec::new();
    for (internal, number) in ports {
        let want = Want { internal: *internal, protocol };
        if *number == protocol.number() && *internal != 0 && !wants.contains(&want) {
            wants.push(want);
        }
    }
    match wants.is_empty() {
        true => Err((RefusalReason::NoPorts, format!("{EXPOSE_PORT} is absent"))),
        false => Ok(wants),
    }
}

/// Bytes of a refusal's detail that go into the journal.
const DETAIL_BYTES_MAX: usize = 160;

/// Cuts a text at a character boundary so that a record stays small.
#[must_use]
pub fn bounded(text: &str) -> String {
    let end = (0..=text.len().min(DETAIL_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.get(..end).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(annotations: &[(&str, &str)], declared: &[(u16, u8)]) -> Demand {
        let annotations: Vec<_> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        read(Asked { annotations: &annotations, oversized: false, declared })
    }

    fn on(wants: &[(u16, Protocol)]) -> Demand {
        let wants = wants.iter().map(|(internal, protocol)| Want { internal: *internal, protocol: *protocol });
        Demand::On { wants: wants.collect(), fixed: false }
    }

    fn refused(demand: &Demand) -> Option<RefusalReason> {
        match demand {
            Demand::Refused(refusal) => Some(refusal.reason),
            Demand::Off | Demand::Kept | Demand::On { .. } => None,
        }
    }

    const ON: (&str, &str) = ("k8s.aliyun.com/pod-dnat", "");
    const PORTS: &str = "k8s.aliyun.com/pod-dnat-expose-port";
    const PROTOCOL: &str = "k8s.aliyun.com/pod-dnat-expose-protocol";

    #[test]
    fn the_documented_values() {
        use Protocol::{Tcp, Udp};
        assert_eq!(asked(&[ON, (PORTS, "80,443")], &[]), on(&[(80, Tcp), (443, Tcp)]));
        assert_eq!(asked(&[("k8s.aliyun.com/pod-dnat", "TRUE"), (PORTS, " 80 ")], &[]), on(&[(80, Tcp)]));
        assert_eq!(asked(&[ON, (PORTS, "80"), (PROTOCOL, "UDP")], &[]), on(&[(80, Udp)]));
        assert_eq!(asked(&[ON, (PORTS, "80, 53/udp"), (PROTOCOL, "")], &[]), on(&[(80, Tcp), (53, Udp)]));
        assert_eq!(asked(&[ON], &[(8080, 6), (53, 17), (8080, 6)]), on(&[(8080, Tcp)]));
        assert_eq!(asked(&[("network.alibabacloud.com/pod-dnat", ""), (PORTS, "1")], &[]), on(&[(1, Tcp)]));
    }

    #[test]
    fn off_and_kept() {
        assert_eq!(asked(&[], &[(80, 6)]), Demand::Off);
        assert_eq!(asked(&[("k8s.aliyun.com/pod-dnat", "false"), (PORTS, "x")], &[]), Demand::Off);
        assert_eq!(asked(&[(PORTS, "80")], &[]), Demand::Kept);
        assert_eq!(asked(&[("k8s.aliyun.com/pod-dnat-status", "{}")], &[]), Demand::Off);
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let cases: [(&[(&str, &str)], RefusalReason); 10] = [
            (&[("k8s.aliyun.com/pod-dnat", "yes")], RefusalReason::NotEnabled),
            (&[ON, ("network.alibabacloud.com/pod-dnat", "false")], RefusalReason::PrefixesDisagree),
            (&[ON, (PORTS, "0")], RefusalReason::BadPort),
            (&[ON, (PORTS, "65536")], RefusalReason::BadPort),
            (&[ON, (PORTS, "+80")], RefusalReason::BadPort),
            (&[ON, (PORTS, "80,")], RefusalReason::BadPort),
            (&[ON, (PORTS, "80,080")], RefusalReason::DuplicatePort),
            (&[ON, (PORTS, "80/sctp")], RefusalReason::BadProtocol),
            (&[ON], RefusalReason::NoPorts),
            (&[ON, (PORTS, "80"), ("k8s.aliyun.com/pod-dnat-fixed", "on")], RefusalReason::BadFixed),
        ];
        for (annotations, reason) in cases {
            assert_eq!(refused(&asked(annotations, &[])), Some(reason), "{annotations:?}");
        }
        let many = (1..=65).map(|port| port.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(refused(&asked(&[ON, (PORTS, &many)], &[])), Some(RefusalReason::TooManyPorts));
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let text = "端".repeat(100);
        let cut = bounded(&text);
        assert!(cut.len() <= DETAIL_BYTES_MAX && text.starts_with(&cut) && !cut.is_empty());
    }

    #[test]
    fn every_reason_keeps_its_number() {
        for reason in RefusalReason::ALL {
            assert_eq!(RefusalReason::from_number(reason.number()), Some(*reason));
        }
        for reason in WaitReason::ALL {
            assert_eq!(WaitReason::from_number(reason.number()), Some(*reason));
        }
    }
}
