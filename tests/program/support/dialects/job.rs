//! The job that reads what a dialect tells.

use storeflow::config::field_path::{FieldPath, IdPart, IdSpec};
use storeflow::config::{
    Decimal, Format, Job, KafkaSpec, MeasureSpec, Role, SourceSpec, StoreSpec, TimeSpec, TimeUnit, job_file,
};
use storeflow_dataflows::epoch::{Before, Horizons};

use super::setting::{Amount, Dialect, Setting, Time};
use super::truth::{SITES, STATUSES, TableOf};

const MINUTE: u64 = 60_000;

/// The job of a setting.
pub(crate) fn job(setting: &Setting) -> Job {
    let long = 14_400 * MINUTE;
    let (retention, replay_horizon) = if setting.short { (60 * MINUTE, 90 * MINUTE) } else { (long, long) };
    let horizons = Horizons { window: 30 * MINUTE, grace: 2 * MINUTE, retention, replay_horizon, before: Before::NOTHING };
    let tables = setting.abilities().tables;
    let sources = tables.into_iter().enumerate().map(|(slot, table)| SourceSpec { slot, ..source(setting, table) }).collect();
    let job = Job {
        name: "dialects".to_owned(),
        horizons,
        scale: 2,
        currency: Some("KRW".to_owned()),
        timezone: "UTC".to_owned(),
        sources,
        kafka: KafkaSpec::default(),
        schema_registry: None,
    };
    // As a job file says it, it is the same job; one that nobody can write proves nothing.
    let written = job.to_string();
    let read = job_file::parse(&written, "dialects.toml").unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(read, job, "{written}");
    job
}

fn source(setting: &Setting, table: TableOf) -> SourceSpec {
    let own = IdSpec::Field(store_path(setting));
    let store = if setting.composed {
        IdSpec::Composed(vec![
            IdPart::Captured("site".to_owned()),
            IdPart::Text("/".to_owned()),
            IdPart::Field(store_path(setting)),
        ])
    } else {
        own
    };
    let role = match table {
        TableOf::Payments => Role::Payments,
        TableOf::Items => Role::OrderItems,
        TableOf::Products => Role::Products,
        TableOf::Orders => Role::Lookup,
    };
    let topics = if setting.captures() {
        vec![setting.topic("{site}", table)]
    } else {
        SITES[..usize::from(setting.sites)].iter().map(|site| setting.topic(site, table)).collect()
    };
    let through = setting.lookups && table != TableOf::Orders;
    let timed = table == TableOf::Orders || table != TableOf::Products && !(through && table == TableOf::Items);
    SourceSpec {
        topics,
        name: (table == TableOf::Orders).then(|| "orders".to_owned()),
        key: vec!["id".into()],
        store: if through {
            StoreSpec::Through { lookup: "orders".to_owned(), on: vec!["ordered".into()] }
        } else {
            StoreSpec::Own(store)
        },
        amount: (table == TableOf::Payments).then(|| amount(setting)),
        currency: (table == TableOf::Payments).then(|| "cur".into()),
        product: (table == TableOf::Items).then(|| "product".into()),
        quantity: (table == TableOf::Items).then(|| "qty".into()),
        time: timed.then(|| time(setting)),
        counts_when: [("status".into(), STATUSES[..2].iter().map(|status| (*status).to_owned()).collect())].into(),
        table: setting.shared.then(|| format!("shop.{}", table.name())),
        allow_float: setting.amount == Amount::Float && table == TableOf::Payments,
        ..SourceSpec::plain("", role, format(setting.dialect), "store")
    }
}

fn format(dialect: Dialect) -> Format {
    match dialect {
        Dialect::Mysql | Dialect::Postgres { .. } | Dialect::MongoConnector { .. } => Format::Debezium,
        Dialect::Flattened { .. } => Format::Flattened,
        Dialect::Dms { .. } => Format::Dms,
        Dialect::Maxwell { .. } => Format::Maxwell,
        Dialect::Canal { .. } => Format::Canal,
        Dialect::Mongodb { .. } => Format::Mongodb,
        Dialect::Upsert { .. } => Format::Upsert,
        Dialect::Auto => Format::Auto,
    }
}

fn store_path(setting: &Setting) -> FieldPath {
    FieldPath::parse(if setting.nested { "geo.store" } else { "store" }).expect("a path")
}

fn amount(setting: &Setting) -> MeasureSpec {
    let decimal = match setting.amount {
        Amount::Base64(scale) if !setting.schema => Decimal::Base64 { scale },
        _ => Decimal::Text,
    };
    MeasureSpec { field: "amount".into(), decimal }
}

fn time(setting: &Setting) -> TimeSpec {
    let seoul = || Some("Asia/Seoul".to_owned());
    let (unit, zone) = match setting.time {
        Time::Millis => (TimeUnit::Millis, None),
        Time::Micros => (TimeUnit::Micros, None),
        Time::Nanos => (TimeUnit::Nanos, None),
        Time::Rfc3339 => (TimeUnit::Rfc3339, None),
        Time::LocalMillis => (TimeUnit::Millis, seoul()),
        Time::LocalText => (TimeUnit::Format { format: "%Y-%m-%d %H:%M:%S%.f".to_owned(), zone: seoul() }, None),
        Time::Date(_) => (TimeUnit::Auto, None),
    };
    let unit = if setting.schema { TimeUnit::Auto } else { unit };
    TimeSpec { field: "at".into(), unit, zone }
}
