//! Names of topics, and patterns that many of them match.
//!
//! ```text
//! site-*.payments      * is any run of characters
//! {site}.payments      {site} is one of at least one character, which ids can use
//! ```
//!
//! Each run is the shortest that fits, from left to right. Upholds: if there is a way to match at all, it is found: an earlier end of one run
//! never leaves less room for those after it. A brace that nothing closes is text, and so is all behind it.
//! Absent on purpose: allocation, and any trying again.

/// Whether `topic` is one that `pattern` stands for.
pub fn matches_pattern(pattern: &str, topic: &str) -> bool {
    runs(pattern, topic, |_, _| {})
}

/// What a pattern captures of a topic, in the pattern's order; `None`: it does not match.
pub(super) fn captures(pattern: &str, topic: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    runs(pattern, topic, |name, run| found.push((name.to_owned(), run.to_owned()))).then_some(found)
}

/// The names that a pattern captures, in order.
pub(super) fn names(pattern: &str) -> impl Iterator<Item = &str> {
    let mut rest = pattern;
    std::iter::from_fn(move || {
        loop {
            let (_, run) = piece(rest);
            let (run, behind) = run?;
            rest = behind;
            if let Run::Captured(name) = run {
                return Some(name);
            }
        }
    })
}

/// Whether it stands for other topics than the one of this name.
pub(super) fn is_pattern(topic: &str) -> bool {
    topic.contains(['*', '{'])
}

/// Whether every topic that `topic`, itself a name or a pattern, stands for is one of `pattern`'s. (A capture also covers a `*`, although
/// that may be empty: all but one topic are in both.)
pub(super) fn covers(pattern: &str, topic: &str) -> bool {
    if !topic.contains('{') {
        return matches_pattern(pattern, topic);
    }
    // Only a run can take in a run: no topic has this character.
    let mut plain = String::with_capacity(topic.len());
    let mut rest = topic;
    loop {
        let (literal, run) = piece(rest);
        plain.push_str(literal);
        let Some((_, behind)) = run else { return matches_pattern(pattern, &plain) };
        plain.push('*');
        rest = behind;
    }
}

/// A part of a pattern that stands for many texts.
#[derive(Clone, Copy)]
enum Run<'p> {
    /// `*`
    Any,
    /// `{name}`
    Captured(&'p str),
}

/// The text up to the first run, that run, and what is behind it.
fn piece(pattern: &str) -> (&str, Option<(Run<'_>, &str)>) {
    let Some(at) = pattern.find(['*', '{']) else { return (pattern, None) };
    let (literal, behind) = (&pattern[..at], &pattern[at + 1..]);
    if pattern[at..].starts_with('*') {
        return (literal, Some((Run::Any, behind)));
    }
    match behind.split_once('}') {
        Some((name, behind)) => (literal, Some((Run::Captured(name), behind))),
        None => (pattern, None),
    }
}

fn runs<'p>(pattern: &'p str, topic: &str, mut captured: impl FnMut(&'p str, &str)) -> bool {
    let (literal, mut next) = piece(pattern);
    let Some(mut rest) = topic.strip_prefix(literal) else { return false };
    while let Some((run, behind)) = next {
        let (literal, after) = piece(behind);
        let least = match run {
            Run::Any => 0,
            Run::Captured(_) => rest.chars().next().map_or(usize::MAX, char::len_utf8),
        };
        let at = match after {
            None => rest.len().checked_sub(literal.len()).filter(|at| *at >= least && rest.ends_with(literal)),
            Some(_) => rest.get(least..).and_then(|rest| rest.find(literal)).map(|at| at + least),
        };
        let Some(at) = at else { return false };
        if let Run::Captured(name) = run {
            captured(name, &rest[..at]);
        }
        (rest, next) = (&rest[at + literal.len()..], after);
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns() {
        for (pattern, topic, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("site-*.payments", "site-7.payments", true),
            ("site-*.payments", "site-7.clicks", false),
            ("*", "", true),
            ("a*b*a", "aba", true),
            ("a*ba", "aba", true),
            ("ab*ba", "aba", false),
            ("{site}.payments", "a.payments", true),
            ("{site}.payments", ".payments", false),
            ("{site}", "", false),
            ("a{b", "a{b", true),
        ] {
            assert_eq!(matches_pattern(pattern, topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn captured() {
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        for (pattern, topic, expected) in [
            ("{site}.payments", "seoul-1.payments", Some(vec![pair("site", "seoul-1")])),
            ("{a}.{b}.c", "x.y.z.c", Some(vec![pair("a", "x"), pair("b", "y.z")])),
            ("{a}.{b}", "..x", Some(vec![pair("a", "."), pair("b", "x")])),
            ("*.{a}-*", "p.상점-", Some(vec![pair("a", "상점")])),
            ("plain", "plain", Some(vec![])),
            ("{a}.b", "a.c", None),
        ] {
            assert_eq!(captures(pattern, topic), expected, "{pattern} on {topic}");
        }
        assert_eq!(names("*.{a}-{b_2}*").collect::<Vec<_>>(), ["a", "b_2"]);
    }

    /// Every split tried, the shortest run first.
    fn tried<'p>(pattern: &'p str, topic: &str) -> Option<Vec<(&'p str, String)>> {
        let (literal, run) = piece(pattern);
        let rest = topic.strip_prefix(literal)?;
        let Some((run, behind)) = run else { return rest.is_empty().then(Vec::new) };
        (0..=rest.len()).filter(|end| rest.is_char_boundary(*end)).find_map(|end| match run {
            Run::Any => tried(behind, &rest[end..]),
            Run::Captured(_) if end == 0 => None,
            Run::Captured(name) => {
                let mut found = tried(behind, &rest[end..])?;
                found.insert(0, (name, rest[..end].to_owned()));
                Some(found)
            }
        })
    }

    proptest! {
        #[test]
        fn the_first_of_all_ways_to_match(pattern in "([ab.é]|\\*|\\{x\\}|\\{y\\}){0,7}", topic in "[ab.é]{0,9}") {
            let expected = tried(&pattern, &topic).map(|found| found.into_iter().map(|(name, run)| (name.to_owned(), run)).collect());
            prop_assert_eq!(captures(&pattern, &topic), expected);
        }

        /// What is covered has no topic of its own, but the one where a run is empty.
        #[test]
        fn what_is_covered_is_in_both(
            wide in "([ab]|\\*|\\{x\\}){0,4}", narrow in "([ab]|\\*|\\{y\\}){0,4}", runs in proptest::collection::vec("[ab]{1,2}", 4)
        ) {
            if covers(&wide, &narrow) {
                let (mut topic, mut rest, mut runs) = (String::new(), narrow.as_str(), runs.into_iter());
                loop {
                    let (literal, run) = piece(rest);
                    topic.push_str(literal);
                    let Some((_, behind)) = run else { break };
                    topic.extend(runs.next());
                    rest = behind;
                }
                prop_assert!(matches_pattern(&narrow, &topic) && matches_pattern(&wide, &topic), "{}", topic);
            }
        }
    }
}
