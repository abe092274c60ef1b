//! The six listings. They change nothing.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::attributes;
use super::refusal::Refusal;
use super::reply::{Answer, Numbered, Part, ShownEip, ShownEntry, ShownGateway, ShownIp};
use super::request::{EntryFilter, PageSpec, PartSpec, Request, TOKEN_PREFIX};
use super::rng;
use super::table::{Forwarding, Past, bounds, cut};
use super::tally::{Incident, Tally};
use super::world::{Eip, Interface, NatGateway, Route, RouteTable, World};
use crate::machine::identity::{EniId, GatewayId, TableId};

/// PageSize of entries, gateways and route tables (aliyun-api.md §1.4, §1.5, §1.7).
const PAGE_MAX: u32 = 50;
/// PageSize of EIPs, and the most addresses or ids in one filter list (aliyun-api.md §1.6, §1.9).
const LONG_PAGE_MAX: u32 = 100;
/// The most values of EipAddress and of AllocationId (aliyun-api.md §1.6).
const EIP_VALUES_MAX: usize = 50;
/// MaxResult of routes: the most, and the default (aliyun-api.md §1.8; the smaller of the two documented defaults).
const ROUTES: (u32, u32) = (500, 10);
/// MaxResults of interfaces: the most, and the least, which is also the default (aliyun-api.md §1.9).
const INTERFACES: (u32, u32) = (500, 10);
/// The most values of a numbered list parameter (aliyun-api.md §1.9).
const LIST_MAX: usize = 100;

/// What a listing of entries shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// The table as it is.
    Now,
    /// The table as it was at that moment.
    Past(u64),
    /// Each entry as it was at one of two moments, as the salt says.
    Patchy {
        /// The later moment.
        newer_ms: u64,
        /// The earlier one.
        older_ms: u64,
        /// By which each entry chooses.
        salt: u64,
    },
    /// The table as it is, the page begun so many entries too late, or too early where negative.
    Shifted(isize),
}

/// What a listing shows besides what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Show {
    /// Of entries.
    pub(super) view: View,
    /// Statuses that no page names, in the places that this salt says.
    pub(super) odd_words: Option<u64>,
}

/// Answers a listing, and says what was wrong with what it showed.
pub(super) fn answer(
    world: &World,
    forwarding: &Forwarding,
    request: &Request,
    show: Show,
    tally: &mut Tally,
) -> Result<Option<Answer>, Refusal> {
    let word = |place| show.odd_words.and_then(|salt| odd_word(salt, place));
    Ok(Some(match request {
        Request::CreateForwardEntry { .. } | Request::DeleteForwardEntry { .. } => return Ok(None),
        Request::DescribeForwardTableEntries { table, gateway, filter, page } => {
            check_page(*page, PAGE_MAX)?;
            let gateway = listed_gateway(world, table.as_ref(), gateway.as_ref())?;
            let mut shown = entries(forwarding, gateway, filter, *page, show.view, tally);
            shown.items.iter_mut().zip(0..).for_each(|(entry, place)| entry.odd_status = word(place));
            Answer::Entries(shown)
        }
        Request::DescribeNatGateways { vpc, gateway, zone, page, more } => {
            check_page(*page, PAGE_MAX)?;
            let wanted = |shown: &&NatGateway| {
                is(vpc.as_ref(), &world.vpc) && is(gateway.as_ref(), &shown.id) && is(zone.as_ref(), &shown.zone)
            };
            let shown = world.gateways.iter().filter(wanted).map(|gateway| shown_gateway(forwarding, gateway));
            let shown = shown.filter(|shown| attributes::gateway_passes(more, shown));
            let mut shown = numbered(shown, *page);
            shown.items.iter_mut().zip(0..).for_each(|(gateway, place)| gateway.odd_status = word(place));
            Answer::Gateways(shown)
        }
        Request::DescribeEipAddresses { gateway, addresses, allocations, page, more } => {
            check_page(*page, LONG_PAGE_MAX)?;
            check_count("EipAddress", addresses.len(), EIP_VALUES_MAX)?;
            check_count("AllocationId", allocations.len(), EIP_VALUES_MAX)?;
            let wanted = |eip: &ShownEip| {
                gateway.as_ref().is_none_or(|gateway| eip.gateway.as_ref() == Some(gateway))
                    && (addresses.is_empty() || addresses.contains(&eip.address))
                    && (allocations.is_empty() || allocations.contains(&eip.allocation))
                    && attributes::eip_passes(more, eip)
            };
            let mut shown = numbered(eips(world).filter(wanted), *page);
            shown.items.iter_mut().zip(0..).for_each(|(eip, place)| eip.odd_status = word(place));
            Answer::Eips(shown)
        }
        Request::DescribeRouteTableList { vpc, route_table, page, more } => {
            check_page(*page, PAGE_MAX)?;
            let tables = world.route_tables.iter();
            let wanted = |table: &&RouteTable| {
                is(vpc.as_ref(), &world.vpc)
                    && is(route_table.as_ref(), &table.id)
                    && attributes::route_table_passes(more, table)
            };
            Answer::RouteTables(numbered(tables.filter(wanted).cloned(), *page))
        }
        Request::DescribeRouteEntryList { route_table, destination, hop_type, part, more } => {
            let wanted = |route: &&Route| {
                is(destination.as_ref(), &route.destination)
                    && hop_type.as_deref().is_none_or(|wanted| wanted == route.hop.kind())
                    && attributes::route_passes(more, route_table, route)
            };
            Answer::Routes(routes(world, route_table, wanted, part)?)
        }
        Request::DescribeNetworkInterfaces { vpc, vswitch, addresses, interfaces, part, more } => {
            let passes = |interface: &Interface| {
                is(vpc.as_ref(), &world.vpc)
                    && is(vswitch.as_ref(), &interface.vswitch)
                    && attributes::interface_passes(more, interface)
            };
            Answer::Interfaces(listed_interfaces(world, passes, addresses, interfaces, part)?)
        }
    }))
}

