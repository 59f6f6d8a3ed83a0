//! Errors as readers get them: RFC 9457 problem documents with a stable code.
//!
//! Upholds: the codes, their statuses and titles are those of the table in `docs/api.md` (a test holds them together); `detail`
//! says what to do, and holds nothing of storeflow's inside: causes go to the log.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

macro_rules! codes {
    ($($variant:ident $text:literal $status:ident $title:literal;)*) => {
        /// What went wrong, in a word that programs may rely on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All of them, in the order of `docs/api.md`.
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            /// The word.
            pub fn text(self) -> &'static str {
                match self { $(Code::$variant => $text),* }
            }

            /// The status it goes with.
            pub fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status),* }
            }

            /// The same for people.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),* }
            }
        }
    };
}

codes! {
    BadParameter "bad_parameter" BAD_REQUEST "a parameter is not what it may be";
    NoKey "no_key" UNAUTHORIZED "a key is needed";
    UnknownKey "unknown_key" UNAUTHORIZED "this key is not known";
    StoreNotAllowed "store_not_allowed" FORBIDDEN "this key is limited to other stores";
    AllStoresNotAllowed "all_stores_not_allowed" FORBIDDEN "this key is limited to some stores";
    OriginNotAllowed "origin_not_allowed" FORBIDDEN "pages of this origin may not ask";
    UnknownStore "unknown_store" NOT_FOUND "there is no such store";
    NotFound "not_found" NOT_FOUND "there is no such path";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "only GET, HEAD and OPTIONS are answered";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "the request's body is too large";
    UriTooLong "uri_too_long" URI_TOO_LONG "the request's address is too long";
    RateLimited "rate_limited" TOO_MANY_REQUESTS "too many requests with this key";
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE "the request's headers are too large";
    Internal "internal" INTERNAL_SERVER_ERROR "a mistake of storeflow's";
    ViewUnavailable "view_unavailable" SERVICE_UNAVAILABLE "the view does not answer";
    NoView "no_view" SERVICE_UNAVAILABLE "nothing has been shown yet";
    Timeout "timeout" SERVICE_UNAVAILABLE "it took too long";
    TooManyStreams "too_many_streams" SERVICE_UNAVAILABLE "there are too many streams";
}

/// A problem, on its way to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub code: Code,
    /// What to do about it; lowercase, no full stop.
    pub detail: String,
    /// When it is worth asking again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem with what to do about it.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem { code, detail: detail.into(), retry_after: None }
    }

    /// The same, worth asking again after a while.
    pub fn retry_after(self, after: Duration) -> Problem {
        Problem { retry_after: Some(after), ..self }
    }
}

/// The document, as it is sent.
#[derive(Debug, Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl Problem {
    /// The document, with the id of the request if it is known.
    pub(super) fn document(&self, request_id: Option<&str>) -> Vec<u8> {
        let Problem { code, detail, .. } = self;
        let status = code.status().as_u16();
        let document = Document { r#type: "about:blank", title: code.title(), status, detail, code: code.text(), request_id };
        serde_json::to_vec(&document).expect("texts and a number")
    }
}

impl IntoResponse for Problem {
    /// The document without its `request_id`, which whoever knows it adds.
    fn into_response(self) -> Response {
        let (status, retry_after, body) = (self.code.status(), self.retry_after, self.document(None));
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(after) = retry_after {
            // Whole seconds, and never too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_codes_are_those_there_are() {
        let (_, table) = include_str!("../../docs/api.md").split_once("| code | status | |").expect("a table of codes");
        let documented: Vec<(String, String)> = table
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let mut cells = line.split('|').map(str::trim);
                let code = cells.nth(1).expect("a code").trim_matches('`').to_owned();
                (code, cells.next().expect("a status").to_owned())
            })
            .collect();
        let known: Vec<_> = Code::ALL.iter().map(|code| (code.text().to_owned(), code.status().as_u16().to_string())).collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn whole_seconds_are_waited_and_never_fewer() {
        for (wait, header) in [(0, "1"), (1, "1"), (1_000, "1"), (1_001, "2")] {
            let problem = Problem::new(Code::RateLimited, "wait").retry_after(Duration::from_millis(wait));
            assert_eq!(problem.into_response().headers()["retry-after"], header);
        }
    }
}
