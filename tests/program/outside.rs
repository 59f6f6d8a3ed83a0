//! The program as its users run it, on a real Kafka, a real Redis and an S3 server, each of which fails in turn.
//!
//! ```text
//! generate ─► produce ─► Kafka ─► run or launch ─► Redis, S3 or a folder ─► verify, against the dataset
//!                          ▲ stops, starts, grows      ▲ stop, start, forget, fail
//! ```
//!
//! Upholds: every fault is a test of its own and ends with `verify`. Most of the malls are old ones: then only records move
//! the clocks, and what is reached can be said beforehand.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use crate::support::binary::{run, storeflow, succeed};
use crate::support::malls::Mall;
use crate::support::redis::{self, Redis};
use crate::support::running::{Running, as_of, is_there, kill, metrics, metrics_at, sum_of};
use crate::support::s3::{Fault, Plan, Proxy, SECRET, address_of, environment, place};
use crate::support::services::{Kind, Service, own, shared};

const VIEWS: [&str; 4] = ["store_payments", "store_sales", "store_clicks", "store_products"];
const REDIS_PASSWORD: &str = "hidden-redis-password";
/// What a mall needs for a test of faults: seconds of work.
const SMALL: [&str; 8] = ["--payments", "1500", "--clicks", "6000", "--products", "300", "--partitions", "2"];

/// `storeflow run` of a mall's job from Kafka into the folder `out` of the mall, one worker, ticks of ten seconds.
fn from_kafka(mall: &Mall, kafka: &Service, more: &[&str]) -> Command {
    let (job, out) = (mall.job(), mall.dir("out"));
    let usual = ["run", "--job", &job, "--brokers", kafka.address(), "--workers", "1", "--tick", "10s", "--store", &out];
    storeflow(&[&usual[..], more].concat())
}

/// Waits until Redis shows an as-of.
fn wait_for_as_of(running: &mut Running, mall: &Mall, redis: &Redis, least: u64) {
    let settings = redis.settings();
    running.wait(&format!("as-of {least}"), |_| (as_of(&settings, &mall.name) >= least).then_some(()));
}

/// The first address at which a run serves metrics.
fn wait_for_metrics(running: &mut Running) -> String {
    running.wait("metrics", |log| metrics_at(log).into_iter().next())
}

/// What a run left in Redis and in the mall's folder is exact, history and all.
fn verify_both(mall: &Mall, redis: &Redis) {
    mall.verify(&["--redis", &redis.url()]);
    mall.verify(&["--store", &mall.dir("out"), "--history"]);
}

/// Exit code 2 (something is to be mended) and one message that holds all of `words` and no secret.
fn refused(command: &mut Command, words: &[&str]) {
    refused_with(2, command, words);
}

/// The same with exit code 3 (it may be better later).
fn not_reached(command: &mut Command, words: &[&str]) {
    refused_with(3, command, words);
}

fn refused_with(code: i32, command: &mut Command, words: &[&str]) {
    let ended = run(command);
    assert_eq!(ended.code, Some(code), "{command:?}\n{}{}", ended.out, ended.err);
    let messages = ended.err.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(messages, 1, "one message\n{}", ended.err);
    for word in words {
        assert!(ended.err.contains(word), "nothing of {word:?}:\n{}", ended.err);
    }
    for secret in [REDIS_PASSWORD, "letmein", SECRET] {
        assert!(!ended.err.contains(secret) && !ended.out.contains(secret), "{secret} is printed\n{}", ended.err);
    }
}

