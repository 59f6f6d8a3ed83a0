//! The source against librdkafka's mock cluster: real client, real protocol, brokers in this process.

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaRespErr;

use super::produce::{Produce, ProduceError};
use super::*;
use crate::config::job_file;
use crate::source::dataset;

/// Far longer than anything takes here; what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    mock: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Cluster {
    fn new(topics: &[(&str, i32)]) -> Self {
        let mock = MockCluster::new(3).expect("mock cluster");
        for (topic, partitions) in topics {
            mock.create_topic(topic, *partitions, 1).expect("mock topic");
        }
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", mock.bootstrap_servers()).set("linger.ms", "1");
        Cluster { producer: config.create().expect("producer"), mock }
    }

    /// Sends values `from..to` to a partition and waits until they are there.
    fn fill(&self, topic: &str, partition: i32, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let value = value_of(topic, partition, number);
            let record = BaseRecord::<[u8], str>::to(topic).partition(partition).payload(&value).timestamp(1_000 + number as i64);
            if let Err((error, _)) = self.producer.send(record) {
                panic!("{error}");
            }
        }
        self.producer.flush(PATIENCE).expect("mock brokers acknowledge");
    }

    fn settings(&self) -> KafkaSettings {
        KafkaSettings {
            brokers: self.mock.bootstrap_servers(),
            options: Vec::new(),
            start: Start::Earliest,
            until_end: false,
            in_flight_bytes: 1 << 20,
            discover_every: Duration::from_millis(100),
            exclude: Vec::new(),
            group: "storeflow-test".to_owned(),
        }
    }

    fn connect(&self, topics: &str, change: impl FnOnce(&mut KafkaSettings)) -> KafkaSource {
        let mut settings = self.settings();
        change(&mut settings);
        KafkaSource::connect(&job(topics, ""), &settings).expect("connects")
    }
}

fn value_of(topic: &str, partition: i32, number: u64) -> String {
    format!("{topic}/{partition}/{number}")
}

fn job(topics: &str, more: &str) -> Job {
    let text = format!(
        "name = \"j\"\n[[source]]\ntopics = {topics}\nrole = \"products\"\nformat = \"upsert\"\nkey = \"k\"\nstore = \"s\"\n{more}"
    );
    job_file::parse(&text, "job").expect("valid job")
}

fn openings(listed: &[Listed], until_end: bool) -> Vec<Opening> {
    let opening = |listed: &Listed| Opening {
        topic: listed.topic.clone(),
        partition: listed.partition,
        from: listed.start,
        until: until_end.then_some(listed.high),
    };
    listed.iter().map(opening).collect()
}

/// Waits until `done` gives something.
#[track_caller]
fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(done) = done() {
            return done;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

type Read = BTreeMap<(String, u32), Vec<(u64, String)>>;

/// Takes what there is now; true if every input has ended.
fn drain(inputs: &mut [KafkaInput], read: &mut Read) -> bool {
    let mut ended = true;
    for input in inputs {
        let place = (input.topic().to_owned(), input.partition());
        loop {
            let take = |raw: Raw<'_>| {
                let value = String::from_utf8_lossy(raw.value.unwrap_or_default()).into_owned();
                (raw.position, value)
            };
            match input.poll(take).expect("readable") {
                Polled::Record(record) => read.entry(place.clone()).or_default().push(record),
                Polled::Empty => {
                    ended = false;
                    break;
                }
                Polled::End => break,
            }
        }
    }
    ended
}

#[track_caller]
fn check_whole(read: &Read, topic: &str, partition: i32, numbers: std::ops::Range<u64>) {
    let expected: Vec<(u64, String)> = numbers.map(|n| (n, value_of(topic, partition, n))).collect();
    let found = read.get(&(topic.to_owned(), partition as u32)).map_or(&[][..], Vec::as_slice);
    assert_eq!(found.len(), expected.len(), "{topic}/{partition}");
    assert_eq!(found, expected, "{topic}/{partition}");
}

