//! The command line of the simulated cloud.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use clap::{ArgAction, Args, ValueEnum};
use natgw::sandbox::http;
use natgw::sandbox::vpc::{
    Behaviour, EIPS_MAX, EipStatus, FaultKind, FaultRate, GATEWAYS_MAX, NewEntry, Spell, Stroke, Switch, Trouble, World,
};
use secrecy::SecretString;

#[derive(Args, Debug)]
pub(crate) struct CloudArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The one lasting AccessKeyId that is known.
    #[arg(long, value_name = "K", default_value = "sandbox", requires = "secret")]
    access_key: String,
    /// Its secret.
    #[arg(long, value_name = "S", default_value = "sandbox-secret", hide_default_value = true)]
    secret: SecretString,
    /// DNAT entries that one forward table takes: the vendor's default quota.
    #[arg(long, value_name = "N", default_value_t = Behaviour::default().entry_quota)]
    entry_quota: u32,
    /// How the cloud behaves when nothing goes wrong. May be given several times; the switches stand below.
    #[arg(long = "set", value_name = "NAME=VALUE", action = ArgAction::Append)]
    switches: Vec<Switch>,
    /// What goes wrong, and how often from 0 to 1, such as lost-reply=0.05. May be given several times; the kinds stand
    /// below.
    #[arg(long = "fault", value_name = "KIND=RATE", action = ArgAction::Append)]
    faults: Vec<FaultRate>,
    /// What goes wrong for a while, in milliseconds of the cloud's time, for all calls or one gateway's, such as
    /// silence=30000..90000 or busy=0..5000@ngw-sandbox-j. May be given several times; the kinds stand below.
    #[arg(long = "trouble", value_name = "KIND=FROM..UNTIL[@GATEWAY]", action = ArgAction::Append, value_parser = spell)]
    troubles: Vec<Spell>,
    /// A script of what goes wrong with which request: a JSON list, explained below.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// From when on nothing goes wrong any more, in milliseconds of the cloud's time.
    #[arg(long, value_name = "MS")]
    quiet_from: Option<u64>,
    /// The seed of all chance.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Run the cloud's delays this many times as fast; signatures not.
    #[arg(long, value_name = "N", default_value = "1")]
    speed: NonZeroU32,
    /// A file to which one JSON line a request and one an effect is appended.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    account: Account,
    #[command(flatten)]
    identity: Identity,
}

/// What stands in the account.
#[derive(Args, Debug)]
struct Account {
    /// Zones with a vSwitch, a route table and a NAT gateway each, from j on.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(GATEWAYS_MAX)))]
    gateways: u8,
    /// EIPs of each gateway.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(EIPS_MAX)))]
    eips: u8,
    /// How an EIP stands: snat (SNAT uses it too), locked (in arrears), associating, unassociating. May be given several
    /// times.
    #[arg(long = "eip", value_name = "ADDRESS=STATE", action = ArgAction::Append)]
    states: Vec<EipState>,
    /// An entry that maps the whole of an EIP to a private address (DNAT IP mapping), made by somebody else. May be given
    /// several times.
    #[arg(long = "any-entry", value_name = "EIP=PRIVATE", action = ArgAction::Append)]
    any_entries: Vec<AnyEntry>,
}