#[test]
fn two_processes_from_kafka_into_redis_and_s3_equal_a_replay_and_show_no_secret() {
    let (Some(kafka), Some(s3)) = (shared(Kind::Kafka), shared(Kind::S3)) else { return };
    let Some(redis) = redis::start("two_processes_from_kafka", Some(REDIS_PASSWORD), false) else { return };
    let mall = Mall::generate("two", &["--payments", "4000", "--clicks", "20000", "--products", "500", "--partitions", "8"]);
    mall.produce("whole", &kafka);
    let (job, whole, replayed, store) = (mall.job(), mall.whole(), mall.dir("replayed"), place(&s3, "two"));
    let kafka_password = kafka.variable("STOREFLOW_TEST_KAFKA_PASSWORD");
    let authority = format!("ssl.ca.location={}", kafka.variable("STOREFLOW_TEST_KAFKA_CA"));
    let user = format!("sasl.username={}", kafka.variable("STOREFLOW_TEST_KAFKA_USER"));
    let options = ["security.protocol=SASL_SSL", "sasl.mechanism=SCRAM-SHA-512", "sasl.password=env:MALL_PASSWORD"];
    let options: Vec<&str> = options.into_iter().chain([authority.as_str(), &user]).flat_map(|o| ["--kafka-option", o]).collect();
    let redis_alone = redis.url().replace(&format!(":{REDIS_PASSWORD}@"), "");
    let brokers = kafka.variable("STOREFLOW_TEST_KAFKA_SASL_SSL");
    let usual = ["launch", "--processes", "2", "--workers", "1", "--job", &job, "--brokers", brokers, "--until-end"];
    // As slow as it takes to look at both while they run: three hours in as many seconds.
    let into = ["--redis", &redis_alone, "--store", &store, "--metrics", "127.0.0.1:0", "--speed", "3600"];
    // The lowest level: what nobody asks for in a log must not hold a secret either.
    let mut launched = Running::start(
        storeflow(&[&usual[..], &into, &options].concat())
            .envs(environment(address_of(&s3)))
            .env("MALL_PASSWORD", kafka_password)
            .env("STOREFLOW_REDIS_PASSWORD", REDIS_PASSWORD)
            .env("STOREFLOW_LOG", "debug"),
    );
    let mut shown = String::new();
    // Both serve, and each is looked at while it has its secrets in use.
    for process in 0..2 {
        let text = launched.wait("the metrics of both", |log| metrics(metrics_at(log).get(process)?));
        assert!(text.contains("storeflow_build_info"), "{text}");
        shown += &text;
    }
    let children = launched.children();
    assert_eq!(children.iter().filter(|(_, arguments)| arguments.contains("--process ")).count(), 2, "{children:?}");
    children.iter().for_each(|(_, arguments)| shown += arguments);
    launched.succeed();
    shown += &launched.log();
    for secret in [kafka_password, REDIS_PASSWORD, SECRET] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
    assert!(shown.contains("[0] ") && shown.contains("[1] "), "{shown}");

    succeed(&["run", "--job", &job, "--replay", &whole, "--data-dir", &replayed, "--workers", "1"]);
    for table in VIEWS {
        let of_replay = succeed(&["export", "--data-dir", &replayed, "--table", table]);
        assert!(!of_replay.is_empty(), "{table}");
        let of_redis = succeed(&["export", "--redis", &redis.url(), "--job-name", &mall.name, "--table", table]);
        assert!(of_redis == of_replay, "{table} in Redis is another");
        for history in [&[][..], &["--history"]] {
            let args = [&["export", "--data-dir", &store, "--table", table][..], history].concat();
            let of_s3 = run(storeflow(&args).envs(environment(address_of(&s3))));
            let of_replay = succeed(&[&["export", "--data-dir", &replayed, "--table", table][..], history].concat());
            assert!(of_s3.code == Some(0) && of_s3.out == of_replay, "{table} in S3 is another\n{}", of_s3.err);
        }
    }
    mall.verify(&["--redis", &redis.url()]);
    let args = ["verify", "--job", &job, "--replay", &whole, "--store", &store, "--history"];
    let verified = run(storeflow(&args).envs(environment(address_of(&s3))));
    assert!(verified.code == Some(0) && verified.out.starts_with("exact"), "{}{}", verified.out, verified.err);
}

#[test]
fn a_broker_that_stops_and_comes_back_is_waited_for() {
    let Some(kafka) = own(Kind::Kafka) else { return };
    let Some(redis) = redis::redis("a_broker_that_stops_and_comes_back_is_waited_for") else { return };
    let mall = Mall::generate("broker", &SMALL);
    mall.cut(None);
    mall.produce("first", &kafka);
    let mut running = Running::start(&mut from_kafka(&mall, &kafka, &["--redis", &redis.url()]));
    wait_for_as_of(&mut running, &mall, &redis, mall.reached_by("first"));
    kafka.stop();
    assert!(running.goes_on(), "{}", running.log());
    kafka.start();
    mall.produce("rest", &kafka);
    wait_for_as_of(&mut running, &mall, &redis, mall.reached_by("whole"));
    running.stop();
    verify_both(&mall, &redis);
}

