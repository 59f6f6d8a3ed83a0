//! `mall.order_items`: rows by message key, without positions of their own; a null value deletes.
//!
//! Items are created with their order, shipped, now and then corrected, and returned (quantity 0) where a payment would be
//! refunded. Upholds: all items of an order agree with its payment on store, customer and price.

use super::connector::Connector;
use super::envelope::Flaw;
use super::life::{Step, Tempo};
use super::mall::{Item, Mall, Order, product_id, store_id};
use super::random::{Dice, Stream};
use super::table::{self, Form, Table, Turn};
use super::text::{push, push_hundredths, push_i64, push_u64};
use super::traffic::Traffic;
use super::writer::Partitions;
use super::{GenerateError, Options, Topic, TopicSummary};

/// Rows are numbered by order, then item.
const ITEMS_PER_ORDER: u64 = 4;
const FIRST_ITEM: u64 = 280_000_001;

/// Writes the topic.
pub(super) fn write(
    options: &Options,
    mall: &Mall,
    traffic: &Traffic,
    partitions: Partitions,
) -> Result<TopicSummary, GenerateError> {
    let connector = Connector::new(options, Topic::OrderItems, options.payments * 3 / 2, partitions, &[]);
    // The very instants of the payments.
    let instants = traffic.instants(options.payments, Dice::new(options.seed, Stream::Traffic));
    let creations = (0..).zip(instants).flat_map(|(order, at_ms)| {
        let items = mall.order(order).items().len() as u64;
        (0..items).map(move |item| (order * ITEMS_PER_ORDER + item, at_ms))
    });
    table::publish(options, OrderItems { mall, row: None }, traffic.end_ms(), creations, connector)
}

/// The table, at the item whose turn it is.
struct OrderItems<'a> {
    mall: &'a Mall,
    row: Option<Row>,
}

struct Row {
    item_id: u64,
    order: Order,
    item: Item,
    status: &'static str,
    ordered_ms: i64,
    updated_ms: i64,
}

impl Table for OrderItems<'_> {
    const STREAM: Stream = Stream::OrderItem;
    const FORM: Form = Form::Upsert;
    const TEMPO: Tempo = Tempo::Order;
    const FLAWS: &'static [Flaw] =
        &[Flaw::CutOff, Flaw::NotUtf8, Flaw::NoStore, Flaw::EmptyStore, Flaw::WrongTime, Flaw::WrongNumber, Flaw::TooPrecise];

    fn turn(&mut self, dice: &mut Dice, turn: &Turn<'_>) {
        let number = turn.due.row;
        let order = self.mall.order(number / ITEMS_PER_ORDER);
        let item = order.items()[(number % ITEMS_PER_ORDER) as usize];
        let created_ms = turn.due.created_ms;
        let mut row = Row {
            item_id: FIRST_ITEM + number,
            order,
            item,
            status: "ORDERED",
            ordered_ms: created_ms - turn.delay.ms(),
            updated_ms: created_ms,
        };
        for &(at_ms, step) in turn.later_steps() {
            row.updated_ms = at_ms;
            match step {
                Step::Create | Step::Delete => {}
                Step::Change if dice.below(6) == 0 => row.item.quantity += 1 + dice.below(2) as u32,
                Step::Change => row.status = "SHIPPED",
                Step::Move => row.order.store = self.mall.other_store(dice, row.order.store),
                Step::Refund => {
                    row.status = "RETURNED";
                    row.item.quantity = 0;
                }
            }
        }
        self.row = Some(row);
    }

    fn key(&self, out: &mut Vec<u8>) {
        push(out, "{\"item_id\":");
        push_u64(out, self.row.as_ref().map_or(0, |row| row.item_id));
        out.push(b'}');
    }

    fn body(&mut self, out: &mut Vec<u8>, flaw: Option<Flaw>) {
        let Some(row) = &self.row else { return };
        push(out, "{\"item_id\":");
        push_u64(out, row.item_id);
        push(out, ",\"order_id\":");
        push_u64(out, row.order.id);
        match flaw {
            Some(Flaw::NoStore) => {}
            Some(Flaw::EmptyStore) => push(out, ",\"store_id\":\"\""),
            _ => {
                push(out, ",\"store_id\":");
                push_u64(out, store_id(row.order.store));
            }
        }
        push(out, ",\"user_id\":");
        push_u64(out, row.order.user);
        push(out, ",\"product_id\":");
        push_u64(out, product_id(row.item.product));
        push(out, ",\"quantity\":");
        match flaw {
            Some(Flaw::WrongNumber) => push(out, "true"),
            _ => push_u64(out, row.item.quantity.into()),
        }
        if flaw == Some(Flaw::TooPrecise) {
            push(out, ".5");
        }
        push(out, ",\"unit_price\":\"");
        push_hundredths(out, row.item.unit_price);
        push(out, "\",\"currency\":\"");
        push(out, row.order.currency());
        push(out, "\",\"status\":\"");
        push(out, row.status);
        push(out, "\",\"ordered_at\":");
        match flaw {
            Some(Flaw::WrongTime) => push(out, "\"soon\""),
            _ => push_i64(out, row.ordered_ms),
        }
        push(out, ",\"updated_at\":");
        push_i64(out, row.updated_ms);
        out.push(b'}');
    }
}
