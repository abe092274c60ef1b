//! The configuration as the step takes it: events, and the lease's durations.

use std::time::Duration;

use super::{Configuration, JOURNAL_RETENTION, JournalSettings, LeaderElection, Pool, PortBreak, RepairPolicy};
use super::{LEASE_DURATION, PORT_COOLDOWN, RENEW_DEADLINE, RESYNC_INTERVAL, RETRY_PERIOD};
use crate::controller::keeping::Policy;
use crate::controller::lease::Timing;
use crate::controller::step;
use crate::machine::event::control;
use crate::machine::identity::{GatewayId, ZoneId};

impl Configuration {
    /// Everything at its default, and no pool. What has no default is empty.
    #[must_use]
    pub fn of_defaults(region: String, vpc: String, pools: Vec<Pool>) -> Self {
        Self {
            cluster: String::new(),
            region,
            vpc,
            pools,
            port_cooldown: PORT_COOLDOWN,
            fixed_retention: None,
            repair_policy: RepairPolicy::default(),
            resync_interval: RESYNC_INTERVAL,
            stateful_kinds: Vec::new(),
            port_break: PortBreak::default(),
            adopt: false,
            credential: None,
            journal: JournalSettings { path: None, retention: JOURNAL_RETENTION },
            leader_election: LeaderElection {
                namespace: None,
                name: "natgw".to_owned(),
                lease_duration: LEASE_DURATION,
                renew_deadline: RENEW_DEADLINE,
                retry_period: RETRY_PERIOD,
            },
        }
    }

    /// As the step takes it. `cluster_uid` is the UID of the kube-system namespace. A pool entry whose gateway is still a
    /// placeholder gives nothing and is left out.
    #[must_use]
    pub fn for_step(&self, cluster_uid: &str) -> step::Configuration {
        let named = self.pools.iter().filter_map(|pool| pool.gateway.as_ref().map(|gateway| (gateway, pool)));
        let pools: Vec<_> =
            (0_u16..).zip(named).map(|(index, (gateway, pool))| pool.for_step(index, gateway)).collect();
        let settings = control::Configured {
            cluster_uid: cluster_uid.to_owned(),
            pools: u16::try_from(pools.len()).unwrap_or(u16::MAX),
            cooldown_ms: milliseconds(self.port_cooldown),
            fixed_retention_ms: self.fixed_retention.map(milliseconds),
            resync_ms: milliseconds(self.resync_interval),
            repair: match self.repair_policy {
                RepairPolicy::Repair => true,
                RepairPolicy::Observe => false,
            },
            adopt: self.adopt,
            port_break: match self.port_break {
                PortBreak::Auto => 0,
                PortBreak::Always => 1,
                PortBreak::Never => 2,
            },
            stateful_kinds: self.stateful_kinds.clone(),
        };
        step::Configuration { pools, settings }
    }
}

impl Pool {
    /// The documented range on all EIPs of a gateway.
    #[must_use]
    pub fn documented(gateway: GatewayId, zone: ZoneId) -> Self {
        let (first, last) = DOCUMENTED_PORTS;
        Self { gateway: Some(gateway), zone: Some(zone), first, last, eips: Vec::new(), excluded: Vec::new() }
    }

    fn for_step(&self, index: u16, gateway: &GatewayId) -> control::PoolConfigured {
        control::PoolConfigured {
            index,
            gateway: gateway.as_str().to_owned(),
            zone: self.zone.as_ref().map(|zone| zone.as_str().to_owned()).unwrap_or_default(),
            first: self.first,
            last: self.last,
            eips: self.eips.clone(),
            excluded: self.excluded.clone(),
        }
    }
}

/// `portRangeStart` and `portRangeEnd` of the documented configuration (ack-pod-dnat.txt).
const DOCUMENTED_PORTS: (u16, u16) = (512, 1024);

impl JournalSettings {
    /// As the step takes it.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::of(milliseconds(self.retention))
    }
}

impl LeaderElection {
    /// As the step takes it.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            lease_duration_ms: milliseconds(self.lease_duration),
            renew_deadline_ms: milliseconds(self.renew_deadline),
            retry_period_ms: milliseconds(self.retry_period),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
