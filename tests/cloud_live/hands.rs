//! People who change an account while the controller works in it, by the cloud's own API, as its console does: what goes
//! wrong with calls goes wrong with theirs, too. Their ClientTokens tell them apart.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use natgw::cloud::credentials::{AccessKey, StaticKey};
use natgw::cloud::endpoints::Endpoints;
use natgw::cloud::{AliyunCloud, Settings};
use natgw::machine::identity::{EntryId, Protocol, TableId, Tuple};
use natgw::ports::cloud::{Cloud as _, CloudError, CreateEntry, DeleteEntry, ErrorClass};
use natgw::sandbox::vpc::{Effect, LedgerLine, NewEntry};
use tokio::runtime::Runtime;

/// How the ClientTokens of people begin.
const TOKEN: &str = "by-hand-";

/// How often a call is repeated that has to be done: far more than faults take.
const TRIES_MAX: u32 = 5_000;

/// How often one is repeated that may fail.
const TRIES: u32 = 60;

/// The tables with their zones' numbers and those of their EIPs that nobody maps as a whole.
pub const TABLES: [(&str, u8, &[u8]); 2] = [("ftb-sandbox-j", 16, &[1, 3]), ("ftb-sandbox-k", 17, &[4, 5, 6])];

/// Whether somebody's own hand sent it.
pub fn is_by_hand(token: Option<&str>) -> bool {
    token.is_some_and(|token| token.starts_with(TOKEN))
}

/// A ledger that is read as it grows.
pub struct Following {
    file: std::fs::File,
    rest: String,
    read: u64,
    pub lines: Vec<LedgerLine>,
}

impl Following {
    pub fn of(path: &Path) -> Self {
        Self { file: std::fs::File::open(path).unwrap(), rest: String::new(), read: 0, lines: Vec::new() }
    }

    /// Reads what is new.
    pub fn read(&mut self) {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(self.read)).unwrap();
        self.read += u64::try_from(self.file.read_to_end(&mut bytes).unwrap()).unwrap();
        self.rest.push_str(std::str::from_utf8(&bytes).unwrap());
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let new: Vec<LedgerLine> = self.rest[..whole].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        self.rest.drain(..whole);
        self.lines.extend(new);
    }

    /// The cloud's time when something was last asked or done.
    pub fn now_ms(&self) -> u64 {
        self.lines.last().map_or(0, |line| match line {
            LedgerLine::Request(line) => line.at_ms,
            LedgerLine::Effect(line) => line.at_ms,
        })
    }

    /// What stands in the tables: entry to what it maps and whether it is somebody's own.
    pub fn standing(&self) -> BTreeMap<EntryId, (NewEntry, bool)> {
        let mut standing = BTreeMap::new();
        for line in &self.lines {
            let LedgerLine::Effect(line) = line else { continue };
            let Some(entry) = line.entry.clone() else { continue };
            match line.effect {
                Effect::Created => {
                    standing.insert(entry, (line.spec.clone().unwrap(), is_by_hand(line.token.as_deref())));
                }
                Effect::InsertedByHand => {
                    standing.insert(entry, (line.spec.clone().unwrap(), true));
                }
                Effect::Gone | Effect::RemovedByHand => {
                    standing.remove(&entry);
                }
                Effect::Available
                | Effect::Deleting
                | Effect::EditedByHand
                | Effect::LateRefused { .. }
                | Effect::LateRepeated => {}
            }
        }
        standing
    }
}

/// Somebody with a key to the account.
pub struct Hands {
    cloud: AliyunCloud,
    runtime: Runtime,
    dice: u64,
    count: u32,
}

