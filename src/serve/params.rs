//! What is asked: the parameters of a path and a query.
//!
//! Upholds: (1) whatever the OpenAPI document allows is taken, and all else is a problem that says which parameter and what it may be;
//! (2) a parameter that is not known is refused, as a mistyped one would be ignored in silence otherwise.

use std::ops::{Range, RangeInclusive};

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use storeflow_dataflows::epoch::Horizons;
use storeflow_dataflows::table::{Table, Window};
use utoipa::IntoParams;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};

use super::calendar::{self, Typed};
use super::problem::{Code, Problem};
use super::view::Measure;

/// The parameters of a query.
#[derive(Clone, Debug)]
pub(super) struct Asked<T>(pub(super) T);

/// How parameters are read of what was typed.
pub(super) trait FromQuery: Sized {
    /// Names of all there are.
    const NAMES: &[&str];

    /// Reads them.
    fn read(typed: &TypedQuery) -> Result<Self, Problem>;
}

impl<S: Sync, T: FromQuery> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(typed) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| bad(format!("the query cannot be read: {error}")))?;
        for (at, (name, _)) in typed.iter().enumerate() {
            if !T::NAMES.contains(&name.as_str()) {
                let known = if T::NAMES.is_empty() { "none".to_owned() } else { T::NAMES.join(", ") };
                return Err(bad(format!("there is no parameter {name:?} here; there are: {known}")));
            }
            if typed[..at].iter().any(|(before, _)| before == name) {
                return Err(bad(format!("{name:?} is given twice")));
            }
        }
        T::read(&TypedQuery(typed)).map(Asked)
    }
}

/// Nothing may be asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nothing;

impl FromQuery for Nothing {
    const NAMES: &[&str] = &[];

    fn read(_: &TypedQuery) -> Result<Self, Problem> {
        Ok(Nothing)
    }
}

/// The store of a path.
#[derive(Clone, Debug)]
pub(super) struct StorePath(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for StorePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let store = Path::<String>::from_request_parts(parts, state).await;
        store.map(|Path(store)| StorePath(store)).map_err(|_| bad("the store in the path is no UTF-8".to_owned()))
    }
}

/// A query as it was typed, every name once.
pub(super) struct TypedQuery(Vec<(String, String)>);

impl TypedQuery {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(typed, _)| typed == name).map(|(_, value)| value.as_str())
    }

    fn parsed<T>(&self, name: &str, what: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = || bad(format!("{name:?} is {what}"));
        parse(text).map(Some).ok_or_else(wrong)
    }

    fn limit(&self, range: RangeInclusive<u32>, default: u32) -> Result<usize, Problem> {
        let what = format!("a number from {} to {}", range.start(), range.end());
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| text.parse().ok().filter(|number| digits(text) && range.contains(number));
        Ok(self.parsed("limit", &what, number)?.unwrap_or(default) as usize)
    }

    fn flag(&self, name: &str) -> Result<bool, Problem> {
        let read = |text: &str| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        Ok(self.parsed(name, "true or false", read)?.unwrap_or(false))
    }

    fn instant(&self, name: &str) -> Result<Option<Typed>, Problem> {
        self.parsed(name, "an instant of RFC 3339, such as 2026-11-25T05:30:00Z (a + in a query is written %2B)", calendar::parse)
    }

    fn digits(&self, name: &str) -> Result<Option<i64>, Problem> {
        let digits = |text: &str| (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        self.parsed(name, "the next_cursor of the answer before: digits", |text| text.parse().ok().filter(|_| digits(text)))
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(Code::BadParameter, detail)
}

/// Which windows.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct WindowsParams {
    /// Windows that start at or after it; default: the oldest that is kept.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-11-25T00:00:00Z")]
    from: Option<Typed>,
    /// Windows that start before it; default: the newest.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-11-26T00:00:00Z")]
    to: Option<Typed>,
    /// Open windows as well.
    #[param(value_type = Option<bool>, default = false)]
    pub(super) open: bool,
    /// How many windows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: usize,
    /// The `next_cursor` of the answer before.
    #[param(value_type = Option<String>, schema_with = digits_schema)]
    cursor: Option<i64>,
}

