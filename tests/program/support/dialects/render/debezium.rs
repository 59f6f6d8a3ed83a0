//! What Debezium writes, with its envelope or without.

use serde_json::{Value, json};

use super::super::setting::{Deletes, Dialect, Flat, Setting};
use super::super::truth::{CURRENCIES, Event, Row, SITES, STATUSES, What};
use super::values::{amount, amount_schema, base64, decimal_schema, time, time_schema};
use super::{Columns, Message};

const UNAVAILABLE: &str = "__debezium_unavailable_value";

/// The columns of a row.
pub(super) fn columns(setting: &Setting, key: u8, row: &Row, json_as_text: bool) -> Columns {
    let geo = json!({"store": format!("s{}", row.store), "at": [1, {"store": "no"}]});
    let store = if setting.nested {
        ("geo", if json_as_text { json!(geo.to_string()) } else { geo })
    } else {
        ("store", json!(format!("s{}", row.store)))
    };
    let columns = [
        ("id", id(setting, key)),
        store,
        ("ordered", json!(u32::from(row.order) + 10)),
        ("product", json!(format!("p{}", row.product))),
        ("amount", amount(setting, row.amount)),
        ("qty", json!(row.quantity)),
        ("cur", json!(row.currency.map(|currency| CURRENCIES[usize::from(currency)]))),
        ("status", json!(row.status.map(|status| STATUSES[usize::from(status)]))),
        ("at", time(setting, row.at)),
        ("note", json!("x".repeat(usize::from(row.note)))),
    ];
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A row's key. Those of orders are what `ordered` has.
pub(super) fn id(setting: &Setting, key: u8) -> Value {
    let id = u32::from(key) + 10;
    if setting.unsigned { json!(base64(id.into())) } else { json!(id) }
}

fn id_schema(setting: &Setting) -> Value {
    if setting.unsigned { decimal_schema("id", 0) } else { json!({"type": "int32", "field": "id"}) }
}

fn row_schema(setting: &Setting, field: &str) -> Value {
    json!({
        "type": "struct", "optional": true, "field": field,
        "fields": [id_schema(setting), amount_schema(setting), time_schema(setting), {"type": "int16", "field": "qty"}],
    })
}

/// A message key of MySQL's or PostgreSQL's connector.
fn message_key(setting: &Setting, key: u8) -> String {
    let fields = json!({"id": id(setting, key)});
    if setting.schema {
        json!({"schema": {"type": "struct", "fields": [id_schema(setting)]}, "payload": fields}).to_string()
    } else {
        fields.to_string()
    }
}

/// Debezium of a relational database. A moved key is two changes.
pub(super) fn relational(setting: &Setting, event: &Event) -> Vec<Message> {
    let one = |key: u8, op: &str, before: Option<&Row>, after: Option<(&Row, Option<&Row>)>| {
        let columns = |row: &Row| columns(setting, key, row, true);
        let after = after.map(|(new, old)| {
            let mut after = columns(new);
            if let (Dialect::Postgres { unchanged: true }, Some(old)) = (setting.dialect, old) {
                leave_out(&mut after, &columns(old));
            }
            after
        });
        // PostgreSQL has only the key of rows that are gone, and knows nothing of updated ones.
        let before = match (setting.dialect, op) {
            (Dialect::Postgres { .. }, "d") => Some(json!({"id": id(setting, key), "amount": null, "status": ""})),
            (Dialect::Postgres { .. }, _) => None,
            _ => before.map(|row| Value::Object(columns(row))),
        };
        let envelope = json!({"before": before, "after": after, "source": source(setting, event), "op": op, "ts_ms": 1, "transaction": null});
        let value = if setting.schema {
            let sides = [row_schema(setting, "before"), row_schema(setting, "after")];
            json!({"schema": {"type": "struct", "fields": sides}, "payload": envelope}).to_string()
        } else if event.part % 3 == 2 {
            json!({"schema": null, "payload": envelope}).to_string()
        } else {
            envelope.to_string()
        };
        Message { key: Some(message_key(setting, key)), value: Some(value), spread_by: key }
    };
    let tombstone = |key: u8| Message { key: Some(message_key(setting, key)), value: None, spread_by: key };
    match &event.what {
        What::Insert(new) => vec![one(event.key, "c", None, Some((new, None)))],
        What::Load { row, .. } => vec![one(event.key, "r", None, Some((row, None)))],
        What::Update { old, new } => vec![one(event.key, "u", Some(old), Some((new, Some(old))))],
        What::Delete(old) => vec![one(event.key, "d", Some(old), None), tombstone(event.key)],
        What::Move { from, old, new } => {
            vec![one(*from, "d", Some(old), None), tombstone(*from), one(event.key, "c", None, Some((new, None)))]
        }
        What::Truncate => vec![Message { key: None, ..one(0, "t", None, None) }],
    }
}

/// Puts the placeholder for what is unavailable in the place of texts that did not change.
fn leave_out(after: &mut Columns, before: &Columns) {
    for name in ["geo", "store", "cur", "status", "note"] {
        if let Some(value) = after.get_mut(name)
            && value.is_string()
            && before.get(name) == Some(value)
        {
            *value = json!(UNAVAILABLE);
        }
    }
}

/// Where the database stood: transactions follow each other in the log, their changes within them.
fn source(setting: &Setting, event: &Event) -> Value {
    let Event { site, table, transaction, part, commit, .. } = *event;
    let snapshot = matches!(event.what, What::Load { .. });
    let part = if snapshot { 999 } else { part };
    let site = SITES[usize::from(site)];
    if let Dialect::Postgres { .. } = setting.dialect {
        return json!({
            "connector": "postgresql", "name": site, "ts_ms": commit, "snapshot": snapshot.to_string(), "db": "mall",
            "sequence": "[null,\"1\"]", "schema": "shop", "table": table.name(), "txId": 3, "lsn": lsn(event), "xmin": null,
        });
    }
    json!({
        "connector": "mysql", "name": site, "ts_ms": commit, "snapshot": if snapshot { "true" } else { "false" }, "db": "shop",
        "table": table.name(), "server_id": if snapshot { 0 } else { 7 }, "gtid": null, "file": binlog(transaction).0,
        "pos": binlog(transaction).1, "row": part, "thread": 5,
    })
}

/// File and position of a transaction.
pub(super) fn binlog(transaction: u64) -> (String, u64) {
    (format!("mysql-bin.{:06}", 8 + transaction / 4), transaction % 4 * 1_000 + 4)
}

/// The position of a change in PostgreSQL's log.
pub(super) fn lsn(event: &Event) -> u64 {
    let part = if matches!(event.what, What::Load { .. }) { 999 } else { event.part };
    event.transaction * 1_000 + u64::from(part)
}

/// Debezium of MongoDB.
pub(super) fn mongodb(setting: &Setting, event: &Event) -> Vec<Message> {
    let Dialect::MongoConnector { partial } = setting.dialect else { unreachable!("of this dialect") };
    let Event { site, table, transaction, commit, key, .. } = *event;
    let source = json!({
        "connector": "mongodb", "name": SITES[usize::from(site)], "ts_ms": commit / 1_000_000_000 * 1_000_000_000 + transaction * 1_000,
        "snapshot": "false", "db": "shop", "rs": "rs0", "collection": table.name(), "ord": 1,
    });
    let message_key = json!({"id": id(setting, key).to_string()}).to_string();
    let text = |row: &Row| json!(Value::Object(document(setting, key, row)).to_string());
    let one = |op: &str, after: Value, description: Value| {
        let envelope =
            json!({"before": null, "after": after, "updateDescription": description, "source": source, "op": op, "ts_ms": 1});
        Message { key: Some(message_key.clone()), value: Some(envelope.to_string()), spread_by: key }
    };
    match &event.what {
        What::Insert(row) => vec![one("c", text(row), Value::Null)],
        What::Load { row, .. } => vec![one("r", text(row), Value::Null)],
        What::Update { old, new } => {
            let (updated, removed) = difference(setting, key, old, new);
            let description =
                json!({"updatedFields": Value::Object(updated).to_string(), "removedFields": removed, "truncatedArrays": null});
            let shown = match (partial, setting.ahead) {
                (true, _) => None,
                (false, true) => event.later,
                (false, false) => Some(*new),
            };
            vec![one("u", shown.as_ref().map_or(Value::Null, text), description)]
        }
        What::Delete(_) => {
            vec![one("d", Value::Null, Value::Null), Message { key: Some(message_key.clone()), value: None, spread_by: key }]
        }
        What::Move { .. } | What::Truncate => unreachable!("MongoDB's keys stay, and its connector tells of no drops"),
    }
}

/// A document: what has no value is not there.
pub(super) fn document(setting: &Setting, key: u8, row: &Row) -> Columns {
    let mut document = columns(setting, key, row, false);
    document.remove("id");
    document.retain(|_, value| !value.is_null());
    document.insert("_id".to_owned(), id(setting, key));
    document
}

/// What an update changed, by dotted names, and what it removed.
pub(super) fn difference(setting: &Setting, key: u8, old: &Row, new: &Row) -> (Columns, Vec<String>) {
    let (before, after) = (document(setting, key, old), document(setting, key, new));
    let mut updated = Columns::new();
    for (name, value) in &after {
        if before.get(name) != Some(value) {
            // Within the nested object only the store changes; every other time the whole object is said.
            match value.get("store") {
                Some(store) if new.note.is_multiple_of(2) => updated.insert(format!("{name}.store"), store.clone()),
                _ => updated.insert(name.clone(), value.clone()),
            };
        }
    }
    let removed = before.keys().filter(|name| !after.contains_key(*name)).cloned().collect();
    (updated, removed)
}

/// Rows out of their envelopes.
pub(super) fn flattened(setting: &Setting, event: &Event) -> Vec<Message> {
    let Dialect::Flattened { position, deletes } = setting.dialect else { unreachable!("of this dialect") };
    let row = |key: u8, row: Option<&Row>, op: &str, deleted: bool| {
        let mut columns = row.map(|row| columns(setting, key, row, true)).unwrap_or_default();
        let Event { site, table, transaction, .. } = *event;
        let mut add = |name: &str, value: Value| drop(columns.insert(name.to_owned(), value));
        add("__op", json!(op));
        add("__source_table", json!(table.name()));
        add("__db", json!("shop"));
        add("__source_ts_ms", json!(event.commit));
        if op != "t" {
            add("__deleted", json!(deleted.to_string()));
        }
        match position {
            Flat::Nothing => {}
            Flat::Lsn => add("__lsn", json!(lsn(event))),
            Flat::File => {
                let (file, pos) = binlog(transaction);
                add("__name", json!(SITES[usize::from(site)]));
                add("__source_file", json!(file));
                add("__source_pos", json!(pos));
                add("__source_row", json!(if op == "r" { 999 } else { event.part }));
            }
        }
        let value = Value::Object(columns);
        let value = if setting.schema {
            let fields = &row_schema(setting, "x")["fields"];
            json!({"schema": {"type": "struct", "fields": fields}, "payload": value})
        } else {
            value
        };
        Message { key: Some(message_key(setting, key)), value: Some(value.to_string()), spread_by: key }
    };
    let null = |key: u8| Message { key: Some(message_key(setting, key)), value: None, spread_by: key };
    let delete = |key: u8, old: &Row| {
        let rewritten = (deletes != Deletes::Tombstone).then(|| row(key, Some(old), "d", true));
        let tombstone = (deletes != Deletes::Rewrite).then(|| null(key));
        rewritten.into_iter().chain(tombstone).collect::<Vec<_>>()
    };
    match &event.what {
        What::Insert(new) => vec![row(event.key, Some(new), "c", false)],
        What::Load { row: loaded, .. } => vec![row(event.key, Some(loaded), "r", false)],
        What::Update { new, .. } => vec![row(event.key, Some(new), "u", false)],
        What::Delete(old) => delete(event.key, old),
        What::Move { from, old, new } => {
            let mut messages = delete(*from, old);
            messages.push(row(event.key, Some(new), "c", false));
            messages
        }
        What::Truncate => vec![Message { key: None, ..row(0, None, "t", false) }],
    }
}
