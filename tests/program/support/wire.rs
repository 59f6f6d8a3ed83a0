//! Requests as they go over the wire, so that a test can send what no client would.
//!
//! Upholds: nothing is waited for without an end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, or the beginning of one that goes on.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: u16,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// A header's first value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a problem; empty of any other answer.
    pub(crate) fn code(&self) -> String {
        if self.header("content-type") != Some("application/problem+json") {
            return String::new();
        }
        self.json()["code"].as_str().expect("a code").to_owned()
    }
}

/// Asks for a path, with headers.
pub(crate) fn get(address: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(address, "GET", path, headers, "")
}

/// Asks in any way; `body` follows the headers as it is.
pub(crate) fn ask(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut connection = send(address, method, path, &[&[("Connection", "close")], headers].concat(), body);
    let mut bytes = Vec::new();
    match connection.read_to_end(&mut bytes) {
        // A server that answers before it has read everything resets the connection after the answer.
        Err(error) if error.kind() == ErrorKind::ConnectionReset && !bytes.is_empty() => {}
        read => drop(read.expect("an answer")),
    }
    parse(&bytes)
}

/// An answer that goes on.
pub(crate) struct Streamed {
    connection: TcpStream,
    read: Vec<u8>,
}

/// Asks for a stream.
pub(crate) fn stream(address: &str, path: &str, headers: &[(&str, &str)]) -> Streamed {
    Streamed { connection: send(address, "GET", path, headers, ""), read: Vec::new() }
}

impl Streamed {
    /// Reads until what has come holds `text`; all that has come.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            let seen = String::from_utf8_lossy(&self.read).into_owned();
            if seen.contains(text) {
                return seen;
            }
            assert!(self.read_more(), "it ended before {text:?}:\n{seen}");
        }
    }

    /// Reads to the end.
    pub(crate) fn read_to_end(&mut self) {
        // The last chunk has no bytes; the connection may stay.
        while !self.read.ends_with(b"0\r\n\r\n") && self.read_more() {}
    }

    fn read_more(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.connection.read(&mut bytes).expect("more, or an end");
        self.read.extend_from_slice(&bytes[..count]);
        count > 0
    }
}

fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).expect("connected");
    connection.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(connection, "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n{body}").expect("sent");
    connection
}

fn parse(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() }
}
