//! The tables of a shop in two databases, what happens to them, and what SQL says of them.
//!
//! ```text
//! PostgreSQL   payments (replica identity full)    refunds (replica identity default, a column out of line)
//! MariaDB      order_items (key of two columns)    products
//! ```
//!
//! Upholds: the same seed and base make the same statements; no statement depends on what a database answers.
//! Absent on purpose: windows, sums and counts of ours. [`cells`] has the databases group their own rows.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use storeflow::verify::{CellId, CellRow};
use storeflow_dataflows::table::Table;

use super::chance::Chance;
use super::databases::Database;

/// Milliseconds of a window.
const WINDOW: u64 = 1_800_000;

/// Stores that things happen in.
const STORES: usize = 12;

/// Tables of PostgreSQL. A third of a refund's notes are too long to be kept in their row; an update that leaves one alone does
/// not tell it.
pub(crate) const POSTGRES_SCHEMA: &str = "
create table payments (payment_id bigint primary key, store_id integer not null, amount numeric(12, 2) not null,
    currency char(3) not null, status text not null, paid_at timestamptz not null);
alter table payments replica identity full;
create table refunds (refund_id text primary key, store_id integer not null, amount numeric(12, 2) not null,
    currency char(3) not null, refunded_at timestamp not null, note text);
alter table refunds alter note set storage external;
create table debezium_signal (id varchar(42) primary key, type varchar(32) not null, data varchar(2048));
";

/// Tables of MariaDB.
pub(crate) const MARIADB_SCHEMA: &str = "
create table order_items (order_id bigint, line_no integer, store_id integer not null, product_id varchar(20) not null,
    quantity integer not null, ordered_at datetime(6) not null, primary key (order_id, line_no));
create table products (product_id varchar(20) primary key, store_id integer not null, state varchar(10) not null,
    price decimal(12, 2) not null);
create table debezium_signal (id varchar(42) primary key, type varchar(32) not null, data varchar(2048));
";

/// The keys that are there, so that what is changed is mostly there, and what is new mostly is not.
pub(crate) struct Shop {
    chance: Chance,
    /// Nothing happens after it.
    base_ms: u64,
    payments: Keys,
    refunds: Keys,
    items: Keys,
    products: Keys,
}

/// Keys of a table, by number.
#[derive(Default)]
struct Keys {
    live: Vec<u64>,
    dead: Vec<u64>,
    next: u64,
}

impl Keys {
    /// A key for a new row: now and then one that was deleted before.
    fn add(&mut self, chance: &mut Chance) -> u64 {
        let key = if !self.dead.is_empty() && chance.below(4) == 0 {
            self.dead.swap_remove(chance.below(self.dead.len()))
        } else {
            self.next += 1;
            self.next
        };
        self.live.push(key);
        key
    }

    /// One that is there.
    fn one(&mut self, chance: &mut Chance) -> Option<u64> {
        if self.live.is_empty() { None } else { Some(self.live[chance.below(self.live.len())]) }
    }

    /// One that is there no more.
    fn remove(&mut self, chance: &mut Chance) -> Option<u64> {
        if self.live.is_empty() {
            return None;
        }
        let key = self.live.swap_remove(chance.below(self.live.len()));
        self.dead.push(key);
        Some(key)
    }
}

impl Shop {
    /// One in which nothing happened yet, and nothing will after `base_ms`.
    pub(crate) fn new(chance: Chance, base_ms: u64) -> Shop {
        let [payments, refunds, items, products] = Default::default();
        Shop { chance, base_ms, payments, refunds, items, products }
    }

    fn store(&mut self) -> usize {
        self.chance.below(STORES)
    }

    /// An instant of the last 20 hours, now and then the first or the last of a window; without its zone.
    fn instant(&mut self) -> String {
        let back = self.chance.below(20 * 3_600_000_000) as u64;
        let micros = self.base_ms * 1_000 - back;
        let micros = match self.chance.below(6) {
            0 => micros - micros % (WINDOW * 1_000),
            1 => micros - micros % (WINDOW * 1_000) - 1,
            _ => micros,
        };
        let instant = Timestamp::from_microsecond(i64::try_from(micros).expect("a time")).expect("a time");
        instant.to_string().trim_end_matches('Z').replace('T', " ")
    }

    fn amount(&mut self) -> String {
        format!("{}.{:02}", self.chance.below(100_000), self.chance.below(100))
    }

