//! From the databases to the view, by the programs that stand between them in earnest.
//!
//! ```text
//! PostgreSQL ─(pgoutput)─┐
//!                        ├─► Debezium in Kafka Connect ─► Kafka ─► storeflow run ─► Redis     each cell = SQL on the databases
//! MariaDB ─(binary log)──┘             ▲                             ▲
//!                                 killed, asked to read          killed
//!                                 all rows again
//! ```
//!
//! Upholds: whenever the databases rest, the view comes to say what SQL says; in the end, with Connect stopped, so does a run over
//! the topics from their beginning. While Connect is dead, a source with `idle = "heartbeat"` is not taken for caught up.
//! What was foretold did happen: duplicates, keys that changed, rows read again. No number is compared that a test computed.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use storeflow::observe::wall_ms;
use storeflow::publish::layout::Current;
use storeflow::publish::redis::RedisView;
use storeflow::publish::row::Row;
use storeflow::store::Store;
use storeflow::verify::{CellId, CellRow, compare, published};
use storeflow_dataflows::table::Table;

use crate::support::binary::{storeflow, succeed, text};
use crate::support::chance::{Chance, seeds};
use crate::support::connect::{Connect, PATIENCE};
use crate::support::databases::Database;
use crate::support::exact::assert_none;
use crate::support::log::{Entry, Log};
use crate::support::redis::{self, Redis};
use crate::support::running::{Running, as_of, metrics, metrics_at, sum_of};
use crate::support::services::{Kind, Service, shared};
use crate::support::workload::{self, LAST, MARIADB_SCHEMA, POSTGRES_SCHEMA, Shop, known_name, known_number};

const TABLES: [Table; 4] = [Table::StorePayments, Table::StoreSales, Table::StoreClicks, Table::StoreProducts];

#[test]
fn databases_by_way_of_debezium_are_exact_in_redis() {
    for seed in seeds(1, 20) {
        let Some(mut chain) = Chain::start("databases_by_way_of_debezium_are_exact_in_redis", seed) else { return };
        chain.agree("after the snapshots");
        chain.happens(80);
        chain.agree("after changes");
        chain.kill_connect();
        chain.agree("after Connect was killed");
        chain.kill_storeflow();
        chain.read_again();
        chain.agree("after all rows were read again");
        chain.truncate();
        chain.agree("after truncates");
        chain.end();
    }
}

struct Chain {
    /// Begins the names of all that is in Kafka and Redis.
    name: String,
    folder: tempfile::TempDir,
    kafka: Service,
    redis: Redis,
    postgres: Database,
    mariadb: Database,
    connect: Connect,
    shop: Shop,
    known: u64,
    log: Log,
    storeflow: Running,
}

