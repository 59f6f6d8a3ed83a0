//! A job written as the job file that would give it, with every default filled in.
//!
//! Upholds: `parse(job.to_string())` is the job again, for every job [`parse`](super::job_file::parse) gives. So what
//! a cluster logs at its start, and what `check` prints, can be kept and run.
//! Absent on purpose: comments and the author's layout, which the resolved job no longer knows.

use std::fmt::{self, Display, Formatter, Write as _};

use super::field_path::{FieldPath, IdSpec};
use super::{
    Absent, Decimal, Job, KafkaSpec, KeySpace, MeasureSpec, RegistrySpec, Role, SourceSpec, StoreSpec, TimeSpec, TimeUnit,
    duration,
};

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
        self.schema_registry.as_ref().map_or(Ok(()), |registry| write_registry(f, registry))?;
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

fn write_registry(f: &mut Formatter<'_>, registry: &RegistrySpec) -> fmt::Result {
    writeln!(f, "\n[schema_registry]")?;
    writeln!(f, "url = {}", Text(&registry.url))?;
    field(f, "username", registry.username.as_deref())?;
    field(f, "password", registry.password.as_deref())
}

fn write_source(f: &mut Formatter<'_>, source: &SourceSpec) -> fmt::Result {
    writeln!(f, "\n[[source]]")?;
    match source.topics.as_slice() {
        [topic] => writeln!(f, "topic = {}", Text(topic))?,
        topics => writeln!(f, "topics = {}", List(topics))?,
    }
    field(f, "table", source.table.as_deref())?;
    writeln!(f, "role = {}", Text(source.role.name()))?;
    field(f, "name", source.name.as_deref())?;
    writeln!(f, "format = {}", Text(source.format.name()))?;
    let captured = |name: &str| source.is_captured(name);
    let id = |f: &mut Formatter<'_>, name, spec: &Option<IdSpec>| {
        field(f, name, spec.as_ref().map(|spec| spec.written(captured)).as_deref())
    };
    if source.role != Role::Clicks {
        writeln!(f, "key = {}", Paths(&source.key))?;
        let key_space = match source.key_space {
            KeySpace::Topic => "topic",
            KeySpace::Role => "role",
        };
        writeln!(f, "key_space = {}", Text(key_space))?;
    }
    match &source.store {
        StoreSpec::Own(store) => writeln!(f, "store = {}", Text(&store.written(captured)))?,
        StoreSpec::Through { lookup, on } => {
            writeln!(f, "store = {{ through = {}, on = {} }}", Text(lookup), Paths(on))?;
        }
    }
    measure(f, "amount", source.amount.as_ref())?;
    id(f, "currency", &source.currency)?;
    id(f, "product", &source.product)?;
    measure(f, "quantity", source.quantity.as_ref())?;
    id(f, "kind", &source.kind)?;
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
    if let Some(dedup) = &source.dedup {
        let (id, horizon) = (dedup.id.written(captured), duration::written(dedup.horizon));
        writeln!(f, "dedup = {{ field = {}, horizon = {} }}", Text(&id), Text(&horizon))?;
    }
    if matches!(source.role, Role::Payments | Role::OrderItems) {
        writeln!(f, "allow_float = {}", source.allow_float)?;
    }
    if source.role != Role::Clicks {
        let absent = match source.absent {
            Absent::Missing => "missing",
            Absent::Unchanged => "unchanged",
        };
        writeln!(f, "absent = {}", Text(absent))?;
    }
    field(f, "incarnation", source.incarnation.as_deref())?;
    field(f, "keep", source.keep.map(duration::written).as_deref())?;
    writeln!(f, "clock = {}", Text(source.clock.name()))?;
    writeln!(f, "idle = {}", Text(source.idle.name()))
}

fn measure(f: &mut Formatter<'_>, name: &str, spec: Option<&MeasureSpec>) -> fmt::Result {
    let Some(MeasureSpec { field, decimal }) = spec else { return Ok(()) };
    let field = field.to_string();
    match decimal {
        Decimal::Text => writeln!(f, "{name} = {}", Text(&field)),
        Decimal::Base64 { scale } => {
            writeln!(f, "{name} = {{ field = {}, decimal = \"base64\", scale = {scale} }}", Text(&field))
        }
    }
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

/// One path, or a list of several.
struct Paths<'a>(&'a [FieldPath]);

