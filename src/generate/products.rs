//! `mall.products`: a PostgreSQL table, published by Debezium.
//!
//! It begins with an initial snapshot of all products, all at one position; then products are added, sold out, put on sale
//! again, repriced, moved and deleted.
//!
//! Upholds: LSNs grow in commit order; the table has REPLICA IDENTITY DEFAULT, so updates have no `before` and that of a
//! delete holds the primary key and lies: what JSON converters put where they know nothing.

use super::connector::Connector;
use super::envelope::{Flaw, debezium, push_times};
use super::life::{Step, Tempo};
use super::mall::{Mall, price_in_won, product_id, store_id};
use super::random::{Dice, Stream};
use super::schema::{Column, Kind};
use super::table::{self, Form, Table, Turn};
use super::text::{push, push_hundredths, push_i64, push_u64};
use super::traffic::Traffic;
use super::writer::Partitions;
use super::{GenerateError, Options, Topic, TopicSummary};

const COLUMNS: [Column; 7] = [
    Column::key("product_id", Kind::Int64),
    Column::new("store_id", Kind::Int64),
    Column::new("name", Kind::Text),
    Column::new("price", Kind::Text),
    Column::new("state", Kind::Text),
    Column::new("stock", Kind::Int32),
    Column::new("updated_at", Kind::Micros),
];

const NAMES: [&str; 10] = [
    "Canvas sneakers",
    "Linen shirt",
    "Drip kettle 1.0 L",
    "27\\\" monitor",
    "원두 500g",
    "Desk lamp",
    "Yoga mat",
    "양말 5켤레",
    "Phone case",
    "Hand cream",
];

/// Writes the topic.
pub(super) fn write(
    options: &Options,
    mall: &Mall,
    traffic: &Traffic,
    partitions: Partitions,
) -> Result<TopicSummary, GenerateError> {
    let connector = Connector::new(options, Topic::Products, options.products.into(), partitions, &COLUMNS);
    let in_snapshot = u64::from(options.products);
    let products = Products {
        mall,
        in_snapshot,
        row: None,
        snapshot: "false",
        op: "r",
        at_ms: 0,
        wal: Wal { transaction: 7_340, commit_lsn: None, lsn: 26_730_000 },
        image: Vec::new(),
    };
    // One in twenty is added after the snapshot.
    let added = traffic.instants(in_snapshot / 20, Dice::of(options.seed, Stream::Traffic, 2));
    let creations = (0..in_snapshot).map(|_| options.start_ms).chain(added);
    table::publish(options, products, traffic.end_ms(), (0..).zip(creations), connector)
}

/// The table, at the product whose turn it is.
struct Products<'a> {
    mall: &'a Mall,
    in_snapshot: u64,
    row: Option<Row>,
    snapshot: &'static str,
    op: &'static str,
    at_ms: i64,
    wal: Wal,
    image: Vec<u8>,
}

struct Row {
    product_id: u64,
    store: u32,
    name: &'static str,
    price: i64,
    state: &'static str,
    stock: u64,
    updated_ms: i64,
}