/// Redis goes away between the halves of a mall; `lose` says with what it comes back.
fn a_redis_that_goes_away(test: &str, short: &str, lose: fn(&Redis)) {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(mut redis) = redis::redis(test) else { return };
    let mall = Mall::generate(short, &SMALL);
    mall.cut(None);
    mall.produce("first", &kafka);
    let url = redis.url();
    let mut running = Running::start(&mut from_kafka(&mall, &kafka, &["--redis", &url, "--metrics", "127.0.0.1:0"]));
    wait_for_as_of(&mut running, &mall, &redis, mall.reached_by("first"));
    let address = wait_for_metrics(&mut running);
    let read = || Some(sum_of(&metrics(&address)?, "storeflow_topic_records_total"));
    let before = running.wait("metrics", |_| read());
    lose(&redis);
    redis.kill();
    mall.produce("rest", &kafka);
    // The rest is read while there is no Redis. The last records of most partitions wait for the slowest one's.
    let most = before + mall.records("rest") as f64 / 2.0;
    running.wait("the rest", |_| read().filter(|&read| read >= most));
    redis.start();
    wait_for_as_of(&mut running, &mall, &redis, mall.reached_by("whole"));
    running.stop();
    verify_both(&mall, &redis);
}

#[test]
fn a_redis_that_comes_back_with_its_data_catches_up() {
    let save = |redis: &Redis| {
        redis.ask::<String>(&["SAVE"]);
    };
    a_redis_that_goes_away("a_redis_that_comes_back_with_its_data_catches_up", "kept", save);
}

#[test]
fn a_redis_that_comes_back_empty_is_filled_again() {
    a_redis_that_goes_away("a_redis_that_comes_back_empty_is_filled_again", "lost", Redis::remove_saved);
}

#[test]
fn a_run_from_kafka_into_a_failing_s3_is_exact() {
    let (Some(kafka), Some(s3)) = (shared(Kind::Kafka), shared(Kind::S3)) else { return };
    let address = address_of(&s3);
    let proxy = Proxy::start(address, Plan::Faults { seed: 11, permille: 350 });
    let mall = Mall::generate("s3", &SMALL);
    mall.produce("whole", &kafka);
    let (job, whole, store) = (mall.job(), mall.whole(), place(&s3, "failing"));
    let args = ["run", "--job", &job, "--brokers", kafka.address(), "--workers", "1", "--until-end", "--store", &store];
    let ended = run(storeflow(&args).envs(environment(proxy.address)));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let (seen, cut) = (proxy.seen(), [Fault::CutBefore, Fault::CutAfter, Fault::HalfAnAnswer]);
    let failed = [Fault::InternalError, Fault::SlowDown].iter().all(|fault| seen.contains_key(fault));
    assert!(failed && cut.iter().any(|fault| seen.contains_key(fault)), "{seen:?}");
    let args = ["verify", "--job", &job, "--replay", &whole, "--store", &store, "--history"];
    let verified = run(storeflow(&args).envs(environment(address)));
    assert!(verified.code == Some(0) && verified.out.starts_with("exact"), "{}{}", verified.out, verified.err);
}