impl FromQuery for WindowsParams {
    const NAMES: &[&str] = &["from", "to", "open", "limit", "cursor"];

    fn read(typed: &TypedQuery) -> Result<Self, Problem> {
        Ok(WindowsParams {
            from: typed.instant("from")?,
            to: typed.instant("to")?,
            open: typed.flag("open")?,
            limit: typed.limit(1..=1000, 100)?,
            cursor: typed.digits("cursor")?,
        })
    }
}

impl WindowsParams {
    /// The windows that are asked for.
    pub(super) fn windows(&self, horizons: &Horizons) -> Range<Window> {
        let all = calendar::all_windows(horizons);
        let from = |at: i64| calendar::window_from(horizons, at);
        let first = [self.from.map(Typed::rounded_up), self.cursor].into_iter().flatten().map(from).max().unwrap_or(all.start);
        let end = self.to.map_or(all.end, |to| from(to.rounded_up()));
        first.min(end)..end
    }
}

/// Digits and nothing after them: a `$` would let a line end follow.
fn digits_schema() -> Schema {
    let digits = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).pattern(Some("^[0-9]{1,18}$"));
    Schema::Object(digits.max_length(Some(18)).min_length(Some(1)).build())
}

/// Which ids of stores.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StoresParams {
    /// What the ids begin with; default: all.
    #[param(value_type = Option<String>)]
    pub(super) prefix: String,
    /// How many ids at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    pub(super) limit: usize,
    /// The `next_cursor` of the answer before, or any text: ids that come after it.
    #[param(value_type = Option<String>)]
    pub(super) cursor: Option<String>,
}

impl FromQuery for StoresParams {
    const NAMES: &[&str] = &["prefix", "limit", "cursor"];

    fn read(typed: &TypedQuery) -> Result<Self, Problem> {
        Ok(StoresParams {
            prefix: typed.text("prefix").unwrap_or_default().to_owned(),
            limit: typed.limit(1..=1000, 100)?,
            cursor: typed.text("cursor").map(str::to_owned),
        })
    }
}

/// Which stores lead.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TopParams {
    /// `payment_sum:CURRENCY`, `items_sold` or `clicks:KIND`.
    #[param(value_type = String, schema_with = measure_schema, required = true, example = "payment_sum:KRW")]
    pub(super) measure: Measure,
    /// An instant within the window; default: the newest closed one.
    #[param(value_type = Option<String>, format = DateTime, example = "2026-11-25T05:00:00Z")]
    pub(super) window: Option<Typed>,
    /// How many stores at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, default = 10)]
    pub(super) limit: usize,
}

impl FromQuery for TopParams {
    const NAMES: &[&str] = &["measure", "window", "limit"];

    fn read(typed: &TypedQuery) -> Result<Self, Problem> {
        let what = "payment_sum:CURRENCY, items_sold or clicks:KIND";
        let measure = typed.parsed("measure", what, |text| {
            let measure = |table, second: &str| Measure { table, second: second.to_owned() };
            match text.split_once(':') {
                Some(("payment_sum", currency)) => Some(measure(Table::StorePayments, currency)),
                Some(("clicks", kind)) => Some(measure(Table::StoreClicks, kind)),
                None if text == "items_sold" => Some(measure(Table::StoreSales, "")),
                _ => None,
            }
        })?;
        Ok(TopParams {
            measure: measure.ok_or_else(|| bad(format!("\"measure\" is missing: {what}")))?,
            window: typed.instant("window")?,
            limit: typed.limit(1..=100, 10)?,
        })
    }
}

fn measure_schema() -> Schema {
    let text = || ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    let one_of = OneOfBuilder::new()
        .item(text().enum_values(Some(["items_sold"])))
        .item(text().pattern(Some("^payment_sum:")))
        .item(text().pattern(Some("^clicks:")));
    Schema::OneOf(one_of.build())
}

/// What is streamed.
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// The store whose numbers are sent; without it, the status is.
    #[param(value_type = Option<String>)]
    pub(super) store: Option<String>,
}

impl FromQuery for StreamParams {
    const NAMES: &[&str] = &["store"];

    fn read(typed: &TypedQuery) -> Result<Self, Problem> {
        Ok(StreamParams { store: typed.text("store").map(str::to_owned) })
    }
}
