//! Where the source database stood.

use std::fmt;

use super::super::json::{Node, parse};
use super::{Reader, natural, small};

/// A source version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    /// What writes positions of this kind.
    kind: Kind,
    /// Name, and base name of the binlog or database.
    incarnation: (String, String),
    /// What the job file adds.
    added: Option<String>,
    /// `None`: any.
    server: Option<u32>,
    /// File, position and row; or LSN; or cluster time.
    position: (u32, u64, u32),
    /// Where PostgreSQL's log was when a snapshot read the row, not where the row was changed.
    read: bool,
}

/// Whose positions can be compared at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Debezium of MySQL and MariaDB.
    Binlog,
    /// Debezium of PostgreSQL.
    Postgres,
    /// Debezium of MongoDB.
    ClusterTime,
    Dms,
    Maxwell,
    Mongodb,
}

impl Version {
    /// Whether this is known to be older than `stored`.
    pub(crate) fn is_older_than(&self, stored: &Version) -> bool {
        self.is_comparable_with(stored) && self.position < stored.position
    }

    /// What is stored with a row of this version, over a row that was stored with another.
    pub(crate) fn over(&self, stored: Option<&Version>) -> Version {
        match stored.filter(|stored| self.is_comparable_with(stored)) {
            _ if !self.read => self.clone(),
            Some(stored) => stored.clone(),
            None => Version { position: (0, 0, 0), read: false, ..self.clone() },
        }
    }

    /// The same, of a row that was read by a snapshot if `read`.
    pub(super) fn read(self, read: bool) -> Version {
        Version { read: read && self.kind == Kind::Postgres, ..self }
    }

    fn is_comparable_with(&self, stored: &Version) -> bool {
        let incarnation = |version: &Version| (version.kind, version.incarnation.clone(), version.added.clone());
        let same_server = self.server.is_none() || stored.server.is_none() || self.server == stored.server;
        incarnation(self) == incarnation(stored) && same_server
    }

    fn new(kind: Kind, name: &str, base: &str, position: (u32, u64, u32)) -> Self {
        Version { kind, incarnation: (name.to_string(), base.to_string()), added: None, server: None, position, read: false }
    }

    /// The same in the incarnation that the job file gives a source.
    pub(super) fn of_source(self, reader: &Reader<'_>) -> Self {
        Version { added: reader.spec.incarnation.clone(), ..self }
    }

    /// From a Debezium `source`.
    pub(super) fn of_debezium(origin: &Node<'_>) -> Option<Self> {
        let text = |name| origin.get(name).and_then(Node::as_str).unwrap_or("");
        let number = |name| origin.get(name).and_then(natural).unwrap_or(0);
        match text("connector") {
            "mysql" | "mariadb" => Self::of_binlog(&Place {
                name: text("name"),
                file: text("file"),
                pos: number("pos"),
                row: origin.get("row").and_then(small).unwrap_or(0),
                server: origin.get("server_id").and_then(small).unwrap_or(0),
            }),
            "postgresql" => {
                let sequence = parse(text("sequence")).ok();
                let last = sequence.as_ref().and_then(|sequence| sequence.as_array()?.last()?.as_str()?.parse().ok());
                let lsn = Some(number("lsn")).filter(|lsn| *lsn > 0).or(last).unwrap_or(0);
                Self::of_lsn(text("name"), text("db"), lsn)
            }
            "mongodb" if number("ts_ms") > 0 => {
                let time = cluster_time(number("ts_ms") / 1000, origin.get("ord").and_then(natural)?)?;
                Some(Version::new(Kind::ClusterTime, text("name"), text("rs"), (0, time, 0)))
            }
            _ => None,
        }
    }

    /// From a place in a binlog that Debezium names.
    pub(super) fn of_binlog(place: &Place<'_>) -> Option<Self> {
        let (base, number) = place.file.rsplit_once('.')?;
        let position = (digits(number)?, place.pos, place.row);
        let version = Version::new(Kind::Binlog, place.name, base, position);
        (place.pos > 0).then_some(Version { server: Some(place.server).filter(|server| *server != 0), ..version })
    }

    /// From a place in PostgreSQL's log that Debezium names.
    pub(super) fn of_lsn(name: &str, database: &str, lsn: u64) -> Option<Self> {
        (lsn > 0).then(|| Version::new(Kind::Postgres, name, database, (0, lsn, 0)))
    }

    /// From a DMS `metadata`.
    pub(super) fn of_dms(metadata: &Node<'_>) -> Option<Self> {
        let text = metadata.get("stream-position")?.as_str()?;
        let record = metadata.get("transaction-record-id").and_then(small).unwrap_or(0);
        let of_binlog = || {
            let (file, rest) = text.split_once(':')?;
            let (base, number) = file.rsplit_once('.')?;
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            Some(Version::new(Kind::Dms, "dms", base, (digits(number)?, digits(&rest[..length])?, record)))
        };
        let of_log = || {
            let (high, rest) = text.split_once('/')?;
            let length = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
            let position = u64::from(hex(high)?) << 32 | u64::from(hex(&rest[..length])?);
            Some(Version::new(Kind::Dms, "dms", "lsn", (0, position, record)))
        };
        // The two do not look alike: the base name of a binlog has no slash.
        of_binlog().or_else(of_log)
    }

    /// From a message of Maxwell.
    pub(super) fn of_maxwell(message: &Node<'_>) -> Option<Self> {
        let (file, pos) = message.get("position")?.as_str()?.split_once(':')?;
        let (base, number) = file.rsplit_once('.')?;
        let last = message.get("commit").is_some_and(Node::is_true);
        let row = message.get("xoffset").and_then(small).unwrap_or(if last { u32::MAX } else { 0 });
        let server = message.get("server_id").and_then(small).filter(|server| *server != 0);
        let version = Version::new(Kind::Maxwell, "maxwell", base, (digits(number)?, digits(pos)?, row));
        Some(Version { server, ..version })
    }

    /// From an event of MongoDB.
    pub(super) fn of_mongodb(event: &Node<'_>) -> Option<Self> {
        let of_time = |time| Version::new(Kind::Mongodb, "mongodb", "", (0, time, 0));
        match cluster_numbers(event) {
            Some((seconds, number)) => cluster_time(seconds, number).filter(|_| seconds > 0).map(of_time),
            None => event.get("_id")?.get("copyingData")?.is_true().then(|| of_time(0)),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Version { kind, incarnation: (name, base), added, server, position: (file, pos, row), read: _ } = self;
        write!(
            f,
            "{kind:?} {name}/{base}{} {file}:{pos}:{row}",
            added.iter().map(|added| format!("+{added}")).collect::<String>()
        )?;
        server.iter().try_for_each(|server| write!(f, " of server {server}"))
    }
}

/// A place in a binlog.
pub(super) struct Place<'n> {
    pub(super) name: &'n str,
    pub(super) file: &'n str,
    pub(super) pos: u64,
    pub(super) row: u32,
    /// 0: any.
    pub(super) server: u32,
}

/// Seconds and number within the second of an event of MongoDB.
pub(super) fn cluster_numbers(event: &Node<'_>) -> Option<(u64, u64)> {
    let time = event.get("clusterTime")?.get("$timestamp")?;
    Some((time.get("t").and_then(natural)?, time.get("i").and_then(natural)?))
}

/// Both halves of MongoDB's timestamps have 32 bits.
fn cluster_time(seconds: u64, number: u64) -> Option<u64> {
    Some(u64::from(u32::try_from(seconds).ok()?) << 32 | u64::from(u32::try_from(number).ok()?))
}

fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn hex(text: &str) -> Option<u32> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}
