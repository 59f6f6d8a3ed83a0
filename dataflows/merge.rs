//! What a patch makes of the row that is stored: what it says is its own, the rest as it was, or not known.

use crate::change::{Row, says};
use crate::key::{Key, Text};
use crate::table::ELSEWHERE;

/// The key of a cell from store and second part, with scratch space; see [`Hashing`](crate::key::Hashing).
type CellKey = fn(&[u8], &[u8], &mut Vec<u8>) -> Key;

/// The row after a patch that says the parts `said`.
pub(crate) fn merged(stored: Option<&Row>, patch: Row, said: u32, cell_key: CellKey, scratch: &mut Vec<u8>) -> Row {
    let lacks = stored.map_or(says::ALL, |row| row.lacks) & !said | patch.lacks & said;
    let store_and_second = says::STORE | says::SECOND;
    let cell = match (stored, said & store_and_second) {
        (_, both) if both == store_and_second => patch.cell,
        (Some(stored), 0) => stored.cell.clone(),
        (stored, said) => {
            let (store, second) = stored.map_or((&b""[..], &b""[..]), |row| row.cell.cell_parts());
            let (new_store, new_second) = patch.cell.cell_parts();
            let store = if said & says::STORE != 0 { new_store } else { store };
            let second = if said & says::SECOND != 0 { new_second } else { second };
            cell_key(store, second, scratch)
        }
    };
    let is_said = |part: u32| said & part != 0;
    let member = if is_said(says::MEMBER) { patch.member } else { stored.map_or(Text::EMPTY, |row| row.member.clone()) };
    let window = if is_said(says::WINDOW) { patch.window } else { stored.map_or(ELSEWHERE, |row| row.window) };
    let amount = if is_said(says::AMOUNT) { patch.amount } else { stored.map_or(0, |row| row.amount) };
    Row { cell, member, window, amount, lacks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell_key(store: &[u8], second: &[u8], scratch: &mut Vec<u8>) -> Key {
        Key::cell_bytes(store, second, scratch);
        Key { hash: scratch.iter().map(|byte| u64::from(*byte)).sum(), text: Text::new(scratch) }
    }

    fn row(store: &str, second: &str, member: &str, window: i64, amount: i128, lacks: u32) -> Row {
        let cell = cell_key(store.as_bytes(), second.as_bytes(), &mut Vec::new());
        Row { cell, member: Text::new(member.as_bytes()), window, amount, lacks }
    }

    fn after(stored: Option<&Row>, patch: &Row, said: u32) -> Row {
        merged(stored, patch.clone(), said, cell_key, &mut Vec::new())
    }

    #[test]
    fn each_part_is_the_patch_s_or_the_row_s() {
        let (stored, patch) = (row("a", "KRW", "p", 1, 10, 0b101), row("b", "USD", "q", 2, 20, 0b010));
        assert_eq!(after(Some(&stored), &patch, says::ALL), patch);
        assert_eq!(after(Some(&stored), &patch, 0), stored);
        assert_eq!(after(Some(&stored), &patch, says::STORE), row("b", "KRW", "p", 1, 10, 0b101));
        assert_eq!(after(Some(&stored), &patch, says::SECOND), row("a", "USD", "p", 1, 10, 0b101));
        assert_eq!(after(Some(&stored), &patch, says::MEMBER), row("a", "KRW", "q", 1, 10, 0b101));
        assert_eq!(after(Some(&stored), &patch, says::WINDOW), row("a", "KRW", "p", 2, 10, 0b101));
        assert_eq!(after(Some(&stored), &patch, says::AMOUNT), row("a", "KRW", "p", 1, 20, 0b101));
        assert_eq!(after(Some(&stored), &patch, 0b011), row("a", "KRW", "p", 1, 10, 0b110));
    }

    #[test]
    fn what_is_not_said_of_nothing_is_lacking_until_it_is_said() {
        let patch = row("b", "USD", "q", 2, 20, 0);
        let said = says::CONDITIONS | says::SECOND | says::AMOUNT;
        let first = after(None, &patch, said);
        assert_eq!(first, row("", "USD", "", ELSEWHERE, 20, says::STORE | says::MEMBER | says::WINDOW));
        let second = after(Some(&first), &patch, says::STORE | says::WINDOW);
        assert_eq!(second, row("b", "USD", "", 2, 20, says::MEMBER));
        assert_eq!(after(Some(&second), &patch, says::MEMBER), patch);
    }
}
