//! What is read, and what is said about what cannot be.

use crate::config::{Format, Job, KeySpace, Role, TimeSpec, TimeUnit};

use super::*;

/// The example of the design, word for word.
pub(super) const MALL: &str = r#"
name = "mall"
window = "30m"            # divides the hour
grace = "2m"              # whole minutes
retention = "48h"         # how long a window can be corrected and stays in the view
scale = 2                 # decimal digits of money; an amount with more significant digits is a dead letter, never rounded
currency = "KRW"          # where a source names none
timezone = "Asia/Seoul"   # of "today" in the API; windows and dates in files are UTC

[[source]]
topic = "mall.payments"   # or topics = ["site-*.payments"]; a topic is read once, sources may share it with table = "…"
role = "payments"         # payments | order_items | products | clicks
format = "debezium"       # debezium | upsert | json | … | auto
key = "payment_id"        # a field, or a list of fields
store = "store_id"
amount = "amount"
currency = "currency"
time = { field = "paid_at", unit = "us" }            # s | ms | us | ns | days | rfc3339 | { format = "…", zone = "…" }
counts_when = { status = ["PAID", "REFUNDED"] }      # a row that does not match counts nowhere

[[source]]
topic = "mall.order_items"
role = "order_items"
format = "upsert"
key = "item_id"
store = "store_id"
product = "product_id"
quantity = "quantity"
time = { field = "ordered_at", unit = "ms" }

[[source]]
topic = "mall.products"
role = "products"
format = "debezium"
key = "product_id"
store = "store_id"
counts_when = { state = ["ON_SALE"] }

[[source]]
topic = "mall.clicks"
role = "clicks"
format = "json"
store = "store_id"
product = "product_id"
kind = "event_type"
time = { field = "event_time", unit = "ms" }
distinct = true           # products_clicked; false where it is not wanted
"#;

#[test]
fn the_example_of_the_design() {
    let job = parse(MALL, "mall.toml").unwrap();
    assert_eq!(
        (job.name.as_str(), job.scale, job.currency.as_deref()),
        ("mall", 2, Some("KRW"))
    );
    assert_eq!(job.timezone, "Asia/Seoul");
    let horizons = Horizons {
        window: 1_800_000,
        grace: 120_000,
        retention: 172_800_000,
        replay_horizon: 604_800_000,
    };
    assert_eq!(job.horizons, horizons);
    let [payments, items, products, clicks] = job.sources.as_slice() else {
        panic!("four sources")
    };
    assert_eq!(payments.topics, ["mall.payments"]);
    assert_eq!(
        (payments.role, payments.format, payments.key_space),
        (Role::Payments, Format::Debezium, KeySpace::Topic)
    );
    assert_eq!(payments.key, ["payment_id"]);
    assert_eq!(payments.currency.as_deref(), Some("currency"));
    assert_eq!(payments.counts_when["status"], ["PAID", "REFUNDED"]);
    assert_eq!(
        payments.time,
        Some(TimeSpec {
            field: "paid_at".to_owned(),
            unit: TimeUnit::Micros
        })
    );
    assert_eq!(
        (items.role, items.format),
        (Role::OrderItems, Format::Upsert)
    );
    assert_eq!(
        (items.product.as_deref(), items.quantity.as_deref()),
        (Some("product_id"), Some("quantity"))
    );
    assert!(!items.distinct);
    assert_eq!((products.role, &products.time), (Role::Products, &None));
    assert_eq!(
        (clicks.role, clicks.format, clicks.distinct),
        (Role::Clicks, Format::Json, true)
    );
    assert!(clicks.key.is_empty() && clicks.counts_when.is_empty());
}

/// A job with these lines above its source.
fn job(lines: &str) -> Result<Job, JobFileError> {
    let rest = "[[source]]\ntopic = \"p\"\nrole = \"products\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\n";
    parse(&format!("{lines}\n{rest}"), "f")
}

const HEAD: &str = "name = \"j\"\ncurrency = \"KRW\"\n";
const PAYMENTS: &str = "role = \"payments\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\namount = \"a\"\ntime = { field = \"t\", unit = \"ms\" }\n";
const CLICKS: &str = "role = \"clicks\"\nformat = \"json\"\nstore = \"s\"\nkind = \"k\"\ntime = { field = \"t\", unit = \"ms\" }\n";
const PRODUCTS: &str = "role = \"products\"\nformat = \"debezium\"\nkey = \"k\"\nstore = \"s\"\n";

fn source(role: &str, lines: &str) -> Result<Job, JobFileError> {
    parse(&format!("{HEAD}[[source]]\n{lines}\n{role}"), "f")
}

#[track_caller]
fn says(result: Result<Job, JobFileError>, expected: &str) {
    let said = result.expect_err("mistakes").to_string();
    assert_eq!(
        said, expected,
        "\n--- said:\n{said}\n--- expected:\n{expected}\n"
    );
}

#[test]
fn the_job_itself() {
    says(
        job("name = \"j\"\nwindow = \"7m\""),
        "f:2:10: window \"7m\" does not divide the hour; use 1m, 2m, 3m, 4m, 5m, 6m, 10m, 12m, 15m, 20m, 30m or 1h",
    );
}