fn listed_gateway<'w>(
    world: &'w World,
    table: Option<&TableId>,
    gateway: Option<&GatewayId>,
) -> Result<Option<&'w NatGateway>, Refusal> {
    match (table, gateway) {
        (None, None) => Err(Refusal::no_table_named()),
        (Some(table), gateway) => {
            let found = world.gateway_of(table).ok_or_else(Refusal::listed_table_not_found)?;
            Ok(Some(found).filter(|found| is(gateway, &found.id)))
        }
        (None, Some(gateway)) => Ok(world.gateways.iter().find(|found| found.id == *gateway)),
    }
}

fn entries(
    forwarding: &Forwarding,
    gateway: Option<&NatGateway>,
    filter: &EntryFilter,
    page: PageSpec,
    view: View,
    tally: &mut Tally,
) -> Numbered<ShownEntry> {
    let Some(gateway) = gateway else { return Numbered { items: Vec::new(), total: 0, page } };
    let (from, size) = bounds(page);
    let mut past = |moment: &dyn Fn(u64) -> u64| {
        let Past { shown, omitted, gone_shown } = forwarding.past(&gateway.table, filter, moment);
        tally.add(Incident::EntryOmitted, omitted);
        tally.add(Incident::GoneShown, gone_shown);
        cut(shown.into_iter(), from, size)
    };
    let (items, total) = match view {
        View::Now => forwarding.page(&gateway.table, filter, from, size),
        View::Past(at_ms) => past(&|_| at_ms),
        View::Patchy { newer_ms, older_ms, salt } => {
            past(&|seq| if rng::mix(salt ^ seq).is_multiple_of(2) { newer_ms } else { older_ms })
        }
        View::Shifted(by) => {
            let shifted = forwarding.page(&gateway.table, filter, from.saturating_add_signed(by), size);
            let rightly = forwarding.page(&gateway.table, filter, from, size);
            tally.add(Incident::PageShifted, usize::from(shifted != rightly));
            shifted
        }
    };
    let shown = |entry| ShownEntry { entry, gateway: gateway.id.clone(), odd_status: None };
    Numbered { items: items.into_iter().map(shown).collect(), total: count(total), page }
}

/// A status that no page names, or none: about every second item has one, the first always.
fn odd_word(salt: u64, place: u64) -> Option<&'static str> {
    const WORDS: [&str; 3] = ["Modifying", "Suspended", "Migrating"];
    let drawn = rng::mix(salt ^ place);
    let word = usize::try_from(drawn >> 1).ok().and_then(|at| WORDS.get(at.checked_rem(WORDS.len())?)).copied();
    word.filter(|_| place == 0 || drawn.is_multiple_of(2))
}

