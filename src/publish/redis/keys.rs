//! Names of keys and fields: a public interface, described in `docs/redis-view.md`.
//!
//! ```text
//! sf:{<bucket>}:<job>:<gen>:w:<window start>:<store>      one hash per store and window
//!                          :s:<store>                     one hash per store
//!                          :stores                        sorted set: the bucket's stores
//!                          :guard                         who may write the bucket, and where it is
//! sf:{top}:<job>:<gen>:top:<measure>:<window start>[:<currency or kind>]      sorted set
//!                     :totals                             by how many workers there are totals
//!                     :totals:<worker>of<workers>         sorted set: the windows of which there are totals
//!                     :totals:<worker>of<workers>:<window start>              one hash per worker and window
//!                     :guard:<worker>
//! sf:<job>:<gen>:about, :status, sf:<job>:current         the marker, what processes say, the pointer
//! ```
//!
//! Upholds: ids come last and are taken as they are, up to the end of the key or field, so that no character in them needs
//! an escape; the first `{…}` of a key, which is what a cluster looks at, is always the bucket (job names have no braces).

use storeflow_dataflows::key::SHARDS;
use storeflow_dataflows::table::{Table, Window};
use xxhash_rust::xxh3::xxh3_64;

use crate::publish::row::money;

/// The as-of at which a hash last changed.
pub(crate) const CHANGED: &str = "changed_as_of";
/// The highest revision among the cells of a hash.
pub(crate) const REVISION: &str = "revision";
/// The newest window in which a store has cells.
pub(crate) const NEWEST: &str = "newest_window";
/// Of all totals: how many workers write them.
pub(crate) const WORKERS: &str = "workers";
/// Of totals: stores that have a cell in the window.
pub(crate) const STORES: &str = "stores";
/// Products on sale now.
pub(crate) const PRODUCTS: &str = "product_count";

/// The keys of one generation of a job.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    job: String,
    generation: u64,
}

impl Keys {
    pub(crate) fn new(job: &str, generation: u64) -> Keys {
        Keys { job: job.to_owned(), generation }
    }

    /// What all keys of a bucket begin with.
    pub(crate) fn bucket(&self, bucket: u64) -> String {
        debug_assert!(bucket < SHARDS);
        format!("sf:{{{bucket}}}:{}:{}:", self.job, self.generation)
    }

    pub(crate) fn guard(&self, bucket: u64) -> String {
        self.bucket(bucket) + "guard"
    }

    /// The ids of a bucket's stores.
    pub(crate) fn stores(&self, bucket: u64) -> String {
        self.bucket(bucket) + "stores"
    }

    /// What all keys of top lists and totals begin with.
    pub(crate) fn tops(&self) -> String {
        format!("sf:{{top}}:{}:{}:", self.job, self.generation)
    }

    pub(crate) fn top_guard(&self, worker: usize) -> String {
        format!("{}guard:{worker}", self.tops())
    }

    pub(crate) fn top(&self, table: Table, window: Window, second: &[u8]) -> Vec<u8> {
        let mut key = format!("{}top:{}:{window}", self.tops(), top_measure(table)).into_bytes();
        if table != Table::StoreSales {
            key.push(b':');
            key.extend_from_slice(second);
        }
        key
    }

    /// What is true of all totals.
    pub(crate) fn totals_of(&self) -> String {
        self.tops() + "totals"
    }

    /// The windows of which a worker of so many has written totals.
    pub(crate) fn totals_index(&self, worker: usize, peers: usize) -> String {
        format!("{}totals:{worker}of{peers}", self.tops())
    }

    /// The totals of a worker of so many in a window.
    pub(crate) fn totals(&self, worker: usize, peers: usize, window: Window) -> String {
        format!("{}:{window}", self.totals_index(worker, peers))
    }

