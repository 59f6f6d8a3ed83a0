//! Avro records give the numbers that their JSON twins give, and wait for schemas that are not there yet.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use storeflow::config::{Format, Job, Role};
use storeflow::decode::avro::{Known, Schema, Schemas as Known_};
use storeflow::observe::wall_ms;
use storeflow::runtime::workers::Tuning;
use storeflow::source::partition::{Next, Partition, Quiet};
use storeflow::verify::Recomputation;

use crate::going_on::{crew, exact_at_all, going, run_until};
use crate::support::avro::{Registry, Schemas};
use crate::support::binary::{storeflow, succeed};
use crate::support::histories::job;
use crate::support::malls::Mall;
use crate::support::memory::{Entry, MemoryLog};
use crate::support::recorder::record_by;
use crate::support::running::{Running, metrics, metrics_at};
use crate::support::services::{Kind, shared};

const MINUTE: u64 = 60_000;
const SMALL: [&str; 8] = ["--payments", "1500", "--clicks", "6000", "--products", "300", "--partitions", "2"];

/// Clicks by the minute, in JSON and in Avro; each of the second kind has another schema.
struct Clicks {
    job: Job,
    in_avro: Job,
    schemas: Schemas,
}

impl Clicks {
    fn new() -> Self {
        let job = job(30, 2, 2_880, 600, true);
        let mut in_avro = job.clone();
        in_avro.sources.iter_mut().filter(|source| source.role == Role::Clicks).for_each(|source| source.format = Format::Avro);
        Clicks { job, in_avro, schemas: Schemas::default() }
    }

    /// A click as a line of JSON and as a record in Avro.
    fn click(&mut self, at: u64, second_kind: bool) -> (String, Entry) {
        let mut value = serde_json::json!({"store": "s", "kind": "view", "product": format!("p{}", at % 7), "at": at / 1_000});
        if second_kind {
            value["more"] = true.into();
        }
        let line = format!("{{\"topic\":\"clicks\",\"partition\":0,\"offset\":{at},\"ts\":{at},\"payload\":{value}}}\n");
        (line, (at, Some(at), None, Some(self.schemas.message(&value))))
    }
}

fn known(text: &str) -> Known {
    Known::Schema(Arc::new(Schema::parse(text, &[]).expect("a schema")))
}

#[test]
fn a_partition_that_waits_for_a_schema_holds_the_frontier_and_nothing_else() {
    let mut clicks = Clicks::new();
    let start = (wall_ms() / MINUTE - 300) * MINUTE;
    let (mut files, mut logs) = (Vec::new(), Vec::new());
    for number in 0..2u32 {
        let (mut content, mut entries) = (String::new(), Vec::new());
        for minute in 0..300 {
            let (line, entry) = clicks.click(start + minute * MINUTE + u64::from(number), number == 1 && minute >= 120);
            content += &line;
            entries.push(entry);
        }
        files.push(("clicks".to_owned(), number, content.into_bytes()));
        logs.push(MemoryLog::going_on(entries));
    }
    let (first, second): (Vec<_>, Vec<_>) = clicks.schemas.all().partition(|(_, text)| !text.contains("more"));
    let fetched = Arc::new(Known_::default());
    fetched.serve();
    fetched.add(first[0].0, known(first[0].1));
    let partition = |number: usize| {
        let quiet = Quiet::Wall;
        Partition::going_on(&clicks.in_avro, "clicks", number as u32, number as u32, logs[number].feed(0), quiet, &fetched)
    };
    // Both logs say that nothing is missing: it is the schema alone that holds.
    logs.iter().for_each(|log| log.ask(wall_ms()));
    let tuning = Tuning { workers: 2, tick: Some(MINUTE), ..Tuning::default() };
    let (crew, _senders) = going(crew(&clicks.in_avro, &tuning, vec![partition(0), partition(1)], |at| at));
    let (held, mut turns) = (start + 120 * MINUTE + 1, 0);
    let run = record_by(&clicks.in_avro, vec!["clicks".to_owned()], |recorder| {
        run_until(crew, recorder, start + 290 * MINUTE, |stats| {
            let waiting = fetched.longest_wait().is_some();
            if stats.iter().all(|stats| stats.as_of.get() >= start + 118 * MINUTE) && waiting {
                turns += 1;
                assert!(stats.iter().all(|stats| stats.as_of.get() <= held), "nothing is shown beyond the record that waits");
                if turns == 20 {
                    fetched.add(second[0].0, known(second[0].1));
                }
            }
        })
    });
    assert!(turns >= 20);
    exact_at_all(&run, &Recomputation::from_files(&clicks.job, &files));
    assert_eq!(run.dead_letters_at(u64::MAX), []);
}

