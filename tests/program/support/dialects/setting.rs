//! A dialect, and how its connector and the job are set.

use proptest::prelude::*;

use super::truth::{Abilities, TableOf};

/// Who tells what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Mysql,
    /// Texts that did not change are left out (TOAST).
    Postgres {
        unchanged: bool,
    },
    /// Debezium of MongoDB; updates say what changed only, or the whole document.
    MongoConnector {
        partial: bool,
    },
    Flattened {
        position: Flat,
        deletes: Deletes,
    },
    Dms {
        position: Place,
        before: Before,
    },
    Maxwell {
        position: bool,
    },
    /// Rows of a transaction in one message, or each in its own.
    Canal {
        grouped: bool,
    },
    /// MongoDB's own connector; values may be texts that are JSON.
    Mongodb {
        partial: bool,
        quoted: bool,
    },
    /// With a message key that is an object, or its one field's text.
    Upsert {
        raw_key: bool,
    },
    /// Each row by another.
    Auto,
}

/// What flattened rows say of the source's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flat {
    Nothing,
    Lsn,
    File,
}

/// How flattened rows are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletes {
    /// By a null value.
    Tombstone,
    /// By the row with a mark.
    Rewrite,
    /// By one after the other.
    Both,
}

/// What DMS says of the source's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Nothing,
    /// MySQL.
    Binlog,
    /// PostgreSQL.
    Log,
}

/// Where DMS puts the old key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Nowhere,
    Image,
    /// Beside the new one, as `BI_id`.
    Beside,
}

/// How amounts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Amount {
    Text,
    Number,
    /// A number that the schema, or its type, says is a float.
    Float,
    /// Base64 of this scale.
    Base64(u32),
    /// An object with scale and base64.
    Variable,
    /// MongoDB's decimal.
    Decimal128,
}

/// How times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Millis,
    Micros,
    Nanos,
    Rfc3339,
    /// The wall clock of Seoul as if it were UTC, in milliseconds.
    LocalMillis,
    /// The wall clock of Seoul as text.
    LocalText,
    /// MongoDB's date: a number, an object with a long, or a text.
    Date(u8),
}

/// A dialect and all that goes with it.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) dialect: Dialect,
    /// Records carry their schema.
    pub(crate) schema: bool,
    pub(crate) amount: Amount,
    pub(crate) time: Time,
    /// Keys are unsigned 64-bit integers, which a schema's decimals say.
    pub(crate) unsigned: bool,
    /// The store is within a column of JSON.
    pub(crate) nested: bool,
    /// The store's id is that of the site and the row's.
    pub(crate) composed: bool,
    /// All tables are in one topic.
    pub(crate) shared: bool,
    pub(crate) sites: u8,
    /// Rows find their store through orders.
    pub(crate) lookups: bool,
    pub(crate) partitions: u32,
    /// By topic and partition, around: how many seconds the log is behind.
    pub(crate) lags: Vec<u16>,
    /// MongoDB's full documents are looked up too late.
    pub(crate) ahead: bool,
    /// Windows expire and rows are forgotten within the history.
    pub(crate) short: bool,
}

impl Setting {
    /// What the dialect can tell, so set.
    pub(crate) fn abilities(&self) -> Abilities {
        let one_record = matches!(self.dialect, Dialect::Dms { .. } | Dialect::Maxwell { .. } | Dialect::Canal { .. });
        let moves = match self.dialect {
            Dialect::Mysql | Dialect::Postgres { .. } | Dialect::Flattened { .. } => true,
            Dialect::Dms { before, .. } => before != Before::Nowhere,
            Dialect::Maxwell { .. } | Dialect::Canal { .. } => true,
            Dialect::MongoConnector { .. } | Dialect::Mongodb { .. } | Dialect::Upsert { .. } | Dialect::Auto => false,
        };
        let truncates = !matches!(self.dialect, Dialect::MongoConnector { .. } | Dialect::Upsert { .. });
        // Both ask for one order of all partitions: a record that speaks of two keys, and a truncate, unless its version and those of
        // all rows tell what was before it. (What PostgreSQL's snapshots read has no such version, and all of a transaction of MongoDB's
        // has one.)
        let lagging = self.lagging();
        let by_version = match self.dialect {
            Dialect::Mysql => true,
            Dialect::Flattened { position, deletes } => position == Flat::File && deletes != Deletes::Tombstone,
            _ => false,
        };
        let late_snapshots = match self.dialect {
            // Every change says its position, and so do rows of a snapshot: that at which it was begun.
            Dialect::Mysql | Dialect::Postgres { .. } | Dialect::MongoConnector { .. } => true,
            Dialect::Flattened { position, deletes } => position != Flat::Nothing && deletes != Deletes::Tombstone,
            // Copied documents are older than all that has a position.
            Dialect::Mongodb { .. } => true,
            // Rows of a snapshot have no position, so they must be as the table is when they are told.
            Dialect::Dms { .. } | Dialect::Maxwell { .. } | Dialect::Canal { .. } | Dialect::Upsert { .. } | Dialect::Auto => {
                false
            }
        };
        let tables = TableOf::ALL.into_iter().filter(|table| self.lookups || *table != TableOf::Orders).collect();
        Abilities {
            tables,
            sites: self.sites,
            moves: moves && !(one_record && lagging),
            truncates: truncates && (!lagging || by_version),
            late_snapshots,
        }
    }

