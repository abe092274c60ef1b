//! The configuration file: what the documentation shows loads unchanged, what is broken is refused with its remedy.
#![cfg(feature = "adapters")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a broken fixture is a failed test")]

use std::net::Ipv4Addr;
use std::time::Duration;

use natgw::config::{Configuration, PortBreak, RepairPolicy, load, parse};

/// The documented file, character by character, comments included.
const DOCUMENTED: &str = r#"clusterID: "c11ba338192xxxxxxx"          # 請按實際情況填寫。
regionID: "cn-hangzhou"                  # 請按實際情況填寫。
vpcID: "vpc-bp1rkq0zxxxxxx"              # 請按實際情況填寫。
enableControllers:
  - natgw                                  # 啟用DNAT。

networkController:
  natGwPool:
    - natgwId: "< nat gateway id. >"                   # nat 公網網關ID。
      zoneId: "< nat gateway zone id. cn-hangzhou-j >" # nat 公網網關可用性區域ID。
      portRangeStart: 512                              # 開始端點口。
      portRangeEnd: 1024                               # 結束連接埠。
      eips:
        - "<auto config all nat gateway eips if not config. 0.0.0.0 >"  # 使用公網網關EIP,如不設定,則使用網關上配置的全部EIP。

credential:                               # 使用AK/SK,ACK叢集推薦使用RamRole模式配置。 若使用步驟一為叢集的Worker RAM角色授權,此處無需配置。
  accessKey: ""
  accessSecret: ""
"#;

/// The smallest file that says everything needed.
const SMALL: &str = "clusterID: c1
regionID: cn-hangzhou
vpcID: vpc-1
networkController:
  natGwPool:
    - natgwId: ngw-1
      portRangeStart: 512
      portRangeEnd: 1024
";

fn refusal(yaml: &str) -> String {
    match parse(yaml) {
        Err(error) => error.to_string(),
        Ok((configuration, _)) => panic!("{yaml} was accepted as {configuration:?}"),
    }
}

