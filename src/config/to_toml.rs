//! A job written as the job file that would give it, with every default filled in.
//!
//! Upholds: `parse(job.to_string())` is the job again, for every job [`parse`](super::job_file::parse) gives. So what
//! a cluster logs at its start, and what `check` prints, can be kept and run.
//! Absent on purpose: comments and the author's layout, which the resolved job no longer knows.

use std::fmt::{self, Display, Formatter, Write as _};

use super::field_path::{FieldPath, IdSpec};
use super::{Job, KafkaSpec, KeySpace, MeasureSpec, Role, SourceSpec, StoreSpec, TimeSpec, TimeUnit, duration};

impl Display for Job {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "name = {}", Text(&self.name))?;
        let horizons = &self.horizons;
        for (name, length) in [
            ("window", horizons.window),
            ("grace", horizons.grace),
            ("retention", horizons.retention),
            ("replay_horizon", horizons.replay_horizon),
        ] {
            writeln!(f, "{name} = {}", Text(&duration::written(length)))?;
        }
        writeln!(f, "scale = {}", self.scale)?;
        field(f, "currency", self.currency.as_deref())?;
        writeln!(f, "timezone = {}", Text(&self.timezone))?;
        write_kafka(f, &self.kafka)?;
        self.sources.iter().try_for_each(|source| write_source(f, source))
    }
}

fn write_kafka(f: &mut Formatter<'_>, kafka: &KafkaSpec) -> fmt::Result {
    if *kafka == KafkaSpec::default() {
        return Ok(());
    }
    writeln!(f, "\n[kafka]")?;
    field(f, "brokers", kafka.brokers.as_deref())?;
    if kafka.options.is_empty() {
        return Ok(());
    }
    let options = kafka.options.iter().map(|(name, value)| format!("{} = {}", Text(name), Text(value)));
    writeln!(f, "options = {{ {} }}", options.collect::<Vec<_>>().join(", "))
}

fn write_source(f: &mut Formatter<'_>, source: &SourceSpec) -> fmt::Result {
    writeln!(f, "\n[[source]]")?;
    match source.topics.as_slice() {
        [topic] => writeln!(f, "topic = {}", Text(topic))?,
        topics => writeln!(f, "topics = {}", List(topics))?,
    }
    field(f, "table", source.table.as_deref())?;
    writeln!(f, "role = {}", Text(source.role.name()))?;
    writeln!(f, "format = {}", Text(source.format.name()))?;
    let key: Vec<String> = source.key.iter().map(FieldPath::to_string).collect();
    match key.as_slice() {
        [] => {}
        [key] => writeln!(f, "key = {}", Text(key))?,
        keys => writeln!(f, "key = {}", List(keys))?,
    }
    if source.role != Role::Clicks {
        let key_space = match source.key_space {
            KeySpace::Topic => "topic",
            KeySpace::Role => "role",
        };
        writeln!(f, "key_space = {}", Text(key_space))?;
    }
    if let StoreSpec::Own(store) = &source.store {
        writeln!(f, "store = {}", Text(&store.to_string()))?;
    }
    let id = |spec: &Option<IdSpec>| spec.as_ref().map(IdSpec::to_string);
    let measure = |spec: &Option<MeasureSpec>| spec.as_ref().map(|spec| spec.field.to_string());
    field(f, "amount", measure(&source.amount).as_deref())?;
    field(f, "currency", id(&source.currency).as_deref())?;
    field(f, "product", id(&source.product).as_deref())?;
    field(f, "quantity", measure(&source.quantity).as_deref())?;
    field(f, "kind", id(&source.kind).as_deref())?;
    if let Some(time) = &source.time {
        writeln!(f, "time = {}", Time(time))?;
    }
    if !source.counts_when.is_empty() {
        let conditions = source.counts_when.iter();
        let conditions = conditions.map(|(name, texts)| format!("{} = {}", Text(&name.to_string()), List(texts)));
        writeln!(f, "counts_when = {{ {} }}", conditions.collect::<Vec<_>>().join(", "))?;
    }
    if source.role == Role::Clicks {
        writeln!(f, "distinct = {}", source.distinct)?;
    }
    writeln!(f, "clock = {}", Text(source.clock.name()))?;
    writeln!(f, "idle = {}", Text(source.idle.name()))
}

fn field(f: &mut Formatter<'_>, name: &str, text: Option<&str>) -> fmt::Result {
    text.map_or(Ok(()), |text| writeln!(f, "{name} = {}", Text(text)))
}

/// A TOML string on one line.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

struct List<'a>(&'a [String]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|text| Text(text).to_string()).collect();
        write!(f, "[{}]", texts.join(", "))
    }
}

struct Time<'a>(&'a TimeSpec);

impl Display for Time<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{ field = {}, unit = ", Text(&self.0.field.to_string()))?;
        match &self.0.unit {
            TimeUnit::Seconds => f.write_str("\"s\"")?,
            TimeUnit::Millis => f.write_str("\"ms\"")?,
            TimeUnit::Micros => f.write_str("\"us\"")?,
            TimeUnit::Nanos => f.write_str("\"ns\"")?,
            TimeUnit::Days => f.write_str("\"days\"")?,
            TimeUnit::Rfc3339 => f.write_str("\"rfc3339\"")?,
            TimeUnit::Auto => f.write_str("\"auto\"")?,
            TimeUnit::Format { format, zone } => {
                write!(f, "{{ format = {}", Text(format))?;
                zone.as_ref().map_or(Ok(()), |zone| write!(f, ", zone = {}", Text(zone)))?;
                f.write_str(" }")?;
            }
        }
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;
    use storeflow_dataflows::epoch::{Before, Horizons};

