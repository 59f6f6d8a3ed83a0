//! A column of texts as its dictionary: every different text once, and per row which one it is.
//!
//! Keeps: an open table of slots, each a piece of the text's hash and its place in the dictionary. The piece decides nearly
//! every comparison without looking at the text, and is enough to find the slot again when the table grows.

use xxhash_rust::xxh3::xxh3_64;

/// Slot that is free.
const FREE: u32 = u32::MAX;

/// A column of texts.
#[derive(Default)]
pub(crate) struct Texts {
    /// The different texts, one after the other, in the order they first came.
    bytes: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Piece of the hash, place in the dictionary. A power of two, at most half full.
    slots: Vec<(u32, u32)>,
    /// Per row, the place of its text in the dictionary.
    rows: Vec<u32>,
}

impl Texts {
    /// Appends a row.
    #[inline]
    pub(crate) fn push(&mut self, text: &[u8]) {
        if self.ends.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let piece = xxh3_64(text) as u32;
        let mask = self.slots.len() - 1;
        let mut at = piece as usize & mask;
        let place = loop {
            let (found, place) = self.slots[at];
            if place == FREE {
                let place = self.ends.len() as u32;
                self.slots[at] = (piece, place);
                self.bytes.extend_from_slice(text);
                self.ends.push(self.bytes.len());
                break place;
            }
            if found == piece && self.text(place) == text {
                break place;
            }
            at = (at + 1) & mask;
        };
        self.rows.push(place);
    }

    /// Forgets all rows and texts, but not the memory they had.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.rows.clear();
        self.slots.fill((0, FREE));
    }

    /// Per row, the place of its text in the dictionary.
    pub(crate) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// A text of the dictionary.
    #[inline]
    pub(crate) fn text(&self, place: u32) -> &[u8] {
        let place = place as usize;
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.bytes[start..self.ends[place]]
    }

    /// The different texts.
    pub(crate) fn dictionary(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.ends.len() as u32).map(|place| self.text(place))
    }

    fn grow(&mut self) {
        let slots = vec![(0, FREE); (self.slots.len() * 4).max(64)];
        let mask = slots.len() - 1;
        for (piece, place) in std::mem::replace(&mut self.slots, slots) {
            if place != FREE {
                let mut at = piece as usize & mask;
                while self.slots[at].1 != FREE {
                    at = (at + 1) & mask;
                }
                self.slots[at] = (piece, place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_once_and_every_row_its_own() {
        let mut texts = Texts::default();
        let all: Vec<String> = (0..5000_u64).map(|n| format!("s{}", n * 7919 % 1201)).chain(["".into(), "".into()]).collect();
        all.iter().for_each(|text| texts.push(text.as_bytes()));
        let back: Vec<_> = texts.rows().iter().map(|place| texts.text(*place)).collect();
        assert_eq!(back, all.iter().map(String::as_bytes).collect::<Vec<_>>());
        assert_eq!(texts.dictionary().len(), 1202);
        let different: std::collections::BTreeSet<_> = texts.dictionary().collect();
        assert_eq!(different.len(), 1202);
    }
}