    /// Whether some partitions are behind others.
    pub(crate) fn lagging(&self) -> bool {
        self.lags.iter().any(|lag| *lag > 0)
    }

    /// The id of a store.
    pub(crate) fn store(&self, site: &str, store: u8) -> String {
        if self.composed { format!("{site}/s{store}") } else { format!("s{store}") }
    }

    /// Whether topics' names capture the site.
    pub(crate) fn captures(&self) -> bool {
        self.composed || self.lookups && self.sites > 1
    }

    pub(crate) fn topic(&self, site: &str, table: TableOf) -> String {
        if self.shared { format!("{site}.log") } else { format!("{site}.{}", table.name()) }
    }
}

/// Settings of a dialect.
pub(crate) fn settings(dialect: impl Strategy<Value = Dialect>, lookups: bool) -> impl Strategy<Value = Setting> {
    let lags = prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(0u16..600, 1..5)];
    let places = (1u8..=2, 1u32..=3, lags);
    let flags = proptest::collection::vec(any::<bool>(), 7);
    (dialect, any::<u8>(), any::<u8>(), places, flags).prop_map(
        move |(dialect, amount, time, (sites, partitions, lags), flags)| {
            let [schema, unsigned, nested, composed, shared, ahead, short] = flags[..] else { unreachable!("seven flags") };
            let of_debezium = matches!(dialect, Dialect::Mysql | Dialect::Postgres { .. } | Dialect::Flattened { .. });
            let schema = schema && of_debezium;
            let amounts: &[Amount] = match dialect {
                _ if of_debezium && schema => {
                    &[Amount::Base64(2), Amount::Base64(4), Amount::Text, Amount::Float, Amount::Variable, Amount::Number]
                }
                _ if of_debezium => &[Amount::Base64(3), Amount::Text, Amount::Variable, Amount::Number],
                Dialect::MongoConnector { .. } | Dialect::Mongodb { .. } => &[Amount::Decimal128, Amount::Float, Amount::Text],
                Dialect::Canal { .. } | Dialect::Auto => &[Amount::Text],
                _ => &[Amount::Number, Amount::Text],
            };
            let times: &[Time] = match dialect {
                _ if of_debezium => &[Time::Millis, Time::Micros, Time::Nanos, Time::Rfc3339, Time::LocalMillis],
                Dialect::MongoConnector { .. } | Dialect::Mongodb { .. } => &[Time::Date(0), Time::Date(1), Time::Date(2)],
                Dialect::Dms { .. } => &[Time::Rfc3339, Time::LocalText],
                Dialect::Maxwell { .. } | Dialect::Canal { .. } => &[Time::LocalText, Time::Millis],
                Dialect::Upsert { .. } => &[Time::Millis, Time::Rfc3339],
                _ => &[Time::Millis],
            };
            // A record of null says no table, so its topic has one.
            let one_table = matches!(
                dialect,
                Dialect::Upsert { .. } | Dialect::Auto | Dialect::Flattened { deletes: Deletes::Tombstone | Deletes::Both, .. }
            );
            // The messages of these have no key of their own, so they are in one partition.
            let one_partition = matches!(dialect, Dialect::Canal { .. } | Dialect::Dms { .. });
            Setting {
                dialect,
                schema,
                amount: amounts[usize::from(amount) % amounts.len()],
                time: times[usize::from(time) % times.len()],
                unsigned: unsigned && schema,
                nested,
                composed,
                shared: shared && !one_table,
                sites,
                lookups,
                partitions: if one_partition { 1 } else { partitions },
                lags,
                ahead: ahead
                    && matches!(dialect, Dialect::Mongodb { partial: false, .. } | Dialect::MongoConnector { partial: false }),
                short,
            }
        },
    )
}

/// Flattened rows in every way.
pub(crate) fn flattened() -> impl Strategy<Value = Dialect> {
    let position = prop_oneof![Just(Flat::Nothing), Just(Flat::Lsn), Just(Flat::File)];
    let deletes = prop_oneof![Just(Deletes::Tombstone), Just(Deletes::Rewrite), Just(Deletes::Both)];
    (position, deletes).prop_map(|(position, deletes)| Dialect::Flattened { position, deletes })
}

/// DMS in every way.
pub(crate) fn dms() -> impl Strategy<Value = Dialect> {
    let position = prop_oneof![Just(Place::Nothing), Just(Place::Binlog), Just(Place::Log)];
    let before = prop_oneof![Just(Before::Nowhere), Just(Before::Image), Just(Before::Beside)];
    (position, before).prop_map(|(position, before)| Dialect::Dms { position, before })
}

/// MongoDB's own connector in every way.
pub(crate) fn mongodb() -> impl Strategy<Value = Dialect> {
    (any::<bool>(), any::<bool>()).prop_map(|(partial, quoted)| Dialect::Mongodb { partial, quoted })
}

/// Any dialect in any way.
pub(crate) fn any_dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![
        Just(Dialect::Mysql),
        any::<bool>().prop_map(|unchanged| Dialect::Postgres { unchanged }),
        any::<bool>().prop_map(|partial| Dialect::MongoConnector { partial }),
        flattened(),
        dms(),
        any::<bool>().prop_map(|position| Dialect::Maxwell { position }),
        any::<bool>().prop_map(|grouped| Dialect::Canal { grouped }),
        mongodb(),
        any::<bool>().prop_map(|raw_key| Dialect::Upsert { raw_key }),
        Just(Dialect::Auto),
    ]
}