    /// The columns of a payment but its key.
    fn payment(&mut self) -> String {
        let (store, amount, at) = (self.store(), self.amount(), self.instant());
        let currency = self.chance.one_of(&["KRW", "KRW", "USD"]);
        let status = self.chance.one_of(&["PAID", "PAID", "PENDING", "REFUNDED", "FAILED"]);
        format!("{store}, {amount}, '{currency}', '{status}', '{at}+00'")
    }

    fn refund(&mut self) -> String {
        let (store, amount, at) = (self.store(), self.amount(), self.instant());
        let currency = self.chance.one_of(&["KRW", "USD"]);
        let note = self.chance.one_of(&["null", "''", "repeat('too long to stay in its row ', 200)"]);
        format!("{store}, -{amount}, '{currency}', '{at}', {note}")
    }

    fn item(&mut self) -> String {
        let (store, product, quantity, at) = (self.store(), self.chance.below(40), self.chance.below(9), self.instant());
        format!("{store}, 'p-{product}', {quantity}, '{at}'")
    }

    fn product(&mut self) -> String {
        let (store, price) = (self.store(), self.amount());
        let state = self.chance.one_of(&["ON_SALE", "ON_SALE", "SOLD_OUT"]);
        format!("{store}, '{state}', {price}")
    }

    /// Rows from which snapshots begin.
    pub(crate) fn open(&mut self) -> (String, String) {
        let (mut postgres, mut mariadb) = (String::new(), String::new());
        for _ in 0..60 {
            let (key, row) = (self.payments.add(&mut self.chance), self.payment());
            let _ = writeln!(postgres, "insert into payments values ({key}, {row});");
            let (key, row) = (self.refunds.add(&mut self.chance), self.refund());
            let _ = writeln!(postgres, "insert into refunds values ('r-{key}', {row});");
            let (key, row) = (self.items.add(&mut self.chance), self.item());
            let _ = writeln!(mariadb, "insert into order_items values ({}, {row});", item_key(key));
            let (key, row) = (self.products.add(&mut self.chance), self.product());
            let _ = writeln!(mariadb, "insert into products values ('p-{key}', {row});");
        }
        (postgres, mariadb)
    }

    /// A row in each table that is known by its number and never touched again. Higher numbers are behind lower ones, and all of
    /// them behind the other rows, in the order of keys.
    pub(crate) fn rows(&mut self, number: u64) -> (String, String) {
        let (payment, refund, item, product) = (self.payment(), self.refund(), self.item(), self.product());
        let payments = format!("insert into payments values ({}, {payment});", known_number(number));
        let refunds = format!("insert into refunds values ('{}', {refund});", known_name(number));
        let items = format!("insert into order_items values ({}, 1, {item});", known_number(number));
        let products = format!("insert into products values ('{}', {product});", known_name(number));
        (format!("{payments}\n{refunds}\n"), format!("{items}\n{products}\n"))
    }

    /// Transactions that begin and do not end.
    pub(crate) fn left_open(&mut self) -> (String, String) {
        let (one, other) = (self.store(), self.store());
        let payments = format!("update payments set amount = amount + 1000, status = 'PAID' where store_id <> {one};");
        let refunds = format!("delete from refunds where store_id = {other};");
        let items = format!("update order_items set quantity = quantity + 100 where store_id <> {one};");
        let products = format!("delete from products where store_id = {other};");
        // Otherwise it would let nobody add rows.
        let isolation = "set transaction isolation level read committed;";
        (format!("begin; {payments} {refunds}"), format!("{isolation} start transaction; {items} {products}"))
    }

    /// All rows of a table in each database go at once.
    pub(crate) fn truncate(&mut self) -> (&'static str, &'static str) {
        for keys in [&mut self.refunds, &mut self.products] {
            keys.dead.append(&mut keys.live);
        }
        ("truncate refunds;", "truncate products;")
    }

    /// So many things that happen in PostgreSQL.
    pub(crate) fn in_postgres(&mut self, count: usize) -> String {
        let mut script = String::new();
        for _ in 0..count {
            let happens = if self.chance.below(3) == 0 { self.change_refunds() } else { self.change_payments() };
            let _ = writeln!(script, "{}", happens.unwrap_or_default());
        }
        script
    }

