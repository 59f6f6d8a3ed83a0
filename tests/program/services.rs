//! The services that other tests stand on: they start, keep, forget and end as `scripts/services` says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::support::databases::Database;
use crate::support::services::{Kind, Service, own, shared};

/// Sends one request without any client library; what came back.
fn ask(address: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(request.as_bytes())?;
    let mut answer = [0; 512];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}

fn redis(service: &Service, command: &str) -> std::io::Result<String> {
    ask(service.address().strip_prefix("redis://").expect("a URL"), &format!("{command}\r\n"))
}

#[test]
fn a_redis_of_ones_own_stops_and_comes_back_with_or_without_data() {
    let Some(service) = own(Kind::Redis) else { return };
    assert_eq!(redis(&service, "SET a 1").expect("an answer"), "+OK\r\n");
    service.kill();
    assert!(redis(&service, "GET a").is_err());
    service.start();
    assert_eq!(redis(&service, "GET a").expect("an answer"), "$1\r\n1\r\n");
    service.stop();
    service.start_empty();
    assert_eq!(redis(&service, "GET a").expect("an answer"), "$-1\r\n");
    service.start();
    let address = service.address().to_owned();
    drop(service);
    assert!(TcpStream::connect(address.trim_start_matches("redis://")).is_err());
}

#[test]
fn databases_of_ones_own_come_back_with_what_was_committed() {
    for kind in [Kind::Postgres, Kind::MariaDb] {
        let Some(database) = Database::own(kind) else { return };
        database.run("create table kept (number integer); insert into kept values (42);");
        database.service().kill();
        database.service().start();
        assert_eq!(database.run("select number from kept;"), "42\n", "{kind:?} that was killed");
        database.service().stop();
        database.service().start();
        assert_eq!(database.run("select number from kept;"), "42\n", "{kind:?} that was stopped");
    }
}

#[test]
fn the_shared_redis_is_one() {
    let (Some(one), Some(other)) = (shared(Kind::Redis), shared(Kind::Redis)) else { return };
    assert_eq!(one.address(), other.address());
    assert_eq!(redis(&one, "PING").expect("an answer"), "+PONG\r\n");
}

#[test]
fn kafka_answers_on_both_listeners_and_refuses_a_wrong_password() {
    let Some(service) = shared(Kind::Kafka) else { return };
    let brokers = |config: &mut ClientConfig| {
        let consumer: BaseConsumer = config.create().expect("a consumer");
        consumer.fetch_metadata(None, Duration::from_secs(20)).map(|metadata| metadata.brokers().len())
    };
    assert_eq!(brokers(ClientConfig::new().set("bootstrap.servers", service.address())), Ok(1));
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", service.variable("STOREFLOW_TEST_KAFKA_SASL_SSL"))
            .set("security.protocol", "SASL_SSL")
            .set("ssl.ca.location", service.variable("STOREFLOW_TEST_KAFKA_CA"))
            .set("sasl.mechanism", mechanism)
            .set("sasl.username", service.variable("STOREFLOW_TEST_KAFKA_USER"))
            .set("sasl.password", service.variable("STOREFLOW_TEST_KAFKA_PASSWORD"));
        assert_eq!(brokers(&mut config), Ok(1), "{mechanism}");
        config.set("sasl.password", "wrong");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        assert!(consumer.fetch_metadata(None, Duration::from_secs(2)).is_err(), "{mechanism} with a wrong password");
    }
}

#[test]
fn s3_has_its_bucket() {
    let Some(service) = shared(Kind::S3) else { return };
    let (host, bucket) =
        (service.address().strip_prefix("http://").expect("a URL"), service.variable("STOREFLOW_TEST_S3_BUCKET"));
    let answer = ask(host, &format!("GET /{bucket}?list-type=2 HTTP/1.0\r\nHost: {host}\r\n\r\n")).expect("an answer");
    assert!(answer.contains(" 200 "), "{answer}");
}

#[test]
fn python_has_duckdb() {
    let Some(service) = shared(Kind::Python) else { return };
    let done =
        Command::new(service.address()).args(["-c", "import duckdb; print(duckdb.sql('select 6 * 7').fetchall())"]).output();
    assert_eq!(String::from_utf8_lossy(&done.expect("Python").stdout), "[(42,)]\n");
}
