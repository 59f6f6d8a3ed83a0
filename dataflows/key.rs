//! Text of ids, and keys made of it.
//!
//! Ids are opaque text compared bytewise. Most are short, so [`Text`] keeps up to 30 bytes in place and only longer ones on
//! the heap. A [`Key`] is such text together with its stable hash, which whoever decodes the record computes once; routing,
//! combining, tallies and the view all reuse it.

use std::hash::{BuildHasherDefault, Hash, Hasher};

use serde::{Deserialize, Serialize};

/// Number of shards. Part of the state format: routing, state files and view buckets agree on it.
pub const SHARDS: u64 = 1024;

const INLINE: usize = 30;

/// Immutable text, in place up to 30 bytes. 32 bytes in size.
#[derive(Clone, Serialize, Deserialize)]
pub enum Text {
    /// The first `len` bytes of the array; the rest are zero.
    Inline(u8, [u8; INLINE]),
    /// Longer text.
    Heap(Box<[u8]>),
}

impl Text {
    /// Copies `bytes`.
    #[inline]
    pub fn new(bytes: &[u8]) -> Self {
        if bytes.len() <= INLINE {
            let mut inline = [0; INLINE];
            inline[..bytes.len()].copy_from_slice(bytes);
            Text::Inline(bytes.len() as u8, inline)
        } else {
            Text::Heap(bytes.into())
        }
    }

    /// The bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Inline(len, bytes) => &bytes[..usize::from(*len)],
            Text::Heap(bytes) => bytes,
        }
    }

    /// The text, for people; ids come from valid JSON, so nothing is lost in practice.
    pub fn to_str(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }

    /// Bytes held outside the value itself.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Text::Inline(..) => 0,
            Text::Heap(bytes) => bytes.len(),
        }
    }
}

impl PartialEq for Text {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Text::Inline(a, x), Text::Inline(b, y)) => a == b && x == y,
            (Text::Heap(x), Text::Heap(y)) => x == y,
            _ => false,
        }
    }
}
impl Eq for Text {}
impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_bytes());
        state.write_usize(self.as_bytes().len());
    }
}
impl Text {
    /// No text.
    pub const EMPTY: Text = Text::Inline(0, [0; INLINE]);

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.as_bytes().is_empty()
    }
}
impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}
impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.to_str())
    }
}

/// A key with its stable hash. The top ten bits of the hash are the shard.
///
/// The key of a cell is `store` and, for some tables, a second part (currency, click kind), see [`Key::cell_bytes`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Key {
    /// Stable hash; equal keys have equal hashes.
    pub hash: u64,
    /// The key itself.
    pub text: Text,
}

impl Key {
    /// The shard this key lives in; worker `w` of `n` owns it when `shard % n == w`.
    #[inline]
    pub fn shard(&self) -> u64 {
        self.hash >> 54
    }

    /// Writes the bytes of a cell key: the length of `store` (LEB128), `store`, `second`.
    pub fn cell_bytes(store: &[u8], second: &[u8], out: &mut Vec<u8>) {
        out.clear();
        push_varint(out, store.len() as u64);
        out.extend_from_slice(store);
        out.extend_from_slice(second);
    }

    /// The two parts of a cell key.
    pub fn cell_parts(&self) -> (&[u8], &[u8]) {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        let len = read_varint(bytes, &mut at) as usize;
        bytes[at..].split_at(len)
    }
}

/// How texts are hashed: by whoever decodes records, so that what is made here lies where that puts it.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    /// The hash of a row's key.
    pub row: fn(&[u8]) -> u64,
    /// The key of a cell from store and second part, see [`Key::cell_bytes`]; the last is scratch space. Its shard is that of `row` of
    /// the store.
    pub cell: fn(&[u8], &[u8], &mut Vec<u8>) -> Key,
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}
impl Eq for Key {}
impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.hash, &self.text).cmp(&(other.hash, &other.text))
    }
}

/// Appends `value` as LEB128, seven bits per byte, least first.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads what [`push_varint`] wrote, moving `at` past it.
#[inline]
pub fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    let mut shift = 0;
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

/// Appends a signed value: zigzag, the low and the high half each as LEB128.
pub fn push_signed(out: &mut Vec<u8>, value: i128) {
    let zigzag = ((value << 1) ^ (value >> 127)) as u128;
    push_varint(out, zigzag as u64);
    push_varint(out, (zigzag >> 64) as u64);
}

/// Reads what [`push_signed`] wrote, moving `at` past it.
pub fn read_signed(bytes: &[u8], at: &mut usize) -> i128 {
    let low = u128::from(read_varint(bytes, at));
    let zigzag = low | u128::from(read_varint(bytes, at)) << 64;
    (zigzag >> 1) as i128 ^ -((zigzag & 1) as i128)
}

/// A hasher for keys that carry their hash: folds the 64-bit words it is given with a multiplication.
///
/// The constant is 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4).
#[derive(Default)]
pub struct WordHasher(u64);

impl Hasher for WordHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    #[inline]
    fn write_i64(&mut self, word: i64) {
        self.write_u64(word as u64);
    }
    #[inline]
    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }
    #[inline]
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// `HashMap` by [`WordHasher`].
pub type WordMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<WordHasher>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_small_and_keeps_its_bytes() {
        assert_eq!(std::mem::size_of::<Text>(), 32);
        for len in [0, 1, 29, 30, 31, 300] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            assert_eq!(Text::new(&bytes).as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn cell_parts_come_back() {
        let mut bytes = Vec::new();
        for (store, second) in [("s", "KRW"), ("", "x"), (&*"s".repeat(200), "")] {
            Key::cell_bytes(store.as_bytes(), second.as_bytes(), &mut bytes);
            let key = Key { hash: 0, text: Text::new(&bytes) };
            assert_eq!(key.cell_parts(), (store.as_bytes(), second.as_bytes()));
        }
    }
}
