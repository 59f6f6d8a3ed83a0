//! What a failed request to an object store means for whoever asked, in words that hold no secret.
//!
//! Servers repeat the request's headers when they doubt its signature (a session token among them), so of an answer only
//! its status, its code and its message are kept.

use std::error::Error as _;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// No such object.
    NotFound,
    /// No such bucket.
    NoBucket,
    /// There is one already.
    Exists,
    /// Credentials unknown, wrong or too weak.
    Forbidden,
    /// Trouble of a moment: worth trying again.
    Passing,
    /// Trouble that stays.
    Refused,
}

/// A failed request.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Answer {
    pub(super) meaning: Meaning,
    /// The request never left this machine.
    pub(super) never_sent: bool,
    text: String,
}

impl Answer {
    /// Reads an error of the client.
    pub(super) fn of(error: &Error) -> Answer {
        let said = error.to_string();
        if let Some(http) = transport(error) {
            // A connection cut while an answer is read, and a certificate that is not trusted, come as various kinds.
            let never_sent = http.kind() == HttpErrorKind::Connect;
            return Answer { meaning: Meaning::Passing, never_sent, text: causes(http) };
        }
        let status: Option<u16> = said.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let code = tag(&said, "Code");
        let meaning = match (error, status) {
            _ if code == Some("NoSuchBucket") => Meaning::NoBucket,
            (Error::NotFound { .. }, _) => Meaning::NotFound,
            (Error::AlreadyExists { .. } | Error::Precondition { .. }, _) => Meaning::Exists,
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) | (_, Some(401 | 403)) => Meaning::Forbidden,
            _ if matches!(code, Some("ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId")) => Meaning::Forbidden,
            (_, Some(408 | 429 | 500..=599)) => Meaning::Passing,
            // An error in an answer whose status says that all is well.
            _ if matches!(code, Some("InternalError" | "SlowDown" | "RequestTimeout")) => Meaning::Passing,
            _ => Meaning::Refused,
        };
        let mut text = match (code, tag(&said, "Message")) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) if said.contains("redirect") => "the bucket is in another region; set AWS_REGION to it".to_owned(),
            (None, _) => match status {
                Some(status) => format!("the server answered with status {status}"),
                None => without_bodies(error),
            },
        };
        if let (Some(_), Some(status)) = (code, status) {
            text = format!("{text} (status {status})");
        }
        Answer { meaning, never_sent: false, text }
    }
}

/// The failure of the connection, if that is what it was.
fn transport(error: &Error) -> Option<&HttpError> {
    let mut source = error.source();
    while let Some(one) = source {
        if let Some(http) = one.downcast_ref::<HttpError>() {
            return Some(http);
        }
        source = one.source();
    }
    None
}

/// The causes of a failed connection, the last of which (`connection refused`) says most.
fn causes(error: &HttpError) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(one) = source {
        let text = one.to_string();
        if all.last().is_none_or(|last| !last.contains(&text)) {
            all.push(text);
        }
        source = one.source();
    }
    all.join(": ")
}

/// The last cause of an error that is none of the server's: what could not be parsed or signed.
fn without_bodies(error: &Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The text of an element of an error's XML.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Error {
        Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn an_answer_is_read_by_its_code() {
        let body = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        for (error, meaning, text) in [
            (
                generic(&format!("Server returned non-2xx status code: 503 Service Unavailable: {body}")),
                Meaning::Passing,
                "SlowDown: Please reduce your request rate. (status 503)",
            ),
            (generic(&format!("Server returned error response: {body}")), Meaning::Passing, "SlowDown: Please reduce"),
            (generic("non-2xx status code: 500 Internal Server Error: "), Meaning::Passing, "answered with status 500"),
            (generic("non-2xx status code: 400 Bad Request: "), Meaning::Refused, "answered with status 400"),
            (generic("<Code>NoSuchBucket</Code>"), Meaning::NoBucket, "NoSuchBucket"),
            (generic("Received redirect without LOCATION"), Meaning::Refused, "set AWS_REGION"),
        ] {
            let answer = Answer::of(&error);
            assert!(answer.meaning == meaning && answer.to_string().contains(text), "{error}: {answer:?}");
        }
    }

    #[test]
    fn what_a_server_repeats_of_the_request_is_left_out() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message>\
                    <CanonicalRequest>x-amz-security-token:TOKEN</CanonicalRequest></Error>";
        let error =
            Error::PermissionDenied { path: "x".to_owned(), source: format!("status code: 403 Forbidden: {body}").into() };
        let answer = Answer::of(&error);
        assert_eq!(answer.meaning, Meaning::Forbidden);
        assert_eq!(answer.to_string(), "SignatureDoesNotMatch: Check your key. (status 403)");
        assert!(!format!("{answer:?}").contains("TOKEN"));
    }
}
