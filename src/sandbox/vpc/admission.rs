//! Whether an entry may be created: every rule of aliyun-api.md §2 that can be judged without the account's history.

use super::behaviour::Behaviour;
use super::ports::{IpProtocol, Ports};
use super::refusal::Refusal;
use super::request::NewEntry;
use super::table::{Clash, Forwarding, Seq};
use super::world::{EipStatus, GatewayStatus, NatGateway, World};

/// Ports above this need PortBreak on an EIP that SNAT uses (aliyun-api.md §2).
const SNAT_FREE_PORT_MAX: u16 = 1024;

/// Length of ForwardEntryName in characters (aliyun-api.md §1.1).
const NAME_LENGTH: std::ops::RangeInclusive<usize> = 2..=128;

/// Judges a creation. The order of the checks is ours: no page gives one.
pub(super) fn check_creation(
    world: &World,
    forwarding: &Forwarding,
    behaviour: &Behaviour,
    spec: &NewEntry,
) -> Result<(), Refusal> {
    let gateway = world.gateway_of(&spec.table).ok_or_else(Refusal::table_not_found)?;
    check_shape(spec)?;
    if gateway.status != GatewayStatus::Available {
        return Err(Refusal::gateway_unavailable());
    }
    check_addresses(world, gateway, spec)?;
    check_uniqueness(forwarding, spec, None)?;
    if behaviour.table_serialised && forwarding.any_pending(&spec.table) {
        return Err(Refusal::blocked_by_entry());
    }
    let usage = forwarding.len(&spec.table);
    if u32::try_from(usage).is_ok_and(|usage| usage < behaviour.entry_quota) {
        Ok(())
    } else {
        Err(Refusal::quota(usage, behaviour.entry_quota))
    }
}

/// Judges what an entry would map after a change by hand.
pub(super) fn check_change(
    world: &World,
    forwarding: &Forwarding,
    spec: &NewEntry,
    changed: Seq,
) -> Result<(), Refusal> {
    let gateway = world.gateway_of(&spec.table).ok_or_else(Refusal::table_not_found)?;
    check_shape(spec)?;
    check_addresses(world, gateway, spec)?;
    check_uniqueness(forwarding, spec, Some(changed))
}

fn check_shape(spec: &NewEntry) -> Result<(), Refusal> {
    if !is_name(&spec.name) {
        return Err(Refusal::name_malformed());
    }
    let any = [spec.external_port == Ports::Any, spec.internal_port == Ports::Any, spec.protocol == IpProtocol::Any];
    match any {
        [true, true, true] => return Ok(()),
        [false, false, false] => {}
        [_, _, _] => return Err(Refusal::any_alone()),
    }
    if let (Ports::One(0), _) = (spec.external_port, spec.internal_port) {
        return Err(Refusal::external_port_malformed());
    }
    let length = |ports: Ports| {
        let (first, last) = ports.ends();
        last.checked_sub(first)
    };
    if spec.internal_port == Ports::One(0) || length(spec.external_port) != length(spec.internal_port) {
        return Err(Refusal::internal_port_malformed());
    }
    Ok(())
}

fn check_addresses(world: &World, gateway: &NatGateway, spec: &NewEntry) -> Result<(), Refusal> {
    let Some(eip) = gateway.eips.iter().find(|eip| eip.address == spec.external_ip) else {
        let elsewhere = world.gateways.iter().flat_map(|gateway| &gateway.eips).chain(&world.spare_eips);
        let known = elsewhere.into_iter().any(|eip| eip.address == spec.external_ip);
        return Err(if known { Refusal::eip_elsewhere() } else { Refusal::eip_not_found() });
    };
    match eip.status {
        EipStatus::InUse => {}
        EipStatus::Associating | EipStatus::Unassociating => return Err(Refusal::eip_in_binding()),
        EipStatus::Available => return Err(Refusal::eip_elsewhere()),
    }
    if eip.snat && !spec.port_break && spec.external_port.ends().1 > SNAT_FREE_PORT_MAX {
        return Err(Refusal::eip_used_by_snat());
    }
    if !world.cidr.contains(spec.internal_ip) {
        return Err(Refusal::outside_vpc());
    }
    Ok(())
}

fn check_uniqueness(forwarding: &Forwarding, spec: &NewEntry, changed: Option<Seq>) -> Result<(), Refusal> {
    match forwarding.clash(spec, changed) {
        None => Ok(()),
        Some(Clash::External(seq)) => {
            let equal = forwarding.get(seq).is_some_and(|entry| entry.spec.same_five(spec));
            Err(if equal { Refusal::duplicated() } else { Refusal::external_taken() })
        }
        Some(Clash::Internal(_)) => Err(Refusal::internal_taken()),
    }
}

/// 2 to 128 characters, beginning with a letter or a Chinese character, and not a web address; or none at all.
fn is_name(name: &str) -> bool {
    let begins_well = name.chars().next().is_none_or(|first| first.is_ascii_alphabetic() || is_chinese(first));
    let is_address = ["http://", "https://"].iter().any(|scheme| name.starts_with(scheme));
    name.is_empty() || (NAME_LENGTH.contains(&name.chars().count()) && begins_well && !is_address)
}

fn is_chinese(letter: char) -> bool {
    matches!(letter, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{2fa1f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_documented_rule() {
        for good in ["", "ab", "x-1", "转发条目", &"a".repeat(128)] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["a", "1a", "-a", " ab", "http://a", "https://a", &"a".repeat(129)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
