//! Pods and entries as a story names them.

use natgw::machine::event::seen;
use natgw::machine::identity::{Mark, UidHash};

/// `pod NAME IP|- [uid=U] [ports=P] [protocol=P] [dnat=V|none] [declared=80/6,..] [hostnetwork] [eci] [ended]
/// [deleting=MS] [stopped] [nsgone] [other=NAME:VALUE] [fixed[=V]] [owner=KIND/NAME]`
pub fn pod(words: &[&str]) -> seen::PodSeen {
    let mut pod = seen::PodSeen {
        namespace: "default".into(),
        name: words[0].into(),
        uid: words[0].into(),
        ip: words[1].parse().ok(),
        ..seen::PodSeen::default()
    };
    let mut annotations = vec![("pod-dnat", String::new())];
    let mut others = Vec::new();
    for word in &words[2..] {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "uid" => pod.uid = value.into(),
            "ports" => annotations.push(("pod-dnat-expose-port", value.into())),
            "protocol" => annotations.push(("pod-dnat-expose-protocol", value.into())),
            "dnat" => {
                annotations.retain(|(name, _)| *name != "pod-dnat");
                if value != "none" {
                    annotations.push(("pod-dnat", value.into()));
                }
            }
            "declared" => {
                let port = |item: &str| {
                    item.split_once('/')
                        .map(|(port, number)| (port.parse().expect("a port"), number.parse().expect("a number")))
                };
                pod.ports = value.split(',').filter_map(port).collect();
            }
            "fixed" => annotations.push(("pod-dnat-fixed", value.into())),
            "owner" => {
                let (kind, name) = value.split_once('/').expect("KIND/NAME");
                pod.owner = Some(("apps/v1".into(), kind.into(), name.into(), format!("uid-{name}")));
            }
            "other" => {
                let (name, value) = value.split_once(':').expect("NAME:VALUE");
                others.push((format!("network.alibabacloud.com/{name}"), value.to_owned()));
            }
            "nsgone" => pod.namespace_terminating = true,
            "stopped" => pod.containers_terminated = true,
            "hostnetwork" => pod.host_network = true,
            "eci" => pod.virtual_node = true,
            "ended" => pod.terminal = true,
            "deleting" => pod.terminating_grace_ms = Some(value.parse().expect("milliseconds")),
            other => panic!("{other:?} is nothing that a pod has"),
        }
    }
    let full = |(name, value): (&str, String)| (format!("k8s.aliyun.com/{name}"), value);
    pod.annotations = annotations.into_iter().map(full).chain(others).collect();
    pod.annotations.sort();
    pod
}

/// `original NAME UID EIP IP PORT->PORT[=ENTRY]... [pod=UID] [gateway=GATEWAY] [deleting] [unpublished]`: a PodDNAT as the
/// original controller writes it, public port first. Without `pod` no pod owns it.
pub fn original(words: &[&str]) -> seen::ClaimSeen {
    let mut claim = seen::ClaimSeen {
        namespace: "default".into(),
        name: words[0].into(),
        uid: words[1].into(),
        finalizer: true,
        published: true,
        manager: seen::MANAGER_ANOTHER,
        ..seen::ClaimSeen::default()
    };
    let ip: std::net::Ipv4Addr = words[3].parse().expect("an address");
    let zone = if ip.octets()[1] == 17 { "k" } else { "j" };
    let mut shown = seen::Shown {
        pod: None,
        gateway: format!("ngw-{zone}"),
        eip: words[2].parse().expect("an EIP"),
        ip,
        place: (format!("eni-{zone}"), format!("vsw-{zone}"), format!("zone-{zone}")),
        items: Vec::new(),
    };
    for word in &words[4..] {
        if let Some((external, rest)) = word.split_once("->") {
            let (internal, id) = rest.split_once('=').map_or((rest, None), |(port, id)| (port, Some(id.to_owned())));
            let port = |text: &str| text.parse().expect("a port");
            shown.items.push((port(internal), port(external), 6, id));
            continue;
        }
        match word.split_once('=').unwrap_or((word, "")) {
            ("pod", uid) => shown.pod = Some(uid.into()),
            ("gateway", gateway) => shown.gateway = gateway.into(),
            ("deleting", _) => claim.deleting = true,
            ("unpublished", _) => claim.published = false,
            (other, _) => panic!("{other:?} is nothing that the original writes"),
        }
    }
    claim.shown = Some(Box::new(shown));
    claim
}

/// `entry TABLE ID EIP:PORT IP:PORT NAME`: a TCP entry; `any` as both ports makes it one of whole addresses. The name
/// `mark:POD:TERM.N:TERM.N` is our mark with that pod's UID, allocation and generation.
pub fn entry(words: &[&str]) -> seen::EntrySeen {
    let split = |text: &str| {
        let (ip, port) = text.split_once(':').expect("IP:PORT");
        let port: u16 = if port == "any" { 0 } else { port.parse().expect("a port") };
        (ip.parse().expect("an address"), (port, port))
    };
    let ((external_ip, external_ports), (internal_ip, internal_ports)) = (split(words[2]), split(words[3]));
    let (table, entry) = (words[0].into(), words[1].into());
    let name = words[4].strip_prefix("mark:").map_or_else(|| words[4].to_owned(), mark);
    seen::EntrySeen {
        table,
        entry,
        name,
        external_ip,
        external_ports,
        internal_ip,
        internal_ports,
        protocol: 6,
        status: 1,
    }
}

/// `POD:TERM.N:TERM.N`: our mark.
fn mark(text: &str) -> String {
    let mut parts = text.split(':');
    let mut part = || parts.next().expect("POD:TERM.N:TERM.N");
    let stamp = |text: &str| {
        let (term, n) = text.split_once('.').expect("TERM.N");
        (term.parse().expect("a term"), n.parse().expect("a number"))
    };
    let (pod, allocation, generation): (&str, (u64, u64), (u64, u64)) = (part(), stamp(part()), stamp(part()));
    Mark::new(UidHash::of("c1"), &pod.into(), allocation.into(), generation.into()).to_string()
}