/// Who hands out temporary keys, and how.
#[derive(Args, Debug)]
struct Identity {
    /// The RAM role of the instance, and of whoever brings a service account token.
    #[arg(long, value_name = "NAME", default_value = "natgw-sandbox")]
    role: String,
    /// How long a temporary key lives.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    key_life: u64,
    /// How the metadata service is to be asked.
    #[arg(long, value_enum, default_value_t = Metadata::Both)]
    metadata: Metadata,
    /// The only service account token that is taken; any where absent.
    #[arg(long, value_name = "TOKEN")]
    oidc_token: Option<SecretString>,
    /// When no temporary key is handed out, in milliseconds since the start. May be given several times.
    #[arg(long = "no-keys", value_name = "FROM..UNTIL", action = ArgAction::Append, value_parser = range)]
    refusing: Vec<Range<u64>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Metadata {
    /// With a token and without.
    Both,
    /// Only with a token.
    Hardened,
    /// Only without; tokens are not known.
    Plain,
}

#[derive(Clone, Copy, Debug)]
struct EipState {
    address: Ipv4Addr,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Snat,
    Locked,
    Status(EipStatus),
}

#[derive(Clone, Copy, Debug)]
struct AnyEntry {
    external: Ipv4Addr,
    internal: Ipv4Addr,
}

impl FromStr for EipState {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "it is not ADDRESS=STATE with a state of snat, locked, associating, unassociating";
        let (address, state) = text.split_once('=').ok_or(EXPECTED)?;
        let state = match state {
            "snat" => State::Snat,
            "locked" => State::Locked,
            "associating" => State::Status(EipStatus::Associating),
            "unassociating" => State::Status(EipStatus::Unassociating),
            _ => return Err(EXPECTED),
        };
        Ok(Self { address: address.parse().map_err(|_| EXPECTED)?, state })
    }
}

impl FromStr for AnyEntry {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let pair = text.split_once('=').and_then(|(external, internal)| {
            Some(Self { external: external.parse().ok()?, internal: internal.parse().ok()? })
        });
        pair.ok_or("it is not EIP=PRIVATE, for example 203.0.113.1=172.16.0.9")
    }
}

/// `FROM..UNTIL`; without UNTIL for ever.
fn range(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(from, until)| {
        let until = if until.is_empty() { u64::MAX } else { until.parse().ok()? };
        Some(from.parse().ok()?..until)
    });
    bounds.filter(|range| !range.is_empty()).ok_or_else(|| format!("{text:?} is no time FROM..UNTIL in milliseconds"))
}

fn spell(text: &str) -> Result<Spell, String> {
    let kinds = || Trouble::ALL.map(Trouble::as_str).join(", ");
    let (name, rest) = text.split_once('=').ok_or_else(|| format!("it is not KIND=FROM..UNTIL; kinds: {}", kinds()))?;
    let trouble = Trouble::ALL.into_iter().find(|trouble| trouble.as_str() == name);
    let trouble = trouble.ok_or_else(|| format!("there is no trouble {name:?}; kinds: {}", kinds()))?;
    let (times, gateway) = rest.split_once('@').map_or((rest, None), |(times, gateway)| (times, Some(gateway)));
    let Range { start, end } = range(times)?;
    Ok(match gateway {
        None => Spell::of_all(trouble, start, end),
        Some(gateway) => Spell::of_gateway(trouble, gateway.into(), start, end),
    })
}

impl TryFrom<CloudArgs> for http::Options {
    type Error = anyhow::Error;

    fn try_from(args: CloudArgs) -> anyhow::Result<Self> {
        let CloudArgs {
            listen,
            access_key,
            secret,
            entry_quota,
            switches,
            faults,
            troubles,
            plan,
            seed,
            speed,
            ledger,
            ..
        } = args;
        let mut behaviour = Behaviour { entry_quota, ..Behaviour::default() };
        switches.iter().for_each(|switch| behaviour.set(switch));
        let plan: Vec<Stroke> = match plan {
            None => Vec::new(),
            Some(path) => {
                let unread = || format!("NATGW-CLOUD-PLAN: nothing is served, for {} is no plan", path.display());
                let text = std::fs::read(&path).with_context(unread)?;
                serde_json::from_slice(&text).with_context(unread)?
            }
        };
        let (world, by_hand) = args.account.world()?;
        let Identity { role, key_life, metadata, oidc_token, refusing } = args.identity;
        let ways = match metadata {
            Metadata::Both => http::Ways::Both,
            Metadata::Hardened => http::Ways::Hardened,
            Metadata::Plain => http::Ways::Plain,
        };
        Ok(Self {
            listen,
            access_key,
            secret,
            world,
            by_hand,
            behaviour,
            faults: faults.into_iter().map(|FaultRate { kind, rate }| (kind, rate)).collect(),
            plan,
            troubles,
            quiet_from_ms: args.quiet_from,
            issuing: http::Issuing { role, life_s: key_life, ways, oidc_token, refusing },
            seed,
            speed: speed.get(),
            ledger,
            state: None,
        })
    }
}

