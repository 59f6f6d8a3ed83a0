//! `mall.payments`: a MySQL table, published by Debezium.
//!
//! Upholds: binlog positions (file, pos, row) grow in commit order; `before` is the row as it was; commit times are whole
//! seconds, as MySQL's are without GTIDs; a delete is followed by its tombstone.
//! A payment is created when its order is; `paid_at` is when the customer tried to pay, then when the bank agreed. A refund
//! lowers `amount` to what the store keeps.

use super::connector::{Connector, Payload};
use super::envelope::{Flaw, debezium, push_times};
use super::life::{Delay, Due, Life, Schedule, Step, Tempo};
use super::mall::{Mall, store_id};
use super::random::{Dice, Stream};
use super::text::{push, push_hundredths, push_i64, push_padded, push_u64};
use super::traffic::Traffic;
use super::writer::Partitions;
use super::{GenerateError, Options, Topic, TopicSummary};

const FIRST_PAYMENT: u64 = 810_000_001;
const FLAWS: [Flaw; 7] =
    [Flaw::CutOff, Flaw::NotUtf8, Flaw::NoStore, Flaw::EmptyStore, Flaw::WrongTime, Flaw::WrongNumber, Flaw::TooPrecise];

/// Writes the topic.
pub(super) fn write(
    options: &Options,
    mall: &Mall,
    traffic: &Traffic,
    partitions: Partitions,
) -> Result<TopicSummary, GenerateError> {
    let mut connector = Connector::new(options, Topic::Payments, options.payments, partitions);
    let instants = traffic.instants(options.payments, Dice::new(options.seed, Stream::Traffic));
    let mut schedule = Schedule::new(instants);
    let mut binlog = Binlog::new(options.seed);
    let (mut key, mut body, mut before, mut after) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some(due) = schedule.next() {
        let mut dice = Dice::of(options.seed, Stream::Payment, due.row);
        let life = Life::draw(&mut dice, Tempo::Order, due.created_ms, traffic.end_ms(), &options.shares);
        schedule.enter_next(due, &life);
        let delay = Delay::draw(&mut dice, &options.shares, true);
        let rows = Rows::draw(&mut dice, mall, due, &life, delay);
        let step = life.until(due.step)[usize::from(due.step)].1;
        let counts = &mut connector.counts;
        let op = match step {
            Step::Create => {
                counts.inserts += 1;
                delay.count(counts);
                "c"
            }
            Step::Change | Step::Move | Step::Refund => {
                counts.updates += 1;
                counts.store_moves += u64::from(step == Step::Move);
                counts.refunds += u64::from(step == Step::Refund);
                "u"
            }
            Step::Delete => {
                counts.deletes += 1;
                counts.tombstones += 1;
                "d"
            }
        };
        key.clear();
        push(&mut key, "{\"payment_id\":");
        push_u64(&mut key, FIRST_PAYMENT + due.row);
        key.push(b'}');
        binlog.advance(op, due, &mut dice);
        let mut render = |body: &mut Vec<u8>, flaw: Option<Flaw>| {
            before.clear();
            after.clear();
            if let Some(row) = &rows.before {
                row.render(&mut before, None);
            }
            if step != Step::Delete {
                rows.after.render(&mut after, flaw);
            }
            body.clear();
            debezium(body, whole(&before), whole(&after), |out| binlog.source(out, due.at_ms), op);
        };
        render(&mut body, None);
        connector.send(due.at_ms, &key, Payload::Debezium(&body))?;
        if step == Step::Delete {
            connector.send(due.at_ms, &key, Payload::Tombstone)?;
        } else if let Some(flaw) = connector.flaw(&FLAWS) {
            render(&mut body, Some(flaw));
            connector.send_broken(&key, Payload::Debezium(&body), flaw)?;
        }
    }
    connector.finish()
}

fn whole(image: &[u8]) -> Option<&[u8]> {
    if image.is_empty() { None } else { Some(image) }
}

