//! What accidents make of messages: values that are odd for their place, members that are missing, there twice or under another
//! name; also within texts that are JSON.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

/// One accident.
#[derive(Clone, Debug)]
pub(crate) struct Accident {
    line: Index,
    /// Which value of the message, or of its key.
    at: Index,
    in_key: bool,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    /// Another value.
    Replace(Index),
    /// Another value for a column that the job needs.
    Column(Index, Index),
    /// The value of another place of the same message.
    Swap(Index),
    Remove,
    /// The member again, with another value.
    Twice(Index),
    /// Another name.
    Rename(Index),
    /// The member's name with an escape in it.
    Escape,
    /// The value as text, or the text as what is in it.
    Quote,
}

pub(crate) fn accidents(most: usize) -> impl Strategy<Value = Vec<Accident>> {
    let index = any::<Index>;
    let how = prop_oneof![
        6 => index().prop_map(How::Replace),
        8 => (index(), index()).prop_map(|(column, which)| How::Column(column, which)),
        1 => index().prop_map(How::Swap),
        3 => Just(How::Remove),
        2 => index().prop_map(How::Twice),
        2 => index().prop_map(How::Rename),
        1 => Just(How::Escape),
        1 => Just(How::Quote),
    ];
    let accident =
        (index(), index(), prop::bool::weighted(0.1), how).prop_map(|(line, at, in_key, how)| Accident { line, at, in_key, how });
    proptest::collection::vec(accident, 0..most)
}

/// Lines after accidents.
pub(crate) fn damaged(files: &[(String, u32, Vec<u8>)], accidents: &[Accident]) -> Vec<(String, u32, Vec<u8>)> {
    let mut lines: Vec<Vec<String>> =
        files.iter().map(|(_, _, content)| String::from_utf8_lossy(content).lines().map(str::to_owned).collect()).collect();
    for accident in accidents {
        let count = lines.iter().map(Vec::len).sum::<usize>();
        if count == 0 {
            continue;
        }
        let line = lines.iter_mut().flatten().nth(accident.line.index(count)).expect("so many there are");
        *line = accident.befall(line);
    }
    let content = |lines: Vec<String>| lines.into_iter().flat_map(|line| (line + "\n").into_bytes()).collect();
    let named = files.iter().map(|(topic, partition, _)| (topic.clone(), *partition));
    named.zip(lines).map(|((topic, partition), lines)| (topic, partition, content(lines))).collect()
}

impl Accident {
    /// A line of kcat after this.
    fn befall(&self, line: &str) -> String {
        let (Some(key_at), Some(payload_at)) = (line.find(",\"key\":"), line.find(",\"payload\":")) else {
            return line.to_owned();
        };
        let (head, key) = (&line[..key_at], &line[key_at + 7..payload_at]);
        let payload = &line[payload_at + 11..line.len() - 1];
        let (Some(mut key), Some(mut payload)) = (Tree::read(key), Tree::read(payload)) else { return line.to_owned() };
        self.change(if self.in_key { &mut key } else { &mut payload });
        format!("{head},\"key\":{},\"payload\":{}}}", key.written(), payload.written())
    }

    fn change(&self, tree: &mut Tree) {
        let count = tree.count();
        let at = self.at.index(count);
        match &self.how {
            How::Replace(which) => *tree.nth(at) = Tree::Leaf(choose(which, &ODD).to_owned()),
            How::Column(column, which) => {
                if let Some(value) = tree.member(choose(column, &COLUMNS)) {
                    *value = Tree::Leaf(choose(which, &ODD).to_owned());
                }
            }
            How::Swap(other) => {
                let other = tree.nth(other.index(count)).clone();
                *tree.nth(at) = other;
            }
            How::Remove => tree.with_member(at, &mut |members, member| drop(members.remove(member))),
            How::Twice(which) => tree.with_member(at, &mut |members, member| {
                let again = (members[member].0.clone(), Tree::Leaf(choose(which, &ODD).to_owned()));
                members.insert(if which.index(2) == 0 { members.len() } else { 0 }, again);
            }),
            How::Rename(which) => {
                tree.with_member(at, &mut |members, member| members[member].0 = format!("\"{}\"", choose(which, &NAMES)));
            }
            How::Escape => tree.with_member(at, &mut |members, member| {
                let name = &mut members[member].0;
                if let Some(first) = name.chars().nth(1).filter(|first| first.is_ascii_alphanumeric()) {
                    *name = format!("\"\\u{:04x}{}", u32::from(first), &name[2..]);
                }
            }),
            How::Quote => {
                let node = tree.nth(at);
                *node = match std::mem::replace(node, Tree::Leaf(String::new())) {
                    Tree::Quoted(inner) => *inner,
                    other => Tree::Quoted(Box::new(other)),
                };
            }
        }
    }
}

fn choose<'a>(which: &Index, list: &[&'a str]) -> &'a str {
    list[which.index(list.len())]
}

