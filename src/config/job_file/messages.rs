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


/// `Ok` or what is said, line by line.
fn said(text: &str) -> String {
    match parse(text, "f") {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn scratch() {
    let job = |lines: &str| format!("{lines}\n[[source]]\ntopic = \"p\"\n{PRODUCTS}");
    let source = |role: &str, lines: &str| format!("{HEAD}[[source]]\ntopic = \"t\"\n{lines}\n{role}");
    let without = |role: &str, field: &str, with: &str| {
        let kept: Vec<&str> = role.lines().filter(|line| !line.starts_with(&format!("{field} "))).collect();
        format!("{HEAD}[[source]]\ntopic = \"t\"\n{with}\n{}", kept.join("\n"))
    };
    let mut all: Vec<String> = vec![];
    for lines in ["", "name = 1", "name = \"\"", "name = \"-a\"", "name = \"a b\"", "nmae = \"a\"", "name = \"a\"\ntopic = \"x\"\nidle = 1",
        "name = mall", "name = \"j\"\nwindow = 30m\ngrace = 1", "name = \"j\"\nwindow = \"90s\"", "name = \"j\"\nwindow = \"2h\"", "name = \"j\"\nwindow = \"30 m\"",
        "name = \"j\"\ngrace = \"90s\"\nretention = \"20m\"\nreplay_horizon = \"0m\"\nscale = 19\ncurrency = \"\"\ntimezone = \"Asia/Soul\"",
        "name = \"j\"\ngrace = \"25h\"\nretention = \"11000d\"\nreplay_horizon = \"x\"\nscale = -1\ncurrency = [1]\ntimezone = \"KST\"",
        "name = \"j\"\ngrace = \"23h\"\nretention = \"1h\"", "name = \"j\"\nwindow = \"1h\"\nretention = \"30m\"\nscale = 2.5",
        "name = \"j\"\nname = \"k\"", "name = \"j\nscale = 2", "name =", "name = \"j\"\n= 3", "name = \"j\"\nscale 2", "name = \"j\"\nscale: 2","name = \"j\"\nscale = two", "name = \"j\"\ncurrency = nothing", "name = \"j\"\nfoo = true\n[bar]\nx=1",
        "name = \"j\"\nscale = trueish", "name = \"j\"\nscale = 2 digits", "name=\"j\"\ntimezone = Asia/Seoul", "name=\"j\"\nretention = 7d","name=\"j\"\nretention = 2026-01-01", "name=\"j\"\nretention = 2026-13-01", "name=\"j\"\nname2 = '\u{1}'","name=\"\\q\""] {
        all.push(job(lines));
    }
    all.push("".into());
    all.push("name = \"j\"\nsource = 3".into());
    all.push("name = \"j\"\nsource = []".into());
    all.push("name = \"j\"\nsource = [1, {topic = \"t\"}]".into());
    all.push("name = \"j\"\n[source]\ntopic = \"t\"".into());
    all.push("name = \"j\"\n[[source]]\n".into());
    all.push("name = \"j\"\n[[sources]]\ntopic = \"t\"".into());
    all.push(format!("name = \"j\"\n[[source]\ntopic=\"a\"\n{PRODUCTS}[[source]]\ntopic = \"b\"\n{PRODUCTS}"));
    all.push(format!("name = \"j\"\n[source]]\ntopic=\"a\"\n{PRODUCTS}"));
    for topic in ["topic = \"a/b\"", "topic = \"..\"", "topic = 3", "topics = []", "topics = \"a\"", "topics = [\"a\", \"\", 3, \"a\", \"b c\"]", "topic = \"a\"\ntopics = [\"b\"]", "", "topic = \"\"", "topics = [\"a-*\", \"a-1\"]"] {
        all.push(format!("{HEAD}[[source]]\n{topic}\n{PRODUCTS}"));
    }
    for f in ["key", "store", "amount", "time", "role", "format"] { all.push(without(PAYMENTS, f, "")); }
    for (f, w) in [("format", "format = \"json\""), ("format", "format = \"dms\""), ("format", "format = \"Upsert\""), ("format", "format = \"csv\""), ("role", "role = \"payment\""), ("role", "role = \"orders\""),
       ("key", "key = []"), ("key", "key = [\"a\", \"a\"]"), ("key", "key = 1"), ("key", "key = [1, \"\"]"), ("store", "store = { through = \"orders\" }"), ("store", "store = \"{site}:{store_id}\""), ("store", "store = 3"),
       ("time", "time = \"paid_at\""), ("time", "time = {}"), ("time", "time = { field = \"a\", unit = \"sec\" }"), ("time", "time = { field = \"a\", unit = \"%Y\" }"), ("time", "time = { field = \"a\", unit = 3, zone = \"UTC\" }"),
       ("time", "time = { field = \"a\", unit = { format = \"%H:%M\", zone = \"Asia/Seol\" } }"), ("time", "time = { field = \"a\", unit = { fromat = \"%F %T\" } }"), ("time", "time = { field = \"a\", unit = { format = \"%F %I:%M\" } }"), ("time", "time = { field = \"a\", unit = { format = \"%Y-%q\" } }"), ("time", "time = { field = \"a\", unit = { format = \"%F %T %Z\" } }"),
       ("time", "time = { field = \"a\" unit = \"ms\" }"), ("time", "time.field = \"a\""), ("time", "time = { field = \"a\", unit = { format = \"%FT%T\", zone = \"UTC\" } }")] {
       all.push(without(PAYMENTS, f, w));
    }
    for l in ["product = \"p\"\nquantity = \"q\"\nkind = \"k\"\ndistinct = true", "produkt = \"x\"\ntimezone = \"UTC\"\nidle = \"wall\"", "table = \"t\"", "key_space = \"rol\"", "counts_when = { a = [], b = 3, c = true, d = 1.50, e = [\"x\", [1]], f.g = 1, \"\" = 1, h = 2020-01-01, i = inf }", "counts_when = \"PAID\"", "currency = \"\""] { all.push(source(PAYMENTS, l)); }
    for l in ["key = \"k\"\nkey_space = \"role\"\ncounts_when = { a = 1 }\namount = \"a\"\ncurrency=\"c\"\nquantity=\"q\"\ntable=\"t\"", "distinct = true", "distinct = 1\nproduct = \"p\"", "distinct = false"] { all.push(source(CLICKS, l)); }
    all.push(without(CLICKS, "format", "format = \"debezium\"")); all.push(without(CLICKS, "format", "format = \"avro\"")); all.push(without(CLICKS, "kind", ""));
    for l in ["time = { field = \"a\", unit = \"ms\" }\nproduct = \"p\"", "table = \"\"", "distinct = 3"] { all.push(source(PRODUCTS, l)); }
    all.push(format!("name = \"j\"\n[[source]]\ntopic = \"t\"\n{PAYMENTS}"));
    for (a, b) in [("topic = \"t\"", "topic = \"t\""), ("topic = \"t\"\ntable = \"a\"", "topic = \"t\"\ntable = \"b\""), ("topic = \"t\"\ntable = \"a\"", "topic = \"t\"\ntable = \"a\""), ("topic = \"t\"\ntable = \"a\"", "topic = \"t\""), ("topic = \"s-*\"", "topics = [\"s-*\"]"), ("topic = \"s-*\"", "topics = [\"s-7\", \"x\"]"), ("topic = \"s-7\"", "topics = [\"s-*\"]"), ("topic = \"s-*\"", "topics = [\"s-*-a\"]"),("topic = \"s-*\"", "topics = [\"*-a\"]")] {
        all.push(format!("{HEAD}[[source]]\n{a}\n{PRODUCTS}[[source]]\n{b}\n{PRODUCTS}"));
    }
    for text in all {
        println!("=====\n{}\n-----\n{}", text.trim(), said(&text));
    }
}

const HEAD: &str = "name = \"j\"\ncurrency = \"KRW\"\n";
const PAYMENTS: &str = "role = \"payments\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\namount = \"a\"\ntime = { field = \"t\", unit = \"ms\" }\n";
const CLICKS: &str =
    "role = \"clicks\"\nformat = \"json\"\nstore = \"s\"\nkind = \"k\"\ntime = { field = \"t\", unit = \"ms\" }\n";
const PRODUCTS: &str = "role = \"products\"\nformat = \"debezium\"\nkey = \"k\"\nstore = \"s\"\n";
