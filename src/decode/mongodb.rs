//! MongoDB's change events, as its Kafka connector writes them: extended JSON, sometimes as text within a JSON string.
//!
//! ```text
//! {"operationType", "ns": {"db", "coll"}, "documentKey": {"_id"}, "fullDocument" or "updateDescription", "clusterTime", "wallTime", …}
//! ```
//!
//! Shapes: MongoDB manual, "Change Events", and the connector's `publish.full.document.only=false`.
//!
//! Upholds: one pass over the event (two if it is text within a string). An event whose kind is not known changes nothing: the
//! server may send new ones.

use storeflow_dataflows::change::{Position, Version, What};

use super::json::{self, Fields, Inner, Value};
use super::keys::Keys;
use super::mongo_update::Updates;
use super::paths::Texts;
use super::project::{Hints, Projection, ROOM};
use super::table::Table;
use super::values::{Hint, Times};
use super::version::Incarnations;
use super::{Reason, Record, Reject, Skipped, clock_read, clock_time, extended_json, not_an_object, not_json, text_of, unsigned};
use crate::config::{Job, SourceSpec, TimeUnit};

pub(super) struct Mongodb {
    event: Fields,
    namespace: Fields,
    document_key: Fields,
    description: Fields,
    cluster_time: Fields,
    timestamp: Fields,
    token: Fields,
    table: Table,
    projection: Projection,
    updates: Updates,
    keys: Keys,
    incarnations: Incarnations,
    times: Times,
}

const OPERATION: usize = 0;
const NAMESPACE: usize = 1;
const DOCUMENT_KEY: usize = 2;
const DOCUMENT: usize = 3;
const DESCRIPTION: usize = 4;
const CLUSTER_TIME: usize = 5;
const WALL_TIME: usize = 6;
const TOKEN: usize = 7;

impl Mongodb {
    pub(super) fn new(job: &Job, spec: &SourceSpec, topic: &str, key_space: u32) -> Self {
        let projection = Projection::new(job, spec, topic).without_placeholders();
        Mongodb {
            event: Fields::new([
                "operationType",
                "ns",
                "documentKey",
                "fullDocument",
                "updateDescription",
                "clusterTime",
                "wallTime",
                "_id",
            ]),
            namespace: Fields::new(["db", "coll"]),
            document_key: Fields::new(["_id"]),
            description: Fields::new(["updatedFields", "removedFields"]),
            cluster_time: Fields::new(["$timestamp"]),
            timestamp: Fields::new(["t", "i"]),
            token: Fields::new(["copyingData"]),
            table: Table::new(spec),
            updates: Updates::new(projection.field_paths().iter().map(|path| path.names())),
            keys: Keys::new(job, spec, topic, key_space),
            projection,
            incarnations: Incarnations::new(spec),
            times: Times::new(&TimeUnit::Rfc3339, None),
        }
    }

