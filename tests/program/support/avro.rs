//! JSON records as Avro ones with a registry's ids, and a registry that knows their schemas.
//!
//! Each value is written by the schema that fits it exactly, so that one topic has records of several schemas, as topics do whose
//! tables change. Encoded by hand: the third way of doing it, after the program's and apache-avro's.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The schemas that were needed so far, by their text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schemas {
    ids: BTreeMap<String, u32>,
}

impl Schemas {
    /// A value in the wire format.
    pub(crate) fn message(&mut self, value: &Value) -> Vec<u8> {
        let (mut datum, mut named) = (Vec::new(), 0);
        let schema = encode(value, &mut datum, &mut named).to_string();
        let next = 100_001 + self.ids.len() as u32;
        let id = *self.ids.entry(schema).or_insert(next);
        [&[0][..], &id.to_be_bytes(), &datum].concat()
    }

    /// All of them: id and text.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &str)> {
        self.ids.iter().map(|(text, id)| (*id, text.as_str()))
    }

    /// A line of a dataset with its key and payload in Avro. What is no JSON envelope stays as it is.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let Ok(Value::Object(mut envelope)) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
        for (name, base64) in [("key", "key_base64"), ("payload", "payload_base64")] {
            let value = match envelope.get(name) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) => serde_json::from_str(text),
                Some(value) => Ok(value.clone()),
            };
            let Ok(value) = value else { continue };
            // Debezium's converter writes what the wrapper's payload is.
            let value = match value.get("payload") {
                Some(payload) if value.get("schema").is_some() => payload.clone(),
                _ => value,
            };
            if value.is_null() {
                continue;
            }
            envelope.remove(name);
            envelope.insert(base64.to_owned(), STANDARD.encode(self.message(&value)).into());
        }
        // "topic" must be the first key.
        let first = json!(envelope.remove("topic").unwrap_or_default());
        let rest = Value::Object(envelope).to_string();
        format!("{{\"topic\":{first},{}", &rest[1..])
    }

    /// Writes a dataset in Avro beside the one in JSON: `to` of `from`.
    pub(crate) fn transcribe(&mut self, from: &Path, to: &Path) {
        for topic in std::fs::read_dir(from).expect("a dataset").map(|entry| entry.expect("readable").path()) {
            if !topic.is_dir() || topic.ends_with("expected") {
                continue;
            }
            let folder = to.join(topic.file_name().expect("a name"));
            std::fs::create_dir_all(&folder).expect("made");
            for file in std::fs::read_dir(&topic).expect("a topic").map(|entry| entry.expect("readable").path()) {
                let bytes = std::fs::read(&file).expect("readable");
                let mut lines = Vec::new();
                for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                    match std::str::from_utf8(line) {
                        Ok(line) => lines.extend(format!("{}\n", self.line(line.trim_end_matches('\n'))).into_bytes()),
                        Err(_) => lines.extend_from_slice(line),
                    }
                }
                std::fs::write(folder.join(file.file_name().expect("a name")), lines).expect("written");
            }
        }
    }
}

fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// Writes a value, and says by which schema. What may be null is a union, as of columns that may be.
fn encode(value: &Value, out: &mut Vec<u8>, named: &mut u32) -> Value {
    match value {
        Value::Null => {
            long(0, out);
            json!(["null", "string"])
        }
        Value::Bool(value) => {
            out.push(u8::from(*value));
            json!("boolean")
        }
        Value::Number(number) => match (number.as_i64(), decimal(&number.to_string())) {
            (Some(value), _) => {
                long(value, out);
                json!("long")
            }
            (None, Some((units, scale))) => {
                bytes(&units.to_be_bytes(), out);
                json!({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scale})
            }
            (None, None) => {
                bytes(number.to_string().as_bytes(), out);
                json!("string")
            }
        },
        Value::String(text) => {
            long(1, out);
            bytes(text.as_bytes(), out);
            json!(["null", "string"])
        }
        Value::Array(items) => {
            if !items.is_empty() {
                long(items.len() as i64, out);
                items.iter().for_each(|item| bytes(item.to_string().as_bytes(), out));
            }
            long(0, out);
            json!({"type": "array", "items": "string"})
        }
        Value::Object(fields) => {
            *named += 1;
            let name = format!("Record{named}");
            let fields: Vec<Value> =
                fields.iter().map(|(name, value)| json!({"name": name, "type": encode(value, out, named)})).collect();
            json!({"type": "record", "name": name, "fields": fields})
        }
    }
}

fn decimal(text: &str) -> Option<(i128, usize)> {
    let (whole, fraction) = text.split_once('.')?;
    Some((format!("{whole}{fraction}").parse().ok()?, fraction.len()))
}

/// A schema registry; it ends when this is dropped.
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    /// Starts one that knows these, at an address whose port may be 0.
    pub(crate) fn start(at: &str, schemas: &Schemas) -> Registry {
        let listener = TcpListener::bind(at).expect("an address");
        let address = listener.local_addr().expect("bound");
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let answers: BTreeMap<String, String> =
            schemas.all().map(|(id, text)| (format!("/schemas/ids/{id}"), json!({"schema": text}).to_string())).collect();
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                // Who asks may be killed in the middle of it.
                let _ = stream.and_then(|stream| answer(&stream, &answers, &noted));
            }
        });
        Registry { address, stop, asked, thread: Some(thread) }
    }

    /// An address at which nobody answers, and a registry can be started later.
    pub(crate) fn address_of_none() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
    }

    /// The paths asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // It waits for somebody to ask.
        let _ = TcpStream::connect(self.address);
        self.thread.take().map(JoinHandle::join).transpose().expect("the registry did not panic");
    }
}

fn answer(stream: &TcpStream, answers: &BTreeMap<String, String>, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let unknown = json!({"error_code": 40403, "message": "Schema not found"}).to_string();
    let (status, body) = answers.get(&path).map_or(("404 Not Found", &unknown), |body| ("200 OK", body));
    asked.lock().expect("not poisoned").push(path);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
