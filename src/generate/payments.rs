//! `mall.payments`: a MySQL table, published by Debezium.
//!
//! A payment is created when its order is; `paid_at` is when the customer tried to pay, then when the bank agreed. A refund
//! lowers `amount` to what the store keeps.
//!
//! Upholds: binlog positions (file, pos, row) grow in commit order; `before` is the row as it was; commit times are whole
//! seconds, as MySQL's are without GTIDs.

use super::connector::Connector;
use super::envelope::{Flaw, debezium, push_times};
use super::life::{Due, Step, Tempo};
use super::mall::{Mall, store_id};
use super::random::{Dice, Stream};
use super::schema::{Column, Kind};
use super::table::{self, Form, Table, Turn};
use super::text::{push, push_hundredths, push_i64, push_padded, push_u64};
use super::traffic::Traffic;
use super::writer::Partitions;
use super::{GenerateError, Options, Topic, TopicSummary};

const FIRST_PAYMENT: u64 = 810_000_001;

const COLUMNS: [Column; 11] = [
    Column::key("payment_id", Kind::Int64),
    Column::new("order_id", Kind::Int64),
    Column::new("store_id", Kind::Int64),
    Column::new("user_id", Kind::Int64),
    Column::new("method", Kind::Text),
    Column::new("status", Kind::Text),
    Column::new("amount", Kind::Text),
    Column::new("currency", Kind::Text),
    Column::new("paid_at", Kind::Micros),
    Column::new("created_at", Kind::Millis),
    Column::new("updated_at", Kind::Millis),
];

/// Writes the topic.
pub(super) fn write(
    options: &Options,
    mall: &Mall,
    traffic: &Traffic,
    partitions: Partitions,
) -> Result<TopicSummary, GenerateError> {
    let connector = Connector::new(options, Topic::Payments, options.payments, partitions, &COLUMNS);
    let payments = Payments {
        mall,
        strings_only: options.schema,
        before: None,
        row: None,
        op: "c",
        at_ms: 0,
        binlog: Binlog::new(),
        images: (Vec::new(), Vec::new()),
    };
    let instants = traffic.instants(options.payments, Dice::new(options.seed, Stream::Traffic));
    table::publish(options, payments, traffic.end_ms(), (0..).zip(instants), connector)
}

/// The table, at the payment whose turn it is.
struct Payments<'a> {
    mall: &'a Mall,
    /// A schema says that amounts are strings, so none may be a number.
    strings_only: bool,
    before: Option<Row>,
    row: Option<Row>,
    op: &'static str,
    at_ms: i64,
    binlog: Binlog,
    images: (Vec<u8>, Vec<u8>),
}

#[derive(Clone)]
struct Row {
    payment_id: u64,
    order_id: u64,
    store: u32,
    user: u64,
    method: &'static str,
    status: &'static str,
    amount: i64,
    currency: &'static str,
    /// Some rows' amounts come as JSON numbers, the others' as strings.
    amount_as_number: bool,
    paid_at_us: i64,
    created_ms: i64,
    updated_ms: i64,
}

impl Table for Payments<'_> {
    const STREAM: Stream = Stream::Payment;
    const FORM: Form = Form::Debezium;
    const TEMPO: Tempo = Tempo::Order;
    const FLAWS: &'static [Flaw] =
        &[Flaw::CutOff, Flaw::NotUtf8, Flaw::NoStore, Flaw::EmptyStore, Flaw::WrongTime, Flaw::WrongNumber, Flaw::TooPrecise];

    fn turn(&mut self, dice: &mut Dice, turn: &Turn<'_>) {
        let order = self.mall.order(turn.due.row);
        let (life, delay_ms, created_ms) = (turn.life, turn.delay.ms(), turn.due.created_ms);
        let micros = dice.between(0, 999);
        // Of those that change, most wait for the bank, the others are corrected later; some are given up and deleted.
        let slow = dice.below(10) < 7;
        let waits = slow && life.has(Step::Change);
        let given_up = slow && life.has(Step::Delete) && !life.has(Step::Change);
        let as_number = dice.below(4) == 0;
        let mut row = Row {
            payment_id: FIRST_PAYMENT + turn.due.row,
            order_id: order.id,
            store: order.store,
            user: order.user,
            method: dice.weighted(&[(60, "CARD"), (20, "EASY_PAY"), (12, "TRANSFER"), (8, "POINT")]),
            status: if waits || given_up { "CREATED" } else { "PAID" },
            amount: order.amount(),
            currency: order.currency(),
            amount_as_number: as_number && !self.strings_only,
            paid_at_us: (created_ms - delay_ms) * 1_000 + micros,
            created_ms,
            updated_ms: created_ms,
        };
        self.before = None;
        for &(at_ms, step) in turn.later_steps() {
            let mut after = row.clone();
            after.updated_ms = at_ms;
            match step {
                Step::Create | Step::Delete => {}
                Step::Change if waits => {
                    after.status = "PAID";
                    // What was late stays late: the bank only confirms it.
                    if delay_ms == 0 {
                        after.paid_at_us = at_ms * 1_000 + micros;
                    }
                }
                Step::Change => after.amount = row.whole_units(row.amount * dice.between(80, 120) / 100),
                Step::Move => after.store = self.mall.other_store(dice, row.store),
                Step::Refund => {
                    after.status = "REFUNDED";
                    let kept = dice.weighted(&[(5, 0), (2, 50), (1, 90)]);
                    after.amount = row.whole_units(row.amount * kept / 100);
                }
            }
            self.before = Some(std::mem::replace(&mut row, after));
        }
        self.row = Some(row);
        self.op = match turn.step {
            Step::Create => "c",
            Step::Change | Step::Move | Step::Refund => "u",
            Step::Delete => "d",
        };
        self.at_ms = turn.due.at_ms;
        self.binlog.advance(self.op, turn.due, dice);
    }

    fn key(&self, out: &mut Vec<u8>) {
        push(out, "{\"payment_id\":");
        push_u64(out, self.row.as_ref().map_or(0, |row| row.payment_id));
        out.push(b'}');
    }

    fn body(&mut self, out: &mut Vec<u8>, flaw: Option<Flaw>) {
        let (before, after) = &mut self.images;
        before.clear();
        after.clear();
        let before = self.before.as_ref().map(|row| row.render(before, None));
        let after = self.row.as_ref().filter(|_| self.op != "d").map(|row| row.render(after, flaw));
        debezium(out, before, after, |out| self.binlog.source(out, self.at_ms), self.op);
    }
}