fn accepted(yaml: &str) -> (Configuration, Vec<String>) {
    let (configuration, warnings) = parse(yaml).unwrap_or_else(|error| panic!("{error}"));
    (configuration, warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn the_documented_file_loads_unchanged() {
    let (configuration, warnings) = accepted(DOCUMENTED);
    assert_eq!(configuration.cluster, "c11ba338192xxxxxxx");
    assert_eq!(configuration.region, "cn-hangzhou");
    assert_eq!(configuration.vpc, "vpc-bp1rkq0zxxxxxx");
    let [pool] = configuration.pools.as_slice() else { panic!("{:?}", configuration.pools) };
    assert_eq!((&pool.gateway, &pool.zone), (&None, &None));
    assert_eq!((pool.first, pool.last, pool.eips.len(), pool.excluded.len()), (512, 1024, 0, 0));
    assert!(configuration.credential.is_none());
    assert_eq!(
        warnings,
        [
            "networkController.natGwPool[0].natgwId (line 9, column 16): a placeholder still stands there, so this \
             entry of the pool gives nothing",
            "networkController.natGwPool[0].zoneId (line 10, column 15): a placeholder still stands there, so the \
             gateway's own zone counts",
            "networkController.natGwPool[0].eips[0] (line 14, column 11): a placeholder still stands there, so it \
             names no EIP",
        ]
    );
}

#[test]
fn what_the_file_does_not_say_has_its_default() {
    let (configuration, warnings) = accepted(SMALL);
    assert_eq!(warnings, [""; 0]);
    assert_eq!(configuration.pools[0].gateway, Some("ngw-1".into()));
    assert_eq!(configuration.port_cooldown, Duration::from_secs(30));
    assert_eq!(configuration.fixed_retention, None);
    assert_eq!(configuration.repair_policy, RepairPolicy::Repair);
    assert_eq!(configuration.resync_interval, Duration::from_secs(300));
    assert_eq!(configuration.port_break, PortBreak::Auto);
    assert!(!configuration.adopt && configuration.stateful_kinds.is_empty());
    assert_eq!(configuration.journal.path, None);
    assert_eq!(configuration.journal.retention, Duration::from_secs(7 * 24 * 3_600));
    let election = configuration.leader_election;
    assert_eq!((election.namespace, election.name.as_str()), (None, "natgw"));
    let seconds = [election.lease_duration, election.renew_deadline, election.retry_period].map(|d| d.as_secs());
    assert_eq!(seconds, [15, 10, 2]);
}

#[test]
fn every_key_of_ours_is_read() {
    let (configuration, warnings) = accepted(
        "clusterID: c1
regionID: cn-hangzhou
vpcID: vpc-1
enableControllers: [eip, ipv6gw, natgw]
networkController:
  ipv6GatewayController:
    maxConcurrentReconciles: 10
  portCooldown: 1m30s
  fixedRetention: 168h
  repairPolicy: observe
  resyncInterval: 10m
  customStatefulWorkloadKinds: [CloneSet, GameServerSet]
  portBreak: never
  adopt: true
  natGwPool:
    - natgwId: ngw-1
      zoneId: cn-hangzhou-j
      portRangeStart: 1
      portRangeEnd: 65535
      eips: [203.0.113.7, 203.0.113.8]
      excludePorts: [22, 600-610]
    - natgwId: ngw-1
      portRangeStart: 512
      portRangeEnd: 512
      eips: [203.0.113.9]
credential:
  accessKey: the-id
  accessSecret: hush
journal:
  path: /var/lib/natgw
  retention: 48h
leaderElection:
  namespace: kube-system
  name: natgw-2
  leaseDuration: 60s
  renewDeadline: 40s
  retryPeriod: 500ms
",
    );
    assert_eq!(
        warnings,
        [
            "enableControllers[0] (line 4, column 21): natgw does not do the work of the controller eip",
            "enableControllers[1] (line 4, column 26): natgw does not do the work of the controller ipv6gw",
            "networkController.ipv6GatewayController (line 7, column 5): it belongs to another controller and has no \
             effect",
        ]
    );
    assert_eq!(configuration.port_cooldown, Duration::from_secs(90));
    assert_eq!(configuration.fixed_retention, Some(Duration::from_secs(168 * 3_600)));
    assert_eq!(configuration.repair_policy, RepairPolicy::Observe);
    assert_eq!(configuration.resync_interval, Duration::from_secs(600));
    assert_eq!(configuration.stateful_kinds, ["CloneSet", "GameServerSet"]);
    assert_eq!(configuration.port_break, PortBreak::Never);
    assert!(configuration.adopt);
    let [first, second] = configuration.pools.as_slice() else { panic!("{:?}", configuration.pools) };
    assert_eq!(first.zone, Some("cn-hangzhou-j".into()));
    assert_eq!((first.first, first.last), (1, 65535));
    assert_eq!(first.eips, [[203, 0, 113, 7], [203, 0, 113, 8]].map(Ipv4Addr::from));
    assert_eq!(first.excluded, [(22, 22), (600, 610)]);
    assert_eq!(second.zone, None);
    assert_eq!(configuration.credential.as_ref().map(|key| key.id()), Some("the-id"));
    assert!(!format!("{configuration:?}").contains("hush"));
    assert_eq!(configuration.journal.path.as_deref(), Some("/var/lib/natgw".as_ref()));
    assert_eq!(configuration.journal.retention, Duration::from_secs(48 * 3_600));
    assert_eq!(configuration.leader_election.namespace.as_deref(), Some("kube-system"));
    assert_eq!(configuration.leader_election.retry_period, Duration::from_millis(500));
}

/// [`SMALL`] with lines put under `networkController`.
fn network(lines: &str) -> String {
    SMALL.replace("networkController:\n", &format!("networkController:\n{lines}\n"))
}

/// [`SMALL`] with another entry of the pool.
fn second_pool(lines: &str) -> String {
    format!("{SMALL}    - {lines}\n")
}

const POOL_2: &str = "{natgwId: ngw-1, portRangeStart: 1000, portRangeEnd: 2000, eips: [203.0.113.7]}";

/// Each of the files is refused with exactly these words: key, value, place, reason, remedy.
fn refused<const N: usize>(files: [(String, &str); N]) {
    for (yaml, expected) in files {
        assert_eq!(refusal(&yaml), expected, "{yaml}");
    }
}

#[test]
fn missing_keys_placeholders_and_unknown_keys_are_refused() {
    refused([
        (
            SMALL.replace("vpcID: vpc-1\n", ""),
            "vpcID is missing: it has to be set; set it to the VPC of the cluster, vpc-...",
        ),
        (
            SMALL.replace("cn-hangzhou", "\"<region>\""),
            "regionID is \"<region>\" (line 2, column 11): a placeholder still stands there; set it to the region of \
             the cluster, such as cn-hangzhou",
        ),
        (
            SMALL.replace("vpcID", "vpcId"),
            "vpcId is \"vpc-1\" (line 3, column 1): no such key is known; remove it or use one of clusterID, \
             regionID, vpcID, enableControllers, networkController, credential, journal, leaderElection",
        ),
        (
            SMALL.replace("natGwPool", "natGwPools"),
            "networkController.natGwPools is a list of 1 (line 5, column 3): no such key is known; remove it or use \
             one of natGwPool, portCooldown, fixedRetention, repairPolicy, resyncInterval, \
             customStatefulWorkloadKinds, portBreak, adopt",
        ),
    ]);
}

#[test]
fn pools_without_a_sound_range_or_in_each_others_way_are_refused() {
    refused([
        (
            SMALL.replace("512", "0"),
            "networkController.natGwPool[0].portRangeStart is 0 (line 7, column 23): it is no port; use a number from \
             1 to 65535",
        ),
        (
            SMALL.replace("1024", "65536"),
            "networkController.natGwPool[0].portRangeEnd is 65536 (line 8, column 21): it is no port; use a number \
             from 1 to 65535",
        ),
        (
            SMALL.replace("512", "\"512\""),
            "networkController.natGwPool[0].portRangeStart is \"512\" (line 7, column 23): it is no number; use a \
             number from 1 to 65535",
        ),
        (
            SMALL.replace("512", "2000"),
            "networkController.natGwPool[0].portRangeEnd is 1024 (line 8, column 21): it is below portRangeStart, \
             2000; exchange the two or correct one of them",
        ),
        (
            second_pool(POOL_2),
            "networkController.natGwPool[1] is a section (line 9, column 7): it overlaps with \
             networkController.natGwPool[0]: one has all EIPs of ngw-1, and both give the ports 1000 to 1024; give \
             every port of an EIP to one entry only",
        ),
        (
            second_pool("{natgwId: ngw-1, portRangeStart: 2000, portRangeEnd: 3000}"),
            "networkController.natGwPool[1] is a section (line 9, column 7): it overlaps with \
             networkController.natGwPool[0]: both have all EIPs of ngw-1; give every port of an EIP to one entry only",
        ),
        (
            format!("{}    - {POOL_2}\n", second_pool(POOL_2).replace("portRangeEnd: 1024", "portRangeEnd: 600")),
            "networkController.natGwPool[2] is a section (line 10, column 7): it overlaps with \
             networkController.natGwPool[1]: both give the ports 1000 to 2000 of 203.0.113.7; give every port of an \
             EIP to one entry only",
        ),
        (
            format!("{}    - {}\n", second_pool(&POOL_2.replace("ngw-1", "ngw-2")), POOL_2.replace("ngw-1", "ngw-3")),
            "networkController.natGwPool[2] is a section (line 10, column 7): it overlaps with \
             networkController.natGwPool[1]: the EIP 203.0.113.7 cannot be on two gateways; give every port of an EIP \
             to one entry only",
        ),
        (
            second_pool(&POOL_2.replace("203.0.113.7", "203.0.113.7, all")),
            "networkController.natGwPool[1].eips[1] is \"all\" (line 9, column 86): it is no IPv4 address that could \
             be an EIP; use an EIP of the gateway, or leave out eips to use all that it has",
        ),
        (
            format!("{SMALL}      excludePorts: [\"1-65535\"]\n"),
            "networkController.natGwPool[0].excludePorts is a list of 1 (line 9, column 21): it leaves no port of 512 \
             to 1024; exclude fewer ports or widen the range",
        ),
        (
            format!("{SMALL}      excludePorts: [610-600]\n"),
            "networkController.natGwPool[0].excludePorts[0] is \"610-600\" (line 9, column 22): it is neither a port \
             nor a range; use a number or a range such as \"600-610\"",
        ),
    ]);
}

#[test]
fn durations_and_choices_that_mean_nothing_are_refused() {
    refused([
        (
            network("  portCooldown: 30"),
            "networkController.portCooldown is 30 (line 5, column 17): the unit is missing; write a number and a \
             unit, such as 30s, 5m or 1h",
        ),
        (
            network("  resyncInterval: soon"),
            "networkController.resyncInterval is \"soon\" (line 5, column 19): it is no duration; write a number and \
             a unit, such as 30s, 5m or 1h",
        ),
        (
            network("  portCooldown: -30s"),
            "networkController.portCooldown is \"-30s\" (line 5, column 17): it is negative; write a number and a \
             unit, such as 30s, 5m or 1h",
        ),
        (
            network("  resyncInterval: 1s"),
            "networkController.resyncInterval is \"1s\" (line 5, column 19): it is out of bounds; use 10s to 8784h",
        ),
        (
            network("  repairPolicy: mend"),
            "networkController.repairPolicy is \"mend\" (line 5, column 17): it is not among the choices; use one of \
             repair, observe",
        ),
        (
            network("  adopt: \"yes\""),
            "networkController.adopt is \"yes\" (line 5, column 10): it is neither true nor false; write true or \
             false without quotes",
        ),
    ]);
}

#[test]
fn controllers_times_of_the_lease_and_half_a_key_pair_are_refused() {
    refused([
        (
            format!("{SMALL}enableControllers: [eip]\n"),
            "enableControllers is a list of 1 (line 9, column 20): natgw is not among the controllers; add natgw to \
             the list",
        ),
        (
            format!("{SMALL}enableControllers: [natgw, nat]\n"),
            "enableControllers[1] is \"nat\" (line 9, column 28): no such controller is known; use natgw",
        ),
        (
            format!("{SMALL}leaderElection:\n  leaseDuration: 10s\n"),
            "leaderElection.leaseDuration is \"10s\" (line 10, column 18): it is not above renewDeadline, 10s, so two \
             could lead at once; keep leaseDuration above renewDeadline, such as 15s and 10s",
        ),
        (
            format!("{SMALL}leaderElection: {{renewDeadline: 999ms}}\n"),
            "leaderElection.renewDeadline is \"999ms\" (line 9, column 33): a call may take half of it, which has to be \
             500ms at least; use more, such as 10s",
        ),
        (
            format!("{SMALL}leaderElection: {{retryPeriod: 9s}}\n"),
            "leaderElection.retryPeriod is \"9s\" (line 9, column 31): it leaves no second attempt within \
             renewDeadline, 10s; keep retryPeriod well below renewDeadline, such as 2s and 10s",
        ),
        (
            format!("{SMALL}credential:\n  accessKey: the-id\n"),
            "credential.accessSecret is missing: accessKey is set without it; set both, or leave both empty to use a \
             RAM role",
        ),
    ]);
}

#[test]
fn what_is_no_yaml_is_refused_with_its_place_and_without_its_text() {
    for broken in
        ["credential: {accessSecret: hush", "credential:\n  accessSecret: hush\n accessKey: x\n", "a: hush\na: hush\n"]
    {
        let message = refusal(broken);
        assert!(message.starts_with("the configuration is no valid YAML (line "), "{message}");
        assert!(message.ends_with("; correct that place"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    assert_eq!(refusal(""), "clusterID is missing: it has to be set; set it to the id of the cluster");
    let message = refusal(&format!("{SMALL}credential:\n  accessKey: a\n  accessSecret: [hush]\n"));
    assert_eq!(
        message,
        "credential.accessSecret is (hidden) (line 11, column 17): it is no text of a sensible length; put it in quotes"
    );
}

#[test]
fn a_file_is_loaded_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("natgw.yaml");
    let message = load(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("the configuration {} cannot be read: ", path.display())), "{message}");
    std::fs::write(&path, DOCUMENTED).unwrap();
    assert_eq!(load(&path).unwrap().1.len(), 3);
}
