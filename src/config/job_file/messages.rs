//! What is read, and what is said about what cannot be.

use crate::config::field_path::{FieldPath, IdSpec};
use crate::config::{Format, KeySpace, Role, StoreSpec, TimeSpec, TimeUnit};

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
    assert_eq!((job.name.as_str(), job.scale, job.currency.as_deref()), ("mall", 2, Some("KRW")));
    assert_eq!(job.timezone, "Asia/Seoul");
    let horizons = Horizons {
        window: 1_800_000,
        grace: 120_000,
        retention: 172_800_000,
        replay_horizon: 604_800_000,
        before: storeflow_dataflows::epoch::Before::NOTHING,
    };
    assert_eq!(job.horizons, horizons);
    let [payments, items, products, clicks] = job.sources.as_slice() else { panic!("four sources") };
    assert_eq!(payments.topics, ["mall.payments"]);
    assert_eq!((payments.role, payments.format, payments.key_space), (Role::Payments, Format::Debezium, KeySpace::Topic));
    assert_eq!(payments.key, ["payment_id".into()]);
    assert_eq!(payments.currency, Some("currency".into()));
    assert_eq!(payments.counts_when[&"status".into()], ["PAID", "REFUNDED"]);
    assert_eq!(payments.time, Some(TimeSpec { field: "paid_at".into(), unit: TimeUnit::Micros, zone: None }));
    assert_eq!((items.role, items.format), (Role::OrderItems, Format::Upsert));
    assert_eq!((&items.product, &items.quantity), (&Some("product_id".into()), &Some("quantity".into())));
    assert!(!items.distinct);
    assert_eq!((products.role, &products.time), (Role::Products, &None));
    assert_eq!((clicks.role, clicks.format, clicks.distinct), (Role::Clicks, Format::Json, true));
    assert!(clicks.key.is_empty() && clicks.counts_when.is_empty());
}

/// What is said, without the file; nothing if all is well.
pub(super) fn said(text: &str) -> String {
    let error = parse(text, "f").map_or_else(|error| error.to_string(), |_| String::new());
    let lines: Vec<&str> = error.lines().map(|line| line.strip_prefix("f:").unwrap_or(line)).collect();
    lines.join("\n")
}

/// A job with these lines above its source.
fn job(lines: &str) -> String {
    format!("{lines}\n[[source]]\ntopic = \"p\"\n{PRODUCTS}")
}

/// A source of a role with these lines in place of its own for the same fields.
pub(super) fn source(role: &str, lines: &str) -> String {
    let field = |line: &str| line.split(' ').next().map(str::to_owned);
    let kept: Vec<&str> = role.lines().filter(|kept| lines.lines().all(|line| field(line) != field(kept))).collect();
    format!("{HEAD}[[source]]\ntopic = \"t\"\n{lines}\n{}\n", kept.join("\n"))
}

pub(super) const HEAD: &str = r#"name = "j"
currency = "KRW"
"#;
pub(super) const PAYMENTS: &str = r#"role = "payments"
format = "upsert"
key = "k"
store = "s"
amount = "a"
time = { field = "t", unit = "ms" }
"#;
pub(super) const ITEMS: &str = r#"role = "order_items"
format = "upsert"
key = "k"
store = "s"
product = "p"
quantity = "q"
time = { field = "t", unit = "ms" }
"#;
pub(super) const PRODUCTS: &str = r#"role = "products"
format = "debezium"
key = "k"
store = "s"
"#;
pub(super) const CLICKS: &str = r#"role = "clicks"
format = "json"
store = "s"
kind = "k"
time = { field = "t", unit = "ms" }
"#;

/// The example with a mistake of each kind: all are found, sorted by place.
#[test]
fn all_at_once() {
    let text = MALL
        .replace("grace = \"2m\"", "grace = \"2 m\"")
        .replace("timezone = \"Asia/Seoul\"", "timezone = Asia/Seoul")
        .replace("amount = \"amount\"", "amuont = \"amount\"")
        .replace("key = \"item_id\"\n", "")
        .replace("topic = \"mall.products\"", "topic = \"mall.*\"")
        .replace("product = \"product_id\"\nkind", "produkt = \"product_id\"\nkind")
        .replace("format = \"json\"", "format = \"jsn\"");
    let error = parse(&text, "mall.toml").expect_err("mistakes");
    assert_eq!(
        error.to_string(),
        r#"mall.toml:4:9: grace "2 m" is not a duration; write a number with s, m, h or d, such as "30m", "7d" or "1h30m"
mall.toml:8:12: timezone is written without quotes; text needs them: "Asia/Seoul"
mall.toml:16:1: source 1 (topic "mall.payments"): unknown field "amuont"; did you mean "amount"?
mall.toml:21:1: source 2 (topic "mall.order_items"): missing field "key"; order_items need the field of the row's primary key, or a list of fields
mall.toml:31:9: source 3 (topic "mall.*"): topic "mall.*" is read by source 1 already as "mall.payments"; a topic is read once, unless each source names another table
mall.toml:39:9: source 4 (topic "mall.clicks"): topic "mall.clicks" is read by source 3 already as "mall.*"; a topic is read once, unless each source names another table
mall.toml:41:10: source 4 (topic "mall.clicks"): format "jsn" is unknown; did you mean "json"?
mall.toml:43:1: source 4 (topic "mall.clicks"): unknown field "produkt"; did you mean "product"?"#
    );
}

