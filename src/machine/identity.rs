//! Who is who: the names of the cloud's and the cluster's objects, our own identities, and the two strings by which
//! the cloud recognises a repeat (the client token) and we recognise our own entries (the mark).
//!
//! Everything here is derived from its arguments. Nothing draws a random number or reads a clock.

use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use arcstr::ArcStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is shared by all who name the same thing: a copy counts, it does not allocate. It is as long as a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Text(ArcStr);

impl Ord for Text {
    /// By their letters; a text is mostly compared with itself, which needs none of them.
    fn cmp(&self, other: &Self) -> Ordering {
        if ArcStr::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<str>::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Text);

        impl $name {
            /// Takes the name as the outside spells it.
            #[must_use]
            pub fn new(name: impl Into<Box<str>>) -> Self {
                let name: Box<str> = name.into();
                Self(Text(name.into()))
            }

            /// The name as the outside spells it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0.0
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(Text(name.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.0)
            }
        }
    };
}

name!(
    /// A NAT gateway, `ngw-…`.
    GatewayId
);
name!(
    /// A forward table of a NAT gateway, `ftb-…`.
    TableId
);
name!(
    /// A DNAT entry of a forward table, `fwd-…`.
    EntryId
);
name!(
    /// A vSwitch, `vsw-…`.
    VSwitchId
);
name!(
    /// An elastic network interface, `eni-…`.
    EniId
);
name!(
    /// A zone, for example `cn-hangzhou-j`.
    ZoneId
);
name!(
    /// The UID that Kubernetes gave a pod. Two pods of one name differ in it.
    PodUid
);

/// Namespace and name of a pod, and so of its PodDNAT. In order of namespace, then of name.
///
/// Both stand in one text with a character between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "KeyParts", into = "KeyParts")]
pub struct PodKey(Text);

/// Stands in no name of Kubernetes, and before all that can stand in one: two keys are in the order of their texts.
const KEY_SEPARATOR: char = '\0';

/// A key as it is written out.
#[derive(Serialize, Deserialize)]
struct KeyParts {
    namespace: Box<str>,
    name: Box<str>,
}

impl PodKey {
    /// Builds a key from its two parts.
    #[must_use]
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        Self(Text(arcstr::format!("{}{KEY_SEPARATOR}{}", namespace.as_ref(), name.as_ref())))
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.parts().0
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.parts().1
    }

    fn parts(&self) -> (&str, &str) {
        self.0.0.split_once(KEY_SEPARATOR).unwrap_or((&self.0.0, ""))
    }
}

impl From<KeyParts> for PodKey {
    fn from(KeyParts { namespace, name }: KeyParts) -> Self {
        Self::new(namespace, name)
    }
}

impl From<PodKey> for KeyParts {
    fn from(key: PodKey) -> Self {
        Self { namespace: key.namespace().into(), name: key.name().into() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

/// The protocol of one DNAT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both, in the order in which they are listed everywhere.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Lower case, as the cloud and the PodDNAT spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl Protocol {
    /// The IANA number, as the journal keeps it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol of an IANA number.
#[must_use]
pub const fn protocol_of(number: u8) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        _ => None,
    }
}

/// What makes an entry: where players knock, where the traffic goes, and by which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// The elastic IP.
    pub external_ip: Ipv4Addr,
    /// The public port, never 0.
    pub external_port: u16,
    /// The pod's address.
    pub internal_ip: Ipv4Addr,
    /// The pod's port, never 0.
    pub internal_port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { external_ip, external_port, internal_ip, internal_port, protocol } = self;
        write!(f, "{external_ip}:{external_port} -> {internal_ip}:{internal_port}/{protocol}")
    }
}

/// A number that no other term can give: the term that decided, and a counter within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The term of the leader that decided.
    pub term: u64,
    /// A counter within the term, from 1.
    pub n: u64,
}

impl From<(u64, u64)> for Stamp {
    fn from((term, n): (u64, u64)) -> Self {
        Self { term, n }
    }
}

impl From<Stamp> for (u64, u64) {
    fn from(stamp: Stamp) -> Self {
        (stamp.term, stamp.n)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.n)
    }
}

impl FromStr for Stamp {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (term, n) = text.split_once('.').ok_or(())?;
        Ok(Self { term: decimal(term).ok_or(())?, n: decimal(n).ok_or(())? })
    }
}

/// A stamp in eight bytes: there are some ten in the state for each mapped port.
///
/// A term or a counter above what has room becomes the highest that has. Nobody gives those out: a term so high is not
/// begun ([`TERM_MAX`]), and a counter so high is not reached ([`COUNT_MAX`]). Only a mark or a claim that somebody made
/// up can have them, and it names nothing then.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Stamp", into = "Stamp")]
struct PackedStamp(u64);

