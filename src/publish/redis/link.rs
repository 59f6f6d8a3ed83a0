//! A connection to Redis that speaks in whole pipelines, to one server or to a cluster.
//!
//! What costs is the round trip, so commands are packed back to back into a [`Wire`], sent in one go and answered in one go;
//! and a second wire may be sent before the first is answered, so that Redis works while the next one is packed.
//!
//! Upholds: an answer belongs to its command, in order; any error answer is an error of the whole wire, after which the link
//! must be dropped (answers may be left on it).
//! Absent on purpose: retries. Who writes knows what may be repeated.

use std::collections::VecDeque;
use std::time::Duration;

use ::redis::cluster::{ClusterClientBuilder, ClusterConnection, cluster_pipe};
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo};
use ::redis::{Client, Cmd, Connection, RedisError as Cause, Value};

use super::error::{CONNECT, RedisError};
use super::settings::RedisSettings;

/// Longest to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest to wait for an answer: a large bucket is written by one script.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Packed commands.
#[derive(Debug, Default)]
pub(super) struct Wire {
    bytes: Vec<u8>,
    /// Where each command ends.
    ends: Vec<usize>,
}

impl Wire {
    /// Appends a command.
    pub(super) fn command(&mut self, parts: &[&[u8]]) {
        push_head(&mut self.bytes, b'*', parts.len());
        for part in parts {
            push_bulk(&mut self.bytes, part);
        }
        self.ends.push(self.bytes.len());
    }

    /// Appends `EVALSHA` with keys and arguments that are packed already.
    pub(super) fn script(&mut self, sha: &str, keys: &Packed, args: &Packed) {
        push_head(&mut self.bytes, b'*', 3 + keys.count + args.count);
        push_bulk(&mut self.bytes, b"EVALSHA");
        push_bulk(&mut self.bytes, sha.as_bytes());
        push_bulk(&mut self.bytes, keys.count.to_string().as_bytes());
        self.bytes.extend_from_slice(&keys.bytes);
        self.bytes.extend_from_slice(&args.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Commands in it.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Empties it; its memory is used again.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// The commands as the cluster's pipeline wants them.
    fn commands(&self) -> impl Iterator<Item = Cmd> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| {
            let mut command = Cmd::new();
            let mut rest = &self.bytes[start..*end];
            let (mut parts, after) = read_head(rest);
            rest = after;
            while parts > 0 {
                let (length, after) = read_head(rest);
                command.arg(&after[..length]);
                rest = &after[length + 2..];
                parts -= 1;
            }
            command
        })
    }
}

/// Packed parts of a command.
#[derive(Debug, Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    count: usize,
}

impl Packed {
    pub(super) fn push(&mut self, part: &[u8]) {
        push_bulk(&mut self.bytes, part);
        self.count += 1;
    }

    pub(super) fn number(&mut self, number: i64) {
        let mut text = Vec::with_capacity(20);
        super::keys::push_number(&mut text, number);
        self.push(&text);
    }

    pub(super) fn append(&mut self, more: &Packed) {
        self.bytes.extend_from_slice(&more.bytes);
        self.count += more.count;
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }
}

fn push_head(out: &mut Vec<u8>, kind: u8, number: usize) {
    out.push(kind);
    super::keys::push_number(out, number as i64);
    out.extend_from_slice(b"\r\n");
}

fn push_bulk(out: &mut Vec<u8>, part: &[u8]) {
    push_head(out, b'$', part.len());
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

/// The number in `*3\r\n` or `$5\r\n` that we wrote ourselves, and what follows.
fn read_head(bytes: &[u8]) -> (usize, &[u8]) {
    let end = memchr::memchr(b'\r', bytes).expect("a packed command has its line ends");
    let digits = bytes[1..end].iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    (digits, &bytes[end + 2..])
}

/// What a link has done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) pipelines: u64,
    pub(super) round_trips: u64,
    pub(super) commands: u64,
    pub(super) bytes: u64,
}

enum Peer {
    One(Box<Connection>),
    Cluster(Box<ClusterConnection>),
}

/// A connection.
pub(super) struct Link {
    peer: Peer,
    server: String,
    /// Commands of wires sent and not yet answered; for a cluster, their answers.
    sent: VecDeque<(usize, Option<Vec<Value>>)>,
    pub(super) traffic: Traffic,
}

