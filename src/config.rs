//! The configuration file: the documented YAML of the original controller, loaded unchanged, and our optional keys.
//!
//! What is wrong is refused at start, with the path of the key, its value, its place, the reason and the remedy. What
//! belongs to other controllers of the original's chart, or is still a placeholder of its documentation, loads with a
//! [`Warning`]. Values of secrets are never shown. There are no defaults that depend on the machine.

mod field;
mod pools;
mod step;
mod tree;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cloud::credentials::AccessKey;

use field::{Field, Section, shown};
pub use pools::Pool;
pub use tree::Place;

/// Everything that the file says, with the defaults put in.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// `clusterID`, for people: natgw's own identity is the UID of the kube-system namespace.
    pub cluster: String,
    /// `regionID`.
    pub region: String,
    /// `vpcID`.
    pub vpc: String,
    /// `networkController.natGwPool`, in order.
    pub pools: Vec<Pool>,
    /// `networkController.portCooldown`: a freed port's rest.
    pub port_cooldown: Duration,
    /// `networkController.fixedRetention`: how long a bare pod's reservation is kept; `None` for ever.
    pub fixed_retention: Option<Duration>,
    /// `networkController.repairPolicy`.
    pub repair_policy: RepairPolicy,
    /// `networkController.resyncInterval`: how often everything is read again and full tables are probed.
    pub resync_interval: Duration,
    /// `networkController.customStatefulWorkloadKinds`: kinds, beside StatefulSet, whose pods may have fixed mappings.
    pub stateful_kinds: Vec<String>,
    /// `networkController.portBreak`.
    pub port_break: PortBreak,
    /// `networkController.adopt`: claims of the original controller may be taken over.
    pub adopt: bool,
    /// `credential`; `None` where the file leaves it to the environment or to a role.
    pub credential: Option<AccessKey>,
    /// `journal`.
    pub journal: JournalSettings,
    /// `leaderElection`.
    pub leader_election: LeaderElection,
}

/// What to do about an entry that is not as it was decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepairPolicy {
    /// Put it right.
    #[default]
    Repair,
    /// Report it and leave it, as long as its allocation lives.
    Observe,
}

/// When an entry is created with PortBreak (aliyun-api.md §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortBreak {
    /// For ports above 1024 on an EIP that SNAT uses.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where the journal is and how far back it reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// The directory; `None` where the command line names it.
    pub path: Option<PathBuf>,
    /// History that stays replayable event by event.
    pub retention: Duration,
}

/// The Lease and its times, with client-go's meanings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderElection {
    /// Namespace of the Lease; `None` for the one natgw runs in.
    pub namespace: Option<String>,
    /// Name of the Lease.
    pub name: String,
    /// A follower waits this long before it takes an unrenewed Lease. Whole seconds.
    pub lease_duration: Duration,
    /// A leader that could not renew for this long ends.
    pub renew_deadline: Duration,
    /// Time between attempts.
    pub retry_period: Duration,
}

/// Something that was loaded and has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Path of the key.
    pub key: String,
    /// Where it stands.
    pub place: Option<Place>,
    /// What follows from it.
    pub consequence: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.key, At(self.place), self.consequence)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The text is no YAML.
    #[error("the configuration is no valid YAML{}: {reason}; correct that place", At(*place))]
    Syntax {
        /// Where the parser stopped.
        place: Option<Place>,
        /// What the parser says.
        reason: String,
    },
    /// A key or its value is wrong.
    #[error(transparent)]
    Refused(Refusal),
}

/// One key that cannot be used as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {}{}: {reason}; {remedy}", Is(value.as_deref()), At(*place))]
pub struct Refusal {
    /// Path of the key.
    pub key: String,
    /// The value as it may be shown; `None` where the key is missing.
    pub value: Option<String>,
    /// Where it stands.
    pub place: Option<Place>,
    /// Why it cannot be used.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// Reads and checks a file.
///
/// # Errors
///
/// As [`parse`], and where the file cannot be read.
pub fn load(path: &Path) -> Result<(Configuration, Vec<Warning>), Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    parse(&text)
}

/// Reads and checks a document.
///
/// # Errors
///
/// The first thing that cannot be used.
pub fn parse(yaml: &str) -> Result<(Configuration, Vec<Warning>), Error> {
    let document = serde_saphyr::from_str(yaml).map_err(|error| syntax(&error))?;
    let mut warnings = Vec::new();
    let configuration = configuration(&Field::root(&document), &mut warnings)?;
    Ok((configuration, warnings))
}

/// The rest of a freed port when the file does not say it.
const PORT_COOLDOWN: Duration = Duration::from_secs(30);