/// Bits of a counter within a term: at a thousand creations a second one term lasts 34 years.
const COUNT_BITS: u32 = 40;

/// The highest counter within a term.
pub const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// The highest term: with a change of leader every 15 s it is reached after eight years.
pub const TERM_MAX: u64 = (1 << (u64::BITS - COUNT_BITS)) - 1;

impl PackedStamp {
    const ZERO: Self = Self(0);
}

impl From<Stamp> for PackedStamp {
    fn from(Stamp { term, n }: Stamp) -> Self {
        Self(term.min(TERM_MAX) << COUNT_BITS | n.min(COUNT_MAX))
    }
}

impl From<PackedStamp> for Stamp {
    fn from(PackedStamp(packed): PackedStamp) -> Self {
        Self { term: packed >> COUNT_BITS, n: packed & COUNT_MAX }
    }
}

impl fmt::Debug for PackedStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Stamp::from(*self).fmt(f)
    }
}

macro_rules! stamped {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(PackedStamp);

        impl $name {
            /// That of nothing.
            pub const ZERO: Self = Self(PackedStamp::ZERO);

            /// Its stamp.
            #[must_use]
            pub fn stamp(self) -> Stamp {
                self.0.into()
            }
        }

        impl From<Stamp> for $name {
            fn from(stamp: Stamp) -> Self {
                Self(stamp.into())
            }
        }

        impl From<(u64, u64)> for $name {
            fn from(stamp: (u64, u64)) -> Self {
                Stamp::from(stamp).into()
            }
        }

        impl From<$name> for (u64, u64) {
            fn from(id: $name) -> Self {
                id.stamp().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.stamp().fmt(f)
            }
        }
    };
}

stamped!(
    /// One allocation: a pod's EIP and ports, from the decision to the confirmed end.
    AllocationId
);
stamped!(
    /// One (re-)creation of one entry. A repeat after an unknown outcome keeps it; everything else takes a new one.
    Generation
);

/// The ClientToken of one creation: UUIDv5 (RFC 9562 §5.5) of the cluster's kube-system UID and pod UID / allocation /
/// item / generation. 36 ASCII characters; the cloud allows 64 (aliyun-api.md §1.1).
///
/// A cluster UID that is no UUID (a simulated cluster's) is first hashed into one.
#[must_use]
pub fn client_token(
    cluster: &str,
    pod: &PodUid,
    allocation: AllocationId,
    internal: (u16, Protocol),
    generation: Generation,
) -> String {
    let namespace = Uuid::try_parse(cluster).unwrap_or_else(|_| Uuid::new_v5(&Uuid::NAMESPACE_OID, cluster.as_bytes()));
    let (port, protocol) = internal;
    let name = format!("{pod}/{allocation}/{port}/{protocol}/{generation}");
    Uuid::new_v5(&namespace, name.as_bytes()).to_string()
}

/// The first characters of every mark. ForwardEntryName must start with a letter (aliyun-api.md §1.1).
const MARK_PREFIX: &str = "natgw1";

/// Hexadecimal digits of each UID hash in a mark: 64 bits keep two clusters apart on one account.
const MARK_HASH_DIGITS: usize = 16;

/// The mark in ForwardEntryName: by it natgw knows its own entries again, without any journal.
///
/// It carries hashes of both UIDs and never the configured cluster id, which people copy from one file to the next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    cluster: UidHash,
    pod: UidHash,
    /// The allocation that the entry belongs to.
    pub allocation: AllocationId,
    /// The creation that made the entry.
    pub generation: Generation,
}

/// The first 64 bits of the BLAKE3 hash of a UID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UidHash(u64);

impl UidHash {
    /// The hash as a number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Hashes a UID.
    #[must_use]
    pub fn of(uid: &str) -> Self {
        let mut reader = blake3::Hasher::new().update(uid.as_bytes()).finalize_xof();
        let mut first = [0; 8];
        reader.fill(&mut first);
        Self(u64::from_be_bytes(first))
    }
}

impl Mark {
    /// The mark of one creation.
    #[must_use]
    pub fn new(cluster: UidHash, pod: &PodUid, allocation: AllocationId, generation: Generation) -> Self {
        Self { cluster, pod: UidHash::of(pod.as_str()), allocation, generation }
    }

