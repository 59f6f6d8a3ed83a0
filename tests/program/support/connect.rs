//! A worker of Kafka Connect, asked through its REST interface.
//!
//! Upholds: what it refuses fails the test with its own words; nothing is waited for without an end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::services::{Kind, Service, own_beside};

/// What anything that is waited for gets: much more than it needs on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// A worker of one test's own.
pub(crate) struct Connect {
    service: Service,
}

impl Connect {
    /// One whose topics are in `kafka`; `None`, said by name, where it cannot be had.
    #[track_caller]
    pub(crate) fn own(kafka: &Service) -> Option<Connect> {
        own_beside(Kind::Connect, Some(kafka)).map(|service| Connect { service })
    }

    pub(crate) fn service(&self) -> &Service {
        &self.service
    }

    /// Creates a connector, or changes its settings.
    pub(crate) fn configure(&self, connector: &str, settings: &Value) {
        self.must("PUT", &format!("/connectors/{connector}/config"), &settings.to_string());
    }

    /// Ends the tasks of a connector in order, so that it is noted how far they are.
    pub(crate) fn stop(&self, connector: &str) {
        self.must("PUT", &format!("/connectors/{connector}/stop"), "");
        self.await_status(connector, "stop", |status| {
            status["connector"]["state"] == "STOPPED" && status["tasks"].as_array().is_some_and(Vec::is_empty)
        });
    }

    /// Starts them again.
    pub(crate) fn resume(&self, connector: &str) {
        self.must("PUT", &format!("/connectors/{connector}/resume"), "");
        self.await_status(connector, "run", |status| status["tasks"][0]["state"] == "RUNNING");
    }

    fn await_status(&self, connector: &str, what: &str, is_so: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Right after a start or a change it may have nothing to say yet.
            let (code, status) = self.ask("GET", &format!("/connectors/{connector}/status"), "");
            let status: Value = serde_json::from_str(&status).unwrap_or_default();
            if code == 200 && is_so(&status) {
                return;
            }
            let is_lost = status["tasks"][0]["state"] == "FAILED" || status["connector"]["state"] == "FAILED";
            assert!(!is_lost, "connector {connector} failed: {status:#}");
            assert!(Instant::now() < deadline, "connector {connector} does not {what}: {status:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn must(&self, method: &str, path: &str, body: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, answer) = self.ask(method, path, body);
            match code {
                200..300 => return,
                // It is dealing out tasks for the moment.
                409 | 500 | 503 if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
                _ => panic!("{method} {path}: {code} {answer}"),
            }
        }
    }

    /// Status code and body of an answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let address = self.service.address().strip_prefix("http://").expect("a URL");
        let mut stream = TcpStream::connect(address).expect("Connect is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let (length, kind) = (body.len(), "application/json");
        let head = format!("Host: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
        stream.write_all(format!("{method} {path} HTTP/1.0\r\n{head}\r\n\r\n{body}").as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (code.unwrap_or_else(|| panic!("no answer: {answer}")), body.to_owned())
    }
}