impl Link {
    /// Connects, and proves that what answers is Redis, of the expected kind, and lets us in.
    pub(super) fn connect(settings: &RedisSettings) -> Result<Link, RedisError> {
        let server = settings.url.server().to_owned();
        let infos = settings.url.infos();
        let fail = |source: Cause| RedisError::of(&server, CONNECT, source);
        let cluster = settings.cluster || infos.len() > 1;
        // One node that answers is enough; a cluster's own client says too little when none does, or when it is none.
        let mut nodes = infos.iter().map(Link::connect_one);
        let first = nodes.next().unwrap_or_else(|| Err((::redis::ErrorKind::InvalidClientConfig, "no address").into()));
        let plain = match first {
            Err(error) => nodes.find_map(Result::ok).ok_or(error),
            connected => connected,
        };
        let mut plain = plain.map_err(fail)?;
        let info = ::redis::cmd("INFO").arg("cluster").query::<String>(&mut plain);
        let info = info.map_err(|error| RedisError::of(&server, "ask for the mode", error))?;
        match (cluster, info.contains("cluster_enabled:1")) {
            (false, true) => return Err(RedisError::IsCluster { server }),
            (true, false) => return Err(RedisError::NotCluster { server }),
            _ => {}
        }
        let peer = if cluster {
            let builder = ClusterClientBuilder::new(infos.iter().cloned())
                .connection_timeout(CONNECT_TIMEOUT)
                .response_timeout(ANSWER_TIMEOUT)
                .retries(3);
            let connection = builder.build().and_then(|client| client.get_connection()).map_err(fail)?;
            Peer::Cluster(Box::new(connection))
        } else {
            Peer::One(Box::new(plain))
        };
        Ok(Link { peer, server, sent: VecDeque::new(), traffic: Traffic::default() })
    }

    fn connect_one(info: &::redis::ConnectionInfo) -> Result<Connection, Cause> {
        let connection = Client::open(info.clone())?.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    }

    /// Host and port.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Whether it is a cluster, where a command stays within one slot.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.peer, Peer::Cluster(_))
    }

    /// Sends a wire. Its answers come with [`Link::receive`], in the order of sending.
    pub(super) fn send(&mut self, wire: &Wire) -> Result<(), Cause> {
        if wire.len() == 0 {
            self.sent.push_back((0, None));
            return Ok(());
        }
        self.traffic.pipelines += 1;
        self.traffic.commands += wire.len() as u64;
        self.traffic.bytes += wire.bytes() as u64;
        let answers = match &mut self.peer {
            Peer::One(connection) => {
                connection.send_packed_command(&wire.bytes)?;
                None
            }
            Peer::Cluster(connection) => {
                let mut pipe = cluster_pipe();
                for command in wire.commands() {
                    pipe.add_command(command);
                }
                Some(pipe.query::<Vec<Value>>(connection)?)
            }
        };
        self.sent.push_back((wire.len(), answers));
        Ok(())
    }

    /// The answers to the oldest wire sent; the first error answer is the error.
    pub(super) fn receive(&mut self) -> Result<Vec<Value>, Cause> {
        let Some((count, answers)) = self.sent.pop_front() else { return Ok(Vec::new()) };
        self.traffic.round_trips += u64::from(count > 0);
        let answers = match (answers, &mut self.peer) {
            (Some(answers), _) => answers,
            (None, Peer::One(connection)) => (0..count).map(|_| connection.recv_response()).collect::<Result<Vec<_>, _>>()?,
            (None, Peer::Cluster(_)) => Vec::new(),
        };
        answers.into_iter().map(Value::extract_error).collect()
    }

    /// Sends a wire and waits for its answers. Nothing else may be on its way.
    pub(super) fn call(&mut self, action: &'static str, wire: &Wire) -> Result<Vec<Value>, RedisError> {
        debug_assert!(self.sent.is_empty());
        self.send(wire).and_then(|()| self.receive()).map_err(|error| RedisError::of(&self.server, action, error))
    }

    /// One command, routed by its first key in a cluster, or to any node.
    pub(super) fn ask(&mut self, action: &'static str, parts: &[&[u8]]) -> Result<Value, RedisError> {
        let mut wire = Wire::default();
        wire.command(parts);
        Ok(self.call(action, &wire)?.pop().unwrap_or(Value::Nil))
    }

    /// Loads a script everywhere; its hash.
    pub(super) fn load(&mut self, script: &str) -> Result<String, RedisError> {
        let mut command = ::redis::cmd("SCRIPT");
        command.arg("LOAD").arg(script);
        let loaded = match &mut self.peer {
            Peer::One(connection) => command.query::<Value>(connection),
            Peer::Cluster(connection) => connection.route_command(
                &command,
                RoutingInfo::MultiNode((
                    MultipleNodeRoutingInfo::AllMasters,
                    Some(::redis::cluster_routing::ResponsePolicy::AllSucceeded),
                )),
            ),
        };
        loaded.map(|sha| text(&sha)).map_err(|error| RedisError::of(&self.server, "load a script", error))
    }

    /// One page of a scan; see [`Cursor`].
    pub(super) fn scan(&mut self, cursor: &mut Cursor, pattern: &str, keys: &mut Vec<Vec<u8>>) -> Result<(), RedisError> {
        let fail = |server: &str, error| RedisError::of(server, "list keys", error);
        if cursor.nodes.is_none() {
            cursor.nodes = Some(self.nodes()?);
        }
        let Some(node) = cursor.nodes.as_ref().and_then(|nodes| nodes.last()) else { return Ok(()) };
        let mut command = ::redis::cmd("SCAN");
        command.arg(cursor.at).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
        self.traffic.round_trips += 1;
        self.traffic.commands += 1;
        let page = match &mut self.peer {
            Peer::One(connection) => command.query::<Value>(connection),
            Peer::Cluster(connection) => {
                let (host, port) = node.clone();
                let to = RoutingInfo::SingleNode(SingleNodeRoutingInfo::ByAddress { host, port });
                connection.route_command(&command, to)
            }
        };
        let page = page.map_err(|error| fail(&self.server, error))?;
        let (next, found): (u64, Vec<Vec<u8>>) =
            ::redis::from_redis_value(page).map_err(|error| fail(&self.server, error.into()))?;
        keys.extend(found);
        cursor.at = next;
        if next == 0
            && let Some(nodes) = &mut cursor.nodes
        {
            nodes.pop();
        }
        Ok(())
    }

    /// All that must be scanned: the masters of a cluster, or the one server.
    fn nodes(&mut self) -> Result<Vec<(String, u16)>, RedisError> {
        let Peer::Cluster(connection) = &mut self.peer else { return Ok(vec![(String::new(), 0)]) };
        let slots = ::redis::cmd("CLUSTER").arg("SLOTS").query::<Vec<Value>>(connection);
        let slots = slots.map_err(|error| RedisError::of(&self.server, "ask for the nodes", error))?;
        let mut nodes = Vec::new();
        for slot in slots {
            let Value::Array(parts) = slot else { continue };
            let Some(Value::Array(master)) = parts.into_iter().nth(2) else { continue };
            let [host, Value::Int(port), ..] = &master[..] else { continue };
            nodes.push((text(host), u16::try_from(*port).unwrap_or(0)));
        }
        nodes.sort_unstable();
        nodes.dedup();
        Ok(nodes)
    }
}