impl Table for Products<'_> {
    const STREAM: Stream = Stream::Product;
    const FORM: Form = Form::Debezium;
    const TEMPO: Tempo = Tempo::Shelf;
    const EVENT_TIME: bool = false;
    const FLAWS: &'static [Flaw] = &[Flaw::CutOff, Flaw::NotUtf8, Flaw::NoStore, Flaw::EmptyStore];

    fn in_snapshot(&self, row: u64) -> bool {
        row < self.in_snapshot
    }

    fn turn(&mut self, dice: &mut Dice, turn: &Turn<'_>) {
        let number = turn.due.row;
        let mut row = Row {
            product_id: product_id(number),
            store: self.mall.store_of(number),
            name: dice.pick(&NAMES),
            price: price_in_won(number) * 100,
            state: dice.weighted(&[(80, "ON_SALE"), (12, "SOLD_OUT"), (8, "HIDDEN")]),
            stock: dice.below(200),
            updated_ms: turn.due.created_ms,
        };
        for &(at_ms, step) in turn.later_steps() {
            row.updated_ms = at_ms;
            match step {
                Step::Create | Step::Delete | Step::Refund => {}
                Step::Change if dice.below(10) < 3 => row.price = row.price * dice.between(80, 110) / 10_000 * 100,
                Step::Change if row.state == "ON_SALE" => {
                    row.state = dice.weighted(&[(3, "SOLD_OUT"), (1, "HIDDEN")]);
                    row.stock = 0;
                }
                Step::Change => {
                    row.state = "ON_SALE";
                    row.stock += 50;
                }
                Step::Move => row.store = self.mall.other_store(dice, row.store),
            }
        }
        self.row = Some(row);
        self.at_ms = turn.due.at_ms;
        (self.op, self.snapshot) = match turn.step {
            Step::Create if number + 1 == self.in_snapshot => ("r", "last"),
            Step::Create if number == 0 => ("r", "first"),
            Step::Create if self.in_snapshot(number) => ("r", "true"),
            Step::Create => ("c", "false"),
            Step::Change | Step::Move | Step::Refund => ("u", "false"),
            Step::Delete => ("d", "false"),
        };
        if self.snapshot == "false" {
            self.wal.advance(dice);
        }
    }

    fn key(&self, out: &mut Vec<u8>) {
        push(out, "{\"product_id\":");
        push_u64(out, self.row.as_ref().map_or(0, |row| row.product_id));
        out.push(b'}');
    }

    fn body(&mut self, out: &mut Vec<u8>, flaw: Option<Flaw>) {
        let Some(row) = &self.row else { return };
        let image = &mut self.image;
        image.clear();
        let (before, after) = match self.op {
            "d" => (Some(row.render_identity(image)), None),
            _ => (None, Some(row.render(image, flaw))),
        };
        debezium(out, before, after, |out| self.wal.source(out, self.at_ms, self.snapshot), self.op);
    }
}

impl Row {
    fn render<'a>(&self, out: &'a mut Vec<u8>, flaw: Option<Flaw>) -> &'a [u8] {
        push(out, "{\"product_id\":");
        push_u64(out, self.product_id);
        match flaw {
            Some(Flaw::NoStore) => {}
            Some(Flaw::EmptyStore) => push(out, ",\"store_id\":\"\""),
            _ => {
                push(out, ",\"store_id\":");
                push_u64(out, store_id(self.store));
            }
        }
        push(out, ",\"name\":\"");
        push(out, self.name);
        push(out, "\",\"price\":\"");
        push_hundredths(out, self.price);
        push(out, "\",\"state\":\"");
        push(out, self.state);
        push(out, "\",\"stock\":");
        push_u64(out, self.stock);
        push(out, ",\"updated_at\":");
        push_i64(out, self.updated_ms * 1_000);
        out.push(b'}');
        out
    }

    /// What REPLICA IDENTITY DEFAULT leaves of a deleted row.
    fn render_identity<'a>(&self, out: &'a mut Vec<u8>) -> &'a [u8] {
        push(out, "{\"product_id\":");
        push_u64(out, self.product_id);
        push(out, ",\"store_id\":0,\"name\":\"\",\"price\":\"0\",\"state\":\"\",\"stock\":0,\"updated_at\":0}");
        out
    }
}

/// The write-ahead log of the PostgreSQL server.
struct Wal {
    transaction: u64,
    /// Of the transaction before; none during the snapshot.
    commit_lsn: Option<u64>,
    lsn: u64,
}

impl Wal {
    /// Moves to the row of the next transaction.
    fn advance(&mut self, dice: &mut Dice) {
        let commit_lsn = self.lsn + 48;
        self.transaction += 1 + dice.below(3);
        self.lsn = commit_lsn + 8 * (10 + dice.below(60));
        self.commit_lsn = Some(commit_lsn);
    }

    fn source(&self, out: &mut Vec<u8>, at_ms: i64, snapshot: &str) {
        push(out, "{\"version\":\"2.7.3.Final\",\"connector\":\"postgresql\",\"name\":\"catalog\",");
        // Commits are known to the microsecond.
        push_times(out, at_ms * 1_000 + (self.lsn % 1_000) as i64);
        push(out, ",\"snapshot\":\"");
        push(out, snapshot);
        push(out, "\",\"db\":\"catalog\",\"sequence\":\"[");
        match self.commit_lsn {
            Some(commit_lsn) => {
                push(out, "\\\"");
                push_u64(out, commit_lsn);
                push(out, "\\\"");
            }
            None => push(out, "null"),
        }
        push(out, ",\\\"");
        push_u64(out, self.lsn);
        push(out, "\\\"]\",\"schema\":\"public\",\"table\":\"products\",\"txId\":");
        push_u64(out, self.transaction);
        push(out, ",\"lsn\":");
        push_u64(out, self.lsn);
        push(out, ",\"xmin\":null}");
    }
}