    /// The worker, of how many, and the window of a key of totals; no window of an index.
    pub(crate) fn parse_totals(&self, key: &[u8]) -> Option<(usize, usize, Option<Window>)> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&self.tops())?.strip_prefix("totals:")?;
        let (of, window) = rest.split_once(':').map_or((rest, None), |(of, window)| (of, Some(window)));
        let (worker, peers) = of.split_once("of")?;
        Some((worker.parse().ok()?, peers.parse().ok()?, window.map(str::parse).transpose().ok()?))
    }

    /// The pattern of all top lists, totals and their guards.
    pub(crate) fn any_of_tops(&self) -> String {
        self.tops() + "*"
    }

    /// The worker whose top lists a key guards, if it is such a key.
    pub(crate) fn parse_top_guard(&self, key: &str) -> Option<usize> {
        key.strip_prefix(&self.tops())?.strip_prefix("guard:")?.parse().ok()
    }

    /// The table, window and second part of a top list's key.
    pub(crate) fn parse_top<'a>(&self, key: &'a [u8]) -> Option<(Table, Window, &'a [u8])> {
        let rest = key.strip_prefix(self.tops().as_bytes())?.strip_prefix(b"top:")?;
        let mut parts = rest.splitn(3, |byte| *byte == b':');
        let (measure, window) = (parts.next()?, parts.next()?);
        let table = Table::ALL.into_iter().find(|table| top_measure(*table).as_bytes() == measure)?;
        Some((table, std::str::from_utf8(window).ok()?.parse().ok()?, parts.next().unwrap_or_default()))
    }

    pub(crate) fn about(&self) -> String {
        format!("sf:{}:{}:about", self.job, self.generation)
    }

    pub(crate) fn status(&self) -> String {
        format!("sf:{}:{}:status", self.job, self.generation)
    }

    pub(crate) fn pointer(&self) -> String {
        pointer(&self.job)
    }

    /// The pattern of all keys of buckets, of all generations of the job.
    pub(crate) fn any_generation(&self) -> String {
        format!("sf:{{*}}:{}:*", self.job)
    }

    /// The pattern of all keys of this generation's buckets.
    pub(crate) fn all(&self) -> String {
        format!("sf:{{*}}:{}:{}:*", self.job, self.generation)
    }

    /// The pattern of all markers of the job, and of what stands beside them.
    pub(crate) fn any_about(&self) -> String {
        format!("sf:{}:*:*", self.job)
    }

    /// The generation in a key of this job, if it is one.
    pub(crate) fn generation_of(&self, key: &[u8]) -> Option<u64> {
        let rest = key.strip_prefix(b"sf:")?;
        let rest = match rest.first() {
            Some(b'{') => &rest[memchr::memchr(b'}', rest)? + 2..],
            _ => rest,
        };
        let rest = rest.strip_prefix(self.job.as_bytes())?.strip_prefix(b":")?;
        let end = memchr::memchr(b':', rest)?;
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
    }

    /// The bucket and what a key of this generation is; `None` for keys that are not in a bucket.
    pub(crate) fn parse<'a>(&self, key: &'a [u8]) -> Option<(u64, Kind<'a>)> {
        let rest = key.strip_prefix(b"sf:{")?;
        let end = memchr::memchr(b'}', rest)?;
        let bucket: u64 = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
        let rest = key.strip_prefix(self.bucket(bucket).as_bytes())?;
        let kind = match rest {
            b"guard" => Kind::Guard,
            [b's', b':', store @ ..] => Kind::Store(store),
            [b'w', b':', rest @ ..] => {
                let end = memchr::memchr(b':', rest)?;
                Kind::Window(std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?, &rest[end + 1..])
            }
            _ => return None,
        };
        Some((bucket, kind))
    }
}

/// The bucket of a store.
pub(crate) fn bucket_of(store: &[u8]) -> u64 {
    xxh3_64(store) >> 54
}

/// The key of a job's pointer.
pub(crate) fn pointer(job: &str) -> String {
    format!("sf:{job}:current")
}

/// What a key of a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// The guard.
    Guard,
    /// A store's hash.
    Store(&'a [u8]),
    /// The hash of a window and store.
    Window(Window, &'a [u8]),
}

/// A bucket's key of a window and store, written behind its prefix.
pub(crate) fn push_window(out: &mut Vec<u8>, prefix: &str, window: Window, store: &[u8]) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(b"w:");
    push_number(out, window);
    out.push(b':');
    out.extend_from_slice(store);
}

/// A bucket's key of a store, written behind its prefix.
pub(crate) fn push_store(out: &mut Vec<u8>, prefix: &str, store: &[u8]) {
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(b"s:");
    out.extend_from_slice(store);
}