    /// So many things that happen in MariaDB.
    pub(crate) fn in_mariadb(&mut self, count: usize) -> String {
        let mut script = String::new();
        for _ in 0..count {
            let happens = if self.chance.below(3) == 0 { self.change_products() } else { self.change_items() };
            let _ = writeln!(script, "{}", happens.unwrap_or_default());
        }
        script
    }

    fn change_payments(&mut self) -> Option<String> {
        let chance = &mut self.chance;
        Some(match chance.below(12) {
            0 | 1 => {
                let (key, row) = (self.payments.add(chance), self.payment());
                format!("insert into payments values ({key}, {row});")
            }
            2 => {
                let keys = [(); 3].map(|()| self.payments.add(&mut self.chance));
                let rows = keys.map(|key| format!("({key}, {})", self.payment()));
                format!("insert into payments values {};", rows.join(", "))
            }
            3 => {
                let (key, amount) = (self.payments.one(chance)?, self.amount());
                format!("update payments set amount = {amount} where payment_id = {key};")
            }
            4 => {
                let (key, store) = (self.payments.one(chance)?, self.store());
                format!("update payments set store_id = {store} where payment_id = {key};")
            }
            5 => {
                let (key, at) = (self.payments.one(chance)?, self.instant());
                format!("update payments set paid_at = '{at}+00' where payment_id = {key};")
            }
            6 => {
                let (key, row) = (self.payments.one(chance)?, self.payment());
                let columns = "(store_id, amount, currency, status, paid_at)";
                format!("update payments set {columns} = ({row}) where payment_id = {key};")
            }
            // Many rows in one transaction.
            7 => format!("update payments set amount = amount + 0.01, status = 'PAID' where store_id = {};", self.store()),
            // Its key: a row goes, another comes.
            8 => {
                let (old, new) = (self.payments.remove(chance)?, self.payments.add(chance));
                if old == new {
                    return None;
                }
                format!("update payments set payment_id = {new} where payment_id = {old};")
            }
            9 => format!("delete from payments where payment_id = {};", self.payments.remove(chance)?),
            // Nobody may ever see this.
            10 => "begin; update payments set amount = -1; delete from refunds; rollback;".to_owned(),
            _ => {
                let (first, gone) = (self.payments.add(chance), self.payments.remove(chance)?);
                let (row, again, store) = (self.payment(), self.payment(), self.store());
                self.payments.dead.retain(|key| *key != gone);
                self.payments.live.push(gone);
                format!(
                    "begin; insert into payments values ({first}, {row}); update payments set store_id = {store} where \
                     payment_id = {first}; delete from payments where payment_id = {gone}; insert into payments values ({gone}, \
                     {again}); commit;"
                )
            }
        })
    }

    fn change_refunds(&mut self) -> Option<String> {
        let chance = &mut self.chance;
        Some(match chance.below(6) {
            0 | 1 => {
                let (key, row) = (self.refunds.add(chance), self.refund());
                format!("insert into refunds values ('r-{key}', {row});")
            }
            2 => {
                let (key, amount) = (self.refunds.one(chance)?, self.amount());
                format!("update refunds set amount = -{amount} where refund_id = 'r-{key}';")
            }
            3 => format!("update refunds set note = repeat('said again ', 500) where store_id = {};", self.store()),
            4 => {
                let (old, new) = (self.refunds.remove(chance)?, self.refunds.add(chance));
                if old == new {
                    return None;
                }
                format!("update refunds set refund_id = 'r-{new}' where refund_id = 'r-{old}';")
            }
            _ => format!("delete from refunds where refund_id = 'r-{}';", self.refunds.remove(chance)?),
        })
    }

    fn change_items(&mut self) -> Option<String> {
        let chance = &mut self.chance;
        Some(match chance.below(8) {
            0 | 1 => {
                let keys = [(); 2].map(|()| self.items.add(&mut self.chance));
                let rows = keys.map(|key| format!("({}, {})", item_key(key), self.item()));
                format!("insert into order_items values {};", rows.join(", "))
            }
            2 => {
                let (key, quantity) = (self.items.one(chance)?, chance.below(9));
                format!("update order_items set quantity = {quantity} where {};", is_item(key))
            }
            3 => {
                let (key, product, at) = (self.items.one(chance)?, chance.below(40), self.instant());
                format!("update order_items set product_id = 'p-{product}', ordered_at = '{at}' where {};", is_item(key))
            }
            4 => format!("update order_items set quantity = quantity + 1 where store_id = {};", self.store()),
            5 => {
                let (old, new) = (self.items.remove(chance)?, self.items.add(chance));
                if old == new {
                    return None;
                }
                format!("update order_items set order_id = {}, line_no = {} where {};", new / 3, new % 3, is_item(old))
            }
            6 => format!("delete from order_items where {};", is_item(self.items.remove(chance)?)),
            _ => {
                let (first, gone) = (self.items.add(chance), self.items.remove(chance)?);
                let row = self.item();
                format!(
                    "start transaction; insert into order_items values ({}, {row}); delete from order_items where {}; commit;",
                    item_key(first),
                    is_item(gone)
                )
            }
        })
    }