impl Row {
    /// Won have no fractions.
    fn whole_units(&self, hundredths: i64) -> i64 {
        if self.currency == "KRW" { hundredths / 100 * 100 } else { hundredths }
    }

    fn render<'a>(&self, out: &'a mut Vec<u8>, flaw: Option<Flaw>) -> &'a [u8] {
        push(out, "{\"payment_id\":");
        push_u64(out, self.payment_id);
        push(out, ",\"order_id\":");
        push_u64(out, self.order_id);
        match flaw {
            Some(Flaw::NoStore) => {}
            Some(Flaw::EmptyStore) => push(out, ",\"store_id\":\"\""),
            _ => {
                push(out, ",\"store_id\":");
                push_u64(out, store_id(self.store));
            }
        }
        push(out, ",\"user_id\":");
        push_u64(out, self.user);
        push(out, ",\"method\":\"");
        push(out, self.method);
        push(out, "\",\"status\":\"");
        push(out, self.status);
        push(out, "\",\"amount\":");
        let quote = if self.amount_as_number { "" } else { "\"" };
        match flaw {
            Some(Flaw::WrongNumber) => push(out, "true"),
            _ => {
                push(out, quote);
                push_hundredths(out, self.amount);
                if flaw == Some(Flaw::TooPrecise) {
                    push(out, "5");
                }
                push(out, quote);
            }
        }
        push(out, ",\"currency\":\"");
        push(out, self.currency);
        push(out, "\",\"paid_at\":");
        match flaw {
            Some(Flaw::WrongTime) => push(out, "\"soon\""),
            _ => push_i64(out, self.paid_at_us),
        }
        push(out, ",\"created_at\":");
        push_i64(out, self.created_ms);
        push(out, ",\"updated_at\":");
        push_i64(out, self.updated_ms);
        out.push(b'}');
        out
    }
}

/// The binary log of the MySQL server.
struct Binlog {
    file: u64,
    pos: u64,
    row: u64,
    thread: u64,
    commit_s: i64,
    last: Option<(&'static str, u64)>,
    next_pos: u64,
}

/// A new file begins here: sooner than on a real server, so that small datasets see it too.
const BINLOG_BYTES: u64 = 512 << 10;
/// Bytes before the first event of a file.
const BINLOG_HEAD: u64 = 157;
/// Bytes of a transaction before its first row event: its header, BEGIN, and the table map.
const TRANSACTION_HEAD: u64 = 79 + 76;

impl Binlog {
    fn new() -> Self {
        Binlog { file: 9, pos: 0, row: 0, thread: 0, commit_s: 0, last: None, next_pos: BINLOG_HEAD }
    }

    /// Moves to the next row event. Now and then it is of the same statement as the one before.
    fn advance(&mut self, op: &'static str, due: Due, dice: &mut Dice) {
        let together = dice.below(16) == 0;
        let commit_s = due.at_ms.div_euclid(1_000);
        let like_last = self.last.is_some_and(|(last_op, last_row)| last_op == op && last_row != due.row);
        if together && like_last && commit_s == self.commit_s {
            self.row += 1;
        } else {
            if self.next_pos > BINLOG_BYTES {
                self.file += 1;
                self.next_pos = BINLOG_HEAD;
            }
            self.pos = self.next_pos + TRANSACTION_HEAD;
            self.next_pos = self.pos + dice.between(180, 420) as u64;
            self.row = 0;
            self.thread = 20 + dice.below(60);
        }
        self.commit_s = commit_s;
        self.last = Some((op, due.row));
    }

    fn source(&self, out: &mut Vec<u8>, at_ms: i64) {
        push(out, "{\"version\":\"2.7.3.Final\",\"connector\":\"mysql\",\"name\":\"mall\",");
        push_times(out, at_ms.div_euclid(1_000) * 1_000_000);
        push(out, ",\"snapshot\":\"false\",\"db\":\"mall\",\"sequence\":null,\"table\":\"payments\"");
        push(out, ",\"server_id\":223344,\"gtid\":null,\"file\":\"mysql-bin.");
        push_padded(out, self.file, 6);
        push(out, "\",\"pos\":");
        push_u64(out, self.pos);
        push(out, ",\"row\":");
        push_u64(out, self.row);
        push(out, ",\"thread\":");
        push_u64(out, self.thread);
        push(out, ",\"query\":null}");
    }
}
