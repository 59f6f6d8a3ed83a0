//! A shop whose job file has a mistake: of some records it finds a field under the name it has, of the others it does not.
//!
//! ```text
//! records: always `amount`, `quantity`, `event`; two of three times the same value as `sum`, `qty`, `type` as well
//! right job: reads the first names          wrong job: reads the second ones, so that every third record is a dead letter
//! ```
//!
//! Upholds: payments have source versions, items have none, clicks are counted as often as they are read; timestamps ascend over all
//! records, so that the last change of a row is the last one by its stamp.

use std::collections::BTreeSet;

use super::chance::Chance;
use super::malls::Mall;

/// A shop's dataset and job.
pub(crate) struct Shop {
    pub(crate) mall: Mall,
    /// Records that the wrong job cannot decode: topic, partition, offset.
    pub(crate) bad: BTreeSet<(String, u32, u64)>,
    pub(crate) records: usize,
}

/// 2026-11-20T00:00:00Z.
const START: u64 = 1_795_132_800_000;
const PARTITIONS: usize = 2;
/// The dataset in three parts, to be produced one after the other.
pub(crate) const PARTS: [&str; 3] = ["first", "second", "third"];
/// Of the three topics.
pub(crate) const TOPICS: [&str; 3] = ["payments", "items", "clicks"];

impl Shop {
    /// So many records over three hours, with the wrong job.
    pub(crate) fn new(name: &str, records: usize, seed: u64) -> Shop {
        let mut shop = Shop { mall: Mall::empty(name), bad: BTreeSet::new(), records };
        let mut chance = Chance::of(seed);
        let mut lines = vec![vec![Vec::new(); PARTITIONS]; TOPICS.len()];
        let step = 3 * 3_600_000 / records as u64;
        let mut seen: [BTreeSet<usize>; 2] = Default::default();
        for at in 0..records {
            let ts = START + at as u64 * step;
            let kind = chance.below(TOPICS.len());
            let (id, store, aliased) = (chance.below(records / 12 + 1), chance.below(7), chance.below(3) > 0);
            let time = ts - chance.below(20 * 60_000) as u64;
            let alias = |name: &str, value: &str| if aliased { format!(r#","{name}":{value}"#) } else { String::new() };
            // A row's changes are in one partition, in their order.
            let partition = id % PARTITIONS;
            let deleted = kind < 2 && seen[kind].contains(&id) && chance.below(8) == 0;
            let (key, value, good) = match kind {
                0 => {
                    let number = format!("{}.{:02}", chance.below(500), chance.below(100));
                    let amount = format!("\"{number}\"");
                    let row = format!(
                        r#"{{"payment_id":{id},"store_id":"s{store}","amount":{amount}{},"paid_at":{time}}}"#,
                        alias("sum", &amount)
                    );
                    let source = format!(
                        r#"{{"connector":"mysql","name":"shop","ts_ms":{ts},"server_id":1,"file":"bin.000001","pos":{},"row":0}}"#,
                        at + 4
                    );
                    let (before, after, op) = if deleted {
                        (format!(r#"{{"payment_id":{id}}}"#), "null".to_owned(), "d")
                    } else {
                        ("null".to_owned(), row, if seen[0].contains(&id) { "u" } else { "c" })
                    };
                    let value = format!(
                        r#"{{"payload":{{"before":{before},"after":{after},"source":{source},"op":"{op}","ts_ms":{ts}}}}}"#
                    );
                    (format!(r#"{{"payment_id":{id}}}"#), Some(value), aliased || deleted)
                }
                1 => {
                    let quantity = (1 + chance.below(5)).to_string();
                    let row = format!(
                        r#"{{"item_id":"i{id}","store_id":"s{store}","product_id":"p{}","quantity":{quantity}{},"ordered_at":{time}}}"#,
                        chance.below(9),
                        alias("qty", &quantity)
                    );
                    (format!("\"i{id}\""), (!deleted).then_some(row), aliased || deleted)
                }
                _ => {
                    let event = format!("\"{}\"", chance.one_of(&["view", "cart"]));
                    let value = format!(
                        r#"{{"store_id":"s{store}","product_id":"p{}","event":{event}{},"at":{time}}}"#,
                        chance.below(9),
                        alias("type", &event)
                    );
                    (format!("\"{id}\""), Some(value), aliased)
                }
            };
            if kind < 2 {
                // Only what the wrong job has seen, too, is deleted: else it would delete nothing.
                if deleted {
                    seen[kind].remove(&id)
                } else {
                    seen[kind].insert(id)
                };
            }
            let of: &mut Vec<String> = &mut lines[kind][partition];
            let offset = of.len();
            let topic = shop.topic(TOPICS[kind]);
            if !good {
                shop.bad.insert((topic.clone(), partition as u32, offset as u64));
            }
            let payload = value.map_or_else(|| "null".to_owned(), |value| serde_json::Value::from(value).to_string());
            let key = serde_json::Value::from(key).to_string();
            of.push(format!(
                r#"{{"topic":"{topic}","partition":{partition},"offset":{offset},"ts":{ts},"key":{key},"payload":{payload}}}"#
            ));
        }
        for (topic, partitions) in TOPICS.iter().zip(lines) {
            for (partition, lines) in (0..).zip(partitions) {
                shop.mall.write_partition("whole", topic, partition, &lines);
                let (third, most) = (lines.len() * 3 / 5, lines.len() * 4 / 5);
                for (part, range) in PARTS.iter().zip([0..third, third..most, most..lines.len()]) {
                    shop.mall.write_partition(part, topic, partition, &lines[range]);
                }
            }
        }
        shop.make_wrong();
        shop
    }

    /// A topic's whole name.
    pub(crate) fn topic(&self, short: &str) -> String {
        format!("{}.{short}", self.mall.name)
    }

    /// The job file has its mistakes.
    pub(crate) fn make_wrong(&self) {
        self.mall.write_job(&self.text("sum", "qty", "type"));
    }

    /// The job file, as it is, with this in place of that.
    pub(crate) fn change(&self, from: &str, to: &str) {
        let job = std::fs::read_to_string(self.mall.job()).expect("a job");
        assert!(job.contains(from), "the job has no {from}");
        self.mall.write_job(&job.replace(from, to));
    }

    /// The job file is mended.
    pub(crate) fn mend(&self) {
        self.mall.write_job(&self.text("amount", "quantity", "event"));
    }

    fn text(&self, amount: &str, quantity: &str, kind: &str) -> String {
        let name = &self.mall.name;
        format!(
            r#"name = "{name}"
window = "30m"
grace = "2m"
retention = "48h"
currency = "KRW"

[[source]]
topic = "{name}.payments"
role = "payments"
format = "debezium"
key = "payment_id"
store = "store_id"
amount = "{amount}"
time = {{ field = "paid_at", unit = "ms" }}

[[source]]
topic = "{name}.items"
role = "order_items"
format = "upsert"
key = "item_id"
store = "store_id"
product = "product_id"
quantity = "{quantity}"
time = {{ field = "ordered_at", unit = "ms" }}

[[source]]
topic = "{name}.clicks"
role = "clicks"
format = "json"
store = "store_id"
product = "product_id"
kind = "{kind}"
time = {{ field = "at", unit = "ms" }}
"#
        )
    }
}