impl Hands {
    pub fn new(url: &str, seed: u64) -> Self {
        let settings = Settings {
            region: "cn-hangzhou".to_owned(),
            vpc: "vpc-sandbox".to_owned(),
            endpoints: Endpoints::at(url).unwrap(),
            mutating_timeout: Duration::from_secs(30),
            reading_timeout: Duration::from_secs(30),
        };
        let key = AccessKey::new("sandbox".to_owned(), "sandbox-secret".into(), None).unwrap();
        let cloud = AliyunCloud::new(settings, Arc::new(StaticKey::new(key)), Arc::new(SystemTime::now)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { cloud, runtime, dice: seed, count: 0 }
    }

    /// A number from the seed and a counter: SplitMix64's finalizer.
    pub fn draw(&mut self, below: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    /// Makes so many entries in each table, outside of the ports that are the controller's to give.
    pub fn others(&mut self, each: u16) {
        for (table, zone, eips) in TABLES {
            for n in 0..each {
                let tuple = Tuple {
                    external_ip: [203, 0, 113, eips[0]].into(),
                    external_port: 40_000 + n,
                    internal_ip: [172, zone, 251, 1].into(),
                    internal_port: 40_000 + n,
                    protocol: Protocol::Udp,
                };
                // Nobody else maps these: a duplicate is the entry of an earlier try, whose token was forgotten.
                let answer = self.create(table.into(), tuple, TRIES_MAX);
                assert!(matches!(answer, None | Some(ErrorClass::Duplicate)), "{tuple:?}: {answer:?}");
            }
        }
    }

    /// Does something: removes an entry of the controller's, takes what it mapped, or maps something else.
    pub fn meddle(&mut self, following: &Following) {
        let ours = following.standing().into_iter().filter(|(_, (_, by_hand))| !by_hand);
        let ours: Vec<(EntryId, NewEntry)> = ours.map(|(entry, (spec, _))| (entry, spec)).collect();
        let of = usize::try_from(self.draw(1 << 20)).unwrap().checked_rem(ours.len());
        let host = u8::try_from(1 + self.draw(200)).unwrap();
        let internal_port = u16::try_from(10_000 + self.draw(50_000)).unwrap();
        match (self.draw(3), of.map(|of| &ours[of])) {
            (0, Some((entry, spec))) => self.delete(spec.table.clone(), entry.clone()),
            (1, Some((entry, spec))) => {
                self.delete(spec.table.clone(), entry.clone());
                let zone = if spec.table.to_string() == TABLES[0].0 { TABLES[0].1 } else { TABLES[1].1 };
                let tuple = Tuple {
                    external_ip: spec.external_ip,
                    external_port: spec.external_port.ends().0,
                    internal_ip: [172, zone, 250, host].into(),
                    internal_port,
                    protocol: Protocol::Tcp,
                };
                // The controller may be the first to make it again: people lose races, too.
                self.create(spec.table.clone(), tuple, TRIES);
            }
            (_, _) => {
                let (table, zone, eips) = TABLES[usize::try_from(self.draw(2)).unwrap()];
                let eip = eips[usize::try_from(self.draw(1 << 20)).unwrap() % eips.len()];
                let tuple = Tuple {
                    external_ip: Ipv4Addr::from([203, 0, 113, eip]),
                    external_port: 512 + u16::try_from(self.draw(30)).unwrap(),
                    internal_ip: [172, zone, 250, host].into(),
                    internal_port,
                    protocol: Protocol::Tcp,
                };
                // The cloud refuses it where the tuple is taken or the table is full, as it refuses people.
                self.create(table.into(), tuple, 1);
            }
        }
    }

    fn token(&mut self) -> String {
        self.count += 1;
        format!("{TOKEN}{}", self.count)
    }

    /// Tries until it is done or somebody else has the tuple; what was answered last, where that is a refusal.
    fn create(&mut self, table: TableId, tuple: Tuple, tries: u32) -> Option<ErrorClass> {
        let (name, token) = ("somebody".to_owned(), self.token());
        let request = CreateEntry { table, tuple, name, token, port_break: true };
        let mut class = None;
        for _ in 0..tries {
            class = self.runtime.block_on(self.cloud.create_entry(&request)).err().map(|error| error.class);
            // The controller's own entry may still be on its way out.
            if class.is_none() || (class == Some(ErrorClass::Duplicate) && tries == TRIES_MAX) {
                break;
            }
        }
        class
    }

    fn delete(&mut self, table: TableId, entry: EntryId) {
        let request = DeleteEntry { table, entry, token: self.token() };
        let done = |answer: Result<(), CloudError>| answer.is_ok_and(|()| true);
        let gone = |answer: &Result<(), CloudError>| matches!(answer, Err(error) if error.class == ErrorClass::Gone);
        for _ in 0..TRIES {
            let answer = self.runtime.block_on(self.cloud.delete_entry(&request));
            if gone(&answer) || done(answer) {
                return;
            }
        }
    }

    /// Lets a moment pass, of which the cloud has many more.
    pub fn wait(&self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
    }
}