#[test]
fn a_partition_added_in_mid_run_is_read_from_its_beginning() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(redis) = redis::redis("a_partition_added_in_mid_run_is_read_from_its_beginning") else { return };
    let mall = Mall::generate("grown", &SMALL);
    // The third partition: the clicks of the last forty minutes, later than all that is read before it.
    let end = mall.reached_by("whole");
    let clicks: Vec<String> = (0..400)
        .map(|n| {
            let at = end - 2_400_000 + n * 6_000;
            let value =
                format!("{{\\\"event_type\\\":\\\"cart\\\",\\\"event_time\\\":{at},\\\"store_id\\\":1001,\\\"product_id\\\":7}}");
            format!(r#"{{"topic":"clicks","partition":2,"offset":{n},"ts":{at},"payload":"{value}"}}"#)
        })
        .collect();
    mall.write_partition("whole", "clicks", 2, &clicks);
    mall.cut(Some(("clicks", 2)));
    mall.produce("first", &kafka);
    let more = ["--redis", &redis.url(), "--discover-every", "1s", "--metrics", "127.0.0.1:0"];
    let mut running = Running::start(&mut from_kafka(&mall, &kafka, &more));
    wait_for_as_of(&mut running, &mall, &redis, mall.reached_by("first"));
    let address = wait_for_metrics(&mut running);
    let topic = format!("{}.clicks", mall.name);
    add_partitions(&kafka, &topic, 3);
    mall.produce("late", &kafka);
    running.wait("the new partition", |log| (log.contains("new partition") && log.contains(&topic)).then_some(()));
    // It may have been found while it was empty, and then holds nobody until its records have come: without them, their as-of
    // can be reached by the other partitions alone. It has an age once its clock has started, and holds log time from then on.
    let age = format!(r#"storeflow_partition_age_seconds{{topic="{topic}",partition="2"}}"#);
    running.wait("its first record", |_| metrics(&address)?.lines().any(|line| line.starts_with(&age)).then_some(()));
    mall.produce("rest", &kafka);
    wait_for_as_of(&mut running, &mall, &redis, mall.reached_by("whole"));
    running.stop();
    let carts = succeed(&["export", "--redis", &redis.url(), "--job-name", &mall.name, "--table", "store_clicks"]);
    assert!(carts.contains(r#""kind":"cart""#), "{carts}");
    verify_both(&mall, &redis);
}

/// Grows a topic to so many partitions.
fn add_partitions(kafka: &Service, topic: &str, count: usize) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.address()).create().expect("a client");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
    let wanted = [NewPartitions::new(topic, count)];
    let grown = runtime.block_on(admin.create_partitions(&wanted, &AdminOptions::new())).expect("an answer");
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
}

#[test]
fn an_idle_topic_lets_windows_close() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(redis) = redis::redis("an_idle_topic_lets_windows_close") else { return };
    let mall = Mall::empty("idle");
    let name = &mall.name;
    mall.write_job(&format!(
        r#"name = "{name}"
window = "1m"
grace = "1m"
retention = "48h"
scale = 2
currency = "KRW"
timezone = "Asia/Seoul"
[[source]]
topic = "{name}.payments"
role = "payments"
format = "upsert"
key = "payment_id"
store = "store_id"
amount = "amount"
time = {{ field = "paid_at", unit = "ms" }}
[[source]]
topic = "{name}.clicks"
role = "clicks"
format = "json"
store = "store_id"
product = "product_id"
kind = "event_type"
time = {{ field = "event_time", unit = "ms" }}
"#
    ));
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis()).expect("64 bits");
    let payment = |n: u64, at: u64| {
        let value = format!("{{\\\"store_id\\\":\\\"s1\\\",\\\"amount\\\":\\\"10.25\\\",\\\"paid_at\\\":{at}}}");
        format!(r#"{{"topic":"payments","partition":0,"offset":{n},"ts":{at},"key":"p{n}","payload":"{value}"}}"#)
    };
    let minutes = |count: u64| count * 60_000;
    // Payments of the last ten minutes; the only click is older than all but the first of them.
    let payments: Vec<String> = (0..120).map(|n| payment(n, now - minutes(10) + n * 5_000)).collect();
    let clicked = now - minutes(9);
    let click = format!(
        "{{\\\"event_type\\\":\\\"view\\\",\\\"event_time\\\":{clicked},\\\"store_id\\\":\\\"s1\\\",\\\"product_id\\\":\\\"a\\\"}}"
    );
    let click = format!(r#"{{"topic":"clicks","partition":0,"offset":0,"ts":{clicked},"payload":"{click}"}}"#);
    for part in ["whole", "first"] {
        mall.write(part, "payments", &payments);
        mall.write(part, "clicks", std::slice::from_ref(&click));
    }
    mall.produce("first", &kafka);
    let (job, out) = (mall.job(), mall.dir("out"));
    let args = ["run", "--job", &job, "--brokers", kafka.address(), "--workers", "2", "--store", &out, "--redis", &redis.url()];
    let mut running = Running::start(&mut storeflow(&args));
    wait_for_as_of(&mut running, &mall, &redis, now);
    // One record of the future, so that the dataset goes on beyond any as-of that wall time may bring.
    let last = [payment(120, now + minutes(30))];
    mall.write("whole", "payments", &last);
    mall.write("rest", "payments", &last);
    mall.produce("rest", &kafka);
    running.stop();
    let rows = succeed(&["export", "--redis", &redis.url(), "--job-name", name, "--table", "store_payments"]);
    let of_minutes = rows.lines().filter(|row| row.contains(r#""closed":true"#)).count();
    assert!(of_minutes >= 8, "all but the last windows are closed, though clicks ended nine minutes ago:\n{rows}");
    verify_both(&mall, &redis);
}

#[test]
fn a_topic_a_day_behind_keeps_memory_under_its_bound() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let flags = ["--topics", "payments,clicks", "--payments", "1500", "--clicks", "40000", "--partitions", "2"];
    let mall = Mall::generate("day", &flags);
    mall.delay("clicks", 24 * 3_600_000);
    // Bytes are bounded as they travel, and brokers cut no batch: so these are not compressed, and smaller than a fetch.
    mall.produce_with("whole", &kafka, &["--compression", "none", "--kafka-option", "batch.size=16384"]);
    // The queue of each of four partitions, and one fetch of each beyond it; see src/source/kafka/options.rs.
    let (in_flight, partitions) = (1_u64 << 20, 4);
    let bound = in_flight + partitions * (in_flight / partitions / 4);
    // So fast that the clicks wait for seconds.
    let more = ["--until-end", "--metrics", "127.0.0.1:0", "--speed", "15000", "--in-flight-bytes", &in_flight.to_string()];
    let mut running = Running::start(&mut from_kafka(&mall, &kafka, &more));
    let address = wait_for_metrics(&mut running);
    let mut sampled = Vec::new();
    while running.goes_on() {
        sampled.extend(metrics(&address).map(|text| sum_of(&text, "storeflow_in_flight_bytes")));
        std::thread::sleep(Duration::from_millis(50));
    }
    running.succeed();
    let most = sampled.iter().copied().fold(0.0, f64::max);
    assert!(most > 0.0 && most <= bound as f64, "{most} of {bound} bytes in {} samples", sampled.len());
    mall.verify(&["--store", &mall.dir("out"), "--history"]);
}

#[test]
fn nothing_of_an_old_dataset_expires() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let mall = Mall::generate_at("old", "2020-02-28T22:30:00Z", &SMALL);
    mall.produce("whole", &kafka);
    let (job, whole, out, replayed) = (mall.job(), mall.whole(), mall.dir("out"), mall.dir("replayed"));
    let ended = run(&mut from_kafka(&mall, &kafka, &["--until-end"]));
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    succeed(&["run", "--job", &job, "--replay", &whole, "--data-dir", &replayed, "--workers", "1"]);
    for table in VIEWS {
        let of = |dir: &str| succeed(&["export", "--data-dir", dir, "--table", table]);
        let (of_kafka, of_replay) = (of(&out), of(&replayed));
        assert!(!of_kafka.is_empty() && of_kafka == of_replay, "{table}:\n{of_kafka}\n{of_replay}");
    }
    mall.verify(&["--store", &out, "--history"]);
}

/// A launch of two processes from Kafka into a folder and Redis, with all of a mall's first half before it.
fn launched(mall: &Mall, kafka: &Service, redis: &Redis, more: &[&str]) -> Command {
    let (job, out, url) = (mall.job(), mall.dir("out"), redis.url());
    let usual = ["launch", "--processes", "2", "--workers", "1", "--tick", "10s", "--job", &job, "--brokers", kafka.address()];
    storeflow(&[&usual[..], &["--checkpoint-interval", "1s", "--store", &out, "--redis", &url], more].concat())
}

/// Kills one process of a launch once that has reached the first half's end. The processes that there were.
fn kill_one(launched: &mut Running, mall: &Mall, redis: &Redis) -> Vec<u32> {
    wait_for_as_of(launched, mall, redis, mall.reached_by("first"));
    let children = launched.children();
    let (killed, _) = children.iter().find(|(_, arguments)| arguments.contains("--process 1 ")).expect("process 1");
    kill(*killed);
    children.into_iter().map(|(pid, _)| pid).collect()
}

/// No as-of that Redis shows meanwhile is before one that it has shown.
fn takes_nothing_back(redis: &Redis, mall: &Mall, meanwhile: impl FnOnce()) {
    let (settings, ended) = (redis.settings(), AtomicBool::new(false));
    let went = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let now = as_of(&settings, &mall.name);
                if seen.last() != Some(&now) {
                    seen.push(now);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        // Whatever fails below, the watch ends.
        let end = AtEnd(&ended);
        meanwhile();
        drop(end);
        watch.join().expect("a watch does not fail")
    });
    assert!(went.is_sorted() && went.len() > 2, "the as-of that Redis shows went back: {went:?}");
}