#[test]
fn a_record_that_waits_is_the_next_one_wherever_it_goes_on() {
    let mut clicks = Clicks::new();
    let now = wall_ms() / 1_000 * 1_000;
    let entries: Vec<Entry> = (0..5).map(|i| clicks.click(now - (10 - i) * 1_000, i >= 3).1).collect();
    let places: Vec<u64> = entries.iter().map(|(position, ..)| *position).collect();
    let (first, second): (Vec<_>, Vec<_>) = clicks.schemas.all().partition(|(_, text)| !text.contains("more"));
    let fetched = Arc::new(Known_::default());
    fetched.serve();
    let log = MemoryLog::going_on(entries);
    log.ask(now);
    let mut partition = Partition::going_on(&clicks.in_avro, "clicks", 0, 0, log.feed(0), Quiet::Wall, &fetched);
    partition.track();
    // Its clock starts with its first records, and the first of them waits.
    assert!(!partition.start(0, true).expect("memory") && !partition.looked_through());
    assert!(partition.waiting() && partition.holds(), "its log has records");
    assert_eq!(partition.resume_at(0).position, places[0]);
    fetched.add(first[0].0, known(first[0].1));
    assert!(!partition.start(0, true).expect("memory"), "the fourth waits, and the clock starts with the least of all");
    fetched.add(second[0].0, known(second[0].1));
    assert!(partition.start(0, true).expect("memory"));
    for place in &places {
        let Next::Record(placed) = partition.next(0).expect("memory") else { panic!("a record at {place}") };
        assert_eq!(placed.order.position, *place);
        assert!(placed.outcome.is_ok());
    }
    // Once more, after the start.
    let value = serde_json::json!({"store": "s", "kind": "view", "product": "p", "at": now / 1_000, "another": 1});
    let message = clicks.schemas.message(&value);
    log.append((now, Some(now), None, Some(message)));
    log.append(clicks.click(now + 1_000, false).1);
    let clock = partition.clock().now();
    for _ in 0..3 {
        assert!(matches!(partition.next(0), Ok(Next::Empty)));
        log.ask(now + 60_000);
        partition.pass_time(now + 60_000);
        assert_eq!(partition.clock().now(), clock, "what waits is before whatever wall time it is");
        assert_eq!(partition.resume_at(clock + 1).position, now);
    }
    let (id, text) = clicks.schemas.all().find(|(_, text)| text.contains("another")).expect("it was needed");
    fetched.add(id, known(text));
    for place in [now, now + 1_000] {
        let Ok(Next::Record(placed)) = partition.next(0) else { panic!("a record at {place}") };
        assert_eq!(placed.order.position, place);
    }
}

/// The mall's dataset once more, in Avro; its job reads it so, and asks a registry at `address`.
fn in_avro(mall: &Mall, address: &str) -> (Schemas, String) {
    let mut schemas = Schemas::default();
    let (whole, avro) = (mall.whole(), mall.dir("avro"));
    schemas.transcribe(Path::new(&whole), Path::new(&avro));
    let mut job = fs::read_to_string(mall.job()).expect("a job file");
    for format in ["debezium", "upsert", "json"] {
        job = job.replace(&format!("format = \"{format}\""), "format = \"avro\"");
    }
    job += &format!("\n[schema_registry]\nurl = \"http://{address}\"\n");
    let path = avro + "/avro.toml";
    fs::write(&path, job).expect("written");
    (schemas, path)
}