    pub(super) fn decode(&mut self, value: Option<&[u8]>) -> Result<Record, Reject> {
        let Some(text) = value else { return Ok(Record::skipped(Skipped::Tombstone, None)) };
        let texts = Texts::default();
        let (mut event, mut namespace, mut key, mut description) =
            ([Value::Absent; 8], [Value::Absent; 2], [Value::Absent; 1], [Value::Absent; 2]);
        let (mut cluster_time, mut token, mut row) = ([Value::Absent; 1], [Value::Absent; 1], ROOM);
        let row = &mut row[..self.projection.len()];
        let mut inner = [
            Inner { of: NAMESPACE, fields: &self.namespace, out: &mut namespace },
            Inner { of: DOCUMENT_KEY, fields: &self.document_key, out: &mut key },
            Inner { of: DOCUMENT, fields: self.projection.fields(), out: row },
            Inner { of: DESCRIPTION, fields: &self.description, out: &mut description },
            Inner { of: CLUSTER_TIME, fields: &self.cluster_time, out: &mut cluster_time },
            Inner { of: TOKEN, fields: &self.token, out: &mut token },
        ];
        let mut found = json::read_both(text, &self.event, &mut event, &mut inner).map_err(not_json)?;
        if found == Value::Null {
            return Ok(Record::skipped(Skipped::Tombstone, None));
        }
        if let Some(text) = texts.string(found) {
            found = json::read_both(text, &self.event, &mut event, &mut inner).map_err(not_json)?;
        }
        if !matches!(found, Value::Object(_)) {
            return Err(not_an_object("the message"));
        }
        let time = self.cluster_time(cluster_time[0]);
        let own_time = self.own_time(event[WALL_TIME], time);
        if !matches!(event[OPERATION], Value::Plain(_) | Value::Escaped(_)) {
            return Err(Reject::new(Reason::BadOp, "field \"operationType\" is not text"));
        }
        let operation = text_of(event[OPERATION]);
        let [database, collection] = namespace;
        let takes = match &*operation {
            b"dropDatabase" => self.table.takes_database(database),
            _ => self.table.takes(collection, Value::Absent, database),
        };
        if !takes {
            return Ok(Record::skipped(Skipped::OtherTable, own_time));
        }
        let version = self.version(time, token[0]);
        let (delete, update) = match &*operation {
            b"insert" | b"replace" => (false, false),
            b"update" => (false, true),
            b"delete" => (true, false),
            b"drop" | b"dropDatabase" => return Ok(Record { decoded: self.keys.truncate(version), own_time }),
            _ => return Ok(Record::skipped(Skipped::Control, own_time)),
        };
        let key = self.keys.of_one(key[0], Hints::Extended)?;
        let what = match (event[DOCUMENT], event[DESCRIPTION]) {
            _ if delete => What::Delete,
            (Value::Object(_), _) => {
                self.projection.complete(row, &texts);
                self.projection.what(row, Hints::Extended)?
            }
            (_, Value::Object(_)) if update => {
                let [updated, removed] = description;
                self.updates.read(updated, removed, row, &texts)?;
                self.projection.what(row, Hints::Extended)?
            }
            _ => return Err(Reject::new(Reason::MissingRow, "\"fullDocument\" is not a row, and nothing says what was updated")),
        };
        Ok(Record::change(key, version, what, own_time))
    }

    /// Seconds, later than 1970, and number of a cluster time.
    fn cluster_time(&self, timestamp: Value<'_>) -> Option<(u64, u64)> {
        let Value::Object(timestamp) = timestamp else { return None };
        let mut time = [Value::Absent; 2];
        json::read_object(timestamp, &self.timestamp, &mut time).ok()?;
        let (seconds, number) = (unsigned(time[0])?, unsigned(time[1])?);
        (seconds > 0).then_some((seconds, number))
    }

    fn own_time(&self, wall_time: Value<'_>, cluster_time: Option<(u64, u64)>) -> Option<u64> {
        let of_clock = match extended_json::open(wall_time) {
            (time, hint @ (Hint::Date | Hint::DateMillis)) => clock_read(self.times.read(time, hint, "")),
            _ => None,
        };
        of_clock.unwrap_or_else(|| clock_time(i128::from(cluster_time?.0) * 1_000))
    }

    fn version(&mut self, cluster_time: Option<(u64, u64)>, copying: Value<'_>) -> Option<Version> {
        let half = |number: u64| u32::try_from(number).ok().map(u64::from);
        let at = match cluster_time {
            Some((seconds, number)) => half(seconds)? << 32 | half(number)?,
            // Older than all that is told of the document afterwards.
            None if copying == Value::Bool(b"true") => 0,
            None => return None,
        };
        Some(Version { incarnation: self.incarnations.name(&[b"mongodb"]), server: 0, position: Position(0, at, 0) })
    }
}

#[cfg(test)]
mod tests {
    use storeflow_dataflows::change::says;

    use super::super::told::{Told, payments};
    use super::*;
    use crate::config::field_path::FieldPath;
    use crate::config::{Format, TimeSpec, TimeUnit};

