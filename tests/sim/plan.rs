//! What kind of world a seed makes.

use natgw::controller::lease::Timing;
use natgw::controller::step::Configuration;
use natgw::machine::event::control;
use natgw::sandbox::vpc::Behaviour;

use crate::dice::Dice;
use crate::faults::Fault;
use crate::mutants::Mutant;

/// Everything that makes one world what it is. Two worlds of equal plans are equal step by step.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub mutant: Mutant,
    /// Steps with faults; afterwards the world is calm.
    pub steps: u64,
    pub replicas: usize,
    /// Entries on one page of a listing.
    pub page: u32,
    /// Names of bare pods in play.
    pub pods: usize,
    /// Pods of the Deployment, at most.
    pub many: u32,
    pub behaviour: Behaviour,
    pub configuration: Configuration,
    /// Faults that do not strike though the seed has them.
    pub without: Vec<Fault>,
    /// The only fault of the cloud's model, at its full rate, instead of the seed's.
    pub only: Option<Fault>,
    /// What happens is written down in words.
    pub told: bool,
    /// Whether volumes are sled's as measured, or the plain segments; the seed decides where it is not said.
    pub sled: Option<bool>,
    /// Wishes are drawn until this step.
    pub wishes_until: u64,
}

/// Faults after which a replica may begin without the history of those before it.
pub const LOSING: [Fault; 14] = [
    Fault::PowerCut,
    Fault::CrashInAppend,
    Fault::BitFlip,
    Fault::PageZeroed,
    Fault::SyncError,
    Fault::VolumeOld,
    Fault::VolumeEmpty,
    Fault::VolumeForeign,
    Fault::AnchorLost,
    Fault::AnchorOld,
    Fault::ApiRestored,
    Fault::LeaseEdited,
    Fault::LeaseDeleted,
    Fault::ClaimEdited,
];

/// The lease's durations: client-go's defaults.
pub const TIMING: Timing = Timing { lease_duration_ms: 15_000, renew_deadline_ms: 10_000, retry_period_ms: 2_000 };

/// The resync of every world.
pub const RESYNC_MS: u64 = 300_000;

/// The rest of a freed port, in every world.
pub const COOLDOWN_MS: u64 = 30_000;

/// How long a bare pod's reservation is kept, in the worlds in which it ends.
pub const RETENTION_MS: u64 = 400_000;

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let (scarce, keeps_history) = (dice.one_in(4), dice.one_in(6));
        let behaviour = Behaviour {
            entry_quota: if scarce { 9 } else { 1_000 },
            pending_ms: *dice.pick(&[0, 500, 500, 3_000]),
            deleting_ms: *dice.pick(&[0, 500, 500, 3_000]),
            table_serialised: dice.one_in(6),
            create_conflict_ms: *dice.pick(&[0, 0, 0, 500]),
            delete_blocked_by_pending: !dice.one_in(3),
            token_lifetime_ms: *dice.pick(&[30 * 60_000, 30 * 60_000, 24 * 3_600_000, 60_000]),
            ..Behaviour::default()
        };
        let steps = 1_500 + dice.draw(1_500);
        Self {
            seed,
            mutant: Mutant::None,
            steps,
            replicas: if keeps_history { 1 } else { *dice.pick(&[1, 1, 2, 2, 3]) },
            page: *dice.pick(&[2, 2, 3, 50]),
            pods: *dice.pick(&[2, 6, 6, 8]),
            many: *dice.pick(&[3, 6, 12]),
            behaviour,
            configuration: {
                let mut configuration = configuration(if dice.one_in(2) { 515 } else { 560 });
                configuration.settings.fixed_retention_ms = dice.one_in(2).then_some(RETENTION_MS);
                configuration
            },
            // Without history a PodDNAT without our annotation may be the original controller's.
            without: if keeps_history { LOSING.to_vec() } else { vec![Fault::ClaimMalformed] },
            only: None,
            told: false,
            sled: None,
            wishes_until: steps,
        }
    }

    /// A world in which nothing goes wrong, with room for everybody and one replica.
    pub fn calm() -> Self {
        Self {
            seed: 1,
            mutant: Mutant::None,
            steps: 0,
            replicas: 1,
            page: 50,
            pods: 8,
            many: 6,
            behaviour: Behaviour { entry_quota: 100_000, ..Behaviour::default() },
            configuration: configuration(560),
            without: Fault::ALL.to_vec(),
            only: None,
            told: false,
            sled: None,
            wishes_until: 0,
        }
    }
}

/// Both gateways of the default world, with ports from 512 to `last`.
pub fn configuration(last: u16) -> Configuration {
    let pool = |(index, zone): (u16, &str)| control::PoolConfigured {
        index,
        gateway: format!("ngw-sandbox-{zone}"),
        zone: format!("cn-hangzhou-{zone}"),
        first: 512,
        last,
        eips: Vec::new(),
        excluded: vec![(514, 514)],
    };
    let settings = control::Configured {
        cluster_uid: "c1".to_owned(),
        pools: 2,
        cooldown_ms: COOLDOWN_MS,
        fixed_retention_ms: None,
        resync_ms: RESYNC_MS,
        repair: true,
        adopt: false,
        port_break: 0,
        stateful_kinds: Vec::new(),
    };
    Configuration { pools: [(0, "j"), (1, "k")].map(pool).into(), settings }
}