/// How often everything is read again when the file does not say it: a page of 50 entries then costs less than one call
/// a minute even on a table of 200, far below every known rate limit (aliyun-api.md §4).
const RESYNC_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How far back the journal reaches when the file does not say it: a week answers what happened last weekend.
const JOURNAL_RETENTION: Duration = Duration::from_secs(7 * 24 * 3_600);

/// client-go's defaults.
const LEASE_DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// The least renew deadline. A call that changes something may take half of it (design.md §6), and less than that half a
/// second is no time for a cloud to answer in.
const RENEW_DEADLINE_MIN: Duration = Duration::from_secs(1);

/// No time in the file is longer than this, so that sums of them stay far from the end of their type.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Kinds of workloads beside StatefulSet. The list is one event of the journal and an event has at most 3.5 KiB.
const STATEFUL_KINDS_MAX: usize = 32;

/// Kubernetes' limit on a kind.
const KIND_BYTES_MAX: usize = 63;

fn configuration(root: &Field<'_>, warnings: &mut Vec<Warning>) -> Result<Configuration, Error> {
    let known = [
        "clusterID",
        "regionID",
        "vpcID",
        "enableControllers",
        "networkController",
        "credential",
        "journal",
        "leaderElection",
    ];
    let top = section(root, &known)?;
    let cluster = top.field("clusterID").required("set it to the id of the cluster")?;
    let region = top.field("regionID").required("set it to the region of the cluster, such as cn-hangzhou")?;
    let vpc = top.field("vpcID").required("set it to the VPC of the cluster, vpc-...")?;
    controllers(&top.field("enableControllers"), warnings)?;
    let network = network(&top.field("networkController"), warnings)?;
    let field = |name| network.field(name);
    let policies = [("repair", RepairPolicy::Repair), ("observe", RepairPolicy::Observe)];
    let breaks = [("auto", PortBreak::Auto), ("always", PortBreak::Always), ("never", PortBreak::Never)];
    let second = Duration::from_secs(1);
    Ok(Configuration {
        cluster: cluster.to_owned(),
        region: region.to_owned(),
        vpc: vpc.to_owned(),
        pools: pools::pools(&field("natGwPool"), warnings)?,
        port_cooldown: field("portCooldown").duration(Duration::ZERO, LONGEST)?.unwrap_or(PORT_COOLDOWN),
        fixed_retention: field("fixedRetention").duration(second, LONGEST)?,
        repair_policy: field("repairPolicy").choice(&policies)?.unwrap_or_default(),
        resync_interval: field("resyncInterval").duration(10 * second, LONGEST)?.unwrap_or(RESYNC_INTERVAL),
        stateful_kinds: stateful_kinds(&field("customStatefulWorkloadKinds"))?,
        port_break: field("portBreak").choice(&breaks)?.unwrap_or_default(),
        adopt: field("adopt").boolean()?.unwrap_or_default(),
        credential: credential(&top.field("credential"))?,
        journal: journal(&top.field("journal"))?,
        leader_election: leader_election(&top.field("leaderElection"))?,
    })
}

fn section<'a>(field: &Field<'a>, known: &[&str]) -> Result<Section<'a>, Error> {
    field.section(known, |_| false, |_| {})
}

/// `natgw` has to be enabled; the other controllers of the original's chart are somebody else's.
fn controllers(field: &Field<'_>, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let mut enabled = field.node.is_none();
    for item in field.list(CONTROLLERS_MAX)? {
        match item.text()? {
            Some("natgw") => enabled = true,
            Some(name @ ("eip" | "ipv6gw")) => {
                warnings.push(warning(&item, format!("natgw does not do the work of the controller {name}")));
            }
            Some(_) | None => {
                return Err(item.refuse("no such controller is known", "use natgw"));
            }
        }
    }
    if enabled { Ok(()) } else { Err(field.refuse("natgw is not among the controllers", "add natgw to the list")) }
}

/// More than the original's chart has.
const CONTROLLERS_MAX: usize = 16;

fn network<'a>(field: &Field<'a>, warnings: &mut Vec<Warning>) -> Result<Section<'a>, Error> {
    let known = [
        "natGwPool",
        "portCooldown",
        "fixedRetention",
        "repairPolicy",
        "resyncInterval",
        "customStatefulWorkloadKinds",
        "portBreak",
        "adopt",
    ];
    // The chart's sections of the controllers eip and ipv6gw begin like them, for example ipv6GatewayController.
    let foreign = |name: &str| name.starts_with("eip") || name.starts_with("ipv6");
    field.section(&known, foreign, |section| {
        warnings.push(warning(&section, "it belongs to another controller and has no effect".to_owned()));
    })
}