    fn change_products(&mut self) -> Option<String> {
        let chance = &mut self.chance;
        Some(match chance.below(6) {
            0 | 1 => {
                let (key, row) = (self.products.add(chance), self.product());
                format!("insert into products values ('p-{key}', {row});")
            }
            2 => {
                let (key, state) = (self.products.one(chance)?, chance.one_of(&["ON_SALE", "SOLD_OUT"]));
                format!("update products set state = '{state}' where product_id = 'p-{key}';")
            }
            // It deletes and inserts.
            3 => {
                let (key, row) = (self.products.one(chance)?, self.product());
                format!("replace into products values ('p-{key}', {row});")
            }
            4 => {
                let (old, new) = (self.products.remove(chance)?, self.products.add(chance));
                if old == new {
                    return None;
                }
                format!("update products set product_id = 'p-{new}' where product_id = 'p-{old}';")
            }
            _ => format!("delete from products where product_id = 'p-{}';", self.products.remove(chance)?),
        })
    }
}

/// The number of the rows that are behind all others in the order of their keys.
pub(crate) const LAST: u64 = 999;

/// The key of a known row in payments, and the first column of that in order_items.
pub(crate) fn known_number(number: u64) -> u64 {
    8_000_000_000 + number
}

/// The key of a known row in refunds and products.
pub(crate) fn known_name(number: u64) -> String {
    format!("z-{number:03}")
}

fn item_key(key: u64) -> String {
    format!("{}, {}", key / 3, key % 3)
}

fn is_item(key: u64) -> String {
    format!("order_id = {} and line_no = {}", key / 3, key % 3)
}

/// The cells, by the databases themselves. They have no revisions.
pub(crate) fn cells(postgres: &Database, mariadb: &Database) -> BTreeMap<CellId, CellRow> {
    let mut cells = BTreeMap::new();
    let payments = postgres.run(
        "select store_id, currency, floor(extract(epoch from at) / 1800)::bigint * 1800000, (sum(amount) * 100)::bigint, count(*)
         from (select store_id, amount, currency, paid_at as at from payments where status in ('PAID', 'REFUNDED')
               union all select store_id, amount, currency, refunded_at at time zone 'UTC' from refunds) as one
         group by 1, 2, 3;",
    );
    for [store, currency, window, sum, count] in columns(&payments) {
        let row = CellRow { sum: sum.parse().expect("a number"), count: count.parse().expect("a number"), ..CellRow::default() };
        cells.insert(cell(Table::StorePayments, store, currency, Some(window)), row);
    }
    let items = mariadb.run(
        "select store_id, timestampdiff(second, '1970-01-01', ordered_at) div 1800 * 1800000, sum(quantity),
                count(distinct product_id)
         from order_items group by 1, 2;",
    );
    for [store, window, items, products] in columns(&items) {
        let (sum, distinct) = (items.parse().expect("a number"), products.parse().expect("a number"));
        cells.insert(cell(Table::StoreSales, store, "", Some(window)), CellRow { sum, distinct, ..CellRow::default() });
    }
    let products = mariadb.run("select store_id, count(*) from products where state = 'ON_SALE' group by 1;");
    for [store, count] in columns(&products) {
        let row = CellRow { count: count.parse().expect("a number"), ..CellRow::default() };
        cells.insert(cell(Table::StoreProducts, store, "", None), row);
    }
    cells
}

fn cell(table: Table, store: &str, second: &str, window: Option<&str>) -> CellId {
    let window = window.map(|window| window.parse().expect("a number"));
    CellId { table, store: store.to_owned(), second: second.to_owned(), window }
}

fn columns<const N: usize>(answer: &str) -> impl Iterator<Item = [&str; N]> {
    answer.lines().map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        columns.try_into().unwrap_or_else(|columns| panic!("{N} columns: {columns:?}"))
    })
}