impl Account {
    fn world(self) -> anyhow::Result<(World, Vec<NewEntry>)> {
        let mut world = World::new(self.gateways, self.eips);
        for EipState { address, state } in self.states {
            let eip =
                world.gateways.iter_mut().flat_map(|gateway| &mut gateway.eips).find(|eip| eip.address == address);
            let eip = eip.with_context(|| format!("NATGW-CLOUD-EIP: no gateway has the EIP {address}"))?;
            match state {
                State::Snat => eip.snat = true,
                State::Locked => eip.locked = true,
                State::Status(status) => eip.status = status,
            }
        }
        let mut entries = Vec::new();
        for AnyEntry { external, internal } in self.any_entries {
            let has =
                |gateway: &&natgw::sandbox::vpc::NatGateway| gateway.eips.iter().any(|eip| eip.address == external);
            let gateway = world.gateways.iter().find(has);
            let gateway = gateway.with_context(|| format!("NATGW-CLOUD-EIP: no gateway has the EIP {external}"))?;
            entries.push(NewEntry::any(gateway.table.clone(), external, internal, ""));
        }
        Ok((world, entries))
    }
}

/// What `--help` says after the options.
pub(super) fn explained() -> String {
    let mut text = String::new();
    let usual = [
        "Both products answer at one address, by GET or POST, with parameters in the query or in a form, signed with",
        "HMAC-SHA1. At the same address the metadata service of an instance (/latest/...) and the unsigned",
        "AssumeRoleWithOIDC hand out temporary keys, which are known until they end.",
        "",
        "Zone j (cn-hangzhou-j) has the vSwitch vsw-sandbox-j of 172.16.0.0/16, the route table vtb-sandbox-j, the gateway",
        "ngw-sandbox-j with the forward table ftb-sandbox-j, and EIPs from 203.0.113.1 on; zone k has those of k, the vSwitch",
        "of 172.17.0.0/16 and the next EIPs, and so on. Every address of a vSwitch belongs to some network interface of it.",
        "",
        "Switches of --set, with what they are where they are not given:",
    ];
    let mut lines: Vec<String> = usual.map(str::to_owned).to_vec();
    let usually = serde_json::to_value(Behaviour::default()).unwrap_or_default();
    lines.extend(Behaviour::SWITCHES.map(|(name, meaning)| {
        let value = usually.get(name.replace('-', "_")).filter(|value| !value.is_null());
        let value = value.map_or_else(|| "0".to_owned(), ToString::to_string);
        format!("  {name:<26} {meaning} [{value}]")
    }));
    lines.extend(["".to_owned(), "Kinds of --fault:".to_owned()]);
    lines.extend(FaultKind::ALL.map(|kind| format!("  {:<26} {}", kind.as_str(), kind.meaning())));
    lines.extend(["".to_owned(), "Kinds of --trouble:".to_owned()]);
    lines.extend(Trouble::ALL.map(|trouble| format!("  {:<26} {}", trouble.as_str(), trouble.meaning())));
    let plan = [
        "",
        "A plan is a JSON list. Each line strikes requests that fit it: of an action, of a gateway, from and until a",
        "moment of the cloud's time; the first `skip` of them pass, the next `times` (1) are struck, by one of fault,",
        "trouble, or refuse with any code that the vendor documents for the action:",
        "",
        r#"  [{"action": "CreateForwardEntry", "skip": 2, "times": 3, "fault": "lost-reply"},"#,
        r#"   {"gateway": "ngw-sandbox-j", "from_ms": 1000, "until_ms": 9000, "times": 99, "trouble": "busy"},"#,
        r#"   {"action": "DeleteForwardEntry", "refuse": "IncorrectStatus.NATGW"}]"#,
        "",
        "The ledger has one JSON object a line. A request says when it came (at_ms), its request_id, action, parameters and",
        "token, its outcome (done, repeated, refused, deferred or lost), what was replied, and the fault or trouble that struck",
        "it. An effect says when it happened, which entry came, changed or went, and the request_id that caused it.",
    ];
    lines.extend(plan.map(str::to_owned));
    for line in lines {
        writeln!(text, "{line}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::{Cli, Command};

    use super::*;

    fn read(more: &[&str]) -> Result<http::Options, String> {
        let words = [&["natgw", "cloud", "--listen", "127.0.0.1:0"], more].concat();
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Cloud(args) = cli.command else { return Err("another command".to_owned()) };
        (*args).try_into().map_err(|error: anyhow::Error| format!("{error:#}"))
    }

    #[test]
    fn a_fault_without_a_rate_is_refused_with_the_kinds_there_are() {
        let message = read(&["--fault", "lost-reply"]).unwrap_err();
        assert!(message.contains("KIND=RATE") && message.contains("throttling"), "{message}");
    }

    #[test]
    fn switches_troubles_eips_and_keys_are_taken() {
        let options = read(&[
            "--set",
            "pending-ms=7",
            "--set",
            "table-serialised=true",
            "--trouble",
            "busy=1..5@ngw-sandbox-j",
            "--trouble",
            "silence=9..",
            "--eip",
            "203.0.113.1=snat",
            "--any-entry",
            "203.0.113.2=172.16.0.9",
            "--no-keys",
            "3..4",
            "--no-keys",
            "7..",
            "--metadata",
            "hardened",
        ])
        .unwrap();
        assert_eq!((options.behaviour.pending_ms, options.behaviour.table_serialised), (7, true));
        let busy = Spell::of_gateway(Trouble::Busy, "ngw-sandbox-j".into(), 1, 5);
        assert_eq!(options.troubles, [busy, Spell::of_all(Trouble::Silence, 9, u64::MAX)]);
        assert!(options.world.gateways[0].eips[0].snat);
        assert_eq!(
            (options.by_hand.len(), options.issuing.refusing, options.issuing.ways),
            (1, vec![3..4, 7..u64::MAX], http::Ways::Hardened)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_remedy() {
        for (words, expected) in [
            (["--set", "pending=1"], "pending-ms"),
            (["--trouble", "rain=1..2"], "clock-skew"),
            (["--trouble", "busy=2..2"], "FROM..UNTIL"),
            (["--eip", "203.0.113.1=mine"], "associating"),
            (["--eip", "198.51.100.9=snat"], "NATGW-CLOUD-EIP"),
            (["--any-entry", "203.0.113.1"], "EIP=PRIVATE"),
            (["--no-keys", "now"], "FROM..UNTIL"),
            (["--plan", "/nowhere/plan.json"], "NATGW-CLOUD-PLAN"),
            (["--gateways", "17"], "16"),
        ] {
            let message = read(&words).unwrap_err();
            assert!(message.contains(expected), "{words:?}: {message}");
        }
    }

    #[test]
    fn the_help_names_every_switch_fault_and_trouble() {
        let text = explained();
        let names = Behaviour::SWITCHES.map(|(name, _)| name);
        let faults = FaultKind::ALL.map(FaultKind::as_str);
        let troubles = Trouble::ALL.map(Trouble::as_str);
        for name in names.iter().chain(&faults).chain(&troubles) {
            assert!(text.contains(&format!("  {name} ")), "{name}");
        }
        let usual = |name: &str| {
            let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
            line.rsplit_once(" [").unwrap().1.trim_end_matches(']').to_owned()
        };
        for name in names {
            let mut set = Behaviour::default();
            set.set(&format!("{name}={}", usual(name)).parse().unwrap());
            assert_eq!(set, Behaviour::default(), "{name} is said as it is");
        }
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    }
}
