//! A source whose positions jumped back, in words: what was noticed, and the way on.

use storeflow_dataflows::change::{Position, Version};
use storeflow_dataflows::counts::SteppedBack;

use super::workers::RunError;
use crate::config::Job;
use crate::decode::KeyParts;
use crate::source::names::PartitionNames;

/// The error that ends a run whose source went back. `of` says what the rows are.
pub(super) fn error(of: &str, back: &SteppedBack, job: &Job, names: &PartitionNames) -> RunError {
    let SteppedBack { partition, key, found, stored } = back;
    let (topic, number) = names.get(*partition);
    let fields = job.sources.iter().find(|source| source.reads(&topic)).map_or(1, |source| source.key.len());
    let texts = KeyParts::of(key.as_bytes()).and_then(|parts| parts.texts(fields));
    let key = texts.map_or_else(|| key.to_str().into_owned(), |texts| texts.join(", "));
    RunError::SteppedBack(format!(
        "the positions of the source behind topic \"{topic}\" have jumped back: the newest change of row {key:?} of {of}, in partition \
         {number}, stands at {}, before the one that is stored, at {}, and most new changes of late are like it. So does a source after \
         a failover or a restore, and all its changes would be ignored. If so, write incarnation = \"…\", with a text it has not had \
         yet, into the [[source]] of that topic: its positions are then held against none of before",
        position(*found),
        position(*stored),
    ))
}

/// PostgreSQL's LSN, or the number of MySQL's binlog file, the position in it, and the row.
pub fn position(version: Version) -> String {
    match version.position {
        // Binlog files count from 1.
        Position(0, lsn, 0) => format!("LSN {:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff),
        Position(file, at, row) => format!("binlog {file:06} position {at} row {row}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::field_path::FieldPath;
    use crate::config::{Format, Role, SourceSpec};
    use storeflow_dataflows::key::{Text, push_varint};

    #[test]
    fn it_says_where_it_was_and_the_way_on() {
        let mut job = crate::config::job_file::load(std::path::Path::new("datasets/mall-small/mall.toml")).unwrap();
        let mut source = SourceSpec::plain("shop.payments", Role::Payments, Format::Debezium, "store");
        source.key = vec![FieldPath::field("site"), FieldPath::field("id")];
        job.sources = vec![source];
        let names = PartitionNames::sorted(["shop.payments"]);
        let mut key = Vec::new();
        push_varint(&mut key, 9_000);
        push_varint(&mut key, 2);
        key.extend_from_slice(b"kr17");
        let version = |at| Version { incarnation: 1, server: 0, position: Position(0, at, 0) };
        let partition = names.id("shop.payments", 3);
        let back = SteppedBack { partition, key: Text::new(&key), found: version(5), stored: version(1 << 32) };
        let text = error("store_payments", &back, &job, &names).to_string();
        for part in ["\"shop.payments\"", "partition 3", "\"kr, 17\"", "LSN 0/5", "LSN 1/0", "incarnation = "] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
