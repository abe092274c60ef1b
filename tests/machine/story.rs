//! Reads a story, acts it out, and compares the decisions with those told.

use std::collections::BTreeMap;

use natgw::machine::demand::{HaltReason, RefusalReason, ReleaseReason, WaitReason};
use natgw::machine::event::{Event, control, decided, outcome, seen};
use natgw::machine::identity::protocol_of;

use crate::outside::{Outside, intent_words};
use crate::things::{entry, original, pod};

/// Acts a story out. The error names the line and both sides.
pub fn tell(text: &str) -> Result<(), String> {
    let mut stage = Stage {
        outside: Outside::new(),
        pools: Vec::new(),
        settings: settings(),
        names: BTreeMap::new(),
        there: Vec::new(),
        begun: false,
    };
    let mut decided: Vec<String> = Vec::new();
    let mut wanted: Vec<&str> = Vec::new();
    let mut at = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let wrong = |message: String| Err(format!("line {}: {message}", number + 1));
        match line.split_once(' ').unwrap_or((line, "")) {
            ("" | "#", _) => {}
            ("pool", rest) => stage.pool(rest),
            ("settings", rest) => stage.set(rest),
            ("there", rest) => stage.there.push(rest.to_owned()),
            ("hold", kind) => drop(stage.outside.held.insert(kind.to_owned())),
            ("when", rest) => {
                if let Some(untold) = decided.get(at) {
                    return wrong(format!("before it came {untold:?}, of which the story does not tell"));
                }
                stage.agenda_is(&std::mem::take(&mut wanted)).or_else(wrong)?;
                stage.when(rest);
                let happened = std::mem::take(&mut stage.outside.happened);
                stage.names.extend(happened.iter().filter_map(named));
                decided = happened.iter().filter_map(|event| stage.words(event)).collect();
                at = 0;
            }
            ("then", told) => {
                let came = decided.get(at).map_or("nothing", String::as_str);
                if came != told {
                    return wrong(format!("told {told:?}, came {came:?}"));
                }
                at += 1;
            }
            ("wants", intent) => wanted.push(intent),
            ("says", told) => {
                let (pod, word) = told.split_once(' ').unwrap_or((told, ""));
                let note = stage.outside.state.pod(&pod.into()).map(|pod| pod.noted().words().0);
                if note != Some(word) {
                    return wrong(format!("told that pod {pod} says {word:?}, it says {note:?}"));
                }
            }
            (word, _) => return wrong(format!("{word:?} is no word of a story")),
        }
    }
    stage.agenda_is(&wanted)?;
    decided
        .get(at)
        .map_or(Ok(()), |untold| Err(format!("at the end came {untold:?}, of which the story does not tell")))
}

struct Stage {
    outside: Outside,
    pools: Vec<control::PoolConfigured>,
    settings: control::Configured,
    /// Which pod's each allocation is or was.
    names: BTreeMap<(u64, u64), String>,
    /// What is there before the first leader reads it.
    there: Vec<String>,
    begun: bool,
}

pub fn settings() -> control::Configured {
    control::Configured {
        cluster_uid: "c1".into(),
        pools: 0,
        cooldown_ms: 30_000,
        fixed_retention_ms: None,
        resync_ms: 300_000,
        repair: true,
        adopt: false,
        port_break: 0,
        stateful_kinds: Vec::new(),
    }
}

impl Stage {
    /// `pool GATEWAY FIRST-LAST EIP... [without=FIRST-LAST]`
    fn pool(&mut self, rest: &str) {
        let mut words: Vec<&str> = rest.split_whitespace().collect();
        let range = |text: &str| {
            let (first, last) = text.split_once('-').expect("FIRST-LAST");
            (first.parse().expect("a port"), last.parse().expect("a port"))
        };
        let excluded = words.iter().filter_map(|word| word.strip_prefix("without=")).map(range).collect();
        words.retain(|word| !word.starts_with("without="));
        let (first, last) = range(words[1]);
        let eips = words[2..].iter().map(|eip| eip.parse().expect("an EIP")).collect();
        self.pools.push(control::PoolConfigured {
            index: u16::try_from(self.pools.len()).expect("few pools"),
            gateway: words[0].into(),
            zone: format!("zone-{}", zone(words[0])),
            first,
            last,
            eips,
            excluded,
        });
    }