/// Keys a page of a scan looks at.
const SCAN_COUNT: usize = 1_000;

/// Where a scan is: begins with `default()`.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    nodes: Option<Vec<(String, u16)>>,
    at: u64,
}

impl Cursor {
    /// Whether all has been seen.
    pub(super) fn at_end(&self) -> bool {
        self.nodes.as_ref().is_some_and(Vec::is_empty)
    }
}

/// An answer as text; empty if it is none.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}

/// The pairs of a hash.
pub(crate) fn pairs(value: Value) -> Vec<(Vec<u8>, Vec<u8>)> {
    let bytes = |value| match value {
        Value::BulkString(bytes) => bytes,
        _ => Vec::new(),
    };
    match value {
        Value::Map(pairs) => pairs.into_iter().map(|(name, value)| (bytes(name), bytes(value))).collect(),
        Value::Array(all) => {
            let mut all = all.into_iter();
            std::iter::from_fn(|| Some((bytes(all.next()?), bytes(all.next()?)))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_packed_as_redis_wants_them() {
        let mut wire = Wire::default();
        wire.command(&[b"HSET", b"k\r\n", b""]);
        let (mut keys, mut args) = (Packed::default(), Packed::default());
        keys.push(b"key");
        args.number(-12);
        wire.script("abc", &keys, &args);
        let expected = "*3\r\n$4\r\nHSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n*5\r\n$7\r\nEVALSHA\r\n$3\r\nabc\r\n$1\r\n1\r\n$3\r\nkey\r\n$3\r\n-12\r\n";
        assert_eq!(String::from_utf8(wire.bytes.clone()).unwrap(), expected);
        let packed: Vec<u8> = wire.commands().flat_map(|command| command.get_packed_command()).collect();
        assert_eq!(String::from_utf8(packed).unwrap(), expected);
    }
}