#[test]
fn every_record_once_in_order_across_split_queues_and_several_opens() {
    let cluster = Cluster::new(&[("a", 4), ("b", 4)]);
    for partition in 0..4 {
        cluster.fill("a", partition, 0..5_000);
        cluster.fill("b", partition, 0..5_000);
    }
    let source = cluster.connect(r#"["a", "b"]"#, |_| {});
    let listed = source.list().expect("listed");
    assert_eq!(listed.len(), 8);
    assert!(listed.iter().all(|listed| (listed.low, listed.high, listed.start) == (0, 5_000, 0)), "{listed:?}");
    let (first, second) = listed.split_at(4);
    let mut read = Read::new();
    let mut inputs = source.open(&openings(first, true)).expect("opens");
    wait_for("a first record", || {
        drain(&mut inputs, &mut read);
        (!read.is_empty()).then_some(())
    });
    let mut middle = openings(second, true);
    middle[2].from = 1_234;
    inputs.extend(source.open(&middle).expect("opens more"));
    wait_for("the end", || drain(&mut inputs, &mut read).then_some(()));
    for partition in 0..4 {
        check_whole(&read, "a", partition, 0..5_000);
        check_whole(&read, "b", partition, if partition == 2 { 1_234..5_000 } else { 0..5_000 });
    }
    assert!(source.status().iter().all(|status| status.position == 5_000));
    assert!(source.failure().is_none());
    drop(inputs);
    source.close();
}

#[test]
fn caught_up_means_that_all_before_was_taken() {
    let cluster = Cluster::new(&[("a", 1)]);
    cluster.fill("a", 0, 0..100);
    let source = cluster.connect(r#"["a"]"#, |_| {});
    let mut inputs = source.open(&openings(&source.list().expect("listed"), false)).expect("opens");
    assert_eq!(inputs[0].caught_up(), None);
    // An answer alone is not enough while records wait.
    wait_for("an answer", || source.status().first().filter(|status| status.high_at > 0).cloned());
    assert_eq!(inputs[0].caught_up(), None);
    let mut read = Read::new();
    let first = wait_for("the end", || {
        drain(&mut inputs, &mut read);
        inputs[0].caught_up()
    });
    check_whole(&read, "a", 0, 0..100);
    let later = wait_for("a later answer", || {
        drain(&mut inputs, &mut read);
        inputs[0].caught_up().filter(|later| *later > first)
    });
    cluster.fill("a", 0, 100..150);
    wait_for("new records", || {
        drain(&mut inputs, &mut read);
        (inputs[0].position() == 150).then_some(())
    });
    check_whole(&read, "a", 0, 0..150);
    assert!(inputs[0].caught_up() >= Some(later));
}

#[test]
fn what_it_was_opened_until_is_the_end_though_more_comes() {
    let cluster = Cluster::new(&[("a", 2)]);
    cluster.fill("a", 0, 0..10);
    let source = cluster.connect(r#"["a"]"#, |settings| settings.until_end = true);
    let listed = source.list().expect("listed");
    cluster.fill("a", 0, 10..20);
    cluster.fill("a", 1, 0..5);
    let mut inputs = source.open(&openings(&listed, true)).expect("opens");
    let mut read = Read::new();
    wait_for("the end", || drain(&mut inputs, &mut read).then_some(()));
    check_whole(&read, "a", 0, 0..10);
    check_whole(&read, "a", 1, 0..0);
}

#[test]
fn new_topics_are_discovered_once() {
    let cluster = Cluster::new(&[("site-1.p", 1)]);
    let source = cluster.connect(r#"["site-*.p"]"#, |settings| settings.exclude = vec![("site-2.p".to_owned(), 1)]);
    assert_eq!(source.list().expect("listed").len(), 1);
    cluster.mock.create_topic("site-2.p", 3, 1).expect("mock topic");
    cluster.mock.create_topic("other", 1, 1).expect("mock topic");
    let mut found = Vec::new();
    wait_for("new partitions", || {
        found.extend(source.discovered());
        (found.len() >= 2).then_some(())
    });
    let places: Vec<(&str, u32, u64)> = found.iter().map(|f| (f.topic.as_str(), f.partition, f.start)).collect();
    assert_eq!(places, [("site-2.p", 0, 0), ("site-2.p", 2, 0)]);
    cluster.fill("site-2.p", 2, 0..7);
    let mut inputs = source.open(&openings(&found, false)).expect("opens");
    let mut read = Read::new();
    wait_for("its records", || {
        drain(&mut inputs, &mut read);
        (inputs[1].position() == 7).then_some(())
    });
    check_whole(&read, "site-2.p", 2, 0..7);
    assert!(source.discovered().is_empty());
}

#[test]
fn starts() {
    let cluster = Cluster::new(&[("a", 1)]);
    cluster.fill("a", 0, 0..10);
    let start = |start: Start| {
        let source = cluster.connect(r#"["a"]"#, |settings| settings.start = start);
        source.list().map(|listed| listed[0].start)
    };
    assert_eq!(start(Start::Earliest).expect("listed"), 0);
    assert_eq!(start(Start::Latest).expect("listed"), 10);
    assert_eq!(start(Start::Stored).expect("listed"), 0, "nothing was reported yet");
    let source = cluster.connect(r#"["a"]"#, |_| {});
    source.report(&[("a".to_owned(), 0, 4)]);
    wait_for("the report", || (start(Start::Stored).ok() == Some(4)).then_some(()));
    source.report(&[("a".to_owned(), 0, 40)]);
    wait_for("a refusal", || match start(Start::Stored) {
        Err(KafkaError::OutsideLog { wanted: 40, low: 0, high: 10, .. }) => Some(()),
        _ => None,
    });
}

#[test]
fn an_unknown_topic_is_named_with_those_there_are() {
    let cluster = Cluster::new(&[("mall.clicks", 1), ("mall.orders", 1)]);
    let source = cluster.connect(r#"["mall.clicks", "shop-*"]"#, |_| {});
    let error = source.list().expect_err("no such topic").to_string();
    let brokers = cluster.mock.bootstrap_servers();
    let expected =
        format!("the job reads topic \"shop-*\", but kafka at \"{brokers}\" has none; it has \"mall.clicks\", \"mall.orders\"");
    assert_eq!(error, expected);
}

#[test]
fn nobody_there_is_one_clear_error() {
    let cluster = Cluster::new(&[]);
    let mut settings = cluster.settings();
    settings.brokers = "127.0.0.1:1".to_owned();
    let error = KafkaSource::connect_within(&job(r#"["a"]"#, ""), &settings, Duration::from_secs(2)).err();
    let error = error.expect("nobody listens there").to_string();
    assert!(error.starts_with("could not reach kafka at \"127.0.0.1:1\" within 2 s: "), "{error}");
    assert!(error.contains("refused"), "{error}");
}

#[test]
fn a_position_outside_the_log_is_refused_with_its_range() {
    let cluster = Cluster::new(&[("a", 1)]);
    cluster.fill("a", 0, 0..10);
    let source = cluster.connect(r#"["a"]"#, |_| {});
    let wanted = Opening { topic: "a".to_owned(), partition: 0, from: 11, until: None };
    let error = source.open(&[wanted]).err().expect("outside").to_string();
    assert!(error.starts_with("position 11 of topic \"a\" partition 0 is outside its log, which holds 0 to 10;"), "{error}");
}

#[test]
fn a_log_that_loses_our_position_while_it_is_read_stops_the_job() {
    let cluster = Cluster::new(&[("a", 1)]);
    cluster.fill("a", 0, 0..10);
    let source = cluster.connect(r#"["a"]"#, |_| {});
    let mut inputs = source.open(&openings(&source.list().expect("listed"), false)).expect("opens");
    let mut read = Read::new();
    wait_for("the records", || {
        drain(&mut inputs, &mut read);
        (inputs[0].position() == 10).then_some(())
    });
    let out_of_range = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE; 3];
    cluster.mock.request_errors(rdkafka::types::RDKafkaApiKey::Fetch, &out_of_range);
    let error = wait_for("the failure", || inputs[0].poll(|_| ()).err()).to_string();
    assert!(error.starts_with("position 10 of topic \"a\" partition 0 is outside its log, which holds 0 to 10;"), "{error}");
    assert!(source.failure().is_some());
}

#[test]
fn a_deleted_topic_stops_the_job() {
    let cluster = Cluster::new(&[("a", 1), ("b", 1)]);
    let source = cluster.connect(r#"["a", "b"]"#, |_| {});
    let inputs = source.open(&openings(&source.list().expect("listed"), false)).expect("opens");
    cluster.mock.topic_error("a", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).expect("mock topic");
    let error = wait_for("the failure", || source.failure());
    assert!(matches!(&error, KafkaError::Deleted { topic } if topic == "a"), "{error}");
    drop(inputs);
}

#[test]
fn brokers_that_go_away_and_come_back_lose_nothing() {
    let cluster = Cluster::new(&[("a", 2)]);
    cluster.fill("a", 0, 0..1_000);
    let source = cluster.connect(r#"["a"]"#, |_| {});
    let mut inputs = source.open(&openings(&source.list().expect("listed"), false)).expect("opens");
    let mut read = Read::new();
    wait_for("some records", || {
        drain(&mut inputs, &mut read);
        (inputs[0].position() > 0).then_some(())
    });
    for broker in 1..=3 {
        cluster.mock.broker_down(broker).expect("mock broker");
    }
    drain(&mut inputs, &mut read);
    for broker in 1..=3 {
        cluster.mock.broker_up(broker).expect("mock broker");
    }
    cluster.fill("a", 0, 1_000..2_000);
    cluster.fill("a", 1, 0..10);
    wait_for("all records", || {
        drain(&mut inputs, &mut read);
        (inputs[0].position() == 2_000 && inputs[1].position() == 10).then_some(())
    });
    check_whole(&read, "a", 0, 0..2_000);
    check_whole(&read, "a", 1, 0..10);
}

#[test]
fn heartbeats_cover_what_was_asked_after_them() {
    let cluster = Cluster::new(&[("mall.p", 1), ("__debezium-heartbeat.mall", 1)]);
    let settings = cluster.settings();
    let source = KafkaSource::connect(&job(r#"["mall.p"]"#, "idle = \"heartbeat\"\n"), &settings).expect("connects");
    let mut inputs = source.open(&openings(&source.list().expect("listed"), false)).expect("opens");
    let mut read = Read::new();
    wait_for("an answer", || {
        drain(&mut inputs, &mut read);
        inputs[0].caught_up()
    });
    assert_eq!(inputs[0].heartbeat(), None, "the connector is silent");
    cluster.fill("__debezium-heartbeat.mall", 0, 0..5);
    let heartbeat = wait_for("the newest heartbeat", || {
        drain(&mut inputs, &mut read);
        inputs[0].heartbeat().filter(|heartbeat| *heartbeat == 1_004)
    });
    assert_eq!(heartbeat, 1_004);
    assert!(read.is_empty());
}

#[test]
fn what_is_produced_is_what_a_replay_reads() {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::create_dir(dir.path().join("t")).expect("folder");
    let lines = concat!(
        "{\"topic\":\"t\",\"partition\":0,\"offset\":7,\"ts\":1795000000000,\"key\":\"k\\n\",\"payload\":{\"a\":1}}\n",
        " \t\r\n",
        "{\"b\":2}\n",
        "{\"topic\":\"t\",\"partition\":0,\"offset\":9,\"key\":\"k\",\"payload\":null}\n",
        "{\"topic\":\"t\",\"partition\":0,\"offset\":\"nine\",\"payload\":1}\n",
        "nonsense"
    );
    std::fs::write(dir.path().join("t/1.ndjson"), lines).expect("file");
    let files = dataset::all_partitions(dir.path()).expect("dataset");
    let cluster = Cluster::new(&[("x.t", 2), ("small.t", 1)]);
    let plan = |prefix: &str| Produce {
        brokers: cluster.mock.bootstrap_servers(),
        options: Vec::new(),
        topic_prefix: prefix.to_owned(),
        rate: None,
        replication: 1,
        compression: "lz4",
    };
    let loaded = produce::run(&plan("x."), &files).expect("loads");
    assert_eq!((loaded.topics[0].name.as_str(), loaded.topics[0].records, loaded.topics[0].created), ("x.t", 5, false));
    let source = cluster.connect(r#"["x.t"]"#, |_| {});
    let mut inputs = source.open(&openings(&source.list().expect("listed"), true)).expect("opens");
    let mut found = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    wait_for("the records", || {
        let take = |raw: Raw<'_>| (raw.position, raw.timestamp, raw.key.map(text), raw.value.map(text));
        match inputs[1].poll(take).expect("readable") {
            Polled::Record(record) => found.push(record),
            Polled::Empty => {}
            Polled::End => return Some(()),
        }
        None
    });
    let (key, value) = (|text: &str| Some(text.to_owned()), |text: &str| Some(text.to_owned()));
    let broken = "{\"topic\":\"t\",\"partition\":0,\"offset\":\"nine\",\"payload\":1}";
    let expected = [
        (0, Some(1_795_000_000_000), key("k\n"), value("{\"a\":1}")),
        (1, None, None, value("{\"b\":2}")),
        (2, None, key("k"), None),
        (3, None, None, value(broken)),
        (4, None, None, value("nonsense")),
    ];
    assert_eq!(found, expected);
    let error = produce::run(&plan("small."), &files).expect_err("one partition is too few");
    assert!(matches!(error, ProduceError::FewerPartitions { found: 1, needed: 2, .. }), "{error}");
}