    /// `settings [retention=MS] [kinds=KIND,..] [portbreak=N] [repair=BOOL] [adopt=BOOL]`
    fn set(&mut self, rest: &str) {
        for word in rest.split_whitespace() {
            let (key, value) = word.split_once('=').expect("KEY=VALUE");
            match key {
                "retention" => self.settings.fixed_retention_ms = Some(value.parse().expect("milliseconds")),
                "kinds" => self.settings.stateful_kinds = value.split(',').map(str::to_owned).collect(),
                "portbreak" => self.settings.port_break = value.parse().expect("a number"),
                "repair" => self.settings.repair = value.parse().expect("true or false"),
                "adopt" => self.settings.adopt = value.parse().expect("true or false"),
                other => panic!("{other:?} is no setting"),
            }
        }
    }

    fn configure(&mut self) {
        for pool in self.pools.clone() {
            self.outside.record(Event::PoolConfigured(pool));
        }
        let pools = u16::try_from(self.pools.len()).expect("few pools");
        self.outside.record(Event::Configured(control::Configured { pools, ..self.settings.clone() }));
    }

    /// Compares what is still to be brought about with what was told, if anything was.
    fn agenda_is(&self, wanted: &[&str]) -> Result<(), String> {
        let mut told: Vec<String> = wanted.iter().filter(|word| **word != "nothing").map(ToString::to_string).collect();
        let mut there: Vec<String> =
            self.outside.state.agenda().iter().map(|(intent, _)| intent_words(intent)).collect();
        told.sort();
        there.sort();
        if wanted.is_empty() || told == there { Ok(()) } else { Err(format!("wanted {told:?}, there is {there:?}")) }
    }

