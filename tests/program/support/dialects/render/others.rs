//! What all others write.

use serde_json::{Value, json};

use super::super::setting::{Before, Dialect, Place, Setting};
use super::super::truth::{Event, Row, What};
use super::debezium::{binlog, columns, difference, document, id, lsn};
use super::values::{number, text};
use super::{Columns, Message};

/// Where DMS, Maxwell and Canal have put the row.
fn row_of(what: &What) -> Option<&Row> {
    match what {
        What::Insert(row) | What::Delete(row) | What::Load { row, .. } => Some(row),
        What::Update { new, .. } | What::Move { new, .. } => Some(new),
        What::Truncate => None,
    }
}

/// AWS DMS. Columns that are null are not there.
pub(super) fn dms(setting: &Setting, event: &Event) -> Vec<Message> {
    let Dialect::Dms { position, before } = setting.dialect else { unreachable!("of this dialect") };
    let Event { table, transaction, part, commit, key, what, .. } = *event;
    let mut metadata = json!({
        "timestamp": text(commit + 5_000, "%Y-%m-%dT%H:%M:%S%.6fZ"), "record-type": "data", "partition-key-type": "schema-table",
        "schema-name": "shop", "table-name": table.name(), "transaction-id": 12,
    });
    let mut data = row_of(&what).map(|row| columns(setting, key, row, true)).unwrap_or_default();
    data.retain(|_, value| !value.is_null());
    let mut image = None;
    if let What::Update { .. } = what
        && before == Before::Image
    {
        image = Some(json!({}));
    }
    let operation = match what {
        What::Insert(_) => "insert",
        What::Load { .. } => "load",
        What::Update { .. } => "update",
        What::Delete(_) => "delete",
        What::Move { from, .. } => {
            match before {
                Before::Image => image = Some(json!({"id": id(setting, from)})),
                Before::Beside => drop(data.insert("BI_id".to_owned(), id(setting, from))),
                Before::Nowhere => unreachable!("a key that moves is said"),
            }
            "update"
        }
        What::Truncate => "drop-table",
    };
    metadata["operation"] = json!(operation);
    if !matches!(what, What::Load { .. } | What::Truncate) {
        let (file, pos) = binlog(transaction);
        match position {
            Place::Nothing => {}
            Place::Binlog => metadata["stream-position"] = json!(format!("{file}:{pos}:0:{}:77:{file}:4", pos + 1)),
            Place::Log => {
                metadata["stream-position"] = json!(format!("00000002/{:08X}.3.00000002/{:08X}", lsn(event), lsn(event)))
            }
        }
        if position != Place::Nothing {
            metadata["transaction-record-id"] = json!(part + 1);
            metadata["commit-timestamp"] = json!(text(commit, "%Y-%m-%dT%H:%M:%S%.6fZ"));
        }
    }
    let mut value = json!({"metadata": metadata});
    if what == What::Truncate {
        value["metadata"]["record-type"] = json!("control");
        value["control"] = json!({});
    } else {
        value["data"] = Value::Object(data);
    }
    if let Some(image) = image {
        value["before-image"] = image;
    }
    vec![Message { key: Some(format!("shop.{}", table.name())), value: Some(value.to_string()), spread_by: 0 }]
}

/// Maxwell.
pub(super) fn maxwell(setting: &Setting, event: &Event) -> Vec<Message> {
    let Dialect::Maxwell { position } = setting.dialect else { unreachable!("of this dialect") };
    let Event { table, transaction, part, last, commit, key, what, .. } = *event;
    let of = |key: u8, row: &Row| columns(setting, key, row, false);
    let mut value = json!({"database": "shop", "table": table.name(), "ts": commit / 1_000, "xid": 930});
    value["data"] = row_of(&what).map_or(json!({}), |row| Value::Object(of(key, row)));
    value["type"] = json!(match what {
        What::Insert(_) => "insert",
        What::Update { .. } | What::Move { .. } => "update",
        What::Delete(_) => "delete",
        What::Load { first: true, .. } => "insert",
        What::Load { first: false, .. } => "bootstrap-insert",
        What::Truncate => "table-drop",
    });
    match what {
        What::Update { old, new } => value["old"] = changed(&of(key, &old), &of(key, &new)),
        What::Move { from, old, new } => value["old"] = changed(&of(from, &old), &of(key, &new)),
        What::Insert(_) | What::Delete(_) | What::Load { .. } | What::Truncate => {}
    }
    if position && !matches!(what, What::Load { .. } | What::Truncate) {
        let (file, pos) = binlog(transaction);
        value["position"] = json!(format!("{file}:{pos}"));
        value["server_id"] = json!(7);
        match last {
            true => value["commit"] = json!(true),
            false => value["xoffset"] = json!(part),
        }
    }
    let message_key = json!({"database": "shop", "table": table.name(), "pk.id": id(setting, key)});
    vec![Message { key: Some(message_key.to_string()), value: Some(value.to_string()), spread_by: key }]
}