#[test]
#[rustfmt::skip]
fn of_the_job() {
    for (lines, expected) in [
        ("", r#"1:1: missing field "name"; every job needs one, such as name = "mall""#),
        ("name = 1", "1:8: name must be text, not a whole number"),
        (r#"name = """#, "1:8: name is empty; give it a value"),
        (r#"name = "-a""#, r#"1:8: name "-a" must begin with a letter or a digit"#),
        (r#"name = "a b""#, r#"1:8: name "a b" is no name; letters, digits, "-" and "_", as it becomes part of paths and keys"#),
        (r#"name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#, r#"1:8: name "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" is too long; at most 64 characters"#),
        (r#"name = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#, ""),
        (r#"nmae = "a""#, r#"1:1: unknown field "nmae"; did you mean "name"?"#),
        (r#"name = "j"
topic = "x"
foo = true
[bar]
x = 1"#, r#"2:1: unknown field "topic"; it belongs to a source, below [[source]]
3:1: unknown field "foo"; known here: "name", "window", "grace", "retention", "replay_horizon", "scale", "currency", "timezone", "source", "kafka", "schema_registry"
4:2: unknown field "bar"; known here: "name", "window", "grace", "retention", "replay_horizon", "scale", "currency", "timezone", "source", "kafka", "schema_registry""#),
        (r#"name = "j"
scale = 19
currency = ""
timezone = "Asia/Soul""#, r#"2:9: scale 19 is out of range; from 0 to 18
3:12: currency is empty; give it a value
4:12: timezone "Asia/Soul" is no time zone; did you mean "Asia/Seoul"?"#),
        (r#"name = "j"
scale = -1
currency = [1]
timezone = "KST""#, r#"2:9: scale -1 is out of range; from 0 to 18
3:12: currency must be text, not a list
4:12: timezone "KST" is no time zone; use an IANA name, such as "UTC" or "Asia/Seoul""#),
        (r#"name = "j"
scale = 2.5
timezone = "seoul""#, r#"2:9: scale must be a whole number, not a number with a fraction
3:12: timezone "seoul" is no time zone; did you mean "Asia/Seoul"?"#),
        (r#"name = "j"
scale = 99999999999999999999
timezone = 9"#, "2:9: scale 99999999999999999999 is out of range; from 0 to 18
3:12: timezone must be text, not a whole number"),
        (r#"name = "j"
scale = 0
timezone = "asia/seoul""#, ""),
    ] {
        assert_eq!(said(&job(lines)), expected, "{lines}");
    }
}

#[test]
#[rustfmt::skip]
fn of_durations() {
    for (lines, expected) in [
        (r#"name = "j"
window = "7m""#, r#"2:10: window "7m" does not divide the hour; use 1m, 2m, 3m, 4m, 5m, 6m, 10m, 12m, 15m, 20m, 30m or 1h"#),
        (r#"name = "j"
window = "90s""#, r#"2:10: window "90s" is not whole minutes; such as "2m""#),
        (r#"name = "j"
window = "0m""#, r#"2:10: window "0m" is out of range; from "1m" to "1h""#),
        (r#"name = "j"
window = "2h""#, r#"2:10: window "2h" is out of range; from "1m" to "1h""#),
        (r#"name = "j"
window = "60m"
grace = "0s"
retention = "1h"
replay_horizon = "1m""#, ""),
        (r#"name = "j"
window = "30 m""#, r#"2:10: window "30 m" is not a duration; write a number with s, m, h or d, such as "30m", "7d" or "1h30m""#),
        (r#"name = "j"
window = "30""#, r#"2:10: window "30" has no unit; add s, m, h or d, such as "30m""#),
        (r#"name = "j"
window = "30m1h""#, r#"2:10: window "30m1h" names its units out of order; largest first and each once, such as "1h30m""#),
        (r#"name = "j"
window = 30
grace = 2026-01-01"#, r#"2:10: window must be a duration in quotes, such as "30m", not a whole number
3:9: grace must be a duration in quotes, such as "2m", not a date or time"#),
        (r#"name = "j"
grace = "90s"
retention = "20m"
replay_horizon = "0m""#, r#"2:9: grace "90s" is not whole minutes; such as "2m"
3:13: retention "20m" is shorter than window; at least "30m"
4:18: replay_horizon "0m" is out of range; from "1m" to "3650d""#),
        (r#"name = "j"
grace = "25h"
retention = "3651d"
replay_horizon = "99999999999999999999d""#, r#"2:9: grace "25h" is out of range; from "0m" to "24h"
3:13: retention "3651d" is out of range; from "1m" to "3650d"
4:18: replay_horizon "99999999999999999999d" is out of range; from "1m" to "3650d""#),
        (r#"name = "j"
grace = "23h"
retention = "1h""#, r#"3:13: retention "1h" is shorter than grace; at least "23h""#),
        (r#"name = "j"
window = "1h"
retention = "30m""#, r#"3:13: retention "30m" is shorter than window; at least "1h""#),
    ] {
        assert_eq!(said(&job(lines)), expected, "{lines}");
    }
}

/// A line that cannot be read is reported once, and what depends on it not at all.
#[test]
#[rustfmt::skip]
fn of_toml() {
    for (lines, expected) in [
        ("name = mall", r#"1:8: name is written without quotes; text needs them: "mall""#),
        (r#"name = "j"
window = 30m
grace = 1"#, r#"2:10: window is written without quotes; text needs them: "30m"
3:9: grace must be a duration in quotes, such as "2m", not a whole number"#),
        (r#"name = "j"
name = "k""#, r#"2:1: "name" is set twice; keep one of them"#),
        (r#"name = "j
scale = 2"#, r#"1:10: name is not TOML: invalid basic string, expected `"`"#),
        ("name =", "1:7: name has no value"),
        (r#"name = "j"
= 3"#, "2:1: not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`"),
        (r#"name = "j"
scale 2"#, "2:7: not TOML: key with no value, expected `=`"),
        (r#"name = "j"
scale: 2"#, "2:8: not TOML: key with no value, expected `=`"),
        (r#"name = "j"
scale = two"#, r#"2:9: scale is written without quotes; text needs them: "two""#),
        (r#"name = "j"
scale = True"#, "2:9: scale True is not TOML; write true or false"),
        (r#"name = "j"
currency = nothing"#, r#"2:12: currency is written without quotes; text needs them: "nothing""#),
        (r#"name = "j"
timezone = Asia/Seoul"#, r#"2:12: timezone is written without quotes; text needs them: "Asia/Seoul""#),
        (r#"name = "j"
retention = 2026-13-01"#, "2:13: retention is not TOML: invalid date, expected month between 01 and 12"),
        ("name = \"j\"\ncurrency = '\u{1}'", "2:13: currency is not TOML: invalid literal string, expected non-single-quote visible characters"),
        (r#"name = "\q""#, r#"1:10: name is not TOML: missing escaped value, expected `b`, `e`, `f`, `n`, `r`, `\`, `"`, `x`, `u`, `U`"#),
        (r#"name = "j"
currency = "é" x"#, "2:16: currency is not TOML: unexpected key or value, expected newline, `#`"),
    ] {
        assert_eq!(said(&job(lines)), expected, "{lines}");
    }
}

#[test]
#[rustfmt::skip]
fn of_sources() {
    for (lines, expected) in [
        ("", r#"1:1: missing field "name"; every job needs one, such as name = "mall"
1:1: no source; a job needs at least one [[source]] with its topic, role and format"#),
        (r#"name = "j"
source = 3"#, "2:10: source must be tables, each below its own [[source]], not a whole number"),
        (r#"name = "j"
source = []"#, "2:10: source is empty; a job needs at least one [[source]] with its topic, role and format"),
        (r#"name = "j"
source = [1, { topic = "t" }]"#, r#"2:11: item 1 of source must be tables, each below its own [[source]], not a whole number
2:14: source 2 (topic "t"): missing field "role"; every source needs one of "payments", "order_items", "products", "clicks", "lookup"
2:14: source 2 (topic "t"): missing field "format"; every source needs one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "json", "auto"
2:14: source 2 (topic "t"): missing field "store"; every source needs the field of the store id"#),
        (r#"name = "j"
[source]
topic = "t""#, "2:1: source is a single table; write [[source]], with two brackets"),
        (r#"name = "j"
[source]
topic = "t"
[source]
topic = "u""#, r#"4:2: "source" is set twice; write [[source]], with two brackets, above each"#),
        (r#"name = "j"
[[source]]
"#, r#"2:1: source 1: missing field "topic"; name the topic to read, or list several as topics
2:1: source 1: missing field "role"; every source needs one of "payments", "order_items", "products", "clicks", "lookup"
2:1: source 1: missing field "format"; every source needs one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "json", "auto"
2:1: source 1: missing field "store"; every source needs the field of the store id"#),
        (r#"name = "j"
[[sources]]
topic = "t""#, r#"2:3: unknown field "sources"; did you mean "source"?"#),
        (r#"name = "j"
[[source]
topic = "t"
role = "products"
format = "debezium"
key = "k"
store = "s"
"#, "2:10: not TOML: unclosed array table, expected `]`"),
        (r#"name = "j"
[source]]
topic = "t"
role = "products"
format = "debezium"
key = "k"
store = "s"
"#, "2:9: not TOML: unexpected key or value, expected newline, `#`"),
    ] {
        assert_eq!(said(lines), expected, "{lines}");
    }
}

#[test]
#[rustfmt::skip]
fn of_topics() {
    for (lines, expected) in [
        (r#"topic = "a/b""#, r#"4:9: source 1 (topic "a/b"): topic "a/b" is no topic name; letters, digits, ".", "_" and "-", "*" for any run of them, and {name} for one that ids can use"#),
        (r#"topic = "..""#, r#"4:9: source 1 (topic ".."): topic ".." is no topic name; "." and ".." are not allowed"#),
        (r#"topic = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#, r#"4:9: source 1 (topic "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…"): topic "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is no topic name; at most 249 characters"#),
        ("topic = 3", "4:9: source 1: topic must be text, not a whole number"),
        (r#"topic = """#, r#"4:9: source 1 (topic ""): topic is empty; give it a value"#),
        ("topics = []", "4:10: source 1: topics is an empty list; list at least one"),
        (r#"topics = "a""#, "4:10: source 1: topics must be a list, not text"),
        (r#"topics = ["a", "", 3, "a", "b c"]"#, r#"4:16: source 1 (topic "a"): item 2 of topics is empty; give it a value
4:20: source 1 (topic "a"): item 3 of topics must be text, not a whole number
4:23: source 1 (topic "a"): item 4 of topics repeats "a"; list it once"#),
        (r#"topic = "a"
topics = ["b"]"#, r#"5:10: source 1 (topic "a"): topics cannot be set together with topic; keep one of them"#),
        ("", r#"3:1: source 1: missing field "topic"; name the topic to read, or list several as topics"#),
        (r#"topics = ["a-*", "a-1"]"#, ""),
    ] {
        let text = format!("{HEAD}[[source]]\n{lines}\n{PRODUCTS}");
        assert_eq!(said(&text), expected, "{lines}");
    }
}

#[test]
#[rustfmt::skip]
fn of_roles() {
    for (role, lines, expected) in [
        (PAYMENTS, r#"format = "json""#, r#"5:10: format "json" is not for payments; use one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "auto""#),
        (PAYMENTS, r#"format = "dms""#, ""),
        (PAYMENTS, r#"format = "Upsert""#, r#"5:10: format "Upsert" is unknown; did you mean "upsert"?"#),
        (PAYMENTS, r#"format = "csv""#, r#"5:10: format "csv" is unknown; one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "auto""#),
        (PAYMENTS, r#"role = "payment""#, r#"5:8: role "payment" is unknown; did you mean "payments"?"#),
        (PAYMENTS, r#"role = "orders""#, r#"5:8: role "orders" is unknown; one of "payments", "order_items", "products", "clicks", "lookup""#),
        (PAYMENTS, "key = []", "5:7: key is an empty list; list at least one"),
        (PAYMENTS, r#"key = ["a", "a"]"#, r#"5:13: item 2 of key repeats "a"; list it once"#),
        (PAYMENTS, "key = 1", "5:7: key must be text or a list of texts, not a whole number"),
        (PAYMENTS, r#"key = [1, ""]"#, "5:8: item 1 of key must be text, not a whole number
5:11: item 2 of key is empty; give it a value"),
        (PAYMENTS, r#"key = ["a", "b"]"#, ""),
        (PAYMENTS, r#"key_space = "rol""#, r#"5:13: key_space "rol" is unknown; did you mean "role"?"#),
        (PAYMENTS, r#"store = "{site}:{store_id}""#, ""),
        (PAYMENTS, "store = 3", r#"5:9: store must be text, or a table, such as { through = "orders", on = "order_id" }, not a whole number"#),
        (PAYMENTS, r#"product = "p"
quantity = "q"
kind = "k"
distinct = true"#, "5:11: product makes no sense for payments; only order_items and clicks have it
6:12: quantity makes no sense for payments; only order_items have it
7:8: kind makes no sense for payments; only clicks have it
8:12: distinct makes no sense for payments; only clicks have it"),
        (PAYMENTS, r#"produkt = "x"
timezone = "UTC"
idle = "heartbeats"
clock = "wall""#, r#"5:1: unknown field "produkt"; did you mean "product"?
6:1: unknown field "timezone"; it belongs to the job, above the first [[source]]
7:8: idle "heartbeats" is unknown; did you mean "heartbeat"?
8:9: clock "wall" is unknown; one of "live", "records""#),
        (PAYMENTS, r#"idle = "heartbeat"
clock = "records""#, ""),
        (PAYMENTS, r#"table = "t""#, "5:9: table makes no sense here; upsert records do not name their table"),
        (PAYMENTS, r#"currency = """#, "5:12: currency is empty; give it a value"),
        (ITEMS, "", ""),
        (ITEMS, r#"amount = "a"
currency = "c"
kind = "k"
distinct = true"#, "5:10: amount makes no sense for order_items; only payments have it
6:12: currency makes no sense for order_items; only payments have it
7:8: kind makes no sense for order_items; only clicks have it
8:12: distinct makes no sense for order_items; distinct products of order_items are always counted"),
        (ITEMS, r#"produkt = "p""#, r#"5:1: unknown field "produkt"; did you mean "product"?"#),
        (PRODUCTS, r#"time = { field = "a", unit = "ms" }
product = "p""#, "5:8: time makes no sense for products; products are counted as they are now, in no window
6:11: product makes no sense for products; a product is known by its key"),
        (PRODUCTS, r#"table = ""
distinct = 3"#, "5:9: table is empty; give it a value
6:12: distinct makes no sense for products; only clicks have it"),
        (CLICKS, r#"format = "debezium""#, r#"5:10: format "debezium" is not for clicks; use one of "avro", "json""#),
        (CLICKS, r#"key = "k"
key_space = "role"
counts_when = { a = 1 }
amount = "a"
currency = "c"
quantity = "q"
table = "t""#, "5:7: key makes no sense for clicks; a click is an event and has no key
6:13: key_space makes no sense for clicks; a click is an event and has no key
7:15: counts_when makes no sense for clicks; every click counts
8:10: amount makes no sense for clicks; only payments have it
9:12: currency makes no sense for clicks; only payments have it
10:12: quantity makes no sense for clicks; only order_items have it
11:9: table makes no sense for clicks; a click is of no table"),
        (CLICKS, "distinct = true", r#"3:1: missing field "product"; distinct = true needs the field of the product id"#),
        (CLICKS, r#"distinct = 1
product = "p""#, "5:12: distinct must be true or false, not a whole number"),
        (CLICKS, "distinct = false", ""),
        (CLICKS, r#"idle = "heartbeat""#, r#"5:8: idle "heartbeat" makes no sense for clicks; only a change connector writes heartbeats"#),
        (CLICKS, r#"idle = "hold""#, ""),
    ] {
        let said = said(&source(role, lines)).replace("source 1 (topic \"t\"): ", "");
        assert_eq!(said, expected, "{role}{lines}");
    }
}

/// Each role without each field it needs.
#[test]
#[rustfmt::skip]
fn of_missing_fields() {
    for (role, field, expected) in [
        (PAYMENTS, "role", r#"3:1: missing field "role"; every source needs one of "payments", "order_items", "products", "clicks", "lookup""#),
        (PAYMENTS, "format", r#"3:1: missing field "format"; payments need one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "auto""#),
        (PAYMENTS, "key", r#"3:1: missing field "key"; payments need the field of the row's primary key, or a list of fields"#),
        (PAYMENTS, "store", r#"3:1: missing field "store"; every source needs the field of the store id"#),
        (PAYMENTS, "amount", r#"3:1: missing field "amount"; payments need the field of the amount"#),
        (PAYMENTS, "time", r#"3:1: missing field "time"; payments need the field of the event time and its unit, such as { field = "paid_at", unit = "ms" }"#),
        (ITEMS, "format", r#"3:1: missing field "format"; order_items need one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "auto""#),
        (ITEMS, "key", r#"3:1: missing field "key"; order_items need the field of the row's primary key, or a list of fields"#),
        (ITEMS, "product", r#"3:1: missing field "product"; order_items need the field of the product id"#),
        (ITEMS, "quantity", r#"3:1: missing field "quantity"; order_items need the field of the quantity"#),
        (ITEMS, "time", r#"3:1: missing field "time"; order_items need the field of the event time and its unit, such as { field = "paid_at", unit = "ms" }"#),
        (PRODUCTS, "format", r#"3:1: missing field "format"; products need one of "debezium", "flattened", "dms", "maxwell", "canal", "mongodb", "upsert", "avro", "auto""#),
        (PRODUCTS, "key", r#"3:1: missing field "key"; products need the field of the row's primary key, or a list of fields"#),
        (CLICKS, "format", r#"3:1: missing field "format"; clicks need one of "avro", "json""#),
        (CLICKS, "kind", r#"3:1: missing field "kind"; clicks need the field of the click's kind"#),
        (CLICKS, "time", r#"3:1: missing field "time"; clicks need the field of the event time and its unit, such as { field = "paid_at", unit = "ms" }"#),
    ] {
        let kept: Vec<&str> = role.lines().filter(|line| line.split(' ').next() != Some(field)).collect();
        let text = format!("{HEAD}[[source]]\ntopic = \"t\"\n{}\n", kept.join("\n"));
        let said = said(&text).replace("source 1 (topic \"t\"): ", "");
        assert_eq!(said, expected, "{role}without {field}");
    }
    assert_eq!(
        said(&format!("name = \"j\"\n[[source]]\ntopic = \"t\"\n{PAYMENTS}")),
        r#"2:1: source 1 (topic "t"): missing field "currency"; payments need the field of the currency here, or one currency for the whole job above the sources"#
    );
}

#[test]
#[rustfmt::skip]
fn of_time() {
    for (role, lines, expected) in [
        (PAYMENTS, r#"time = "paid_at""#, r#"5:8: time must be a table, such as { field = "paid_at", unit = "ms" }, not text"#),
        (PAYMENTS, "time = {}", r#"5:8: missing field "time.field"; name the field that holds the time
5:8: missing field "time.unit"; one of "s", "ms", "us", "ns", "days", "rfc3339", "auto", or a table with a format"#),
        (PAYMENTS, r#"time = { feild = "a", unit = "sec" }"#, r#"5:10: unknown field "time.feild"; did you mean "field"?
5:30: time.unit "sec" is unknown; one of "s", "ms", "us", "ns", "days", "rfc3339", "auto""#),
        (PAYMENTS, r#"time = { field = "a", unit = "MS" }"#, r#"5:30: time.unit "MS" is unknown; did you mean "ms"?"#),
        (PAYMENTS, r#"time = { field = "a", unit = "%Y" }"#, r#"5:30: time.unit "%Y" is a format; write unit = { format = "%Y-%m-%d %H:%M:%S", zone = "Asia/Seoul" }"#),
        (PAYMENTS, r#"time = { field = "a", unit = 3, zone = "UTC" }"#, r#"5:30: time.unit must be text, such as "ms", or a table, such as { format = "%Y-%m-%d %H:%M:%S", zone = "Asia/Seoul" }, not a whole number"#),
        (PAYMENTS, r#"time = { field = "a.", unit = "ms", zone = "Asia/Seol" }"#, r#"5:18: time.field "a." has an empty name
5:44: time.zone "Asia/Seol" is no time zone; did you mean "Asia/Seoul"?"#),
        (PAYMENTS, r#"time = { field = "a", unit = "rfc3339", zone = "UTC" }"#, r#"5:48: time.zone makes no sense beside "rfc3339"; the text says its offset"#),
        (PAYMENTS, r#"time = { field = "a", unit = { format = "%F %T" }, zone = "UTC" }"#, r#"5:59: time.zone belongs to the format; write unit = { format = "%Y-%m-%d %H:%M:%S", zone = "Asia/Seoul" }"#),
        (PAYMENTS, r#"time = { field = "a.b", unit = "auto", zone = "Asia/Seoul" }"#, ""),
        (PAYMENTS, r#"time = { field = "a", unit = { format = "%H:%M", zone = "Asia/Seol" } }"#, r#"5:41: time.unit.format "%H:%M" names no instant: date required to parse datetime: year required to parse date
5:57: time.unit.zone "Asia/Seol" is no time zone; did you mean "Asia/Seoul"?"#),
        (PAYMENTS, r#"time = { field = "a", unit = { fromat = "%F %T" } }"#, r#"5:32: unknown field "time.unit.fromat"; did you mean "format"?"#),
        (PAYMENTS, r#"time = { field = "a", unit = { format = "%F %I:%M" } }"#, r#"5:41: time.unit.format "%F %I:%M" does not tell morning from afternoon; use %H, or %p with %I"#),
        (PAYMENTS, r#"time = { field = "a", unit = { format = "%Y-%q" } }"#, r#"5:41: time.unit.format "%Y-%q" cannot be read back: strptime parsing failed: found unrecognized specifier directive `q`"#),
        (PAYMENTS, r#"time = { field = "a", unit = { format = "" } }"#, "5:41: time.unit.format is empty; give it a value"),
        (PAYMENTS, r#"time = { field = "a" unit = "ms" }"#, "5:22: time is not TOML: missing comma between key-value pairs, expected `,`"),
        (PAYMENTS, r#"time = { field = "a", unit = { format = "%FT%T", zone = "UTC" } }"#, ""),
    ] {
        let said = said(&source(role, lines)).replace("source 1 (topic \"t\"): ", "");
        assert_eq!(said, expected, "{role}{lines}");
    }
}

#[test]
#[rustfmt::skip]
fn of_counts_when() {
    for (role, lines, expected) in [
        (PAYMENTS, r#"counts_when = "PAID""#, r#"5:15: counts_when must be a table, such as { status = ["PAID"] }, not text"#),
        (PAYMENTS, r#"counts_when = { a = [], e = ["x", [1]], f.g = 1 }"#, r#"5:21: counts_when.a is an empty list; list at least one
5:35: item 2 of counts_when.e must be text, a number, true, false, or a list of them, not a list
5:41: counts_when.f must be text or a list of texts; put the path of a field in quotes, such as "payload.status""#),
        (PAYMENTS, r#"counts_when = { "" = 1, h = 2020-01-01, i = inf }"#, r#"5:22: counts_when."" is no field name; name the field to compare
5:29: counts_when.h must be text, a number, true, false, or a list of them, not a date or time
5:45: counts_when.i must be text, a number, true, false, or a list of them, not a number with a fraction"#),
        (PAYMENTS, r#"counts_when = { "a..b" = 1, "c{d}" = 2, "e.f" = 3, '"e".f' = 4 }"#, r#"5:26: counts_when."a..b" is no field name: it has an empty name
5:38: counts_when."c{d}" is no field name: it has a brace, which only a composed id has; put the name in quotes
5:49: counts_when."e.f" is compared twice; keep one of them"#),
        (PAYMENTS, "counts_when = { a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,o=1,p=1 }", ""),
        (PAYMENTS, "counts_when = { a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1,j=1,k=1,l=1,m=1,n=1,o=1,p=1,q=1 }", "5:83: counts_when.q is one condition too many; at most 16"),
        (PAYMENTS, "counts_when = {}", ""),
    ] {
        let said = said(&source(role, lines)).replace("source 1 (topic \"t\"): ", "");
        assert_eq!(said, expected, "{role}{lines}");
    }
}

#[test]
fn of_more_fields_than_are_looked_for() {
    for (keys, expected) in [
        (28, String::new()),
        (29, "3:1: source 1 (topic \"t\"): needs 33 different fields of its rows; 32 is the most".to_owned()),
    ] {
        let keys: Vec<String> = (0..keys).map(|number| format!("\"k{number}\"")).collect();
        let source = source(PAYMENTS, "currency = \"c\"").replace("key = \"k\"", &format!("key = [{}]", keys.join(", ")));
        assert_eq!(said(&source), expected);
    }
}

#[test]
#[rustfmt::skip]
fn of_topics_read_twice() {
    for (first, second, expected) in [
        (r#"topic = "t""#, r#"topic = "t""#, r#"10:9: source 2 (topic "t"): topic "t" is read by source 1 already; a topic is read once, unless each source names another table"#),
        (r#"topic = "t"
table = "a""#, r#"topic = "t"
table = "b""#, ""),
        (r#"topic = "t"
table = "a""#, r#"topic = "t"
table = "a""#, r#"11:9: source 2 (topic "t"): topic "t" is read by source 1 already; a topic is read once, unless each source names another table"#),
        (r#"topic = "t"
table = "a""#, r#"topic = "t""#, r#"11:9: source 2 (topic "t"): topic "t" is read by source 1 already; a topic is read once, unless each source names another table"#),
        (r#"topic = "s-*""#, r#"topic = "s-*""#, r#"10:9: source 2 (topic "s-*"): topic "s-*" is read by source 1 already; a topic is read once, unless each source names another table"#),
        (r#"topic = "s-*""#, r#"topics = ["s-7", "x"]"#, r#"10:11: source 2 (topic "s-7"): item 1 of topics "s-7" is read by source 1 already as "s-*"; a topic is read once, unless each source names another table"#),
        (r#"topic = "s-7""#, r#"topics = ["s-*"]"#, r#"10:11: source 2 (topic "s-*"): item 1 of topics "s-*" is read by source 1 already as "s-7"; a topic is read once, unless each source names another table"#),
        (r#"topic = "s-*""#, r#"topics = ["s-*-a"]"#, r#"10:11: source 2 (topic "s-*-a"): item 1 of topics "s-*-a" is read by source 1 already as "s-*"; a topic is read once, unless each source names another table"#),
        (r#"topic = "s-*""#, r#"topics = ["*-a"]"#, ""),
    ] {
        let text = format!("{HEAD}[[source]]\n{first}\n{PRODUCTS}[[source]]\n{second}\n{PRODUCTS}");
        assert_eq!(said(&text), expected, "{first} and {second}");
    }
}

/// Values that are resolved, not only let through.
#[test]
#[rustfmt::skip]
fn of_kafka() {
    for (lines, expected) in [
        ("", ""),
        (r#"brokers = "a:9092,b:9092"
options = { "security.protocol" = "SSL", "sasl.password" = "env:P", "ssl.key.pem" = "file:/p" }"#, ""),
        (r#"borkers = "a""#, r#"3:1: unknown field "kafka.borkers"; did you mean "brokers"?"#),
        ("brokers = []\noptions = 1", r#"3:11: kafka.brokers must be text, not a list
4:11: kafka.options must be a table, such as { "security.protocol" = "SASL_SSL" }, not a whole number"#),
        (r#"options = { "sasl.password" = "hunter2", "fetch.wait.max.ms" = 3, "bootstrap.servers" = "a" }"#, r#"3:31: kafka.options."sasl.password" is a secret; write "env:NAME" or "file:PATH", which say where it is
3:64: kafka.options."fetch.wait.max.ms" must be text, not a whole number
3:89: kafka.options."bootstrap.servers" is set by brokers of [kafka], or by --brokers"#),
    ] {
        let text = format!("name = \"j\"\n[kafka]\n{lines}\n[[source]]\ntopic = \"t\"\n{PRODUCTS}");
        assert_eq!(said(&text), expected, "{lines}");
    }
}

#[test]
fn resolved() {
    let resolve = |text: &str| parse(text, "f").unwrap();
    let least = resolve(&format!("name = \"j\"\n[[source]]\ntopic = \"p\"\n{PRODUCTS}"));
    let horizons = Horizons {
        window: 30 * MINUTE,
        grace: 2 * MINUTE,
        retention: 48 * HOUR,
        replay_horizon: 7 * DAY,
        before: storeflow_dataflows::epoch::Before::NOTHING,
    };
    assert_eq!((least.horizons, least.scale, least.currency), (horizons, 2, None));
    assert_eq!(least.timezone, "UTC");
    assert_eq!(resolve(&job("name = \"j\"\ntimezone = \"asia/seoul\"")).timezone, "Asia/Seoul");

    let source_of = |role, lines: &str| resolve(&source(role, lines)).sources.remove(0);
    let texts = "counts_when = { a = [1, 0x1F, +2, -0, 1_000, 1.50, true, \"\"], \"b.c\" = \"x\" }";
    let counts_when = source_of(PRODUCTS, texts).counts_when;
    assert_eq!(counts_when[&"a".into()], ["1", "31", "2", "-0", "1000", "1.50", "true", ""]);
    assert_eq!(counts_when[&FieldPath::parse("b.c").unwrap()], ["x"]);
    for (lines, distinct) in [
        ("", false),
        ("product = \"p\"", true),
        ("product = \"p\"\ndistinct = false", false),
        ("product = \"p\"\ndistinct = true", true),
    ] {
        assert_eq!(source_of(CLICKS, lines).distinct, distinct, "{lines}");
    }
    assert_eq!(source_of(PAYMENTS, "key = [\"a\", \"b\"]\nkey_space = \"role\"").key, ["a".into(), "b".into()]);
    let nested = IdSpec::Field(FieldPath::parse("order.store").unwrap());
    assert_eq!(source_of(PAYMENTS, "store = \"order.store\"").store, StoreSpec::Own(nested));
    assert_eq!(source_of(PAYMENTS, "store = '\"order.store\"'").store, StoreSpec::Own("order.store".into()));
    for (unit, expected) in [
        ("\"s\"", TimeUnit::Seconds),
        ("\"ns\"", TimeUnit::Nanos),
        ("\"days\"", TimeUnit::Days),
        ("\"rfc3339\"", TimeUnit::Rfc3339),
        ("{ format = \"%F %T\" }", TimeUnit::Format { format: "%F %T".to_owned(), zone: None }),
    ] {
        let time = source_of(PAYMENTS, &format!("time = {{ field = \"t\", unit = {unit} }}")).time;
        assert_eq!(time.map(|time| time.unit), Some(expected));
    }
}