    /// Configures, surveys and opens everything, once, before the first `when`.
    fn begin(&mut self) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let pools = self.pools.clone();
        self.configure();
        let there = std::mem::take(&mut self.there);
        let words: Vec<Vec<&str>> = there.iter().map(|line| line.split_whitespace().collect()).collect();
        for words in words.iter().filter(|words| words[0] != "entry") {
            let event = match words[0] {
                "original" => Event::ClaimSeen(original(&words[1..])),
                _ => Event::PodSeen(pod(&words[1..])),
            };
            self.outside.record(event);
        }
        self.outside.record(Event::ClusterRead(control::ClusterRead { pods: 0, claims: 0 }));
        for pool in pools {
            let zone = zone(&pool.gateway);
            let table = format!("ftb-{zone}");
            self.outside.record(Event::GatewaySeen(seen::GatewaySeen {
                gateway: pool.gateway.clone(),
                table: Some(table.clone()),
                zone: Some(pool.zone),
                available: true,
                eips: pool.eips.iter().map(|eip| (*eip, true, false)).collect(),
            }));
            let (vswitch, gateways) = (format!("vsw-{zone}"), vec![pool.gateway]);
            self.outside.record(Event::RouteSeen(seen::RouteSeen { vswitch, gateways }));
            for words in words.iter().filter(|words| words[0] == "entry" && words[1] == table) {
                self.outside.record(Event::EntrySeen(entry(&words[1..])));
            }
            self.outside.record(Event::TableOpened(control::TableOpened { table, entries: 0 }));
        }
        if there.is_empty() {
            self.outside.settle();
            self.outside.happened.clear();
        }
    }

    fn when(&mut self, rest: &str) {
        self.begin();
        let words: Vec<&str> = rest.split_whitespace().collect();
        match words[0] {
            "pod" => self.outside.record(Event::PodSeen(pod(&words[1..]))),
            "gone" => self.outside.record(Event::PodGone(seen::PodGone { uid: words[1].into() })),
            "passes" => self.outside.now_ms += words[1].parse::<u64>().expect("milliseconds"),
            "entry" => self.outside.record(Event::EntrySeen(entry(&words[1..]))),
            "vanished" => {
                let (table, entry) = (words[1].into(), words[2].into());
                self.outside.record(Event::EntryVanished(seen::EntryVanished { table, entry }));
            }
            "passed-over" => self.outside.pass_over(words[1], words[2]),
            "begins" => {}
            "original" => self.outside.record(Event::ClaimSeen(original(&words[1..]))),
            "removed" => {
                let (namespace, name, uid) = ("default".into(), words[1].into(), words[2].into());
                self.outside.record(Event::ClaimGone(seen::ClaimGone { namespace, name, uid }));
            }
            "missing" => {
                let ip = words[1].parse().expect("an address");
                self.outside.record(Event::AddressMissing(seen::AddressMissing { ip }));
            }
            "located" => self.outside.locate(words[1].parse().expect("an address")),
            "gateway" => self.gateway(&words[1..]),
            "table-gone" => self.outside.lose_table(words[1]),
            "refused" | "unknown" => self.bind_ended(&words),
            "edited" => self.claim_edited(&words[1..]),
            "lacks" => self.claim_lacks(&words[1..]),
            "next-leader" => self.outside.next_leader(),
            "eip" => self.eip(&words[1..]),
            "room" => {
                let (short, floor) = (words[1] == "short", 1 << 26);
                let free = if short { floor - 1 } else { 2 * floor };
                self.outside.record(Event::RoomSeen(seen::RoomSeen { free, floor, short }));
            }
            "full" => self.full(words[1]),
            "takes" => {
                let entries = words[2].parse().expect("a number of entries");
                self.outside.quota.insert(words[1].into(), entries);
            }
            "unbound" => self.unbound(&words[1..]),
            "route" => {
                let (vswitch, gateways) = (words[1].into(), words[2..].iter().map(|id| (*id).into()).collect());
                self.outside.record(Event::RouteSeen(seen::RouteSeen { vswitch, gateways }));
            }
            "pools" => {
                self.pools.clear();
                rest.split_once(' ').expect("pools").1.split(';').for_each(|pool| self.pool(pool));
                self.configure();
            }
            "settings" => {
                self.set(rest.split_once(' ').expect("settings").1);
                self.configure();
            }
            "deleted" => self.claim_deleted(words[1]),
            "vanishes" => self.claim_vanishes(words[1]),
            "unreadable" => self.claim_unreadable(&words[1..]),
            "history-lost" => self.history_lost(&words[1..]),
            "let" => drop(self.outside.held.remove(words[1])),
            word => panic!("{word:?} cannot happen in a story"),
        }
        self.outside.settle();
    }

    /// `gateway GATEWAY gone|unavailable|available [snat=EIP]`: the gateway is not listed, or is, as that.
    fn gateway(&mut self, words: &[&str]) {
        let gateway: String = words[0].into();
        if words[1] == "gone" {
            return self.outside.record(Event::GatewayGone(seen::GatewayGone { gateway }));
        }
        let pool = self.pools.iter().find(|pool| pool.gateway == gateway).expect("a pool of that gateway");
        let snat = |eip: &std::net::Ipv4Addr| words[2..].iter().any(|word| *word == format!("snat={eip}"));
        self.outside.record(Event::GatewaySeen(seen::GatewaySeen {
            table: Some(format!("ftb-{}", zone(&gateway))),
            gateway,
            zone: Some(pool.zone.clone()),
            available: words[1] == "available",
            eips: pool.eips.iter().map(|eip| (*eip, true, snat(eip))).collect(),
        }));
    }

    /// `refused POD PORT duplicate|quota|gone|denied|malformed` or `unknown POD PORT`: how the creation of the entry for
    /// that port of the pod ended.
    fn bind_ended(&mut self, words: &[&str]) {
        let port: u16 = words[2].parse().expect("a port");
        let named = |known: &&natgw::machine::state::Allocation| known.pod().as_str() == words[1];
        let known = self.outside.state.allocations().find(|(_, known)| named(known)).expect("it has an allocation");
        let item = known.1.items().iter().find(|item| item.want().internal == port).expect("it has that port");
        let (allocation, generation) = ((*known.0).into(), item.generation().into());
        let class = match words.get(3) {
            None => {
                let code = "Timeout".into();
                return self.outside.record(Event::EntryUnknown(outcome::EntryUnknown {
                    allocation,
                    generation,
                    code,
                }));
            }
            Some(&"duplicate") => 1,
            Some(&"quota") => 2,
            Some(&"gone") => 3,
            Some(&"denied") => 4,
            Some(_) => 5,
        };
        self.outside.record(Event::EntryRefused(outcome::EntryRefused {
            allocation,
            generation,
            class,
            code: words[3].into(),
            message: String::new(),
        }));
    }

    /// `edited NAME PORT|allocation=N`: somebody writes another public port, or another allocation of the term, into the
    /// annotation of a PodDNAT.
    fn claim_edited(&mut self, words: &[&str]) {
        let claims = self.outside.claims();
        let mut seen = claims.into_iter().find(|claim| claim.name == words[0]).expect("a PodDNAT of that name");
        if let Some(claim) = &mut seen.claim {
            match words[1].strip_prefix("allocation=") {
                Some(n) => claim.allocation.1 = n.parse().expect("a number"),
                None => claim.items.iter_mut().for_each(|item| item.external = words[1].parse().expect("a port")),
            }
        }
        self.outside.record(Event::ClaimSeen(seen));
    }

    /// `lacks NAME status|spec|edited-spec|edited-status|place|gateway|ids=ENTRY,...`: the PodDNAT does not show what of ours
    /// the served definition keeps by now, or somebody edited what it shows; `ids` are those of the entries in its status.
    fn claim_lacks(&mut self, words: &[&str]) {
        let claims = self.outside.claims();
        let mut seen = claims.into_iter().find(|claim| claim.name == words[0]).expect("a PodDNAT of that name");
        for word in &words[1..] {
            if let Some(ids) = word.strip_prefix("ids=") {
                seen.ids = seen::ids_shown(ids.split(','));
                continue;
            }
            seen.lacks |= match *word {
                "status" => seen::LACKS_STATUS,
                "spec" => seen::LACKS_SPEC,
                "edited-spec" => seen::EDITED_SPEC,
                "edited-status" => seen::EDITED_STATUS,
                "place" => {
                    seen.claim.as_mut().expect("a claim").place.2 = "elsewhere".to_owned();
                    0
                }
                "gateway" => {
                    seen.claim.as_mut().expect("a claim").gateway = "ngw-elsewhere".to_owned();
                    0
                }
                other => panic!("{other:?} is nothing that a PodDNAT lacks"),
            };
        }
        self.outside.record(Event::ClaimSeen(seen));
    }

    /// `eip GATEWAY ADDRESS usable|locked`: one EIP of a gateway changes.
    fn eip(&mut self, words: &[&str]) {
        let pool = self.pools.iter().find(|pool| pool.gateway == words[0]).expect("a pool of that gateway");
        let usable = |eip: &std::net::Ipv4Addr| eip.to_string() != words[1] || words[2] == "usable";
        self.outside.record(Event::GatewaySeen(seen::GatewaySeen {
            gateway: pool.gateway.clone(),
            table: Some(format!("ftb-{}", zone(&pool.gateway))),
            zone: Some(pool.zone.clone()),
            available: true,
            eips: pool.eips.iter().map(|eip| (*eip, usable(eip), false)).collect(),
        }));
    }

    /// `unbound GATEWAY ADDRESS`: the EIP is no longer bound to the gateway.
    fn unbound(&mut self, words: &[&str]) {
        let pool = self.pools.iter().find(|pool| pool.gateway == words[0]).expect("a pool of that gateway");
        let bound = pool.eips.iter().filter(|eip| eip.to_string() != words[1]);
        self.outside.record(Event::GatewaySeen(seen::GatewaySeen {
            gateway: pool.gateway.clone(),
            table: Some(format!("ftb-{}", zone(&pool.gateway))),
            zone: Some(pool.zone.clone()),
            available: true,
            eips: bound.map(|eip| (*eip, true, false)).collect(),
        }));
    }

    /// `deleted NAME`: somebody deletes the PodDNAT; its finalizer holds it.
    fn claim_deleted(&mut self, name: &str) {
        let uid = self.claim_uid(name);
        let claim = self.outside.state.allocations().find(|(_, known)| *known.key().name() == *name);
        let claim = claim.map(|(id, _)| Box::new(seen::Claim { allocation: (*id).into(), ..seen::Claim::default() }));
        self.outside.record(Event::ClaimSeen(seen::ClaimSeen {
            namespace: "default".into(),
            name: name.into(),
            uid,
            deleting: true,
            finalizer: true,
            claim,
            ..seen::ClaimSeen::default()
        }));
    }

    /// `vanishes NAME`: somebody takes the finalizer off a deleted PodDNAT.
    fn claim_vanishes(&mut self, name: &str) {
        let (namespace, uid) = ("default".into(), self.claim_uid(name));
        self.outside.record(Event::ClaimGone(seen::ClaimGone { namespace, name: name.into(), uid }));
    }

    /// `unreadable NAME UID [natgw|another]`: a PodDNAT whose annotation is no claim, and who wrote it.
    fn claim_unreadable(&mut self, words: &[&str]) {
        let manager = match words.get(2) {
            Some(&"natgw") => seen::MANAGER_NATGW,
            Some(&"another") => seen::MANAGER_ANOTHER,
            _ => seen::MANAGER_NOT_TOLD,
        };
        self.outside.record(Event::ClaimSeen(seen::ClaimSeen {
            namespace: "default".into(),
            name: words[0].into(),
            uid: words[1].into(),
            finalizer: true,
            manager,
            ..seen::ClaimSeen::default()
        }));
    }

    /// `history-lost [without=NAME] [spoilt=NAME] [edited=NAME:PORT] [renamed=NAME:N] [copied=NAME:OTHER:TERM]`: of what the next
    /// leader reads, that PodDNAT is gone, that one has lost its annotation, that one names the n-th allocation, or OTHER has the claim of NAME with another allocation and term.
    fn history_lost(&mut self, words: &[&str]) {
        let mut claims = self.outside.claims();
        for word in words {
            let (how, what) = word.split_once('=').expect("HOW=WHAT");
            match how {
                "without" => claims.retain(|claim| claim.name != what),
                "spoilt" => claims.iter_mut().filter(|claim| claim.name == what).for_each(spoil),
                "edited" => {
                    let (name, port) = what.split_once(':').expect("NAME:PORT");
                    let edited = claims.iter_mut().filter(|claim| claim.name == name);
                    let port = port.parse().expect("a port");
                    edited.filter_map(|claim| claim.claim.as_mut()).for_each(|claim| claim.items[0].external = port);
                }
                "renamed" => {
                    let (name, n) = what.split_once(':').expect("NAME:N");
                    let renamed = claims.iter_mut().filter(|claim| claim.name == name);
                    let n = n.parse().expect("a number");
                    renamed.filter_map(|claim| claim.claim.as_mut()).for_each(|claim| claim.allocation.1 = n);
                }
                "copied" => {
                    let mut parts = what.split(':');
                    let mut part = || parts.next().expect("NAME:OTHER:TERM");
                    let (name, other, term) = (part(), part(), part().parse().expect("a term"));
                    let mut copy = claims.iter().find(|claim| claim.name == name).expect("a PodDNAT").clone();
                    (copy.name, copy.uid) = (other.into(), format!("claim-{other}"));
                    let claim = copy.claim.as_mut().expect("a claim");
                    (claim.allocation, claim.pod) = ((term, 900), other.into());
                    claim.items.iter_mut().zip(901..).for_each(|(item, n)| item.generation = (term, n));
                    claims.push(copy);
                }
                other => panic!("{other:?} is nothing that happens to a claim"),
            }
        }
        self.outside.lose_history(claims);
    }

    fn claim_uid(&self, name: &str) -> String {
        let known = self.outside.state.allocations().filter(|(_, known)| *known.key().name() == *name);
        known.filter_map(|(_, known)| known.claim_uid()).next().expect("a PodDNAT of that name").to_owned()
    }

    /// `full TABLE`: the table takes as many entries as it has now, and no more.
    fn full(&mut self, table: &str) {
        let entries = self.outside.state.listed(&table.into()).count();
        let entries = Some(u32::try_from(entries).expect("few entries"));
        self.outside.record(Event::QuotaLearned(decided::QuotaLearned { table: table.into(), entries }));
    }

    /// A decision as a story tells it; `None` for what is no decision.
    fn words(&self, event: &Event) -> Option<String> {
        let name = |allocation: (u64, u64)| self.names.get(&allocation).expect("it was allocated before").as_str();
        let protocol = |number: u8| protocol_of(number).expect("a protocol");
        match event {
            Event::Allocated(body) => {
                let items = body
                    .items
                    .iter()
                    .map(|item| format!("{}->{}/{}", item.external, item.internal, protocol(item.protocol)));
                Some(format!("allocated {} {} {}", body.name, body.eip, items.collect::<Vec<_>>().join(" ")))
            }
            Event::Recovered(body) => Some(format!("recovers {} {}", body.name, body.eip)),
            Event::Adopted(body) => {
                let items = body
                    .items
                    .iter()
                    .map(|item| format!("{}->{}/{}", item.external, item.internal, protocol(item.protocol)));
                Some(format!("adopts {} {} {}", body.name, body.eip, items.collect::<Vec<_>>().join(" ")))
            }
            Event::Halted(body) => {
                Some(format!("halts {} {}", HaltReason::from_number(body.reason).expect("a reason").word(), body.name))
            }
            Event::Resumed(_) => Some("goes on".to_owned()),
            Event::Contested(body) => Some(format!("leaves {} alone", name(body.allocation))),
            Event::ContestEnded(body) => Some(format!("looks after {} again", name(body.allocation))),
            Event::GhostDecided(body) => Some(format!("drops claim {}", body.name)),
            Event::Waited(body) => {
                Some(format!("waits {} {}", body.pod, WaitReason::from_number(body.reason).expect("a reason").word()))
            }
            Event::Refused(body) => Some(format!(
                "refused {} {}",
                body.pod,
                RefusalReason::from_number(body.reason).expect("a reason").word()
            )),
            Event::ReleaseDecided(body) => {
                Some(format!("releases {}", ReleaseReason::from_number(body.reason).expect("a reason").word()))
            }
            Event::RebindDecided(body) => Some(format!("rebinds {} to {}", name(body.allocation), body.ip)),
            Event::Regenerated(body) => Some(format!("renews {} at {}", name(body.allocation), body.ip)),
            Event::ItemMoved(body) => {
                Some(format!("moves {} {}->{}", name(body.allocation), body.from, body.item.external))
            }
            Event::ItemsChanged(body) => {
                let added = body.added.iter().map(|item| format!("+{}->{}", item.external, item.internal));
                let dropped = body.dropped.iter().map(|(internal, _)| format!("-{internal}"));
                let items = dropped.chain(added).collect::<Vec<_>>().join(" ");
                Some(format!("changes {} {items}", name(body.allocation)))
            }
            Event::Reserved(body) => Some(format!("reserves {}", name(body.allocation))),
            Event::FixedBound(body) => {
                let known = self.outside.state.allocation(body.allocation.into()).map(|known| known.eip().to_string());
                let items = body.items.iter().map(|(internal, number, _)| format!("{internal}/{}", protocol(*number)));
                let (items, eip) = (items.collect::<Vec<_>>().join(" "), known.unwrap_or_default());
                Some(format!("binds {} to {} at {} on {eip} {items}", name(body.allocation), body.pod, body.ip))
            }
            Event::FixedMoved(body) => {
                let why = ["", "Route", "EipLost", "LeftPool"][usize::from(body.reason)];
                Some(format!("leaves {} {why}", name(body.from)))
            }
            Event::StaleDecided(body) => Some(format!("deletes stale {}", body.entry)),
            Event::ClaimReleased(outcome::ClaimReleased { .. }) => Some("released".to_owned()),
            _ => None,
        }
    }
}

fn named(event: &Event) -> Option<((u64, u64), String)> {
    match event {
        Event::Allocated(body) | Event::Recovered(body) | Event::Adopted(body) => {
            Some((body.allocation, body.name.clone()))
        }
        _ => None,
    }
}

/// The annotation is lost: what spec and status say is left.
fn spoil(seen: &mut seen::ClaimSeen) {
    let Some(claim) = seen.claim.take() else { return };
    let id = |at: usize| claim.entries.get(at).filter(|id| !id.is_empty()).cloned();
    let items = claim.items.iter().enumerate();
    seen.shown = claim.eip.zip(claim.ip).map(|(eip, ip)| {
        Box::new(seen::Shown {
            pod: Some(claim.pod.clone()),
            gateway: claim.gateway.clone(),
            eip,
            ip,
            place: claim.place.clone(),
            items: items.map(|(at, item)| (item.internal, item.external, item.protocol, id(at))).collect(),
        })
    });
}

fn zone(gateway: &str) -> &str {
    gateway.rsplit('-').next().unwrap_or(gateway)
}
