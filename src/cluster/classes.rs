//! One table: how the API server answered, and what may be concluded from it.
//!
//! | status | of a read | of a write |
//! | --- | --- | --- |
//! | 401, 429 | not carried out, again later | not carried out, again later |
//! | 404 that names the object | it does not exist | it does not exist |
//! | 404 that names none | the path is not served, which says nothing of the object | the same |
//! | 409 AlreadyExists | | an object of that name exists |
//! | 409 | | it changed since it was read, or its UID is another |
//! | 410 | what was asked for is too old: begin anew | |
//! | 408, 5xx, no answer, an answer that cannot be read | not carried out, again later | **unknown** |
//! | any other 4xx | refused | refused |
//!
//! A write that was not answered well may have been carried out, whatever the reason: it is never taken for a failure.

use crate::ports::cluster::ClusterErrorClass;

/// Whether a request changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// It only reads.
    Read,
    /// It may change something.
    Write,
}

/// What of the API server's `Status` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer<'a> {
    /// HTTP status.
    pub(super) code: u16,
    /// The machine-readable reason, such as `AlreadyExists`.
    pub(super) reason: &'a str,
    /// `details.name` is set: the answer is about an object, not about a path.
    pub(super) names_object: bool,
}

/// What may be concluded from an answer that is no success.
#[must_use]
pub(super) fn class_of(verb: Verb, answer: Answer<'_>) -> ClusterErrorClass {
    match answer.code {
        401 | 429 => ClusterErrorClass::Busy,
        404 if answer.names_object => ClusterErrorClass::Gone,
        404 | 410 => ClusterErrorClass::Busy,
        409 if answer.reason == "AlreadyExists" => ClusterErrorClass::AlreadyExists,
        409 => ClusterErrorClass::Conflict,
        408 => unanswered(verb),
        400..=499 => ClusterErrorClass::Refused,
        _ => unanswered(verb),
    }
}

/// What may be concluded where no answer came in time, or none that can be read.
#[must_use]
pub(super) const fn unanswered(verb: Verb) -> ClusterErrorClass {
    match verb {
        Verb::Read => ClusterErrorClass::Busy,
        Verb::Write => ClusterErrorClass::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(verb: Verb, code: u16, reason: &str, names_object: bool) -> ClusterErrorClass {
        class_of(verb, Answer { code, reason, names_object })
    }

    #[test]
    fn each_row_of_the_table() {
        use ClusterErrorClass::{AlreadyExists, Busy, Conflict, Gone, Refused, Unknown};
        // Status, reason, names an object; of a read, of a write. Reasons as the API server gives them.
        let rows = [
            (400, "BadRequest", false, Refused, Refused),
            (401, "Unauthorized", false, Busy, Busy),
            (403, "Forbidden", true, Refused, Refused),
            (404, "NotFound", true, Gone, Gone),
            (404, "NotFound", false, Busy, Busy),
            (405, "MethodNotAllowed", false, Refused, Refused),
            (408, "", false, Busy, Unknown),
            (409, "AlreadyExists", true, AlreadyExists, AlreadyExists),
            (409, "Conflict", true, Conflict, Conflict),
            (410, "Expired", false, Busy, Busy),
            (413, "RequestEntityTooLarge", false, Refused, Refused),
            (415, "UnsupportedMediaType", false, Refused, Refused),
            (422, "Invalid", true, Refused, Refused),
            (429, "TooManyRequests", false, Busy, Busy),
            (500, "InternalError", false, Busy, Unknown),
            (500, "ServerTimeout", true, Busy, Unknown),
            (502, "", false, Busy, Unknown),
            (503, "ServiceUnavailable", false, Busy, Unknown),
            (504, "Timeout", true, Busy, Unknown),
            (302, "", false, Busy, Unknown),
        ];
        for (code, reason, named, read, write) in rows {
            assert_eq!(class(Verb::Read, code, reason, named), read, "a read: {code} {reason}");
            assert_eq!(class(Verb::Write, code, reason, named), write, "a write: {code} {reason}");
        }
    }

    #[test]
    fn no_answer_to_a_write_is_ever_a_failure() {
        assert_eq!(unanswered(Verb::Write), ClusterErrorClass::Unknown);
        assert_eq!(unanswered(Verb::Read), ClusterErrorClass::Busy);
        for code in 500..600 {
            assert_eq!(class(Verb::Write, code, "", true), ClusterErrorClass::Unknown, "{code}");
        }
    }
}
