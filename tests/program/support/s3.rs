//! A store on the tests' S3 server, and a proxy in front of it that fails on purpose.
//!
//! ```text
//! storeflow ─► proxy: passes on, or 500, 503, cut before, cut after, half an answer ─► S3 server
//! ```
//!
//! Upholds: the faults follow a seed, request by request; what is started is ended with its value.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use storeflow::store::{Address, Store, StoreError, StoreOptions};

use super::services::Service;

/// What no log and no error may hold.
pub(crate) const SECRET: &str = "hidden-secret-access-key";

/// Where an S3 server listens.
pub(crate) fn address_of(server: &Service) -> SocketAddr {
    let host = server.address().strip_prefix("http://").expect("a URL without TLS").trim_end_matches('/');
    host.to_socket_addrs().expect("a known host").next().expect("an address")
}

/// A place in the server's bucket that no other test and no earlier run has.
pub(crate) fn place(server: &Service, name: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("s3://{}/{}-{nanos}/{name}", server.variable("STOREFLOW_TEST_S3_BUCKET"), std::process::id())
}

/// The environment that leads to a server, and to nothing of the machine's own.
pub(crate) fn environment(address: SocketAddr) -> BTreeMap<String, String> {
    [
        // The second one goes before the first, and may be set already for the server itself.
        ("AWS_ENDPOINT_URL", format!("http://{address}").as_str()),
        ("AWS_ENDPOINT_URL_S3", format!("http://{address}").as_str()),
        ("AWS_ACCESS_KEY_ID", "test-key"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_REGION", "us-east-1"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ("AWS_CONFIG_FILE", "/nonexistent"),
        // Loopback is not to go through a proxy of the machine.
        ("NO_PROXY", "127.0.0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A store at a server.
pub(crate) fn store(url: &str, address: SocketAddr, retry_time: Duration) -> Result<Store, StoreError> {
    let place: Address = url.parse()?;
    Store::create(&place, &StoreOptions { environment: environment(address), retry_time, ..StoreOptions::of_process() })
}

/// What a proxy does with requests.
#[derive(Clone, Copy)]
pub(crate) enum Plan {
    /// Fails so many of a thousand, by this seed.
    Faults { seed: u64, permille: u64 },
    /// Refuses all, repeating the request's secrets as S3 does when a signature is wrong.
    Forbidden,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    InternalError,
    SlowDown,
    CutBefore,
    CutAfter,
    HalfAnAnswer,
}

const FAULTS: [Fault; 5] = [Fault::InternalError, Fault::SlowDown, Fault::CutBefore, Fault::CutAfter, Fault::HalfAnAnswer];

/// A proxy that fails.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    plan: Plan,
    requests: AtomicU64,
    seen: Mutex<BTreeMap<Fault, u64>>,
    fail_all: AtomicBool,
    /// What every request meets, while there is something.
    outage: Mutex<Option<Fault>>,
    stop: AtomicBool,
}

impl Proxy {
    pub(crate) fn start(upstream: SocketAddr, plan: Plan) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            upstream,
            plan,
            requests: AtomicU64::new(0),
            seen: Mutex::default(),
            fail_all: AtomicBool::new(false),
            outage: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                for connection in listener.incoming() {
                    if of_thread.stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let shared = &of_thread;
                    // A connection that breaks is what this is about.
                    scope.spawn(move || connection.and_then(|connection| shared.serve(connection)));
                }
            });
        });
        Proxy { address, shared, thread: Some(thread) }
    }

    /// From now on every request is carried out and its answer lost.
    pub(crate) fn fail_all(&self) {
        self.shared.fail_all.store(true, Ordering::Relaxed);
    }

    /// From now on every request meets this fault; `None`: as the plan says again.
    pub(crate) fn nothing_but(&self, fault: Option<Fault>) {
        *self.shared.outage.lock().expect("not poisoned") = fault;
    }

    /// How many requests failed, by fault.
    pub(crate) fn seen(&self) -> BTreeMap<Fault, u64> {
        self.shared.seen.lock().expect("not poisoned").clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the proxy ends");
        }
    }
}

impl Shared {
    /// One request per connection.
    fn serve(&self, mut connection: TcpStream) -> std::io::Result<()> {
        connection.set_read_timeout(Some(Duration::from_secs(30)))?;
        let Some(request) = read_request(&mut connection)? else { return Ok(()) };
        let outage = *self.outage.lock().expect("not poisoned");
        let fault = match self.plan {
            Plan::Forbidden => {
                let head = String::from_utf8_lossy(&request).into_owned();
                let repeated = format!("<CanonicalRequest>{head} {SECRET}</CanonicalRequest>");
                let code = "<Code>SignatureDoesNotMatch</Code><Message>Check your key.</Message>";
                return answer(&mut connection, "403 Forbidden", &format!("<Error>{code}{repeated}</Error>"));
            }
            Plan::Faults { .. } if outage.is_some() => outage,
            Plan::Faults { .. } if self.fail_all.load(Ordering::Relaxed) => Some(Fault::CutAfter),
            Plan::Faults { seed, permille } => {
                let number = self.requests.fetch_add(1, Ordering::Relaxed);
                let chance = mixed(seed ^ mixed(number));
                (chance % 1000 < permille).then(|| FAULTS[(chance >> 32) as usize % FAULTS.len()])
            }
        };
        if let Some(fault) = fault {
            *self.seen.lock().expect("not poisoned").entry(fault).or_default() += 1;
        }
        let error = |code: &str| format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
        match fault {
            Some(Fault::InternalError) => answer(&mut connection, "500 Internal Server Error", &error("InternalError")),
            Some(Fault::SlowDown) => answer(&mut connection, "503 Slow Down", &error("SlowDown")),
            Some(Fault::CutBefore) => connection.shutdown(Shutdown::Both),
            Some(Fault::CutAfter) => {
                exchange(self.upstream, &request)?;
                connection.shutdown(Shutdown::Both)
            }
            Some(Fault::HalfAnAnswer) => {
                let whole = exchange(self.upstream, &request)?;
                connection.write_all(&whole[..whole.len() / 2])?;
                connection.shutdown(Shutdown::Both)
            }
            None => {
                let whole = exchange(self.upstream, &request)?;
                connection.write_all(&whole)
            }
        }
    }
}

/// A request with its body; it asks the server to close the connection after its answer. `None`: nothing came.
fn read_request(connection: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match connection.read(&mut buffer)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |line: &str, name: &str| Some(line.to_ascii_lowercase().strip_prefix(name)?.trim().to_owned());
    let length: usize = head.lines().find_map(|line| header(line, "content-length:")?.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        match connection.read(&mut buffer)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    let lines = head.lines().filter(|line| !line.is_empty() && header(line, "connection:").is_none());
    let mut request: String = lines.map(|line| format!("{line}\r\n")).collect();
    request.push_str("Connection: close\r\n\r\n");
    Ok(Some([request.as_bytes(), &bytes[end..]].concat()))
}

fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(address)?;
    server.write_all(request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}

fn answer(connection: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    connection.write_all(format!("{head}{body}").as_bytes())
}

/// Splitmix's finish: neighbouring numbers become unlike ones.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}