    const WINDOW: u64 = 1_795_168_800_000;
    const DOCUMENT: &str = r#"{"_id":{"$oid":"66f0"},"store":"s1","amount":{"$numberDecimal":"12.50"},"at":{"$date":{"$numberLong":"1795168800005"}}}"#;

    fn spec() -> SourceSpec {
        SourceSpec { key: vec!["_id".into()], ..payments(Format::Mongodb) }
    }

    fn event(operation: &str, more: &str) -> String {
        format!(
            r#"{{"_id":{{"_data":"8266"}},"operationType":"{operation}","clusterTime":{{"$timestamp":{{"t":1795168801,"i":3}}}},"ns":{{"db":"shop","coll":"payments"}},"documentKey":{{"_id":{{"$oid":"66f0"}}}}{more}}}"#
        )
    }

    /// Behind all that comes from the cluster time.
    fn at(what: &str) -> String {
        format!("{what}; at 0/{}/0; own 1795168801000", (1_795_168_801u64 << 32) + 3)
    }

    #[test]
    fn operations_by_their_names() {
        let mut told = Told::of(&spec());
        let full = format!(r#","fullDocument":{DOCUMENT}"#);
        for operation in ["insert", "replace", "update"] {
            assert_eq!(told.tell(&event(operation, &full)), at(&format!("row 66f0: s1 KRW 1250 in {WINDOW}")), "{operation}");
        }
        assert_eq!(told.tell(&event("delete", "")), at("delete 66f0"));
        assert_eq!(told.tell(&event("delete", &full)), at("delete 66f0"));
        assert_eq!(told.tell(&event("drop", "")), at("truncate"));
        assert_eq!(told.tell(&event("dropDatabase", "")), at("truncate"));
        for operation in ["rename", "invalidate", "create", "modify", "createIndexes", "to be invented", ""] {
            assert_eq!(told.tell(&event(operation, "")), "skipped control; own 1795168801000", "{operation}");
        }
        for none in ["", r#","fullDocument":null"#, r#","fullDocument":[]"#, r#","fullDocument":"{}""#] {
            for operation in ["insert", "replace", "update"] {
                assert_eq!(told.tell(&event(operation, none)), "missing_row", "{operation} {none}");
            }
        }
    }

    #[test]
    fn what_is_no_change_event() {
        let mut told = Told::of(&spec());
        for (value, expected) in [
            ("{}", "bad_op"),
            (r#"{"operationType":null}"#, "bad_op"),
            (r#"{"operationType":["insert"]}"#, "bad_op"),
            (r#"{"operationType":"invalidate"}"#, "skipped control"),
            ("[]", "not_an_object"),
            ("12", "not_an_object"),
            ("null", "skipped tombstone"),
            ("", "skipped tombstone"),
            ("{]", "not_json"),
            (r#""null""#, "not_an_object"),
            (r#""12""#, "not_an_object"),
            (r#""\"{}\"""#, "not_an_object"),
            (r#""{]""#, "not_json"),
            (r#""""#, "not_json"),
        ] {
            assert_eq!(told.tell(value), expected, "{value}");
        }
        assert_eq!(told.tell_keyed(Some("7"), None), "skipped tombstone");
    }

    #[test]
    fn an_event_may_be_text_within_a_string() {
        let mut told = Told::of(&spec());
        let value = event("insert", &format!(r#","fullDocument":{}"#, DOCUMENT.replace("s1", "s\\\"1")));
        let expected = at(&format!("row 66f0: s\"1 KRW 1250 in {WINDOW}"));
        assert_eq!(told.tell(&value), expected);
        let quoted = serde_json::to_string(&value).expect("text");
        assert_eq!(told.tell(&quoted), expected);
        assert_eq!(told.tell(r#""{}""#), "bad_op");
        assert_eq!(told.tell(&quoted), expected);
    }

    #[test]
    fn tables_are_told_apart_with_their_database() {
        for (table, taken, of_database) in [
            ("payments", true, true),
            ("shop.payments", true, true),
            ("mall.payments", false, false),
            ("orders", false, true),
            ("shop.orders", false, true),
        ] {
            let mut told = Told::of(&SourceSpec { table: Some(table.to_owned()), ..spec() });
            let other = "skipped other_table; own 1795168801000";
            let of = |expected: String, taken: bool| if taken { expected } else { other.to_owned() };
            assert_eq!(told.tell(&event("delete", "")), of(at("delete 66f0"), taken), "{table}");
            assert_eq!(told.tell(&event("drop", "")), of(at("truncate"), taken), "{table}");
            assert_eq!(told.tell(&event("modify", "")), of("skipped control; own 1795168801000".to_owned(), taken), "{table}");
            let dropped = event("dropDatabase", "").replace(r#","coll":"payments""#, "");
            assert_eq!(told.tell(&dropped), of(at("truncate"), of_database), "{table}");
            let elsewhere = event("delete", "").replace(r#"{"_id":{"$oid":"66f0"}}"#, "7");
            assert_eq!(told.tell(&elsewhere), of("missing_key".to_owned(), taken), "{table}");
        }
    }

    #[test]
    fn keys_are_the_documents() {
        let mut told = Told::of(&spec());
        for (key, expected) in [
            (r#"{"_id":{"$oid":"66f0"}}"#, at("delete 66f0")),
            (r#"{"shard":"kr","_id":7}"#, at("delete 7")),
            (r#"{"_id":"seven"}"#, at("delete seven")),
            (r#"{"_id":{"$numberLong":"7"}}"#, at("delete 7")),
            (r#"{"_id":{"$numberInt":"-7"}}"#, at("delete -7")),
            (r#"{"_id":{"$uuid":"a-b"}}"#, at("delete a-b")),
            (r#"{"_id":null}"#, "missing_key".to_owned()),
            ("{}", "missing_key".to_owned()),
            ("null", "missing_key".to_owned()),
            (r#""7""#, "missing_key".to_owned()),
            (r#"{"_id":1.5}"#, "missing_key".to_owned()),
            (r#"{"_id":{"a":1}}"#, "missing_key".to_owned()),
            (r#"{"_id":""}"#, "missing_key".to_owned()),
        ] {
            let value = event("delete", "").replace(r#"{"_id":{"$oid":"66f0"}}"#, key);
            assert_eq!(told.tell(&value), expected, "{key}");
        }
        // Whatever the job file calls the key; but there is only one.
        let named = SourceSpec { key: vec!["payment".into()], ..spec() };
        assert_eq!(Told::of(&named).tell(&event("delete", "")), at("delete 66f0"));
        let two = SourceSpec { key: vec!["_id".into(), "store".into()], ..spec() };
        assert_eq!(Told::of(&two).tell(&event("delete", "")), "missing_key");
    }

    #[test]
    fn an_update_says_what_it_describes() {
        let nested = SourceSpec {
            store: crate::config::StoreSpec::Own(crate::config::field_path::IdSpec::Field(
                FieldPath::parse("shop.store").expect("a path"),
            )),
            time: Some(TimeSpec { field: FieldPath::parse("when.at").expect("a path"), unit: TimeUnit::Millis, zone: None }),
            ..spec()
        };
        let mut told = Told::of(&nested);
        let base = says::SECOND | says::MEMBER | says::CONDITIONS;
        let patch = |row: &str, said: u32| at(&format!("patch 66f0: {row} says {said:x}"));
        for (description, expected) in [
            (r#"{"updatedFields":{"amount":{"$numberLong":"3"}},"removedFields":[]}"#, patch(" KRW 300", base | says::AMOUNT)),
            (r#"{"updatedFields":{"shop.store":"s2"}}"#, patch("s2 KRW 0", base | says::STORE)),
            (r#"{"updatedFields":{"shop":{"store":"s2"}},"removedFields":null}"#, patch("s2 KRW 0", base | says::STORE)),
            (r#"{"updatedFields":{"shop":{"store":"s2"},"shop.store":"s3"}}"#, patch("s3 KRW 0", base | says::STORE)),
            (r#"{"updatedFields":{"other":1}}"#, patch(" KRW 0", base)),
            ("{}", patch(" KRW 0", base)),
            (r#"{"updatedFields":{},"removedFields":["shop"]}"#, "bad_id".to_owned()),
            (r#"{"updatedFields":{"amount":1.5}}"#, "float".to_owned()),
            (
                r#"{"updatedFields":{"amount":"1.5","shop.store":"s","when.at":{"$date":"2026-11-20T10:00:00Z"}}}"#,
                at(&format!("row 66f0: s KRW 150 in {WINDOW}")),
            ),
            ("null", "missing_row".to_owned()),
            ("[]", "missing_row".to_owned()),
        ] {
            let value = event("update", &format!(r#","fullDocument":null,"updateDescription":{description}"#));
            assert_eq!(told.tell(&value), expected, "{description}");
        }
        let both =
            event("update", &format!(r#","fullDocument":{DOCUMENT},"updateDescription":{{"updatedFields":{{"store":"s9"}}}}"#));
        assert_eq!(Told::of(&spec()).tell(&both), at(&format!("row 66f0: s1 KRW 1250 in {WINDOW}")), "the document says more");
    }

    #[test]
    fn versions_are_cluster_times() {
        let mut told = Told::of(&spec());
        let with = |time: &str| event("delete", "").replace(r#"{"$timestamp":{"t":1795168801,"i":3}}"#, time);
        for (time, expected) in [
            (r#"{"$timestamp":{"i":0,"t":1}}"#, "; at 0/4294967296/0; own 1000"),
            (r#"{"$timestamp":{"t":4294967295,"i":4294967295}}"#, "; at 0/18446744073709551615/0; own 4294967295000"),
            (r#"{"$timestamp":{"t":4294967296,"i":1}}"#, "; own 4294967296000"),
            (r#"{"$timestamp":{"t":0,"i":1}}"#, ""),
            (r#"{"$timestamp":{"t":"1","i":1}}"#, ""),
            (r#"{"$timestamp":{"t":1}}"#, ""),
            (r#"{"$timestamp":7}"#, ""),
            (r#""7""#, ""),
            ("null", ""),
        ] {
            assert_eq!(told.tell(&with(time)), format!("delete 66f0{expected}"), "{time}");
        }
        // Copied documents are older than all that is told of them.
        let copied = with("null").replace(r#"{"_data":"8266"}"#, r#"{"_id":1,"copyingData":true}"#);
        assert_eq!(told.tell(&copied), "delete 66f0; at 0/0/0");
        assert_eq!(told.tell(&copied.replace("true", "\"true\"")), "delete 66f0");
        let beyond = copied.replace("null", r#"{"$timestamp":{"t":4294967296,"i":1}}"#);
        assert_eq!(told.tell(&beyond), "delete 66f0; own 4294967296000");
        let timed = event("delete", "").replace(r#"{"_data":"8266"}"#, r#"{"copyingData":true}"#);
        assert_eq!(told.tell(&timed), at("delete 66f0"));
    }

    #[test]
    fn own_time_is_the_wall_clocks() {
        let mut told = Told::of(&spec());
        let before = event("delete", r#","wallTime":{"$date":"1969-12-31T23:59:59Z"}"#);
        assert_eq!(told.tell(&before), at("delete 66f0").replace("; own 1795168801000", ""));
        for (wall, expected) in [
            (r#"{"$date":1795168801234}"#, 1_795_168_801_234u64),
            (r#"{"$date":{"$numberLong":"1795168801234"}}"#, 1_795_168_801_234),
            (r#"{"$date":"2026-11-20T10:00:01.234Z"}"#, 1_795_168_801_234),
            (r#"{"$date":"soon"}"#, 1_795_168_801_000),
            ("1795168801234", 1_795_168_801_000),
            ("null", 1_795_168_801_000),
        ] {
            let value = event("delete", &format!(r#","wallTime":{wall}"#));
            assert_eq!(told.tell(&value), at("delete 66f0").replace("1795168801000", &expected.to_string()), "{wall}");
        }
    }
}