/// Sets a flag when it goes.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_killed_process_ends_the_launch_and_the_next_one_takes_nothing_back() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(redis) = redis::redis("a_killed_process_ends_the_launch_and_the_next_one_takes_nothing_back") else { return };
    let mall = Mall::generate("killed", &SMALL);
    mall.cut(None);
    mall.produce("first", &kafka);
    takes_nothing_back(&redis, &mall, || {
        let mut first = Running::start(&mut launched(&mall, &kafka, &redis, &["--restarts", "0"]));
        let children = kill_one(&mut first, &mall, &redis);
        let (code, log) = (first.end(), first.log());
        assert!(code.is_some_and(|code| code != 0), "{code:?}\n{log}");
        assert!(log.contains("process 1 of 2 failed with exit code 137"), "{log}");
        assert!(children.iter().all(|pid| !is_there(*pid)), "one of {children:?} was left behind");
        mall.produce("rest", &kafka);
        let ended = run(&mut launched(&mall, &kafka, &redis, &["--until-end"]));
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    });
    verify_both(&mall, &redis);
}

#[test]
fn a_launch_goes_on_when_a_process_is_killed_and_takes_nothing_back() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let Some(redis) = redis::redis("a_launch_goes_on_when_a_process_is_killed_and_takes_nothing_back") else { return };
    let mall = Mall::generate("again", &SMALL);
    mall.cut(None);
    mall.produce("first", &kafka);
    takes_nothing_back(&redis, &mall, || {
        let mut launched = Running::start(&mut launched(&mall, &kafka, &redis, &[]));
        let children = kill_one(&mut launched, &mall, &redis);
        launched.wait("the next start", |log| log.contains("starting all again").then_some(()));
        assert!(children.iter().all(|pid| !is_there(*pid)), "one of {children:?} was left behind");
        mall.produce("rest", &kafka);
        wait_for_as_of(&mut launched, &mall, &redis, mall.reached_by("whole"));
        launched.stop();
    });
    verify_both(&mall, &redis);
}

