//! The signature of the vendor's RPC style: HMAC-SHA1 over the sorted parameters (aliyun-api.md §5.1).
//!
//! Pure: the same on both sides of the wire, so the client signs with it and the simulated cloud verifies with it.
//! There is no clock and no nonce here; both are parameters like all others.
//!
//! The parameters may hold a security token, so every text made of them is wiped when it is dropped, and is written into room
//! reserved for all of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;
use zeroize::Zeroizing;

/// The parameter that carries the signature and is therefore not signed itself.
pub const SIGNATURE: &str = "Signature";

/// What is signed: `METHOD&%2F&` and the percent-encoded canonical query.
///
/// `parameters` are all of the query and of the form, decoded; [`SIGNATURE`] is left out whether present or not.
/// Empty values are signed as `Name=`.
#[must_use]
pub fn string_to_sign(method: &str, parameters: &BTreeMap<String, String>) -> Zeroizing<String> {
    const SEPARATOR: &str = "&%2F&";
    let canonical = canonical_query(parameters.iter().filter(|(name, _)| *name != SIGNATURE));
    let room = method.len().saturating_add(SEPARATOR.len()).saturating_add(encoded_bytes_max(&canonical));
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str(method);
    text.push_str(SEPARATOR);
    text.extend(utf8_percent_encode(&canonical, RESERVED));
    text
}

/// The signature, base64 with padding. It still has to be percent-encoded where it goes into a URL.
#[must_use]
pub fn signature(secret: &str, string_to_sign: &str) -> String {
    STANDARD.encode(mac(secret, string_to_sign).finalize().into_bytes())
}

/// Whether `signature` is the one of `string_to_sign`, compared in constant time.
#[must_use]
pub fn verify(secret: &str, string_to_sign: &str, signature: &str) -> bool {
    STANDARD.decode(signature).is_ok_and(|bytes| mac(secret, string_to_sign).verify_slice(&bytes).is_ok())
}

/// Percent-encodes as the gateway does: `A-Z a-z 0-9 - _ . ~` stay, every other byte of the UTF-8 becomes `%XY`.
#[must_use]
pub fn percent_encode(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(encoded_bytes_max(text)));
    encoded.extend(utf8_percent_encode(text, RESERVED));
    encoded
}

/// `name=value` joined by `&`, both sides percent-encoded, in the order given.
#[must_use]
pub fn canonical_query<'a>(parameters: impl Iterator<Item = (&'a String, &'a String)> + Clone) -> Zeroizing<String> {
    let room = parameters.clone().fold(0_usize, |room, (name, value)| {
        let both = encoded_bytes_max(name).saturating_add(encoded_bytes_max(value));
        room.saturating_add(both).saturating_add("=&".len())
    });
    let mut query = Zeroizing::new(String::with_capacity(room));
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(name, RESERVED));
        query.push('=');
        query.extend(utf8_percent_encode(value, RESERVED));
    }
    query
}

