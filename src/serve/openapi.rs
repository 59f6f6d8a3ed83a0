//! The OpenAPI document: what the handlers say of themselves, and what is true of all of them.
//!
//! Upholds: the document is of this server: it asks for keys only where they are in use.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::response::Response;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Header, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Code;

/// A problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
struct ProblemDocument {
    /// Always `about:blank`: `code` says more.
    #[schema(example = "about:blank")]
    r#type: String,
    /// The code for people.
    title: String,
    /// The answer's status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What to do about it.
    detail: String,
    /// What went wrong, in a word that programs may rely on.
    #[schema(schema_with = code_schema)]
    code: String,
    /// The request's id, as in the log.
    request_id: String,
}

fn code_schema() -> utoipa::openapi::Schema {
    let codes = Code::ALL.iter().map(|code| code.text());
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).enum_values(Some(codes)).build().into()
}

/// The document before the handlers are in it.
pub(super) fn frame(keyed: bool) -> OpenApi {
    let keys = if keyed { " Ask with a key: `Authorization: Bearer KEY` or `X-Api-Key: KEY`." } else { "" };
    let about =
        format!("Exact sums and counts of every store, kept current. Money is text; windows are named by their start.{keys}");
    let info = InfoBuilder::new().title("storeflow").version(env!("CARGO_PKG_VERSION")).description(Some(about));
    OpenApiBuilder::new().info(info.build()).build()
}

/// The document with what is true of all handlers.
pub(super) fn completed(mut document: OpenApi, keyed: bool) -> OpenApi {
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), ProblemDocument::schema());
    let security = keyed.then(|| {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("header", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key"))));
        ["bearer", "header"].map(|scheme| SecurityRequirement::new(scheme, Vec::<String>::new())).to_vec()
    });
    for (path, item) in &mut document.paths.paths {
        for parameter in item.get.iter_mut().filter_map(|operation| operation.parameters.as_mut()).flatten() {
            // Of a parameter with a schema of its own the macro does not say so.
            if let RefOr::T(parameter) = parameter
                && parameter.name == "measure"
            {
                parameter.required = Required::True;
            }
        }
        for operation in [&mut item.get, &mut item.head].into_iter().flatten() {
            operation.security.clone_from(&security);
            complete(path, operation, keyed);
        }
    }
    document
}

fn complete(path: &str, operation: &mut Operation, keyed: bool) {
    let of_store = path.contains("{store}") || path.ends_with("/stream");
    let of_all = !of_store && path != "/v1/stores" || path.ends_with("/stream");
    let answered = |code: Code| match code {
        Code::NoKey | Code::UnknownKey | Code::RateLimited => keyed,
        Code::StoreNotAllowed => keyed && of_store,
        Code::AllStoresNotAllowed => keyed && of_all,
        Code::UnknownStore => of_store,
        Code::TooManyStreams => path.ends_with("/stream"),
        // Of other paths and other methods.
        Code::NotFound | Code::MethodNotAllowed => false,
        _ => true,
    };
    let mut by_status = BTreeMap::<u16, Vec<Code>>::new();
    for code in Code::ALL.iter().copied().filter(|code| answered(*code)) {
        by_status.entry(code.status().as_u16()).or_default().push(code);
    }
    let responses = &mut operation.responses.responses;
    let mut has_etag = false;
    if let Some(RefOr::T(response)) = responses.get_mut("200") {
        has_etag = response.headers.contains_key("ETag");
        common_headers(response);
    }
    if has_etag {
        let mut response =
            ResponseBuilder::new().description("Nothing new: `If-None-Match` has the newest answer's `ETag`").build();
        response.headers.insert("ETag".to_owned(), text_header("Of generation and as-of"));
        common_headers(&mut response);
        responses.insert("304".to_owned(), RefOr::T(response));
    }
    for (status, codes) in by_status {
        responses.insert(status.to_string(), RefOr::T(problem_response(status, &codes)));
    }
}

fn problem_response(status: u16, codes: &[Code]) -> Response {
    let lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.text(), code.title())).collect();
    let content = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Problem")))).build();
    let response = ResponseBuilder::new().description(lines.join("; ")).content("application/problem+json", content);
    let mut response = response.build();
    common_headers(&mut response);
    let mut header = |name: &str, header| response.headers.insert(name.to_owned(), header);
    match status {
        401 => drop(header("WWW-Authenticate", text_header("`Bearer`"))),
        429 | 503 => {
            let seconds = ObjectBuilder::new().schema_type(SchemaType::new(Type::Integer)).minimum(Some(1)).build();
            let after = HeaderBuilder::new().schema(Some(seconds)).description(Some("Seconds until it is worth asking again"));
            header("Retry-After", RefOr::T(after.build()));
        }
        _ => {}
    }
    response
}

fn common_headers(response: &mut Response) {
    response.headers.insert("X-Request-Id".to_owned(), text_header("The request's own, or a new one"));
}

fn text_header(description: &str) -> RefOr<Header> {
    let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build();
    RefOr::T(HeaderBuilder::new().schema(Some(text)).description(Some(description)).build())
}
