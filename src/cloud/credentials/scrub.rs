//! Texts of servers without what is secret: they may echo what was sent, in the spelling in which it came or in another.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::cloud::sign;

/// What stands where something secret was said.
const SCRUBBED: &str = "[secret]";

/// `text` without `secret`, however it is spelled.
pub(super) fn without(text: String, secret: &str) -> String {
    if secret.is_empty() {
        return text;
    }
    let mut spellings = spellings(secret);
    // The longest first: one may be a part of another.
    spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
    spellings.iter().fold(text, |text, spelling| {
        if text.contains(spelling.as_str()) { text.replace(spelling.as_str(), SCRUBBED) } else { text }
    })
}

/// In clear, percent-encoded once and twice (a string to sign) with large and small digits, with the escapes of JSON, in
/// both alphabets of base64, and in hexadecimal digits.
fn spellings(secret: &str) -> Vec<Zeroizing<String>> {
    let once = sign::percent_encode(secret);
    let twice = sign::percent_encode(&once);
    let small = small_digits(&once);
    let hex = hexadecimal(secret);
    let upper_hex = hex.to_uppercase();
    let small = Zeroizing::new(small);
    let others = [
        secret.to_owned(),
        secret.replace('/', "\\/"),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex,
        upper_hex,
    ];
    let encoded = [sign::percent_encode(&small), small, once, twice];
    others.into_iter().map(Zeroizing::new).chain(encoded).collect()
}

fn hexadecimal(secret: &str) -> String {
    let mut digits = String::with_capacity(secret.len().saturating_mul(2));
    for byte in secret.bytes() {
        // A String takes whatever is written.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// A percent-encoded text with `%2f` for `%2F`.
fn small_digits(encoded: &str) -> String {
    let mut small = String::with_capacity(encoded.len());
    let mut digits = 0_u8;
    for character in encoded.chars() {
        small.push(if digits > 0 { character.to_ascii_lowercase() } else { character });
        digits = if character == '%' { 2 } else { digits.saturating_sub(1) };
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_and_nothing_else() {
        let echo = "a s/k+z b s%2Fk%2Bz c s%2fk%2bz d s%252Fk%252Bz e s%252fk%252bz f s\\/k+z g cy9rK3o h 732f6b2b7a 732F6B2B7A i";
        let rest = "a [secret] b [secret] c [secret] d [secret] e [secret] f [secret] g [secret] h [secret] [secret] i";
        assert_eq!(without(echo.to_owned(), "s/k+z"), rest);
        assert_eq!(without("a?".to_owned(), ""), "a?");
        // The two alphabets of base64.
        let (standard, url_safe) = ("Pz8/Pj4+ a", "Pz8_Pj4- a");
        assert_eq!(without(standard.to_owned(), "???>>>"), "[secret] a");
        assert_eq!(without(url_safe.to_owned(), "???>>>"), "[secret] a");
    }
}
