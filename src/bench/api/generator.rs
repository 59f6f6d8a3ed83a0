//! Requests, as fast as they are answered or at a fixed rate, over connections that stay open.
//!
//! Upholds: (1) at a fixed rate a request has an instant at which it is due, and its latency counts from there, also if the connection
//! was still waiting for the answer before: a server that stalls cannot hide the requests that it kept from being sent; (2) every answer
//! is read to its last byte and its status counted; (3) the generator costs little enough to share a small machine with what it
//! measures: requests are bytes made beforehand, answers are not parsed beyond their length.
//! Absent on purpose: HTTP/2, compression, chunked answers; a server that sends them to this client is an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The next as soon as the one before is answered.
    FlatOut,
    /// So many per second, over all connections.
    PerSecond(f64),
}

/// What is sent.
#[derive(Clone, Debug)]
pub struct Load {
    /// To whom.
    pub address: SocketAddr,
    /// Paths, taken in turn, by each connection from another place on.
    pub paths: Arc<[String]>,
    /// Connections at the same time.
    pub connections: usize,
    /// How.
    pub pace: Pace,
    /// For how long.
    pub span: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Answers {
    /// Answers with status 200.
    pub good: u64,
    /// Answers with another status.
    pub other: u64,
    /// From the first request to the last answer, seconds.
    pub seconds: f64,
    /// Body bytes of the answers.
    pub bytes: u64,
    /// Latency that half of the answers stayed within, microseconds.
    pub p50_us: u64,
    /// The same of 99 in 100.
    pub p99_us: u64,
    /// The same of 999 in 1000.
    pub p999_us: u64,
    /// The longest.
    pub longest_us: u64,
}

impl Answers {
    /// Good answers per second.
    pub fn per_second(&self) -> f64 {
        self.good as f64 / self.seconds.max(1e-9)
    }
}

/// A request got no answer that could be read.
#[derive(Debug, thiserror::Error)]
#[error("could not {what} at {address}")]
pub struct LoadError {
    what: &'static str,
    address: SocketAddr,
    source: std::io::Error,
}

/// Sends the load from a thread of its own and waits for its end.
///
/// # Errors
/// If a connection fails or an answer cannot be read.
pub fn send(load: &Load) -> Result<Answers, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|source| LoadError { what: "start the generator for the server", address: load.address, source })?;
    runtime.block_on(async {
        let (mut connections, began) = (JoinSet::new(), Instant::now());
        for index in 0..load.connections {
            connections.spawn(connection(load.clone(), index, began));
        }
        let (mut answers, mut latencies) = (Answers::default(), Vec::new());
        while let Some(of_one) = connections.join_next().await {
            let of_one = of_one.unwrap_or_else(|_| panic!("a connection's task does not panic"))?;
            answers.good += of_one.good;
            answers.other += of_one.other;
            answers.bytes += of_one.bytes;
            latencies.extend(of_one.latencies_us);
        }
        answers.seconds = began.elapsed().as_secs_f64();
        latencies.sort_unstable();
        let at = |permille: usize| {
            let place = (latencies.len() * permille).div_ceil(1_000).saturating_sub(1);
            latencies.get(place).copied().unwrap_or_default().into()
        };
        [answers.p50_us, answers.p99_us, answers.p999_us, answers.longest_us] = [500, 990, 999, 1_000].map(at);
        Ok(answers)
    })
}

#[derive(Default)]
struct OfOne {
    good: u64,
    other: u64,
    bytes: u64,
    latencies_us: Vec<u32>,
}

async fn connection(load: Load, index: usize, began: Instant) -> Result<OfOne, LoadError> {
    let failed = |what| move |source| LoadError { what, address: load.address, source };
    let mut stream = TcpStream::connect(load.address).await.map_err(failed("connect"))?;
    stream.set_nodelay(true).map_err(failed("connect"))?;
    let host = load.address;
    let requests: Vec<Vec<u8>> =
        load.paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()).collect();
    let (mut of_one, mut buffer) = (OfOne::default(), Vec::with_capacity(1 << 16));
    // Connections begin at places that are spread over the paths.
    let first = index * requests.len() / load.connections.max(1);
    for (turn, request) in requests.iter().cycle().skip(first).enumerate() {
        let due = match load.pace {
            Pace::FlatOut => Instant::now(),
            Pace::PerSecond(rate) => began + Duration::from_secs_f64((turn * load.connections + index) as f64 / rate),
        };
        if due.duration_since(began) >= load.span {
            break;
        }
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        stream.write_all(request).await.map_err(failed("send a request"))?;
        let (status, bytes) = answer(&mut stream, &mut buffer).await.map_err(failed("read an answer"))?;
        *(if status == 200 { &mut of_one.good } else { &mut of_one.other }) += 1;
        of_one.bytes += bytes;
        of_one.latencies_us.push(u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(of_one)
}

/// Reads one answer; its status and the length of its body.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<(u16, u64)> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((status, length, head)) = head(buffer)? {
            let end = head + length;
            while buffer.len() < end {
                if stream.read_buf(buffer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            return Ok((status, length as u64));
        }
    }
}

/// Status, length of the body and length of the head; nothing while the head is not whole.
fn head(bytes: &[u8]) -> std::io::Result<Option<(u16, usize, usize)>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("the answer's head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| wrong("the answer has no status"))?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, value)| value.trim().parse());
    match length {
        Some(Ok(length)) => Ok(Some((status, length, end + 4))),
        _ => Err(wrong("the answer does not say how long it is")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn heads_are_read_whole() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r").expect("text"), None);
        let found = head(b"HTTP/1.1 404 Not Found\r\nx: y\r\ncontent-length: 12\r\n\r\nbody").expect("text");
        assert_eq!(found, Some((404, 12, 52)));
        assert!(head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    /// A server that takes one request at a time, and answers every tenth with another status.
    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || {
                    let mut buffer = [0; 4_096];
                    for turn in 1.. {
                        let read = stream.read(&mut buffer).unwrap_or(0);
                        if read == 0 {
                            return;
                        }
                        assert!(buffer[..read].starts_with(b"GET /v1/stores/"));
                        let status = if turn % 10 == 0 { "503 No" } else { "200 OK" };
                        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nabc");
                        stream.write_all(answer.as_bytes()).expect("sent");
                    }
                });
            }
        });
        address
    }

    #[test]
    fn a_fixed_rate_sends_what_is_due_and_counts_what_came_back() {
        let paths: Arc<[String]> = ["/v1/stores/1", "/v1/stores/2"].map(str::to_owned).into();
        let span = Duration::from_millis(400);
        let load = Load { address: server(), paths, connections: 4, pace: Pace::PerSecond(500.0), span };
        let answers = send(&load).expect("answers");
        // 200 are due before 400 ms have passed, 50 on each connection, whatever time they take.
        assert_eq!((answers.good, answers.other, answers.bytes), (180, 20, 600));
        assert!(answers.p50_us <= answers.p99_us && answers.p99_us <= answers.p999_us);
        assert!(answers.p999_us <= answers.longest_us && answers.longest_us > 0);
        assert!(send(&Load { pace: Pace::FlatOut, ..load }).expect("answers").good > 0);
    }
}
