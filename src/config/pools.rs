//! The pools: which ports of which EIPs of which gateways may be given.

use std::net::Ipv4Addr;

use super::field::{Field, is_placeholder};
use super::{Error, Warning, section, warning};
use crate::machine::identity::{GatewayId, ZoneId};

/// One entry of `natGwPool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// `natgwId`; `None` while the documentation's placeholder stands there, and then the entry gives nothing.
    pub gateway: Option<GatewayId>,
    /// `zoneId`; `None` where it is not set: the gateway's own zone counts.
    pub zone: Option<ZoneId>,
    /// `portRangeStart`: first port, inclusive, never 0.
    pub first: u16,
    /// `portRangeEnd`: last port, inclusive, not below the first.
    pub last: u16,
    /// `eips`, in order; empty means all that the gateway has.
    pub eips: Vec<Ipv4Addr>,
    /// `excludePorts`: ranges, both ends inclusive, that are never given.
    pub excluded: Vec<(u16, u16)>,
}

/// Entries of the list. Each becomes one event of the journal.
const POOLS_MAX: usize = 256;

/// EIPs of one entry: the vendor's hard limit of a gateway (aliyun-api.md §4).
const EIPS_MAX: usize = 50;

/// Excluded ranges of one entry: with the EIPs they fit one event of 3.5 KiB.
const EXCLUDED_MAX: usize = 256;

/// Bytes of an id; the vendor's have about 25. With all else they fit one event of 3.5 KiB.
const ID_BYTES_MAX: usize = 128;

pub(super) fn pools(field: &Field<'_>, warnings: &mut Vec<Warning>) -> Result<Vec<Pool>, Error> {
    let items = field.list(POOLS_MAX)?;
    if items.is_empty() {
        return Err(field
            .refuse("there is no gateway to give ports of", "list at least one entry with natgwId and a port range"));
    }
    let pools: Vec<_> = items.iter().map(|item| pool(item, warnings)).collect::<Result<_, _>>()?;
    for (index, (item, pool)) in items.iter().zip(&pools).enumerate() {
        for (other, earlier) in pools.iter().enumerate().take(index) {
            if let Some(reason) = clash(earlier, pool) {
                return Err(item.refuse(
                    format!("it overlaps with {}[{other}]: {reason}", field.path),
                    "give every port of an EIP to one entry only",
                ));
            }
        }
    }
    Ok(pools)
}

fn pool(field: &Field<'_>, warnings: &mut Vec<Warning>) -> Result<Pool, Error> {
    let known = ["natgwId", "zoneId", "portRangeStart", "portRangeEnd", "eips", "excludePorts"];
    let section = section(field, &known)?;
    let gateway = section.field("natgwId");
    if gateway.text()?.is_none() {
        return Err(gateway.refuse("it has to be set", "set it to the id of the NAT gateway, ngw-..."));
    }
    let (start, end) = (section.field("portRangeStart"), section.field("portRangeEnd"));
    let (first, last) = (start.port()?, end.port()?);
    if last < first {
        let reason = format!("it is below portRangeStart, {first}");
        return Err(end.refuse(reason, "exchange the two or correct one of them"));
    }
    let excluded = excluded(&section.field("excludePorts"))?;
    if (first..=last).all(|port| excluded.iter().any(|(low, high)| (*low..=*high).contains(&port))) {
        let reason = format!("it leaves no port of {first} to {last}");
        return Err(section.field("excludePorts").refuse(reason, "exclude fewer ports or widen the range"));
    }
    let nothing = "a placeholder still stands there, so this entry of the pool gives nothing";
    let own_zone = "a placeholder still stands there, so the gateway's own zone counts";
    Ok(Pool {
        gateway: id(&gateway, nothing, warnings)?.map(GatewayId::from),
        zone: id(&section.field("zoneId"), own_zone, warnings)?.map(ZoneId::from),
        first,
        last,
        eips: eips(&section.field("eips"), warnings)?,
        excluded,
    })
}

fn id<'a>(field: &Field<'a>, consequence: &str, warnings: &mut Vec<Warning>) -> Result<Option<&'a str>, Error> {
    match field.text()? {
        Some(text) if is_placeholder(text) => {
            warnings.push(warning(field, consequence.to_owned()));
            Ok(None)
        }
        Some(text) if text.len() > ID_BYTES_MAX || text.contains(char::is_whitespace) => {
            Err(field.refuse("it is no id", format!("use an id without blanks and of at most {ID_BYTES_MAX} bytes")))
        }
        other => Ok(other),
    }
}

fn eips(field: &Field<'_>, warnings: &mut Vec<Warning>) -> Result<Vec<Ipv4Addr>, Error> {
    let mut eips = Vec::new();
    for item in field.list(EIPS_MAX)? {
        let text = item.text()?.unwrap_or_default();
        if is_placeholder(text) {
            warnings.push(warning(&item, "a placeholder still stands there, so it names no EIP".to_owned()));
            continue;
        }
        let address: Option<Ipv4Addr> = text.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified());
        let Some(address) = address else {
            let remedy = "use an EIP of the gateway, or leave out eips to use all that it has";
            return Err(item.refuse("it is no IPv4 address that could be an EIP", remedy));
        };
        if eips.contains(&address) {
            return Err(item.refuse("it is listed twice", "list each EIP once"));
        }
        eips.push(address);
    }
    Ok(eips)
}

/// Single ports and ranges such as `"600-610"`.
fn excluded(field: &Field<'_>) -> Result<Vec<(u16, u16)>, Error> {
    let range = |item: Field<'_>| {
        let Ok(Some(text)) = item.text() else { return item.port().map(|port| (port, port)) };
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let ends = text.split_once('-').and_then(|(low, high)| port(low).zip(port(high)));
        ends.filter(|(low, high)| low <= high).ok_or_else(|| {
            item.refuse("it is neither a port nor a range", "use a number or a range such as \"600-610\"")
        })
    };
    field.list(EXCLUDED_MAX)?.into_iter().map(range).collect()
}

/// Why two entries cannot stand side by side. An entry without EIPs has all of its gateway.
fn clash(one: &Pool, other: &Pool) -> Option<String> {
    let shared = one.eips.iter().find(|eip| other.eips.contains(eip));
    if one.gateway != other.gateway {
        return shared.map(|eip| format!("the EIP {eip} cannot be on two gateways"));
    }
    // Two placeholders are not the same gateway.
    let gateway = one.gateway.as_ref()?;
    let (first, last) = (one.first.max(other.first), one.last.min(other.last));
    if one.eips.is_empty() && other.eips.is_empty() {
        return Some(format!("both have all EIPs of {gateway}"));
    }
    if first > last {
        return None;
    }
    match shared {
        Some(eip) => Some(format!("both give the ports {first} to {last} of {eip}")),
        None if one.eips.is_empty() || other.eips.is_empty() => {
            Some(format!("one has all EIPs of {gateway}, and both give the ports {first} to {last}"))
        }
        None => None,
    }
}