/// What columns that changed had before.
fn changed(old: &Columns, new: &Columns) -> Value {
    Value::Object(
        old.iter()
            .filter(|(name, value)| new.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// The type of a message of Canal.
pub(super) fn canal_type(what: &What) -> &'static str {
    match what {
        What::Insert(_) => "INSERT",
        What::Update { .. } | What::Move { .. } => "UPDATE",
        What::Delete(_) => "DELETE",
        What::Load { .. } => "INIT",
        What::Truncate => "TRUNCATE",
    }
}

/// Canal: changes of one kind and table in one message, all values as text.
pub(super) fn canal(setting: &Setting, events: &[Event]) -> Vec<Message> {
    let Event { table, commit, what, .. } = events[0];
    let of = |key: u8, row: &Row| -> Columns {
        let as_text = |value: Value| match value {
            Value::Null | Value::String(_) => value,
            other => json!(other.to_string()),
        };
        columns(setting, key, row, true).into_iter().map(|(name, value)| (name, as_text(value))).collect()
    };
    let truncate = what == What::Truncate;
    let data: Vec<_> = events.iter().filter_map(|event| Some(of(event.key, row_of(&event.what)?))).collect();
    let old: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.what {
            What::Update { old, new } => Some(changed(&of(event.key, old), &of(event.key, new))),
            What::Move { from, old, new } => Some(changed(&of(*from, old), &of(event.key, new))),
            What::Insert(_) | What::Delete(_) | What::Load { .. } | What::Truncate => None,
        })
        .collect();
    let value = json!({
        "data": if truncate { Value::Null } else { json!(data) }, "old": if old.is_empty() { Value::Null } else { json!(old) },
        "database": "shop", "table": table.name(), "type": canal_type(&what), "isDdl": truncate, "es": commit, "ts": commit + 400,
        "pkNames": ["id"], "sql": "", "id": 3, "gtid": "",
    });
    vec![Message { key: None, value: Some(value.to_string()), spread_by: 0 }]
}

/// MongoDB's own connector.
pub(super) fn mongodb(setting: &Setting, event: &Event) -> Vec<Message> {
    let Dialect::Mongodb { partial, quoted } = setting.dialect else { unreachable!("of this dialect") };
    let Event { site: _, table, transaction, commit, key, what, .. } = *event;
    let text = |row: &Row| Value::Object(document(setting, key, row));
    let mut value = json!({
        "_id": {"_data": format!("82{transaction:08X}")}, "ns": {"db": "shop", "coll": table.name()},
        "clusterTime": {"$timestamp": {"t": 1_795_000_000 + transaction, "i": 1}}, "wallTime": {"$date": commit},
        "documentKey": {"region": "x", "_id": id(setting, key)},
    });
    let kind = match what {
        What::Insert(row) => {
            value["fullDocument"] = text(&row);
            "insert"
        }
        What::Load { row, .. } => {
            value["_id"] = json!({"_id": id(setting, key), "copyingData": true});
            value["fullDocument"] = text(&row);
            value.as_object_mut().expect("an object").retain(|name, _| name != "clusterTime" && name != "wallTime");
            "insert"
        }
        What::Update { old, new } => {
            let (updated, removed) = difference(setting, key, &old, &new);
            value["updateDescription"] = json!({"updatedFields": updated, "removedFields": removed, "truncatedArrays": []});
            match (partial, setting.ahead) {
                (true, _) => {}
                (false, true) => value["fullDocument"] = event.later.as_ref().map_or(Value::Null, text),
                (false, false) => value["fullDocument"] = text(&new),
            }
            if !partial && new.note == 5 {
                value["fullDocument"] = text(&new);
                "replace"
            } else {
                "update"
            }
        }
        What::Delete(_) => "delete",
        What::Truncate => "drop",
        What::Move { .. } => unreachable!("MongoDB's keys stay"),
    };
    value["operationType"] = json!(kind);
    let value = value.to_string();
    let value = if quoted { json!(value).to_string() } else { value };
    vec![Message { key: Some(json!({"_id": id(setting, key)}).to_string()), value: Some(value), spread_by: key }]
}

/// Rows by key, some of which do not repeat it.
pub(super) fn upsert(setting: &Setting, event: &Event) -> Vec<Message> {
    let Dialect::Upsert { raw_key } = setting.dialect else { unreachable!("of this dialect") };
    let id = number(&(u32::from(event.key) + 10).to_string());
    let message_key = if raw_key { id.to_string() } else { json!({"id": id}).to_string() };
    let value = match &event.what {
        What::Insert(row) | What::Load { row, .. } | What::Update { new: row, .. } => {
            let mut columns = columns(setting, event.key, row, event.part.is_multiple_of(2));
            if event.part % 3 == 1 {
                columns.remove("id");
            }
            Some(Value::Object(columns).to_string())
        }
        What::Delete(_) => None,
        What::Move { .. } | What::Truncate => unreachable!("there are no others in this dialect"),
    };
    vec![Message { key: Some(message_key), value, spread_by: event.key }]
}
