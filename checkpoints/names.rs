//! What the objects of a generation's checkpoints are called.
//!
//! ```text
//! <prefix>/manifests/0000000042.json                 checkpoint 42
//! <prefix>/state/0000000042-0of2-5f1c09aa            what worker 0 of 2 changed for it, written by run 5f1c09aa
//! <prefix>/state/0000000042-0of2-5f1c09aa-m3         the third object that this worker merged, first meant for checkpoint 42
//! ```
//!
//! Upholds: (1) two runs never give two objects one name, so a process that lives on after its cluster was replaced can write
//! what it likes without touching what others committed; (2) the order of names is the order of numbers.
//! Keeps: nothing. Absent on purpose: a way to list by run or worker; manifests say what counts.

use crate::object::Group;

/// Characters that a run's name may have: those that every store keeps as they are.
fn is_plain(run: &str) -> bool {
    (1..=64).contains(&run.len()) && run.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The folder of the manifests.
pub fn manifests_folder(prefix: &str) -> String {
    format!("{prefix}/manifests")
}

/// Where manifest `number` is.
pub fn manifest_key(prefix: &str, number: u64) -> String {
    format!("{prefix}/manifests/{number:010}.json")
}

/// The number of the manifest at a key; `None`: no manifest of ours.
pub(crate) fn manifest_number(key: &str) -> Option<u64> {
    let digits = key.rsplit('/').next()?.strip_suffix(".json")?;
    (digits.len() >= 10).then_some(())?;
    number(digits)
}

/// The folder of the state's objects.
pub fn state_folder(prefix: &str) -> String {
    format!("{prefix}/state")
}

/// Names one object of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateName<'a> {
    /// The manifest that it is meant for, so always greater than that of the last commit its run has seen; a merged object may
    /// come into a later one.
    pub number: u64,
    /// Whose state it is.
    pub group: Group,
    /// `None`: what changed. Otherwise which of the worker's merged objects it is, counted from the start of its run.
    pub merged: Option<u64>,
    /// The run that writes it: one start of the whole cluster, never used again for another.
    pub run: &'a str,
}

impl StateName<'_> {
    /// Where the object is.
    ///
    /// # Panics
    /// If the run's name is empty, longer than 64 bytes, or has other characters than letters, digits, `-`, `_` and `.`.
    pub fn key(&self, prefix: &str) -> String {
        let StateName { number, group: Group { index, of }, merged, run } = self;
        assert!(is_plain(run), "a run's name has 1 to 64 letters, digits and -_. only, not {run:?}");
        let merged = merged.map_or_else(String::new, |merged| format!("-m{merged}"));
        format!("{prefix}/state/{number:010}-{index}of{of}-{run}{merged}")
    }
}

/// The number in the name of an object of state; `None`: no object of ours, which is left alone.
pub(crate) fn state_number(key: &str) -> Option<u64> {
    let (digits, rest) = key.rsplit('/').next()?.split_once('-')?;
    let (group, _run) = rest.split_once('-')?;
    let (index, of) = group.split_once("of")?;
    (digits.len() >= 10 && number(index)? < number(of)?).then_some(())?;
    number(digits)
}

/// Whether an object of state may have been written by this run. A run whose name begins like another's is taken for it, too,
/// which errs on the side of keeping.
pub(crate) fn is_of_run(key: &str, run: &str) -> bool {
    key.rsplit('/').next().is_some_and(|name| name.contains(&format!("-{run}")))
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_numbers() {
        assert_eq!(manifest_key("mall/gen-000001/checkpoints", 42), "mall/gen-000001/checkpoints/manifests/0000000042.json");
        assert_eq!(manifest_number(&manifest_key("a", 42)), Some(42));
        for other in ["a/manifests/42.json", "a/manifests/0000000042.json.tmp", "a/manifests/00000000+2.json", "a/.json"] {
            assert_eq!(manifest_number(other), None, "{other}");
        }
        let delta = StateName { number: 7, group: Group { index: 1, of: 3 }, merged: None, run: "ab-c" };
        let merged = StateName { merged: Some(12), ..delta };
        assert_eq!(delta.key("p"), "p/state/0000000007-1of3-ab-c");
        assert_eq!(merged.key("p"), "p/state/0000000007-1of3-ab-c-m12");
        for name in [delta, merged] {
            assert_eq!(state_number(&name.key("p")), Some(7));
            assert!(is_of_run(&name.key("p"), "ab-c"));
            assert!(!is_of_run(&name.key("p"), "other"));
        }
        for other in ["p/state/README", "p/state/0000000007-3of3-a", "p/state/7-0of1-a", "p/state/0000000007-0of1"] {
            assert_eq!(state_number(other), None, "{other}");
        }
    }

    #[test]
    #[should_panic(expected = "a run's name")]
    fn a_run_cannot_leave_its_folder() {
        StateName { number: 1, group: Group { index: 0, of: 1 }, merged: None, run: "../x" }.key("p");
    }
}