#[test]
fn what_is_wrong_is_one_message() {
    let Some(kafka) = shared(Kind::Kafka) else { return };
    let tiny = ["--payments", "50", "--clicks", "50", "--products", "20", "--partitions", "1"];
    let mall = Mall::generate("wrong", &tiny);
    refused(&mut from_kafka(&mall, &kafka, &["--until-end"]), &["the job reads topic", &mall.name, "has none"]);
    mall.produce("whole", &kafka);
    let (job, out) = (mall.job(), mall.dir("out"));
    let nobody = ["run", "--job", &job, "--brokers", "127.0.0.1:1", "--store", &out, "--until-end"];
    not_reached(&mut storeflow(&nobody), &["could not reach kafka at \"127.0.0.1:1\"", "check --brokers"]);
    let authority = format!("ssl.ca.location={}", kafka.variable("STOREFLOW_TEST_KAFKA_CA"));
    let options = ["security.protocol=SASL_SSL", "sasl.mechanism=PLAIN", "sasl.password=env:MALL_PASSWORD", &authority];
    let user = format!("sasl.username={}", kafka.variable("STOREFLOW_TEST_KAFKA_USER"));
    let options: Vec<&str> = options.into_iter().chain([user.as_str()]).flat_map(|option| ["--kafka-option", option]).collect();
    let sasl = ["run", "--job", &job, "--brokers", kafka.variable("STOREFLOW_TEST_KAFKA_SASL_SSL"), "--store", &out];
    let mut sasl = storeflow(&[&sasl[..], &["--until-end"], &options].concat());
    refused(sasl.env("MALL_PASSWORD", "letmein"), &["refused to let", "sasl.password"]);

    if let Some(redis) = redis::start("what_is_wrong_is_one_message", Some(REDIS_PASSWORD), false) {
        let wrong = redis.url().replace(REDIS_PASSWORD, "letmein");
        refused(&mut from_kafka(&mall, &kafka, &["--until-end", "--redis", &wrong]), &["refused user or password"]);
    }
    let nobody = ["--until-end", "--redis", "redis://127.0.0.1:1"];
    not_reached(&mut from_kafka(&mall, &kafka, &nobody), &["127.0.0.1:1", "could not reach"]);

    let Some(s3) = shared(Kind::S3) else { return };
    let bucket = ["run", "--job", &job, "--brokers", kafka.address(), "--store", "s3://no-such-bucket/mall", "--until-end"];
    refused(storeflow(&bucket).envs(environment(address_of(&s3))), &["no-such-bucket"]);
}