impl Chain {
    /// Databases with rows, connectors that have read them, and a job.
    fn start(test: &str, seed: u64) -> Option<Chain> {
        let kafka = shared(Kind::Kafka)?;
        let redis = redis::redis(test)?;
        // Connect takes the longest, so all at once.
        let (connect, postgres, mariadb) = std::thread::scope(|scope| {
            let named = || std::thread::Builder::new().name(test.to_owned());
            let connect = named().spawn_scoped(scope, || Connect::own(&kafka)).expect("a thread");
            let postgres = named().spawn_scoped(scope, || Database::own(Kind::Postgres)).expect("a thread");
            let mariadb = Database::own(Kind::MariaDb);
            (connect.join().expect("Connect"), postgres.join().expect("PostgreSQL"), mariadb)
        });
        let (connect, postgres, mariadb) = (connect?, postgres?, mariadb?);
        let base_ms = wall_ms() / 3_600_000 * 3_600_000;
        println!("everything happens before {base_ms}");
        let mut shop = Shop::new(Chance::of(seed), base_ms);
        let (rows, more) = shop.open();
        postgres.run(&[POSTGRES_SCHEMA, POSTGRES_GRANTS, &rows].concat());
        mariadb.run(&[MARIADB_SCHEMA, MARIADB_GRANTS, &more].concat());
        // Changes that were made before the snapshots, which do not see them, and are committed after them.
        let (open, more) = shop.left_open();
        let open = [postgres.session_in_transaction(&open), mariadb.session_in_transaction(&more)];
        let (rows, more) = shop.rows(LAST);
        postgres.run(&rows);
        mariadb.run(&more);

        let name = format!("chain-{}-{seed}", wall_ms());
        connect.configure(&format!("{name}-pg"), &postgres_connector(&name, &postgres));
        connect.configure(&format!("{name}-my"), &mariadb_connector(&name, &mariadb, &kafka));
        let topics = ["pg.public.payments", "pg.public.refunds", "my.storeflow.order_items", "my.storeflow.products"];
        let mut log = Log::of(&kafka, &topics.map(|topic| format!("{name}-{topic}")));
        log.await_in_each("the last row of a snapshot", |entry| is_known(entry, LAST));
        open.into_iter().for_each(|session| session.commit());

        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("job.toml"), job(&name)).expect("a file");
        let storeflow = run(&name, &folder, &kafka, &redis);
        Some(Chain { name, folder, kafka, redis, postgres, mariadb, connect, shop, known: 0, log, storeflow })
    }

    /// So many things happen in each database, one after another.
    fn happens(&mut self, count: usize) {
        self.postgres.run(&self.shop.in_postgres(count));
        self.mariadb.run(&self.shop.in_mariadb(count));
    }

    /// Waits until Kafka has all that happened so far.
    fn reach_kafka(&mut self) {
        self.known += 1;
        let (known, (postgres, mariadb)) = (self.known, self.shop.rows(self.known));
        self.postgres.run(&postgres);
        self.mariadb.run(&mariadb);
        self.log.await_in_each("a new row", |entry| is_known(entry, known));
    }

    /// Waits until the view is what the databases say, which rest meanwhile.
    fn agree(&mut self, when: &str) {
        let truth = workload::cells(&self.postgres, &self.mariadb);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let view = self.view();
            if view.as_ref() == Some(&truth) {
                println!("{when}: {} cells", truth.len());
                return;
            }
            assert!(self.storeflow.goes_on(), "{when}: it ended\n{}", self.storeflow.log());
            if Instant::now() > deadline {
                println!("{}", self.storeflow.log());
                assert_none(&compare(&truth, &view.unwrap_or_default()), when);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What Redis says; `None` while there is no whole view.
    fn view(&self) -> Option<BTreeMap<CellId, CellRow>> {
        let mut view = RedisView::connect(&self.redis.settings(), &self.name).ok()?.read().ok()?;
        Some(TABLES.into_iter().flat_map(|table| view.take(table)).map(cell).collect())
    }

    /// Connect dies while things happen, and goes on later from where it last was sure to be: it sends things twice.
    fn kill_connect(&mut self) {
        let connectors = ["pg", "my"].map(|which| format!("{}-{which}", self.name));
        // In order, so that it is known where it goes on.
        for connector in &connectors {
            self.connect.stop(connector);
            self.connect.resume(connector);
        }
        self.happens(40);
        self.reach_kafka();
        let before = self.log.duplicates();
        self.happens(40);
        self.connect.service().kill();
        let killed = wall_ms();
        self.happens(40);
        // Its heart beats no more, so nobody may say that what has happened since is known.
        self.storeflow.wait("a frontier that is held", |log| {
            let held = metrics_at(log).first().and_then(|address| metrics(address));
            held.filter(|held| sum_of(held, "storeflow_frontier_held_seconds") >= 3.0)
        });
        let shown = as_of(&self.redis.settings(), &self.name);
        assert!(shown <= killed + 1_000, "as of {shown} although Connect was killed at {killed}");
        self.connect.service().start();
        self.reach_kafka();
        let sent_twice = self.log.duplicates() - before;
        println!("{sent_twice} changes were sent twice");
        assert!(sent_twice > 0, "Connect was sure of what it had sent");
    }

    /// The job dies while things happen, and goes on.
    fn kill_storeflow(&mut self) {
        self.happens(20);
        self.storeflow.crash();
        self.happens(20);
        self.storeflow = run(&self.name, &self.folder, &self.kafka, &self.redis);
    }

    /// Debezium reads all rows again, in pieces, while they change.
    fn read_again(&mut self) {
        let signal = |tables: &str| {
            let data = format!("{{\"type\": \"incremental\", \"data-collections\": [{tables}]}}");
            format!("insert into debezium_signal values ('again', 'execute-snapshot', '{data}');")
        };
        self.postgres.run(&signal("\"public.payments\", \"public.refunds\""));
        self.mariadb.run(&signal("\"storeflow.order_items\", \"storeflow.products\""));
        for _ in 0..8 {
            self.happens(10);
        }
        let is_last = |entry: &Entry| entry.snapshot() == "incremental" && is_known(entry, self.known);
        self.log.await_in_each("the last row of the ones read again", is_last);
    }

    /// Tables lose all their rows at once, between other things.
    fn truncate(&mut self) {
        self.happens(20);
        let (postgres, mariadb) = self.shop.truncate();
        self.postgres.run(postgres);
        self.mariadb.run(mariadb);
        self.happens(20);
        self.reach_kafka();
    }

    /// Everything stops; the view says what SQL says, and so does another run over all there is.
    fn end(mut self) {
        self.happens(20);
        self.reach_kafka();
        self.agree("at the end");
        self.connect.service().stop();
        self.storeflow.stop();
        let truth = workload::cells(&self.postgres, &self.mariadb);
        assert_none(&compare(&truth, &self.view().expect("a view")), "the view of a job that was stopped");

        let (job, out) = (text(&self.folder.path().join("job.toml")), text(&self.folder.path().join("again")));
        let brokers = self.kafka.address();
        succeed(&["run", "--job", &job, "--brokers", brokers, "--until-end", "--data-dir", &out, "--workers", "2"]);
        let again = Current::open(&Store::folder(&self.folder.path().join("again")).expect("a folder")).expect("a run");
        let rows = TABLES.into_iter().flat_map(|table| again.view_rows(table).expect("a view"));
        assert_none(&compare(&truth, &rows.map(cell).collect()), "a run from the beginning");
        assert_eq!(again.dead_letter_count().expect("a count"), 0, "dead letters");
        self.what_happened();
    }

    /// The messages of which this test is about were among those that were read.
    fn what_happened(&mut self) {
        self.log.read(Duration::from_millis(100));
        let mut kinds: BTreeMap<(String, String), usize> = BTreeMap::new();
        for entry in &self.log.entries {
            let kind =
                if entry.value.is_null() { "tombstone".to_owned() } else { format!("{} {}", entry.op(), entry.snapshot()) };
            let table = entry.topic.rsplit('.').next().unwrap_or_default().to_owned();
            *kinds.entry((table, kind)).or_default() += 1;
        }
        println!("{kinds:#?}");
        for table in ["payments", "refunds", "order_items", "products"] {
            for kind in ["c false", "u false", "d false", "tombstone", "r true", "r incremental"] {
                assert!(kinds.contains_key(&(table.to_owned(), kind.to_owned())), "no {kind} of {table}");
            }
        }
        let untold = |entry: &Entry| entry.value["after"]["note"] == "__debezium_unavailable_value";
        assert!(self.log.entries.iter().any(untold), "no column was left out");
    }
}

/// A published row as a cell without its revision, which databases do not have.
fn cell(row: Row) -> (CellId, CellRow) {
    let (id, row) = published::cell(row);
    let row = published::visible(id.table, CellRow { revision: 0, ..row });
    (id, row)
}

/// Whether this is of the known row of that number.
fn is_known(entry: &Entry, number: u64) -> bool {
    entry.has_in_key(&known_number(number).to_string()) || entry.has_in_key(&known_name(number))
}

/// A job that goes on.
fn run(name: &str, folder: &tempfile::TempDir, kafka: &Service, redis: &Redis) -> Running {
    let (job, out, url) = (text(&folder.path().join("job.toml")), text(&folder.path().join("out")), redis.url());
    let where_to = ["run", "--job", &job, "--brokers", kafka.address(), "--redis", &url, "--data-dir", &out];
    let how = ["--workers", "2", "--checkpoint-interval", "1s", "--metrics", "127.0.0.1:0"];
    let mut running = Running::start(&mut storeflow(&[&where_to[..], &how].concat()));
    running.wait_with(&format!("a view of {name}"), |_| (as_of(&redis.settings(), name) > 0).then_some(()));
    running
}

fn job(name: &str) -> String {
    format!(
        r#"
name = "{name}"
window = "30m"
grace = "2m"
retention = "48h"
scale = 2

[[source]]
topic = "{name}-pg.public.payments"
role = "payments"
format = "debezium"
key = "payment_id"
store = "store_id"
amount = "amount"
currency = "currency"
time = {{ field = "paid_at", unit = "rfc3339" }}
counts_when = {{ status = ["PAID", "REFUNDED"] }}
idle = "heartbeat"

[[source]]
topic = "{name}-pg.public.refunds"
role = "payments"
format = "debezium"
key = "refund_id"
store = "store_id"
amount = "amount"
currency = "currency"
time = {{ field = "refunded_at", unit = "us" }}

[[source]]
topic = "{name}-my.storeflow.order_items"
role = "order_items"
format = "debezium"
key = ["order_id", "line_no"]
store = "store_id"
product = "product_id"
quantity = "quantity"
time = {{ field = "ordered_at", unit = "us" }}
idle = "heartbeat"

[[source]]
topic = "{name}-my.storeflow.products"
role = "products"
format = "debezium"
key = "product_id"
store = "store_id"
counts_when = {{ state = ["ON_SALE"] }}
"#
    )
}

/// What Debezium needs to be allowed, and no more.
const POSTGRES_GRANTS: &str = "
create role debezium login replication password 'debezium';
grant select on payments, refunds to debezium;
grant select, insert, update, delete on debezium_signal to debezium;
create publication storeflow for table payments, refunds, debezium_signal;
select pg_create_logical_replication_slot('storeflow', 'pgoutput');
";

const MARIADB_GRANTS: &str = "
create user debezium@'127.0.0.1' identified by 'debezium';
grant select, reload, lock tables, show databases, replication slave, binlog monitor on *.* to debezium@'127.0.0.1';
grant insert, update, delete on storeflow.debezium_signal to debezium@'127.0.0.1';
";

/// Settings that both connectors have.
fn connector(database: &Database, wrapped: bool) -> Value {
    let json = "org.apache.kafka.connect.json.JsonConverter";
    json!({
        "database.hostname": "127.0.0.1",
        "database.port": database.port(),
        "database.user": "debezium",
        "database.password": "debezium",
        "decimal.handling.mode": "string",
        "heartbeat.interval.ms": "500",
        "incremental.snapshot.chunk.size": "16",
        "skipped.operations": "none",
        "topic.creation.default.partitions": "3",
        "topic.creation.default.replication.factor": "1",
        "key.converter": json,
        "key.converter.schemas.enable": wrapped.to_string(),
        "value.converter": json,
        "value.converter.schemas.enable": wrapped.to_string(),
    })
}

fn with(mut settings: Value, more: Value) -> Value {
    if let (Value::Object(settings), Value::Object(more)) = (&mut settings, more) {
        settings.extend(more);
    }
    settings
}

fn postgres_connector(name: &str, postgres: &Database) -> Value {
    let more = json!({
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "topic.prefix": format!("{name}-pg"),
        "database.dbname": postgres.name(),
        "plugin.name": "pgoutput",
        "slot.name": "storeflow",
        "publication.name": "storeflow",
        "publication.autocreate.mode": "disabled",
        "table.include.list": "public.payments,public.refunds,public.debezium_signal",
        "signal.data.collection": "public.debezium_signal",
    });
    with(connector(postgres, true), more)
}

fn mariadb_connector(name: &str, mariadb: &Database, kafka: &Service) -> Value {
    let more = json!({
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "topic.prefix": format!("{name}-my"),
        "database.server.id": "5400",
        "database.include.list": "storeflow",
        "table.include.list": "storeflow.order_items,storeflow.products,storeflow.debezium_signal",
        "signal.data.collection": "storeflow.debezium_signal",
        // Where nothing happens, heartbeats are as rare as what the server sends by itself: four fifths of this.
        "connect.keep.alive.interval.ms": "1000",
        "schema.history.internal.kafka.bootstrap.servers": kafka.address(),
        "schema.history.internal.kafka.topic": format!("{name}-my.history"),
    });
    with(connector(mariadb, false), more)
}
