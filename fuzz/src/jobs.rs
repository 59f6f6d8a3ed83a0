//! A handful of jobs for each format, which between them use all that a decoder is configured by.

use super::config::job_file::parse;
use super::config::{Format, Job};

const HEAD: &str = r#"name = "fuzz"
currency = "KRW"
"#;

/// Every kind of path, number, time and condition at least once.
const KEYED: [&str; 6] = [
    r#"role = "payments"
key = "id"
store = "store_id"
amount = "amount"
currency = "currency"
time = { field = "paid_at", unit = "ms" }
counts_when = { status = ["PAID", "REFUNDED"] }"#,
    r#"role = "payments"
key = "id"
store = "{site}/{geo.store.id}"
amount = { field = "amount", decimal = "base64", scale = 4 }
currency = "{site}-{currency}"
time = { field = "meta.paid_at", unit = "auto", zone = "Asia/Seoul" }
counts_when = { status = "PAID", "meta.flags.test" = false, "meta.\"a.b\"" = [1, "1.0"] }
absent = "unchanged"
allow_float = true"#,
    r#"role = "order_items"
key = "id"
store = "store_id"
product = "{meta.shop}:{product_id}"
quantity = "quantity"
time = { field = "at", unit = { format = "%Y-%m-%d %H:%M:%S", zone = "Asia/Seoul" } }
allow_float = true"#,
    r#"role = "order_items"
key = "id"
store = { through = "orders", on = "order.id" }
product = "product_id"
quantity = { field = "quantity", decimal = "base64", scale = 0 }
absent = "unchanged""#,
    r#"role = "products"
key = "id"
key_space = "role"
store = "store_id"
counts_when = { state = ["ON_SALE"] }"#,
    r#"role = "lookup"
name = "shops"
key = "id"
store = "{store_id}"
time = { field = "opened", unit = "days" }"#,
];

/// What some jobs of a format with tables or versions say besides.
const TABLE: &str = "table = \"shop.rows\"";
const INCARNATION: &str = "incarnation = \"2\"";

const CLICKS: [&str; 2] = [
    r#"role = "clicks"
store = "store_id"
kind = "event_type"
product = "product_id"
time = { field = "event_time", unit = "ms" }"#,
    r#"role = "clicks"
store = "{site}/{geo.store.id}"
kind = "kind"
time = { field = "meta.at", unit = "rfc3339" }
dedup = { field = "{meta.session}-{n}", horizon = "1h" }"#,
];

/// What the jobs above refer to, and what refers to them.
const OTHERS: &str = r#"
[[source]]
topic = "{site}.orders"
role = "lookup"
name = "orders"
format = "upsert"
key = "id"
store = "store_id"
time = { field = "at", unit = "ms" }
[[source]]
topic = "{site}.products"
role = "products"
format = "upsert"
key = "id"
store = { through = "orders", on = "order_id" }
[[source]]
topic = "{site}.goods"
role = "products"
format = "upsert"
key = "id"
store = { through = "shops", on = "shop" }
"#;

/// The source of interest comes first.
pub(crate) fn of(format: Format) -> Vec<Job> {
    let keyed = KEYED.map(str::to_owned);
    let two_fields = KEYED[0].replace("key = \"id\"", "key = [\"id\", \"meta.part\"]");
    let with = |line: &str| format!("{}\n{line}", KEYED[4]);
    let sources: Vec<String> = match format {
        Format::Json => CLICKS.map(str::to_owned).to_vec(),
        Format::Upsert => keyed.into_iter().chain([two_fields]).collect(),
        Format::Canal => keyed.into_iter().chain([two_fields, with(TABLE)]).collect(),
        Format::Mongodb => keyed.into_iter().chain([with(TABLE), with(INCARNATION)]).collect(),
        Format::Avro => keyed.into_iter().chain(CLICKS.map(str::to_owned)).chain([two_fields, with(TABLE)]).collect(),
        _ => keyed.into_iter().chain([two_fields, with(TABLE), with(INCARNATION)]).collect(),
    };
    sources.iter().map(|source| job(format, source)).collect()
}

fn job(format: Format, source: &str) -> Job {
    let registry = if format == Format::Avro { "[schema_registry]\nurl = \"http://registry\"\n" } else { "" };
    let others: String = OTHERS
        .split("[[source]]")
        .filter(|other| !other.contains("through = \"shops\"") || source.contains("name = \"shops\""))
        .collect::<Vec<_>>()
        .join("[[source]]");
    let text =
        format!("{HEAD}{registry}[[source]]\ntopic = \"{{site}}.rows\"\nformat = \"{}\"\n{source}\n{others}", format.name());
    parse(&text, "fuzz").unwrap_or_else(|error| panic!("{error}\n{text}"))
}