    /// Reads a ForwardEntryName. `None` means that the name is not a mark of any natgw.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        if parts.next() != Some(MARK_PREFIX) {
            return None;
        }
        let mark = Self {
            cluster: parse_hash(parts.next()?)?,
            pod: parse_hash(parts.next()?)?,
            allocation: parts.next()?.parse::<Stamp>().ok()?.into(),
            generation: parts.next()?.parse::<Stamp>().ok()?.into(),
        };
        parts.next().is_none().then_some(mark)
    }

    /// Whether this mark was made for that cluster.
    #[must_use]
    pub fn is_of(&self, cluster: UidHash) -> bool {
        self.cluster == cluster
    }

    /// Whether this mark was made for that pod.
    #[must_use]
    pub fn is_for(&self, pod: &PodUid) -> bool {
        self.pod == UidHash::of(pod.as_str())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster: UidHash(cluster), pod: UidHash(pod), allocation, generation } = self;
        write!(f, "{MARK_PREFIX}-{cluster:016x}-{pod:016x}-{allocation}-{generation}")
    }
}

// Only the one spelling that we write is ours: a padded, signed or upper-case number was typed by somebody else.

fn parse_hash(text: &str) -> Option<UidHash> {
    let ours = text.len() == MARK_HASH_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| u64::from_str_radix(text, 16).ok().map(UidHash)).flatten()
}

fn decimal(text: &str) -> Option<u64> {
    let ours = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    ours.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(term: u64, n: u64) -> Stamp {
        Stamp { term, n }
    }

    #[test]
    fn a_mark_survives_the_round_trip_and_fits_the_name() {
        let longest = Stamp { term: u64::MAX, n: u64::MAX };
        let mark = Mark::new(UidHash::of("c"), &"p".into(), AllocationId::from(longest), Generation::from(longest));
        let name = mark.to_string();
        assert!(name.len() <= 128, "ForwardEntryName has at most 128 characters, the mark has {}", name.len());
        assert_eq!(Mark::parse(&name), Some(mark.clone()));
        assert!(mark.is_of(UidHash::of("c")) && !mark.is_of(UidHash::of("d")));
        assert!(mark.is_for(&"p".into()) && !mark.is_for(&"q".into()));
    }

    #[test]
    fn a_stamp_in_eight_bytes_is_the_stamp_as_far_as_it_is_given_out() {
        for stamp in [stamp(0, 0), stamp(1, 2), stamp(7, COUNT_MAX), stamp(TERM_MAX, 1), stamp(TERM_MAX, COUNT_MAX)] {
            assert_eq!(AllocationId::from(stamp).stamp(), stamp);
        }
        let highest = AllocationId::from(stamp(TERM_MAX, COUNT_MAX));
        assert_eq!(AllocationId::from(stamp(TERM_MAX + 1, COUNT_MAX + 1)), highest);
        assert_eq!(AllocationId::from(stamp(u64::MAX, u64::MAX)), highest);
        let order = [stamp(1, COUNT_MAX), stamp(2, 0), stamp(2, 1), stamp(TERM_MAX, 0)].map(Generation::from);
        assert!(order.is_sorted() && order.map(|one| one.to_string()).contains(&"2.1".to_owned()));
    }

    #[test]
    fn what_somebody_typed_is_no_mark() {
        let mark =
            Mark::new(UidHash::of("c"), &"p".into(), AllocationId::from(stamp(1, 2)), Generation::from(stamp(1, 3)));
        let name = mark.to_string();
        for other in [
            String::new(),
            "ForwardEntry-1".to_owned(),
            format!("{name}-x"),
            name.replace("-1.2-", "-01.2-"),
            name.replace("-1.2-", "-+1.2-"),
            name.to_uppercase(),
        ] {
            assert_eq!(Mark::parse(&other), None, "{other:?}");
        }
    }

    #[test]
    fn a_token_differs_in_every_part() {
        let token = |pod: &str, n, port, protocol, g| {
            client_token(
                "c",
                &pod.into(),
                AllocationId::from(stamp(1, n)),
                (port, protocol),
                Generation::from(stamp(1, g)),
            )
        };
        let first = token("p", 1, 80, Protocol::Tcp, 1);
        assert_eq!(first.len(), 36);
        assert_eq!(first, token("p", 1, 80, Protocol::Tcp, 1));
        for other in [
            token("q", 1, 80, Protocol::Tcp, 1),
            token("p", 2, 80, Protocol::Tcp, 1),
            token("p", 1, 81, Protocol::Tcp, 1),
            token("p", 1, 80, Protocol::Udp, 1),
            token("p", 1, 80, Protocol::Tcp, 2),
        ] {
            assert_ne!(first, other);
        }
    }
}