/// Bytes of a text of which every byte is encoded. Reserved at once: a text that grows leaves copies behind, which nobody
/// wipes.
const fn encoded_bytes_max(text: &str) -> usize {
    text.len().saturating_mul("%XY".len())
}

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn mac(secret: &str, string_to_sign: &str) -> Hmac<Sha1> {
    let key = Zeroizing::new(format!("{secret}&"));
    #[expect(clippy::expect_used, reason = "RFC 2104: HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha1>::new_from_slice(key.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(string_to_sign.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMON: [(&str, &str); 2] = [("SignatureMethod", "HMAC-SHA1"), ("SignatureVersion", "1.0")];

    fn map(parts: &[&[(&str, &str)]]) -> BTreeMap<String, String> {
        parts.iter().flat_map(|part| part.iter()).map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn regions(timestamp_name: &str) -> BTreeMap<String, String> {
        map(&[
            &COMMON,
            &[
                ("AccessKeyId", "testid"),
                ("Action", "DescribeRegions"),
                ("Format", "XML"),
                ("SignatureNonce", "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"),
                (timestamp_name, "2016-02-23T12:46:24Z"),
                ("Version", "2014-05-26"),
            ],
        ])
    }

    fn hosts() -> BTreeMap<String, String> {
        map(&[
            &COMMON,
            &[
                ("AccessKeyId", "testid"),
                ("Action", "DescribeDedicatedHosts"),
                ("Format", "JSON"),
                ("RegionId", "cn-beijing"),
                ("SignatureNonce", "edb2b34af0af9a6d14deaf7c1a5315eb"),
                ("Timestamp", "2023-03-13T08:34:30Z"),
                ("Version", "2014-05-26"),
            ],
        ])
    }

    fn message() -> BTreeMap<String, String> {
        map(&[
            &COMMON,
            &[
                ("AccessKeyId", "testId"),
                ("Action", "SendSms"),
                ("Format", "XML"),
                ("OutId", "123"),
                ("PhoneNumbers", "15300000001"),
                ("RegionId", "cn-hangzhou"),
                ("SignName", "阿里云短信测试专用"),
                ("SignatureNonce", "45e25e9b-0a6f-4070-8c85-2956eda1b466"),
                ("TemplateCode", "SMS_71390007"),
                ("TemplateParam", r#"{"customer":"test"}"#),
                ("Timestamp", "2017-07-12T02:42:19Z"),
                ("Version", "2017-05-25"),
            ],
        ])
    }

    fn mock(more: &[(&str, &str)]) -> BTreeMap<String, String> {
        map(&[
            &COMMON,
            &[
                ("AccessKeyId", "accessKeyId"),
                ("Action", ""),
                ("Format", "JSON"),
                ("RegionId", "regionId"),
                ("SignatureNonce", "MOCK_UUID"),
                ("SignatureType", ""),
                ("Timestamp", "mock date"),
                ("Version", ""),
            ],
            more,
        ])
    }

    #[test]
    fn the_vectors_of_the_reference_page() {
        let token = [("SecurityToken", "accessKeyStsToken")];
        for (vector, method, parameters, secret, expected) in [
            ("V1", "GET", regions("Timestamp"), "testsecret", "OLeaidS1JvxuMvnyHOwuJ+uX5qY="),
            ("V1'", "GET", regions("TimeStamp"), "testsecret", "CT9X0VtwR86fNWSnsc6v8YGOjuE="),
            ("V2", "GET", hosts(), "testsecret", "9NaGiOspFP5UPcwX8Iwt2YJXXuk="),
            ("V2p", "POST", hosts(), "testsecret", "ZvQ9xGiFnquSJRvj+WE6kdSpTwU="),
            ("V3", "GET", message(), "testSecret", "zJDF+Lrzhj/ThnlvIToysFRq6t4="),
            ("V4", "GET", mock(&[]), "accessKeySecret", "7loPmFjvDnzOVnQeQNj85S6nFGY="),
            ("V5", "GET", mock(&token), "accessKeySecret", "5Nxdcler+ihqWqv0Hr2On4PsBf4="),
        ] {
            let text = string_to_sign(method, &parameters);
            assert_eq!(signature(secret, &text), expected, "{vector}: {}", *text);
            assert!(verify(secret, &text, expected), "{vector}");
            assert!(!verify("another", &text, expected), "{vector}");
            assert!(!verify(secret, &text, "no base64!"), "{vector}");
        }
    }

    #[test]
    fn the_string_to_sign_of_the_first_vector() {
        assert_eq!(
            *string_to_sign("GET", &regions("Timestamp")),
            "GET&%2F&AccessKeyId%3Dtestid%26Action%3DDescribeRegions%26Format%3DXML%26SignatureMethod%3DHMAC-SHA1\
             %26SignatureNonce%3D3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf%26SignatureVersion%3D1.0\
             %26Timestamp%3D2016-02-23T12%253A46%253A24Z%26Version%3D2014-05-26"
        );
    }

    #[test]
    fn the_strings_to_sign_of_the_vendors_own_tests() {
        let q = ("q", "http://domain/?q=value&q2=value2");
        for (parameters, expected) in [
            (map(&[]), "GET&%2F&"),
            (map(&[&[("key", "value")]]), "GET&%2F&key%3Dvalue"),
            (
                map(&[&[("key", "value"), q]]),
                "GET&%2F&key%3Dvalue%26q%3Dhttp%253A%252F%252Fdomain%252F%253Fq%253Dvalue%2526q2%253Dvalue2",
            ),
        ] {
            assert_eq!(*string_to_sign("GET", &parameters), expected);
        }
    }

    #[test]
    fn the_signature_itself_is_not_signed_and_order_is_by_bytes() {
        let signed = map(&[&[("b", "2"), ("B", "1"), ("Signature", "x")]]);
        assert_eq!(*string_to_sign("POST", &signed), "POST&%2F&B%3D1%26b%3D2");
    }

    #[test]
    fn every_byte_that_is_not_unreserved_is_encoded_in_upper_case() {
        assert_eq!(*percent_encode("中 文+~*"), "%E4%B8%AD%20%E6%96%87%2B~%2A");
        assert_eq!(*percent_encode("aZ09-_.~/"), "aZ09-_.~%2F");
    }

    /// What grows is copied, and the copy that is left behind is not wiped.
    #[test]
    fn no_text_outgrows_the_room_that_was_reserved_for_it() {
        for value in ["", "plain", "+/=".repeat(4_000).as_str(), "阿里云".repeat(999).as_str()] {
            let parameters = map(&[&COMMON, &[("SecurityToken", value)]]);
            let query = canonical_query(parameters.iter());
            let room = parameters.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum::<usize>();
            assert_eq!(query.capacity(), room);
            assert_eq!(percent_encode(value).capacity(), 3 * value.len());
            assert_eq!(string_to_sign("POST", &parameters).capacity(), 4 + 5 + 3 * query.len());
        }
    }
}