/// A JSON text taken apart, in which members may repeat and texts may be JSON.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(String),
    Quoted(Box<Tree>),
    Array(Vec<Tree>),
    /// Names with their quotes.
    Object(Members),
}

type Members = Vec<(String, Tree)>;

impl Tree {
    fn read(text: &str) -> Option<Tree> {
        serde_json::from_str(text).ok().map(Tree::of)
    }

    fn of(value: Value) -> Tree {
        match value {
            Value::Array(items) => Tree::Array(items.into_iter().map(Tree::of).collect()),
            Value::Object(members) => {
                let name = |name: String| Value::String(name).to_string();
                Tree::Object(members.into_iter().map(|(member, value)| (name(member), Tree::of(value))).collect())
            }
            Value::String(text) => match serde_json::from_str::<Value>(&text) {
                Ok(inner @ (Value::Object(_) | Value::String(_))) => Tree::Quoted(Box::new(Tree::of(inner))),
                _ => Tree::Leaf(Value::String(text).to_string()),
            },
            other => Tree::Leaf(other.to_string()),
        }
    }

    fn written(&self) -> String {
        match self {
            Tree::Leaf(text) => text.clone(),
            Tree::Quoted(inner) => Value::String(inner.written()).to_string(),
            Tree::Array(items) => format!("[{}]", items.iter().map(Tree::written).collect::<Vec<_>>().join(",")),
            Tree::Object(members) => {
                let member = |(name, value): &(String, Tree)| format!("{name}:{}", value.written());
                format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn children(&self) -> Vec<&Tree> {
        match self {
            Tree::Leaf(_) => Vec::new(),
            Tree::Quoted(inner) => vec![inner],
            Tree::Array(items) => items.iter().collect(),
            Tree::Object(members) => members.iter().map(|(_, value)| value).collect(),
        }
    }

    fn count(&self) -> usize {
        1 + self.children().into_iter().map(Tree::count).sum::<usize>()
    }

    /// A node by its number; the root is 0.
    fn nth(&mut self, at: usize) -> &mut Tree {
        if at == 0 {
            return self;
        }
        let mut left = at - 1;
        let children: Vec<&mut Tree> = match self {
            Tree::Leaf(_) => Vec::new(),
            Tree::Quoted(inner) => vec![inner],
            Tree::Array(items) => items.iter_mut().collect(),
            Tree::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
        };
        for child in children {
            let count = child.count();
            if left < count {
                return child.nth(left);
            }
            left -= count;
        }
        unreachable!("there are so many nodes")
    }

    /// The first member of a name, at whatever depth.
    fn member(&mut self, wanted: &str) -> Option<&mut Tree> {
        match self {
            Tree::Leaf(_) => None,
            Tree::Quoted(inner) => inner.member(wanted),
            Tree::Array(items) => items.iter_mut().find_map(|item| item.member(wanted)),
            Tree::Object(members) => {
                let here = members.iter().position(|(name, _)| name.trim_matches('"') == wanted);
                match here {
                    Some(at) => Some(&mut members[at].1),
                    None => members.iter_mut().find_map(|(_, value)| value.member(wanted)),
                }
            }
        }
    }

    /// Changes the members among which the node of a number is, if it is a member of an object.
    fn with_member(&mut self, at: usize, change: &mut dyn FnMut(&mut Members, usize)) {
        let mut left = at;
        match self {
            Tree::Leaf(_) => {}
            Tree::Quoted(inner) if left > 0 => inner.with_member(left - 1, change),
            Tree::Quoted(_) => {}
            Tree::Array(items) => {
                left = left.saturating_sub(1);
                for item in items {
                    let count = item.count();
                    if left < count {
                        return item.with_member(left, change);
                    }
                    left -= count;
                }
            }
            Tree::Object(members) => {
                if left == 0 {
                    return;
                }
                left -= 1;
                for member in 0..members.len() {
                    let count = members[member].1.count();
                    if left == 0 {
                        return change(members, member);
                    }
                    if left < count {
                        return members[member].1.with_member(left, change);
                    }
                    left -= count;
                }
            }
        }
    }
}

const COLUMNS: [&str; 10] = ["id", "_id", "amount", "amount", "qty", "at", "cur", "status", "store", "ordered"];

const ODD: [&str; 110] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "7",
    "11",
    "-1",
    "1.5",
    "1.50",
    "2e1",
    "1e-3",
    "1e99",
    "999",
    "1000",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "18446744073709551616",
    "1795132900000",
    "1795132900",
    "7258118400000",
    "253402300800000",
    "\"\"",
    "\" \"",
    "\"x\"",
    "\"11\"",
    "\"0x1\"",
    "\"12.50\"",
    "\"+1\"",
    "\"true\"",
    "\"null\"",
    "\"5\"",
    "\"\\u0061\"",
    "\"\\ud83d\\ude00\"",
    "\"an id of more than thirty bytes, which has to go somewhere else\"",
    "[]",
    "{}",
    "[null]",
    "[1,\"x\"]",
    "[[\"geo\"]]",
    "[\"store\",\"status\",\"geo.store\",5]",
    "[\"amount\"]",
    "[{\"id\":12}]",
    "[{\"id\":null},{\"id\":\"13\"}]",
    "{\"id\":12}",
    "{\"id\":{}}",
    "{\"store\":\"y\"}",
    "{\"x\":1}",
    "{\"amount\":3,\"geo.store\":\"z\",\"store\":\"z\"}",
    "{\"geo\":{\"x\":1},\"geo.store\":\"z\"}",
    "{\"status\":\"PAID\",\"at\":{\"$date\":1795132900000}}",
    "\"{\\\"amount\\\":5}\"",
    "\"{\\\"store\\\":\\\"q\\\"}\"",
    "\"{\"",
    "\"[1]\"",
    "\"\\\"x\\\"\"",
    "{\"$oid\":\"5f\"}",
    "{\"$oid\":\"\"}",
    "{\"$oid\":5}",
    "{\"$oid\":\"5f\",\"x\":1}",
    "{\"$oid\":\"5f\",\"$oid\":\"60\"}",
    "{\"$uuid\":\"u-1\"}",
    "{\"$numberLong\":\"12\"}",
    "{\"$numberLong\":\"-\"}",
    "{\"$numberLong\":12}",
    "{\"$numberLong\":\"1795132900000\"}",
    "{\"$numberInt\":\"7\"}",
    "{\"$numberInt\":\"7.5\"}",
    "{\"$numberDecimal\":\"1.25\"}",
    "{\"$numberDecimal\":\"1E+2\"}",
    "{\"$numberDecimal\":\"NaN\"}",
    "{\"$numberDouble\":\"2.5\"}",
    "{\"$numberDouble\":\"Infinity\"}",
    "{\"$date\":1795132900000}",
    "{\"$date\":-1}",
    "{\"$date\":\"2026-11-20T00:00:00.5Z\"}",
    "{\"$date\":\"2026-11-20\"}",
    "{\"$date\":{\"$numberLong\":\"1795132900000\"}}",
    "{\"$date\":{\"$numberInt\":\"5\"}}",
    "{\"$timestamp\":{\"t\":1795132900,\"i\":2}}",
    "{\"$timestamp\":{\"t\":0,\"i\":2}}",
    "{\"t\":5,\"i\":4294967296}",
    "{\"scale\":2,\"value\":\"AMg=\"}",
    "{\"scale\":-2,\"value\":\"AQ==\"}",
    "{\"scale\":38,\"value\":\"\"}",
    "{\"scale\":39,\"value\":\"\"}",
    "{\"scale\":\"2\",\"value\":\"AQ==\"}",
    "{\"scale\":2,\"value\":\"AQ==\",\"x\":null}",
    "{\"scale\":2}",
    "\"AQ==\"",
    "\"AB==\"",
    "\"AQ\"",
    "\"AAAAAAAAAAAAAAAAAAAAAAAAAADI\"",
    "\"f////////////////////w==\"",
    "\"AP////////////////////8=\"",
    "\"__debezium_unavailable_value\"",
    "\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"",
    "\"2026-11-20T01:02:03Z\"",
    "\"2026-11-20T24:00:00Z\"",
    "\"0000-01-01T00:00:00Z\"",
    "\"2026-11-20\"",
    "\"2026-11-20 01:02:03\"",
    "\"mysql-bin.000009:5\"",
    "\"b.x.9:5:y:z\"",
    "\".5:7\"",
    "\"00000002/0000ABCD.x\"",
    "\"1/123456789\"",
    "\"mongodb\"",
];

const NAMES: [&str; 62] = [
    "op",
    "before",
    "after",
    "source",
    "payload",
    "schema",
    "fields",
    "field",
    "name",
    "parameters",
    "scale",
    "type",
    "connector",
    "table",
    "collection",
    "db",
    "data",
    "old",
    "metadata",
    "operation",
    "record-type",
    "table-name",
    "schema-name",
    "before-image",
    "control",
    "stream-position",
    "database",
    "isDdl",
    "es",
    "ts",
    "position",
    "xoffset",
    "commit",
    "server_id",
    "operationType",
    "documentKey",
    "_id",
    "fullDocument",
    "updateDescription",
    "updatedFields",
    "removedFields",
    "clusterTime",
    "$timestamp",
    "wallTime",
    "$date",
    "ns",
    "coll",
    "__op",
    "__deleted",
    "__table",
    "__source_table",
    "__lsn",
    "__file",
    "__pos",
    "ts_ms",
    "ddl",
    "status",
    "id",
    "BI_id",
    "store",
    "amount",
    "at",
];