/// Digits of a number, without a detour over `fmt`: it is done for every value written.
pub(crate) fn push_number(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Money with exactly `scale` digits.
pub(crate) fn push_money(out: &mut Vec<u8>, units: i128, scale: u32) {
    let small = i64::try_from(units).ok().filter(|_| scale <= 9);
    let Some(small) = small else { return out.extend_from_slice(money(units, scale).as_bytes()) };
    let unit = 10_u64.pow(scale);
    let (whole, mut fraction) = (small.unsigned_abs() / unit, small.unsigned_abs() % unit);
    if small < 0 {
        out.push(b'-');
    }
    push_number(out, whole as i64);
    if scale > 0 {
        out.push(b'.');
        let at = out.len();
        out.resize(at + scale as usize, b'0');
        for digit in out[at..].iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
    }
}

/// The fields of a table's cell: prefixes before currency or kind. `None`: it is not published.
pub(crate) struct Fields {
    pub(crate) sum: Option<&'static str>,
    pub(crate) count: Option<&'static str>,
    pub(crate) distinct: Option<&'static str>,
    pub(crate) revision: &'static str,
}

/// How a table's cells are written. Clicks leave `distinct` away where the job does not keep it.
pub(crate) fn fields(table: Table) -> Fields {
    match table {
        Table::StorePayments => {
            Fields { sum: Some("payment_sum:"), count: Some("payment_count:"), distinct: None, revision: "revision:payments:" }
        }
        Table::StoreSales => {
            Fields { sum: Some("items_sold"), count: None, distinct: Some("products_sold"), revision: "revision:sales" }
        }
        Table::StoreClicks => {
            Fields { sum: None, count: Some("clicks:"), distinct: Some("products_clicked:"), revision: "revision:clicks:" }
        }
        Table::StoreProducts => Fields { sum: None, count: Some(PRODUCTS), distinct: None, revision: "" },
    }
}

/// What the scores of a table's top lists are.
pub(crate) fn top_measure(table: Table) -> &'static str {
    match table {
        Table::StorePayments => "payment_sum",
        Table::StoreSales => "items_sold",
        Table::StoreClicks => "clicks",
        Table::StoreProducts => PRODUCTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_ids_come_back() {
        let keys = Keys::new("mall", 7);
        for store in ["s-1", "", "a:b", "{x}", "}{", "w:5:z", "상점 🛒", "guard", "\u{0}\r\n"] {
            let mut key = Vec::new();
            push_window(&mut key, &keys.bucket(1023), 1_800_000, store.as_bytes());
            assert_eq!(keys.parse(&key), Some((1023, Kind::Window(1_800_000, store.as_bytes()))));
            assert_eq!(keys.generation_of(&key), Some(7));
            key.clear();
            push_store(&mut key, &keys.bucket(0), store.as_bytes());
            assert_eq!(keys.parse(&key), Some((0, Kind::Store(store.as_bytes()))));
        }
        for (table, second) in [(Table::StorePayments, "a:b"), (Table::StoreSales, ""), (Table::StoreClicks, "")] {
            let key = keys.top(table, 60, second.as_bytes());
            assert_eq!(keys.parse_top(&key), Some((table, 60, second.as_bytes())));
        }
        assert_eq!(keys.parse_top_guard(&keys.top_guard(12)), Some(12));
        assert_eq!(keys.parse_top_guard(&Keys::new("mall", 77).top_guard(12)), None);
        assert_eq!(keys.parse(keys.guard(3).as_bytes()), Some((3, Kind::Guard)));
        assert_eq!(keys.parse(keys.top_guard(3).as_bytes()), None);
        assert_eq!(keys.generation_of(keys.top_guard(3).as_bytes()), Some(7));
        assert_eq!(keys.generation_of(keys.about().as_bytes()), Some(7));
        assert_eq!(keys.generation_of(keys.status().as_bytes()), Some(7));
        assert_eq!(keys.generation_of(keys.pointer().as_bytes()), None);
        assert_eq!(keys.parse(keys.stores(3).as_bytes()), None, "it goes with its bucket's hashes, not for itself");
        assert_eq!(keys.generation_of(keys.stores(3).as_bytes()), Some(7));
        assert_eq!(keys.parse_totals(keys.totals(2, 30, -5).as_bytes()), Some((2, 30, Some(-5))));
        assert_eq!(keys.parse_totals(keys.totals_index(2, 30).as_bytes()), Some((2, 30, None)));
        assert_eq!(keys.parse_totals(keys.top_guard(2).as_bytes()), None);
        assert_eq!(keys.parse_totals(keys.totals_of().as_bytes()), None);
        assert_eq!(keys.parse(Keys::new("mall", 77).guard(3).as_bytes()), None);
        assert_eq!(keys.parse(Keys::new("mall2", 7).guard(3).as_bytes()), None);
    }

    #[test]
    fn numbers_as_text() {
        for number in [0, 7, -7, 1_795_168_800_000, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
        for scale in [0, 2, 9, 18] {
            for units in [0, 5, -5, 123_456, -100, i64::MAX.into(), -i128::from(i64::MAX), 10_i128.pow(37)] {
                let mut out = Vec::new();
                push_money(&mut out, units, scale);
                assert_eq!(String::from_utf8(out).unwrap(), money(units, scale));
            }
        }
    }
}