impl Display for Paths<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let paths: Vec<String> = self.0.iter().map(FieldPath::to_string).collect();
        match paths.as_slice() {
            [path] => Text(path).fmt(f),
            paths => List(paths).fmt(f),
        }
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
        self.0.zone.as_ref().map_or(Ok(()), |zone| write!(f, ", zone = {}", Text(zone)))?;
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::option;
    use proptest::prelude::*;
    use storeflow_dataflows::epoch::{Before, Horizons};

    use super::*;
    use crate::config::field_path::IdPart;
    use crate::config::{ClockMode, DedupSpec, Format, Idle, job_file};

    /// Names of fields and values, quotes and control characters included.
    fn word() -> impl Strategy<Value = String> {
        prop_oneof![3 => "[a-z_]{1,8}", 1 => "\\PC{1,6}", 1 => "[\"\\\\\\x00-\\x20\\x7f-\\x9f.'#{}]{1,6}"]
    }

    fn path() -> impl Strategy<Value = FieldPath> {
        vec(word(), 1..4).prop_map(|names| {
            let quoted = names.iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
            FieldPath::parse(&quoted.collect::<Vec<_>>().join(".")).expect("a path")
        })
    }

    /// An id of a source whose topics all capture `site`.
    fn id() -> impl Strategy<Value = IdSpec> {
        let part = || {
            prop_oneof![
                path().boxed().prop_map(IdPart::Field),
                Just(IdPart::Field("site".into())),
                Just(IdPart::Captured("site".to_owned())),
            ]
        };
        let text = || option::of("[^\"]{1,5}").prop_map(|text| text.map(IdPart::Text));
        let composed = (text(), part(), vec((text(), part()), 0..3), text()).prop_map(|(before, first, parts, behind)| {
            let parts = parts.into_iter().flat_map(|(text, part)| text.into_iter().chain([part]));
            IdSpec::Composed(before.into_iter().chain([first]).chain(parts).chain(behind).collect())
        });
        prop_oneof![2 => path().boxed().prop_map(IdSpec::Field), 1 => composed]
    }

    fn measure() -> impl Strategy<Value = MeasureSpec> {
        let decimal = prop_oneof![Just(Decimal::Text), (0..=38_u32).prop_map(|scale| Decimal::Base64 { scale })];
        (path().boxed(), decimal).prop_map(|(field, decimal)| MeasureSpec { field, decimal })
    }

    fn time() -> impl Strategy<Value = TimeSpec> {
        let format = prop_oneof![Just("%Y-%m-%d %H:%M:%S"), Just("%FT%T%.f%:z"), Just("%d/%b/%Y:%T \"\\\"")];
        let zone = || option::of(prop_oneof![Just("Asia/Seoul".to_owned()), Just("UTC".to_owned())]);
        let unit = prop_oneof![
            Just(TimeUnit::Seconds),
            Just(TimeUnit::Millis),
            Just(TimeUnit::Micros),
            Just(TimeUnit::Nanos),
            Just(TimeUnit::Days),
            Just(TimeUnit::Rfc3339),
            Just(TimeUnit::Auto),
            (format, zone()).prop_map(|(format, zone)| TimeUnit::Format { format: format.to_owned(), zone }),
        ];
        (path().boxed(), unit, zone()).prop_map(|(field, unit, zone)| {
            let zone = zone.filter(|_| !matches!(unit, TimeUnit::Rfc3339 | TimeUnit::Format { .. }));
            TimeSpec { field, unit, zone }
        })
    }

    fn length() -> impl Strategy<Value = u64> {
        (1..100_000_000_u64).prop_map(|seconds| seconds * 1_000)
    }

    /// What every source may have.
    fn common(role: Role) -> impl Strategy<Value = SourceSpec> {
        let any_format = prop_oneof![
            Just(Format::Debezium),
            Just(Format::Flattened),
            Just(Format::Dms),
            Just(Format::Maxwell),
            Just(Format::Canal),
            Just(Format::Mongodb),
            Just(Format::Upsert),
            Just(Format::Avro),
            Just(Format::Auto),
        ];
        let format = prop_oneof![Just(Format::Json), Just(Format::Avro)].boxed();
        let format = if role == Role::Clicks { format } else { any_format.boxed() };
        let clock = prop_oneof![Just(ClockMode::Live), Just(ClockMode::Records)];
        let idle = prop_oneof![Just(Idle::Wall), Just(Idle::Heartbeat), Just(Idle::Hold)];
        let topics = btree_set("([a-z*]{0,4}-)?\\{site\\}-[a-z*-]{0,4}", 1..4);
        let keyed = (btree_set(path().boxed(), 1..4), any::<bool>(), any::<bool>(), option::of(word()), option::of(word()));
        let conditions = btree_map(path().boxed(), vec(prop_oneof![word(), Just(String::new())], 1..3), 0..3);
        (format, topics, id().boxed(), keyed, conditions, clock, idle).prop_map(
            move |(format, topics, store, (key, by_role, unchanged, table, incarnation), counts_when, clock, idle)| {
                let plain =
                    SourceSpec { topics: topics.into_iter().collect(), clock, idle, ..SourceSpec::plain("", role, format, "") };
                let plain = SourceSpec { store: StoreSpec::Own(store), ..plain };
                if role == Role::Clicks {
                    return SourceSpec { idle: if idle == Idle::Heartbeat { Idle::Hold } else { idle }, ..plain };
                }
                let key_fields = if format == Format::Mongodb { 1 } else { key.len() };
                SourceSpec {
                    key: key.into_iter().take(key_fields).collect(),
                    key_space: if by_role { KeySpace::Role } else { KeySpace::Topic },
                    counts_when,
                    absent: if unchanged { Absent::Unchanged } else { Absent::Missing },
                    table: table.filter(|_| format != Format::Upsert),
                    incarnation: incarnation.filter(|_| !matches!(format, Format::Upsert | Format::Canal)),
                    ..plain
                }
            },
        )
    }

    /// Any source a job may have, whatever the job's currency and lookups; topics are made distinct by the caller.
    fn source() -> impl Strategy<Value = SourceSpec> {
        let payments = (common(Role::Payments).boxed(), measure().boxed(), id().boxed(), time().boxed(), any::<bool>());
        let items = (common(Role::OrderItems).boxed(), measure().boxed(), id().boxed(), time().boxed(), any::<bool>());
        let dedup = option::of((path().boxed().prop_map(IdSpec::Field), length()));
        let clicks =
            (common(Role::Clicks).boxed(), id().boxed(), option::of((id().boxed(), any::<bool>())), time().boxed(), dedup);
        prop_oneof![
            payments.prop_map(|(common, amount, currency, time, allow_float)| SourceSpec {
                amount: Some(amount),
                currency: Some(currency),
                time: Some(time),
                allow_float,
                ..common
            }),
            items.prop_map(|(common, quantity, product, time, allow_float)| SourceSpec {
                quantity: Some(quantity),
                product: Some(product),
                time: Some(time),
                allow_float,
                ..common
            }),
            common(Role::Products).boxed(),
            clicks.prop_map(|(common, kind, product, time, dedup)| SourceSpec {
                kind: Some(kind),
                distinct: product.as_ref().is_some_and(|(_, distinct)| *distinct),
                product: product.map(|(product, _)| product),
                time: Some(time),
                dedup: dedup.map(|(id, horizon)| DedupSpec { id, horizon }),
                ..common
            }),
        ]
    }

    /// Sources, some of which find their store through lookups.
    fn sources() -> impl Strategy<Value = Vec<SourceSpec>> {
        let lookup = (common(Role::Lookup).boxed(), option::of(time().boxed()), option::of(length()), word());
        let through = any::<proptest::sample::Index>();
        let on = btree_set(path().boxed(), 3);
        (vec((source().boxed(), option::of((through, on))), 1..4), vec(lookup, 0..3)).prop_map(|(sources, lookups)| {
            let mut lookups: Vec<SourceSpec> = lookups
                .into_iter()
                .enumerate()
                .map(|(number, (common, time, keep, name))| SourceSpec {
                    name: Some(format!("{name}{number}")),
                    time,
                    keep,
                    ..common
                })
                .collect();
            let mut referred = std::collections::BTreeSet::new();
            let mut sources: Vec<SourceSpec> = sources
                .into_iter()
                .map(|(mut source, refers)| {
                    if let Some((index, on)) = refers.filter(|_| source.role != Role::Clicks && !lookups.is_empty()) {
                        let at = index.index(lookups.len());
                        let lookup = &lookups[at];
                        source.time = source.time.filter(|_| lookup.time.is_none() || source.allow_float);
                        let name = lookup.name.clone().unwrap();
                        source.store = StoreSpec::Through { lookup: name, on: on.into_iter().take(lookup.key.len()).collect() };
                        referred.insert(at);
                    }
                    source
                })
                .collect();
            let mut number = 0..;
            lookups.retain(|_| referred.contains(&number.next().unwrap()));
            sources.extend(lookups);
            sources
        })
    }

    fn kafka() -> impl Strategy<Value = KafkaSpec> {
        let options = btree_map("[a-z\"\\\\]{1,3}", word(), 0..3).prop_map(|options| options.into_iter().collect());
        (option::of(word()), options).prop_map(|(brokers, options)| KafkaSpec { brokers, options })
    }

    fn registry() -> impl Strategy<Value = RegistrySpec> {
        ("https?://[a-z]{1,5}(:8081)?(/[a-z%~]{0,3})?", option::of((word(), "(env:A|file:/[a-z \"]{1,3})"))).prop_map(
            |(url, user)| {
                let (username, password) = user.unzip();
                RegistrySpec { url, username, password }
            },
        )
    }

    fn job() -> impl Strategy<Value = Job> {
        let horizons = (0..12_usize, 0..1440_u64, 0..1_000_000_u64, 1..5_000_000_u64);
        let servers = (kafka(), registry().boxed());
        ("[A-Za-z0-9][A-Za-z0-9_-]{0,63}", horizons, 0..19_u32, option::of(word()), sources().boxed(), servers).prop_map(
            |(name, (window, grace, retention, replay_horizon), scale, currency, mut sources, (kafka, registry))| {
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
                let schema_registry = sources.iter().any(|source| source.format == Format::Avro).then_some(registry);
                Job { name, horizons, scale, currency, timezone, sources, kafka, schema_registry }
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