fn shown_gateway(forwarding: &Forwarding, gateway: &NatGateway) -> ShownGateway {
    let ips = gateway.eips.iter().map(|eip| ShownIp {
        address: eip.address,
        allocation: eip.allocation.clone(),
        forward: forwarding.uses(eip.address),
        snat: eip.snat,
    });
    ShownGateway {
        id: gateway.id.clone(),
        table: gateway.table.clone(),
        status: gateway.status,
        vswitch: gateway.vswitch.clone(),
        zone: gateway.zone.clone(),
        ips: ips.collect(),
        odd_status: None,
    }
}

fn eips(world: &World) -> impl Iterator<Item = ShownEip> + '_ {
    let shown = |eip: &Eip, gateway: Option<&GatewayId>| ShownEip {
        allocation: eip.allocation.clone(),
        address: eip.address,
        status: eip.status,
        locked: eip.locked,
        gateway: gateway.cloned(),
        odd_status: None,
    };
    let bound = world
        .gateways
        .iter()
        .flat_map(move |gateway| gateway.eips.iter().map(move |eip| shown(eip, Some(&gateway.id))));
    bound.chain(world.spare_eips.iter().map(move |eip| shown(eip, None)))
}

fn routes(
    world: &World,
    route_table: &str,
    wanted: impl Fn(&&Route) -> bool,
    part: &PartSpec,
) -> Result<Part<Route>, Refusal> {
    let table = world.route_tables.iter().find(|table| table.id == route_table);
    let table = table.ok_or_else(Refusal::route_table_not_found)?;
    let (most, default) = ROUTES;
    let max = part.max.unwrap_or(default);
    if max == 0 || max > most {
        return Err(Refusal::parameter("MaxResult"));
    }
    let from = offset(part).ok_or_else(Refusal::route_token_illegal)?;
    Ok(cut_part(table.routes.iter().filter(wanted).cloned(), from, max))
}

fn listed_interfaces(
    world: &World,
    passes: impl Fn(&Interface) -> bool,
    addresses: &[Ipv4Addr],
    ids: &[EniId],
    part: &PartSpec,
) -> Result<Part<Interface>, Refusal> {
    check_count("PrivateIpAddress", addresses.len(), LIST_MAX)?;
    check_count("NetworkInterfaceId", ids.len(), LIST_MAX)?;
    let (most, least) = INTERFACES;
    let max = part.max.unwrap_or(least).clamp(least, most);
    let from = offset(part).ok_or_else(|| Refusal::parameter("NextToken"))?;
    let wanted = |interface: &Interface| {
        passes(interface)
            && (ids.is_empty() || ids.contains(&interface.id))
            && (addresses.is_empty() || addresses.iter().any(|address| interface.addresses.contains(address)))
    };
    if addresses.is_empty() {
        return Ok(cut_part(world.interfaces().filter(wanted), from, max));
    }
    let mut seen = BTreeSet::new();
    let found = addresses.iter().filter_map(|address| world.interface_at(*address));
    Ok(cut_part(found.filter(wanted).filter(|interface| seen.insert(interface.id.clone())), from, max))
}

fn check_page(page: PageSpec, size_max: u32) -> Result<(), Refusal> {
    if page.number == 0 {
        return Err(Refusal::parameter("PageNumber"));
    }
    if page.size == 0 || page.size > size_max {
        return Err(Refusal::parameter("PageSize"));
    }
    Ok(())
}

fn check_count(name: &str, count: usize, most: usize) -> Result<(), Refusal> {
    if count > most { Err(Refusal::parameter(name)) } else { Ok(()) }
}

fn is<T: PartialEq>(wanted: Option<&T>, value: &T) -> bool {
    wanted.is_none_or(|wanted| wanted == value)
}

fn numbered<T>(listing: impl Iterator<Item = T>, page: PageSpec) -> Numbered<T> {
    let (from, size) = bounds(page);
    let (items, total) = cut(listing, from, size);
    Numbered { items, total: count(total), page }
}

fn cut_part<T>(listing: impl Iterator<Item = T>, from: usize, max: u32) -> Part<T> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut rest = listing.skip(from);
    let items: Vec<T> = rest.by_ref().take(max).collect();
    let next = rest.next().map(|_| format!("{TOKEN_PREFIX}{:08x}", from.saturating_add(items.len())));
    Part { items, next }
}

fn offset(part: &PartSpec) -> Option<usize> {
    match part.next.as_deref().filter(|next| !next.is_empty()) {
        None => Some(0),
        Some(next) => usize::from_str_radix(next.strip_prefix(TOKEN_PREFIX)?, 16).ok(),
    }
}

fn count(total: usize) -> u32 {
    u32::try_from(total).unwrap_or(u32::MAX)
}