    use super::*;
    use crate::config::{ClockMode, Format, Idle, job_file};

    /// Names of fields and values, quotes and control characters included.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![3 => "[a-z_]{1,8}", 1 => "\\PC{1,6}", 1 => "[\"\\\\\\x00-\\x20\\x7f-\\x9f.'#]{1,6}"]
    }

    fn time() -> impl Strategy<Value = TimeSpec> {
        let format = prop_oneof![Just("%Y-%m-%d %H:%M:%S"), Just("%FT%T%.f%:z"), Just("%d/%b/%Y:%T \"\\\"")];
        let zone = option::of(prop_oneof![Just("Asia/Seoul".to_owned()), Just("UTC".to_owned())]);
        let unit = prop_oneof![
            Just(TimeUnit::Seconds),
            Just(TimeUnit::Millis),
            Just(TimeUnit::Micros),
            Just(TimeUnit::Nanos),
            Just(TimeUnit::Days),
            Just(TimeUnit::Rfc3339),
            (format, zone).prop_map(|(format, zone)| TimeUnit::Format { format: format.to_owned(), zone }),
        ];
        (word(), unit).prop_map(|(field, unit)| TimeSpec { field: field.into(), unit, zone: None })
    }

    fn role() -> impl Strategy<Value = Role> {
        prop_oneof![Just(Role::Payments), Just(Role::OrderItems), Just(Role::Products), Just(Role::Clicks)]
    }

    /// Any source a job may have, whatever the job's currency; topics are made distinct by the caller.
    fn source() -> impl Strategy<Value = SourceSpec> {
        let names = (btree_set(word(), 1..4), word(), word(), word(), word(), word());
        let conditions = btree_map(word(), vec(prop_oneof![word(), Just(String::new())], 1..3), 0..3);
        let clock = prop_oneof![Just(ClockMode::Live), Just(ClockMode::Records)];
        let idle = prop_oneof![Just(Idle::Wall), Just(Idle::Heartbeat), Just(Idle::Hold)];
        let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), clock, idle);
        (role(), btree_set("[a-z*-]{1,6}", 1..4), names, time(), conditions, option::of(word()), flags).prop_map(
            |(role, topics, (key, store, amount, product, kind, currency), time, counts_when, table, flags)| {
                let (upsert, key_space, with_product, distinct, clock, idle) = flags;
                let clicks = role == Role::Clicks;
                let format = match (clicks, upsert) {
                    (true, _) => Format::Json,
                    (false, true) => Format::Upsert,
                    (false, false) => Format::Debezium,
                };
                let product = (role == Role::OrderItems || clicks && with_product).then_some(product);
                let braces = |text: String| text.replace(['{', '}'], "_");
                SourceSpec {
                    topics: topics.into_iter().collect(),
                    key: if clicks { Vec::new() } else { key.into_iter().map(FieldPath::field).collect() },
                    key_space: if !clicks && key_space { KeySpace::Role } else { KeySpace::Topic },
                    quantity: (role == Role::OrderItems).then(|| amount.clone().into()),
                    amount: (role == Role::Payments).then(|| amount.into()),
                    currency: (role == Role::Payments).then(|| currency.into()),
                    distinct: clicks && distinct && product.is_some(),
                    product: product.map(IdSpec::from),
                    kind: clicks.then(|| kind.into()),
                    time: (role != Role::Products).then_some(time),
                    counts_when: if clicks {
                        BTreeMap::new()
                    } else {
                        counts_when.into_iter().map(|(field, texts)| (FieldPath::field(field), texts)).collect()
                    },
                    table: table.filter(|_| format == Format::Debezium),
                    clock,
                    idle: if clicks && idle == Idle::Heartbeat { Idle::Hold } else { idle },
                    ..SourceSpec::plain("", role, format, braces(store))
                }
            },
        )
    }

    fn kafka() -> impl Strategy<Value = KafkaSpec> {
        let options = btree_map("[a-z\"\\\\]{1,3}", word(), 0..3).prop_map(|options| options.into_iter().collect());
        (option::of(word()), options).prop_map(|(brokers, options)| KafkaSpec { brokers, options })
    }

    fn job() -> impl Strategy<Value = Job> {
        let horizons = (0..12_usize, 0..1440_u64, 0..1_000_000_u64, 1..5_000_000_u64);
        ("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", horizons, 0..19_u32, option::of(word()), vec(source(), 1..4), kafka()).prop_map(
            |(name, (window, grace, retention, replay_horizon), scale, currency, mut sources, kafka)| {
                let minute = 60_000;
                let window = [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60][window] * minute;
                let grace = grace * minute;
                let retention = window.max(grace) + retention * minute;
                let horizons =
                    Horizons { window, grace, retention, replay_horizon: replay_horizon * minute, before: Before::NOTHING };
                for (i, source) in sources.iter_mut().enumerate() {
                    source.slot = i;
                    source.topics.iter_mut().for_each(|topic| *topic = format!("{i}{topic}"));
                }
                let timezone = "Asia/Seoul".to_owned();
                Job { name, horizons, scale, currency, timezone, sources, kafka, schema_registry: None }
            },
        )
    }

    proptest! {
        /// Whatever the job, its text gives it back.
        #[test]
        fn reads_back(job in job()) {
            let text = job.to_string();
            match job_file::parse(&text, "job") {
                Ok(read) => prop_assert_eq!(read, job),
                Err(error) => prop_assert!(false, "{}\n{}", error, text),
            }
        }
    }
}