fn stateful_kinds(field: &Field<'_>) -> Result<Vec<String>, Error> {
    let kind = |item: Field<'_>| match item.text()? {
        Some(kind) if kind.len() <= KIND_BYTES_MAX && kind.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Ok(kind.to_owned())
        }
        Some(_) | None => {
            Err(item.refuse("it is no kind", "name a kind as it stands in its manifests, such as CloneSet"))
        }
    };
    field.list(STATEFUL_KINDS_MAX)?.into_iter().map(kind).collect()
}

fn credential(field: &Field<'_>) -> Result<Option<AccessKey>, Error> {
    let section = section(field, &["accessKey", "accessSecret"])?;
    let (id, secret) = (section.field("accessKey"), section.field("accessSecret"));
    match (id.secret()?, secret.secret()?) {
        (None, None) => Ok(None),
        (Some(id_text), Some(text)) => AccessKey::new(id_text.to_owned(), text.to_owned().into(), None)
            .map(Some)
            .map_err(|error| field.refuse_secret(error.to_string(), "set both")),
        (Some(_), None) => {
            Err(secret.refuse_secret("accessKey is set without it", "set both, or leave both empty to use a RAM role"))
        }
        (None, Some(_)) => {
            Err(id.refuse_secret("accessSecret is set without it", "set both, or leave both empty to use a RAM role"))
        }
    }
}

fn journal(field: &Field<'_>) -> Result<JournalSettings, Error> {
    let section = section(field, &["path", "retention"])?;
    let hour = Duration::from_secs(3_600);
    Ok(JournalSettings {
        path: section.field("path").text()?.map(PathBuf::from),
        retention: section.field("retention").duration(hour, LONGEST)?.unwrap_or(JOURNAL_RETENTION),
    })
}

fn leader_election(field: &Field<'_>) -> Result<LeaderElection, Error> {
    let section = section(field, &["namespace", "name", "leaseDuration", "renewDeadline", "retryPeriod"])?;
    let (lease, renew, retry) =
        (section.field("leaseDuration"), section.field("renewDeadline"), section.field("retryPeriod"));
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(3_600));
    let election = LeaderElection {
        namespace: section.field("namespace").text()?.map(str::to_owned),
        name: section.field("name").text()?.unwrap_or("natgw").to_owned(),
        lease_duration: lease.duration(least, most)?.unwrap_or(LEASE_DURATION),
        renew_deadline: renew.duration(least, most)?.unwrap_or(RENEW_DEADLINE),
        retry_period: retry.duration(least, most)?.unwrap_or(RETRY_PERIOD),
    };
    let LeaderElection { lease_duration, renew_deadline, retry_period, .. } = election;
    if lease_duration.subsec_nanos() != 0 {
        return Err(lease.refuse("a Lease counts whole seconds", "use whole seconds"));
    }
    if lease_duration <= renew_deadline {
        let reason = format!("it is not above renewDeadline, {}, so two could lead at once", shown(renew_deadline));
        return Err(worse(&lease, &renew).refuse(reason, "keep leaseDuration above renewDeadline, such as 15s and 10s"));
    }
    if renew_deadline < RENEW_DEADLINE_MIN {
        let reason = format!("a call may take half of it, which has to be {} at least", shown(RENEW_DEADLINE_MIN / 2));
        return Err(renew.refuse(reason, "use more, such as 10s"));
    }
    // client-go's condition: with its jitter of 1.2, two attempts have to fit.
    if renew_deadline <= retry_period.mul_f64(1.2) {
        let reason = format!("it leaves no second attempt within renewDeadline, {}", shown(renew_deadline));
        return Err(
            worse(&retry, &renew).refuse(reason, "keep retryPeriod well below renewDeadline, such as 2s and 10s")
        );
    }
    Ok(election)
}

/// The one of two that the file sets, so that the message points to something that is there.
fn worse<'f, 'a>(first: &'f Field<'a>, second: &'f Field<'a>) -> &'f Field<'a> {
    if first.node.is_none() { second } else { first }
}

fn warning(field: &Field<'_>, consequence: String) -> Warning {
    Warning { key: field.path.clone(), place: field.place(), consequence }
}

fn syntax(error: &serde_saphyr::Error) -> Error {
    let place = error.location().map(|at| Place { line: at.line(), column: at.column() });
    // The snippet of the text is left out: it may be the one that holds a secret.
    Error::Syntax { place, reason: error.without_snippet().to_string() }
}

struct At(Option<Place>);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |place| write!(f, " ({place})"))
    }
}

struct Is<'a>(Option<&'a str>);

impl fmt::Display for Is<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("is missing"),
            Some(value) => write!(f, "is {value}"),
        }
    }
}
