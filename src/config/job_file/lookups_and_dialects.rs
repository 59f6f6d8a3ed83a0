//! What is said of real schemas: captures, composed ids, lookups, and what only some formats have.

use super::messages::{CLICKS, HEAD, ITEMS, PAYMENTS, PRODUCTS, said, source};
use super::*;
use crate::config::field_path::{IdPart, IdSpec};
use crate::config::{Absent, Decimal, DedupSpec, Format, MeasureSpec, StoreSpec};

const ORDERS: &str = r#"role = "lookup"
name = "orders"
format = "debezium"
key = "order_id"
store = "store_id"
time = { field = "ordered_at", unit = "ms" }
"#;

const REFERRING: &str = r#"store = { through = "orders", on = "order_id" }
"#;

#[test]
#[rustfmt::skip]
fn of_topics_that_capture() {
    for (topics, lines, expected) in [
        (r#"topic = "{site}.t""#, r#"store = "{site}/{geo.store}""#, ""),
        (r#"topic = "{site}{shop}""#, "", r#"4:9: source 1 (topic "{site}{shop}"): topic "{site}{shop}" has another run right beside {site}; put some text between them"#),
        (r#"topic = "*{site}""#, "", r#"4:9: source 1 (topic "*{site}"): topic "*{site}" has another run right beside {site}; put some text between them"#),
        (r#"topic = "{a}-{a}""#, "", r#"4:9: source 1 (topic "{a}-{a}"): topic "{a}-{a}" captures "a" twice; give each its own name"#),
        (r#"topic = "{}.t""#, "", r#"4:9: source 1 (topic "{}.t"): topic "{}.t" captures "", which is no name; letters, digits and "_", a letter first"#),
        (r#"topic = "{1}.t""#, "", r#"4:9: source 1 (topic "{1}.t"): topic "{1}.t" captures "1", which is no name; letters, digits and "_", a letter first"#),
        (r#"topic = "{a.t""#, "", r#"4:9: source 1 (topic "{a.t"): topic "{a.t" is no topic name; letters, digits, ".", "_" and "-", "*" for any run of them, and {name} for one that ids can use"#),
        (r#"topics = ["{site}.t", "u"]"#, r#"store = "{site}""#, r#"5:9: source 1 (topic "{site}.t"): store "{site}" has {site}, which topic "u" does not capture; let every topic of the source capture it"#),
        (r#"topics = ["{site}.t", "u"]"#, r#"store = "{s}""#, ""),
        (r#"topic = "t""#, r#"store = "{site""#, r#"5:9: source 1 (topic "t"): store "{site" has a brace that is not closed; a brace itself is written {{"#),
        (r#"topic = "t""#, r#"store = "{}/a""#, r#"5:9: source 1 (topic "t"): store "{}/a" has braces with nothing in them; put a field's name there"#),
        (r#"topic = "t""#, r#"store = "{{a}}""#, r#"5:9: source 1 (topic "t"): store "{{a}}" names no field; put one in braces, such as {store_id}"#),
        (r#"topic = "t""#, r#"store = "a}""#, r#"5:9: source 1 (topic "t"): store "a}" has a closing brace that nothing opens; a brace itself is written }}"#),
        (r#"topic = "t""#, r#"key = ["{a}", "b..c", 'd."e"', "d.e"]"#, r#"5:8: source 1 (topic "t"): item 1 of key "{a}" has a brace, which only a composed id has; put the name in quotes
5:15: source 1 (topic "t"): item 2 of key "b..c" has an empty name
5:32: source 1 (topic "t"): item 4 of key repeats "d.e"; list it once"#),
    ] {
        let text = source(PRODUCTS, lines).replace(r#"topic = "t""#, topics);
        assert_eq!(said(&text), expected, "{topics} {lines}");
    }
    for (first, second, expected) in [
        ("{site}.t", "a.t", r#"10:9: source 2 (topic "a.t"): topic "a.t" is read by source 1 already as "{site}.t"; a topic is read once, unless each source names another table"#),
        ("*.t", "{site}.t", r#"10:9: source 2 (topic "{site}.t"): topic "{site}.t" is read by source 1 already as "*.t"; a topic is read once, unless each source names another table"#),
        ("{a}.t", "{b}.t", r#"10:9: source 2 (topic "{b}.t"): topic "{b}.t" is read by source 1 already as "{a}.t"; a topic is read once, unless each source names another table"#),
        ("{a}.t", ".t", ""),
    ] {
        let text = format!("{HEAD}[[source]]\ntopic = \"{first}\"\n{PRODUCTS}[[source]]\ntopic = \"{second}\"\n{PRODUCTS}");
        assert_eq!(said(&text), expected, "{first} and {second}");
    }
}

#[test]
#[rustfmt::skip]
fn of_what_some_formats_have() {
    for (role, lines, expected) in [
        (PRODUCTS, "format = \"mongodb\"\nkey = [\"a\", \"b\"]", "6:7: key has several fields; a document of mongodb has one, its _id"),
        (PRODUCTS, "format = \"maxwell\"\ntable = \"t\"\nincarnation = \"2\"\nabsent = \"unchanged\"", ""),
        (PRODUCTS, "format = \"canal\"\nincarnation = \"2\"\nabsent = \"null\"", r#"6:15: incarnation makes no sense here; canal changes have no version
7:10: absent "null" is unknown; one of "missing", "unchanged""#),
        (PRODUCTS, "format = \"upsert\"\nincarnation = \"2\"", "6:15: incarnation makes no sense here; upsert changes have no version"),
        (PRODUCTS, "allow_float = true\nname = \"x\"\nkeep = \"1d\"\ndedup = 3", r#"5:15: allow_float makes no sense for products; only payments and order_items have a number
6:8: name makes no sense for products; only a lookup is referred to by a name
7:8: keep makes no sense for products; only the rows of a lookup are kept for a time of their own
8:9: dedup makes no sense for products; only clicks have it"#),
        (PAYMENTS, "allow_float = 1", "5:15: allow_float must be true or false, not a whole number"),
        (PAYMENTS, r#"amount = { field = "a.b", decimal = "base64", scale = 4 }"#, ""),
        (PAYMENTS, r#"amount = { field = "a.b" }"#, ""),
        (PAYMENTS, "amount = 3", r#"5:10: amount must be text, or a table, such as { field = "amount", decimal = "base64", scale = 2 }, not a whole number"#),
        (PAYMENTS, r#"amount = { decimal = "base64" }"#, r#"5:10: missing field "amount.field"; name the field that holds the number
5:10: missing field "amount.scale"; base64 needs the number of decimal digits, which the column's type says"#),
        (PAYMENTS, r#"amount = { field = "a", decimal = "hex", scale = 39 }"#, r#"5:35: amount.decimal "hex" is unknown; one of "text", "base64"
5:50: amount.scale 39 is out of range; from 0 to 38"#),
        (ITEMS, r#"quantity = { field = "{a}", scale = 0 }"#, r#"5:22: quantity.field "{a}" has a brace, which only a composed id has; put the name in quotes
5:37: quantity.scale makes no sense without decimal = "base64"; text says its own"#),
        (CLICKS, r#"dedup = { field = "event_id", horizon = "90s" }"#, ""),
        (CLICKS, "dedup = {}", r#"5:9: missing field "dedup.field"; name the field of the event id
5:9: missing field "dedup.horizon"; say how long an event id is remembered, such as "1h""#),
        (CLICKS, r#"dedup = { field = "event_id", horizon = "0s" }"#, r#"5:41: dedup.horizon "0s" is out of range; from "1s" to "3650d""#),
        (CLICKS, "dedup = \"event_id\"\nabsent = \"missing\"\nincarnation = \"1\"", r#"5:9: dedup must be a table, such as { field = "event_id", horizon = "1h" }, not text
6:10: absent makes no sense for clicks; a click is whole, and never the later version of another
7:15: incarnation makes no sense for clicks; a click is whole, and never the later version of another"#),
        (CLICKS, r#"store = { through = "orders", on = "order_id" }"#, "5:9: store through a lookup makes no sense for clicks; a click is counted once, whatever becomes of other rows"),
    ] {
        let said = said(&source(role, lines)).replace("source 1 (topic \"t\"): ", "");
        assert_eq!(said, expected, "{role}{lines}");
    }
    let shared = |second: &str| {
        format!("{HEAD}[[source]]\ntopic = \"t\"\ntable = \"a\"\n{PRODUCTS}[[source]]\ntopic = \"t\"\ntable = \"b\"\n{}", PRODUCTS.replace("debezium", second))
    };
    assert_eq!(said(&shared("debezium")), "");
    assert_eq!(said(&shared("auto")), r#"11:9: source 2 (topic "t"): topic "t" is read by source 1 with format "debezium"; sources that share a topic have one format"#);
    let captured = source(CLICKS, r#"dedup = { field = "{site}", horizon = "1h" }"#).replace("topic = \"t\"", "topic = \"{site}\"");
    assert_eq!(said(&captured), r#"5:19: source 1 (topic "{site}"): dedup.field is the same for all clicks of a topic; name a field of the click"#);
}

/// A job with a source that refers to `orders`, the lines of which come after it.
fn referring(topic: &str, role: &str, lines: &str, lookup: &str) -> String {
    source(role, lines).replace("topic = \"t\"", topic) + lookup
}

fn lookup(topic: &str, lines: &str) -> String {
    source(ORDERS, lines).replace(HEAD, "").replace("topic = \"t\"", topic)
}

#[test]
#[rustfmt::skip]
fn of_lookups() {
    let orders = lookup(r#"topic = "orders""#, "");
    let by_site = lookup(r#"topics = ["{site}.orders", "eu.{site}.orders"]"#, "");
    let plain = r#"topic = "t""#;
    let timeless: String = PAYMENTS.lines().filter(|line| !line.starts_with("time")).map(|line| format!("{line}\n")).collect();
    for (text, expected) in [
        (referring(plain, PAYMENTS, REFERRING, &orders), ""),
        (referring(plain, &timeless, REFERRING, &orders), ""),
        (referring(plain, PRODUCTS, REFERRING, &orders), ""),
        (referring(plain, PAYMENTS, "store = {}", &orders), r#"5:9: source 1 (topic "t"): missing field "store.through"; the name of the lookup that has the store
5:9: source 1 (topic "t"): missing field "store.on"; the field that holds the lookup's key, or a list of fields"#),
        (referring(plain, PAYMENTS, r#"store = { trough = "orders", on = [] }"#, &orders), r#"5:11: source 1 (topic "t"): unknown field "store.trough"; did you mean "through"?
5:35: source 1 (topic "t"): store.on is an empty list; list at least one"#),
        (referring(plain, PAYMENTS, r#"store = { through = "order", on = "order_id" }"#, &orders), r#"5:21: source 1 (topic "t"): store.through "order" is no lookup of this job; did you mean "orders"?"#),
        (referring(plain, PAYMENTS, r#"store = { through = "shops", on = "order_id" }"#, &orders), r#"5:21: source 1 (topic "t"): store.through "shops" is no lookup of this job; there is "orders"
15:8: source 2 (topic "orders"): name "orders" is a lookup that no source refers to; write store = { through = "orders", on = … } there, or take it out"#),
        (referring(plain, PAYMENTS, REFERRING, ""), r#"5:21: source 1 (topic "t"): store.through "orders" is no lookup of this job; add a [[source]] with role = "lookup" and this name"#),
        (referring(plain, PAYMENTS, r#"store = { through = "orders", on = ["order_id", "line"] }"#, &orders), r#"5:36: source 1 (topic "t"): store.on has 2 fields, but the key of lookup "orders" has 1"#),
        (referring(plain, PAYMENTS, "", &orders), r#"16:8: source 2 (topic "orders"): name "orders" is a lookup that no source refers to; write store = { through = "orders", on = … } there, or take it out"#),
        (referring(plain, PAYMENTS, REFERRING, &lookup(r#"topic = "orders""#, REFERRING)), r#"14:9: source 2 (topic "orders"): store of a lookup cannot be found through another one; name a field of its rows"#),
        (referring(plain, PAYMENTS, REFERRING, &lookup(r#"topics = ["a", "b"]"#, "")), r#"13:11: source 2 (topic "a"): item 1 of topics "a" is one of several topics, so that nothing says which rows of lookup "orders" others refer to; capture the same names in all its topics, such as "{site}.orders", or write key_space = "role" if they are one table"#),
        (referring(plain, PAYMENTS, REFERRING, &lookup(r#"topic = "*.orders""#, "")), r#"13:9: source 2 (topic "*.orders"): topic "*.orders" stands for several topics, so that nothing says which rows of lookup "orders" others refer to; capture the same names in all its topics, such as "{site}.orders", or write key_space = "role" if they are one table"#),
        (referring(plain, PAYMENTS, REFERRING, &lookup(r#"topics = ["a", "b"]"#, "key_space = \"role\"")), ""),
        (referring(plain, PAYMENTS, REFERRING, &by_site), r#"4:9: source 1 (topic "t"): topic "t" does not capture {site}, which tells the keys of lookup "orders" apart"#),
        (referring(r#"topic = "{site}.{shard}.pay""#, PAYMENTS, REFERRING, &by_site), ""),
        (referring(r#"topic = "{site}.pay""#, PAYMENTS, REFERRING, &lookup(r#"topics = ["{site}.orders", "orders"]"#, "")), r#"13:28: source 2 (topic "{site}.orders"): item 2 of topics "orders" does not capture {site} as other topics do, so that nothing says which rows of lookup "orders" others refer to; capture the same names in all its topics, such as "{site}.orders", or write key_space = "role" if they are one table"#),
        (referring(plain, PAYMENTS, REFERRING, &(orders.clone() + &lookup(r#"topic = "old""#, "key = [\"a\", \"b\"]\nkey_space = \"role\"\nkeep = \"90d\""))), r#"23:7: source 3 (topic "old"): key has 2 fields, unlike the 1 of the key of source 2, which is of the same lookup
24:13: source 3 (topic "old"): key_space is not the one of source 2, which is of the same lookup
25:8: source 3 (topic "old"): keep is not that of source 2, which is of the same lookup"#),
        (referring(plain, PAYMENTS, REFERRING, &lookup(r#"topic = "orders""#, "amount = \"a\"\nkeep = \"x\"\ndistinct = true")), r#"14:10: source 2 (topic "orders"): amount makes no sense for lookups; only payments have it
15:8: source 2 (topic "orders"): keep "x" is not a duration; write a number with s, m, h or d, such as "30m", "7d" or "1h30m"
16:12: source 2 (topic "orders"): distinct makes no sense for lookups; only clicks have it"#),
    ] {
        assert_eq!(said(&text), expected, "{text}");
    }
    let orders_without_time: String = orders.lines().filter(|line| !line.starts_with("time")).map(|line| format!("{line}\n")).collect();
    let text = referring(plain, &timeless, REFERRING, &orders_without_time);
    assert_eq!(said(&text), r#"3:1: source 1 (topic "t"): missing field "time"; payments need one, or a lookup "orders" with a time, which source 2 does not have"#);
}

#[test]
#[rustfmt::skip]
fn of_schema_registries() {
    for (registry, format, expected) in [
        ("", "avro", r#"1:1: missing field "schema_registry"; source 1 has format "avro", whose schemas are there; write [schema_registry] with its url"#),
        ("url = \"http://r:8081/x\"", "avro", ""),
        ("url = \"https://r\"\nusername = \"u\"\npassword = \"env:P\"", "avro", ""),
        ("url = \"http://r\"", "upsert", r#"2:1: schema_registry is asked by no source; only format "avro" has schemas there"#),
        ("url = \"r:8081\"\nuser = \"u\"", "avro", r#"3:7: schema_registry.url "r:8081" is no address; begin it with http:// or https://
4:1: unknown field "schema_registry.user"; known here: "url", "username", "password""#),
        ("url = \"http://me:secret@r\"\nusername = \"u\"", "avro", r#"2:1: missing field "schema_registry.password"; a registry that asks who is there asks for both
3:7: schema_registry.url holds a user; write username and password as fields of their own"#),
        ("url = \"http://a,http://b\"\nusername = \"u\"\npassword = \"hunter2\"", "avro", r#"3:7: schema_registry.url "http://a,http://b" is no address; write one host, a port and maybe a path, such as "http://registry:8081"
5:12: schema_registry.password is a secret; write "env:NAME" or "file:PATH", which say where it is"#),
    ] {
        let section = if registry.is_empty() { String::new() } else { format!("[schema_registry]\n{registry}\n") };
        let text = format!("name = \"j\"\n{section}[[source]]\ntopic = \"t\"\n{}", PRODUCTS.replace("debezium", format));
        assert_eq!(said(&text), expected, "{registry} {format}");
    }
}

#[test]
fn real_schemas_are_resolved() {
    let text = format!(
        "{HEAD}[[source]]\ntopic = \"{{site}}.pay\"\nrole = \"payments\"\nformat = \"flattened\"\nkey = \"id\"\n\
         amount = {{ field = \"a\", decimal = \"base64\", scale = 4 }}\nallow_float = true\nabsent = \"unchanged\"\n\
         incarnation = \"2\"\n{REFERRING}\
         [[source]]\ntopic = \"{{site}}.orders\"\n{}\
         [[source]]\ntopic = \"clicks\"\n{CLICKS}dedup = {{ field = \"{{ip}}-{{event.id}}\", horizon = \"1h\" }}\n",
        ORDERS.replace("\"store_id\"", "\"{site}/{geo.store}\"\nkeep = \"90d\""),
    );
    let job = parse(&text, "f").unwrap();
    let [payments, orders, clicks] = job.sources.as_slice() else { panic!("three sources") };
    let through = StoreSpec::Through { lookup: "orders".to_owned(), on: vec!["order_id".into()] };
    assert_eq!((&payments.store, &payments.time), (&through, &None));
    assert_eq!(payments.amount, Some(MeasureSpec { field: "a".into(), decimal: Decimal::Base64 { scale: 4 } }));
    assert_eq!((payments.allow_float, payments.absent, payments.incarnation.as_deref()), (true, Absent::Unchanged, Some("2")));
    assert_eq!(payments.format, Format::Flattened);
    let geo = IdPart::Field(crate::config::field_path::FieldPath::parse("geo.store").unwrap());
    let store = IdSpec::Composed(vec![IdPart::Captured("site".to_owned()), IdPart::Text("/".to_owned()), geo]);
    assert_eq!((&orders.store, orders.name.as_deref(), orders.keep), (&StoreSpec::Own(store), Some("orders"), Some(90 * DAY)));
    assert!(matches!(&clicks.dedup, Some(DedupSpec { id: IdSpec::Composed(parts), horizon: HOUR }) if parts.len() == 3));
    assert_eq!(orders.captures("seoul.orders"), Some(vec![("site".to_owned(), "seoul".to_owned())]));
    assert_eq!(orders.captures("seoul.pay"), None);
    assert_eq!(parse(&job.to_string(), "f").unwrap(), job);
}
