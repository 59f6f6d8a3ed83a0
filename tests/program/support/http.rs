//! Requests to a server, sent and read without any client library: what is compared is what is on the wire.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its headers, names in small letters.
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    /// Its body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header that is there once; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        match self.headers.get(name).map(Vec::as_slice) {
            None => "",
            Some([value]) => value,
            Some(values) => panic!("{name} is there {} times", values.len()),
        }
    }

    /// The body, unpacked.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match self.header("content-encoding") {
            "" => text.push_str(std::str::from_utf8(&self.body).expect("UTF-8")),
            // The answer to HEAD.
            "gzip" if self.body.is_empty() => {}
            "gzip" => {
                flate2::read::GzDecoder::new(&self.body[..]).read_to_string(&mut text).expect("gzip");
            }
            other => panic!("packed by {other}"),
        }
        text
    }

    /// The body, which is JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks a server; HTTP/1.0, so that the end of the connection is the end of the answer.
pub(crate) fn ask(address: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a patience");
    let mut head = format!("{method} {target} HTTP/1.0\r\nHost: {address}\r\n");
    headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    stream.write_all((head + "\r\n").as_bytes()).expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it answers");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes[end + 4..].to_vec());
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
    }
    Answer { status: status.expect("a status"), headers, body }
}