#[test]
fn a_dataset_that_brings_its_schemas_needs_no_registry() {
    let mall = Mall::generate("avro", &SMALL);
    let (schemas, job) = in_avro(&mall, &Registry::address_of_none().to_string());
    let folder = Path::new(&mall.dir("avro")).join("_schemas");
    fs::create_dir(&folder).expect("made");
    for (id, text) in schemas.all() {
        fs::write(folder.join(format!("{id}.json")), text).expect("written");
    }
    let (dataset, out) = (mall.dir("avro"), mall.dir("out"));
    succeed(&["run", "--job", &job, "--replay", &dataset, "--store", &out, "--workers", "2"]);
    mall.verify(&["--store", &out, "--history"]);
    // `decode` finds them as well: of each record the same as of its twin.
    let topic = format!("{}.payments", mall.name);
    let decoded = |job: &str, dataset: &str| {
        let lines = format!("{dataset}/{topic}/0.ndjson");
        succeed(&["decode", "--job", job, "--topic", &topic, &lines])
    };
    let upserts =
        |text: String| text.lines().filter(|line| line.contains("\"outcome\":\"upsert\"")).map(str::to_owned).collect::<Vec<_>>();
    let (json, avro) = (upserts(decoded(&mall.job(), &mall.whole())), upserts(decoded(&job, &dataset)));
    assert!(!json.is_empty());
    let other = avro.iter().zip(&json).find(|(avro, json)| avro != json);
    assert!(avro.len() == json.len() && other.is_none(), "{} and {}: {other:?}", avro.len(), json.len());
}

#[test]
fn a_replay_waits_for_a_registry_and_keeps_what_it_says() {
    let mall = Mall::generate("avro", &SMALL);
    let address = Registry::address_of_none();
    let (schemas, job) = in_avro(&mall, &address.to_string());
    let (dataset, out) = (mall.dir("avro"), mall.dir("out"));
    let args = ["run", "--job", &job, "--replay", &dataset, "--store", &out, "--workers", "1"];
    let mut running = Running::start(&mut storeflow(&args));
    running.wait("that nobody answers", |log| log.contains("the schema registry does not answer").then_some(()));
    let registry = Registry::start(&address.to_string(), &schemas);
    running.succeed();
    mall.verify(&["--store", &out, "--history"]);
    let mut asked = registry.asked();
    asked.sort();
    let before = asked.len();
    asked.dedup();
    assert_eq!(asked.len(), before, "each is asked for once");
    drop(registry);
    let again = mall.dir("out");
    succeed(&["run", "--job", &job, "--replay", &dataset, "--store", &again, "--workers", "2"]);
    mall.verify(&["--store", &again, "--history"]);
}

#[test]
fn kafka_in_avro_equals_the_mall_in_json_whatever_the_registry_does() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let mall = Mall::generate("avro-kafka", &SMALL);
    let address = Registry::address_of_none();
    let (schemas, job) = in_avro(&mall, &address.to_string());
    mall.produce("avro", &kafka);
    let out = mall.dir("out");
    let usual = ["run", "--job", &job, "--brokers", kafka.address(), "--store", &out, "--workers", "2", "--tick", "10s"];
    let live = [&usual[..], &["--checkpoint-interval", "1s", "--metrics", "127.0.0.1:0"]].concat();
    // Nobody answers: nothing is read past, and it is said who waits for what.
    let mut running = Running::start(&mut storeflow(&live));
    let at = running.wait("metrics", |log| metrics_at(log).into_iter().next());
    running.wait("a partition that waits", |_| metrics(&at)?.contains("storeflow_schema_wait_seconds{").then_some(()));
    let registry = Registry::start(&address.to_string(), &schemas);
    running.wait("a checkpoint", |_| {
        let text = metrics(&at)?;
        let count = text.lines().find_map(|line| line.strip_prefix("storeflow_checkpoints_total "))?;
        (count.parse::<f64>().ok()? > 0.0).then_some(())
    });
    running.crash();
    drop(registry);
    // What was seen once needs no registry, and the rest of it is asked for when there is one.
    let until_end = [&usual[..], &["--until-end"]].concat();
    let mut running = Running::start(&mut storeflow(&until_end));
    let _registry = Registry::start(&address.to_string(), &schemas);
    running.succeed();
    mall.verify(&["--store", &out, "--history"]);
}