/// A payment before and after one step of its life.
struct Rows {
    before: Option<Row>,
    after: Row,
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

impl Rows {
    /// Follows the life of a payment up to the step that is due.
    fn draw(dice: &mut Dice, mall: &Mall, due: Due, life: &Life, delay: Delay) -> Rows {
        let order = mall.order(due.row);
        let micros = dice.between(0, 999);
        // Of those that change, most wait for the bank, the others are corrected later; some are given up and deleted.
        let slow = dice.below(10) < 7;
        let waits = slow && life.has(Step::Change);
        let given_up = slow && life.has(Step::Delete) && !life.has(Step::Change);
        let mut row = Row {
            payment_id: FIRST_PAYMENT + due.row,
            order_id: order.id,
            store: order.store,
            user: order.user,
            method: dice.weighted(&[(60, "CARD"), (20, "EASY_PAY"), (12, "TRANSFER"), (8, "POINT")]),
            status: if waits || given_up { "CREATED" } else { "PAID" },
            amount: order.amount(),
            currency: order.currency(),
            amount_as_number: dice.below(4) == 0,
            paid_at_us: (due.created_ms - delay.ms()) * 1_000 + micros,
            created_ms: due.created_ms,
            updated_ms: due.created_ms,
        };
        let mut before = None;
        for &(at_ms, step) in &life.until(due.step)[1..] {
            let mut after = row.clone();
            after.updated_ms = at_ms;
            match step {
                Step::Create | Step::Delete => {}
                Step::Change if waits => {
                    after.status = "PAID";
                    // What was late stays late: the bank only confirms it.
                    if delay.ms() == 0 {
                        after.paid_at_us = at_ms * 1_000 + micros;
                    }
                }
                Step::Change => after.amount = row.whole_units(row.amount * dice.between(80, 120) / 100),
                Step::Move => after.store = mall.other_store(dice, row.store),
                Step::Refund => {
                    after.status = "REFUNDED";
                    let kept = dice.weighted(&[(5, 0), (2, 50), (1, 90)]);
                    after.amount = row.whole_units(row.amount * kept / 100);
                }
            }
            before = Some(std::mem::replace(&mut row, after));
        }
        Rows { before, after: row }
    }
}

impl Row {
    /// Won have no fractions.
    fn whole_units(&self, hundredths: i64) -> i64 {
        if self.currency == "KRW" { hundredths / 100 * 100 } else { hundredths }
    }

    fn render(&self, out: &mut Vec<u8>, flaw: Option<Flaw>) {
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

impl Binlog {
    fn new(seed: u64) -> Self {
        let thread = 20 + seed % 50;
        Binlog { file: 9, pos: 0, row: 0, thread, commit_s: 0, last: None, next_pos: 157 }
    }

    /// Moves to the next row event. Now and then it is of the same statement as the one before.
    fn advance(&mut self, op: &'static str, due: Due, dice: &mut Dice) {
        let together = dice.below(16) == 0;
        let commit_s = due.at_ms.div_euclid(1_000);
        match self.last {
            Some((last_op, last_row)) if together && last_op == op && last_row != due.row && commit_s == self.commit_s => {
                self.row += 1;
            }
            _ => {
                if self.next_pos > BINLOG_BYTES {
                    self.file += 1;
                    self.next_pos = 157;
                }
                self.pos = self.next_pos + 79 + 76;
                self.next_pos = self.pos + dice.between(180, 420) as u64;
                self.row = 0;
                self.thread = 20 + dice.below(60);
            }
        }
        self.commit_s = commit_s;
        self.last = Some((op, due.row));
    }

    fn source(&self, out: &mut Vec<u8>, at_ms: i64) {
        push(out, "{\"version\":\"2.7.3.Final\",\"connector\":\"mysql\",\"name\":\"mall\",");
        push_times(out, at_ms.div_euclid(1_000) * 1_000_000);
        push(
            out,
            ",\"snapshot\":\"false\",\"db\":\"mall\",\"sequence\":null,\"table\":\"payments\",\"server_id\":223344,\"gtid\":null,\"file\":\"mysql-bin.",
        );
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
