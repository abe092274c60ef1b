//! The phrases of which sentences are made.

use std::fmt::Display;
use std::net::Ipv4Addr;

use crate::machine::event::decided::Item;
use crate::machine::identity::{Stamp, protocol_of};

/// `1.7`: term and number.
pub(super) fn stamp(stamp: (u64, u64)) -> Stamp {
    stamp.into()
}

/// `tcp`, `udp`, `any protocol`, or the number that has no name here.
pub(super) fn protocol(number: u8) -> String {
    match (protocol_of(number), number) {
        (Some(protocol), _) => protocol.to_string(),
        (None, 0) => "any protocol".to_owned(),
        (None, number) => format!("protocol {number}"),
    }
}

/// `512`, `512-515`, or `any port`.
pub(super) fn ports(range: (u16, u16)) -> String {
    match range {
        (0, 0) => "any port".to_owned(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// `203.0.113.7:512/tcp`, with a range of ports or `any` where an entry has one.
pub(super) fn endpoint(address: Ipv4Addr, range: (u16, u16), number: u8) -> String {
    format!("{address}:{}/{}", ports(range), protocol(number))
}

/// `203.0.113.7:512/tcp -> 172.16.0.5:80 (generation 1.1)`.
pub(super) fn mapping(eip: Ipv4Addr, ip: Ipv4Addr, item: &Item) -> String {
    let port_break = if item.port_break { ", PortBreak" } else { "" };
    let external = endpoint(eip, (item.external, item.external), item.protocol);
    format!("{external} -> {ip}:{} (generation {}{port_break})", item.internal, stamp(item.generation))
}

/// `80/tcp`.
pub(super) fn port(internal: u16, number: u8) -> String {
    format!("{internal}/{}", protocol(number))
}

/// `80/tcp as generation 1.4`, for each.
pub(super) fn renewals(items: &[(u16, u8, (u64, u64))]) -> String {
    list(items.iter().map(|(internal, number, generation)| {
        format!("{} as generation {}", port(*internal, *number), stamp(*generation))
    }))
}

/// The members, separated by commas; `none` if there are none.
pub(super) fn list<T: Display>(members: impl IntoIterator<Item = T>) -> String {
    let members: Vec<String> = members.into_iter().map(|member| member.to_string()).collect();
    if members.is_empty() { "none".to_owned() } else { members.join(", ") }
}

/// `1 entry`, `2 entries`.
pub(super) fn count(number: impl Into<u64>, one: &str, many: &str) -> String {
    match number.into() {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

/// Milliseconds as seconds, with as many decimals as it takes.
pub(super) fn seconds(ms: u64) -> String {
    match (ms / 1_000, ms % 1_000) {
        (whole, 0) => format!("{whole} s"),
        (whole, rest) => format!("{whole}.{rest:03} s"),
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The words of a number, or the number itself where a newer natgw gave it.
pub(super) fn reason(words: Option<(&'static str, &'static str)>, number: u8) -> String {
    match words {
        Some((word, sentence)) => format!("{word}: {sentence}"),
        None => format!("reason {number}, which this build does not know"),
    }
}
