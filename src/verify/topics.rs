//! What a topic pattern captures of a topic's name.

use std::collections::BTreeMap;

use crate::config::SourceSpec;

/// A piece of a pattern.
#[derive(Debug, PartialEq)]
enum Piece<'a> {
    /// This character.
    Letter(char),
    /// Any run of characters.
    Any,
    /// Any run of at least one character, by name.
    Named(&'a str),
}

/// The names that the first pattern of `source` that matches `topic` captures; `None` if none matches.
pub(super) fn captures(source: &SourceSpec, topic: &str) -> Option<BTreeMap<String, String>> {
    let topic: Vec<char> = topic.chars().collect();
    source.topics.iter().find_map(|pattern| fit(&pieces(pattern), &topic))
}

/// The names that a source captures of every topic.
pub(super) fn captured_names(source: &SourceSpec) -> Vec<String> {
    let named = |piece| match piece {
        Piece::Named(name) => Some(name.to_string()),
        Piece::Letter(_) | Piece::Any => None,
    };
    source.topics.iter().take(1).flat_map(|pattern| pieces(pattern).into_iter().filter_map(named)).collect()
}

fn pieces(pattern: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), pattern);
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        match (first, rest.split_once('}')) {
            ('*', _) => pieces.push(Piece::Any),
            ('{', Some((name, behind))) => {
                pieces.push(Piece::Named(name));
                rest = behind;
            }
            _ => pieces.push(Piece::Letter(first)),
        }
    }
    pieces
}

/// Tries every length of every run, the shortest first.
fn fit(pieces: &[Piece<'_>], topic: &[char]) -> Option<BTreeMap<String, String>> {
    match pieces.split_first() {
        None => topic.is_empty().then(BTreeMap::new),
        Some((Piece::Letter(letter), rest)) => (topic.first()? == letter).then(|| fit(rest, &topic[1..])).flatten(),
        Some((Piece::Any, rest)) => (0..=topic.len()).find_map(|length| fit(rest, &topic[length..])),
        Some((Piece::Named(name), rest)) => (1..=topic.len()).find_map(|length| {
            let mut captured = fit(rest, &topic[length..])?;
            captured.insert(name.to_string(), topic[..length].iter().collect());
            Some(captured)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Format, Role};

    #[test]
    fn names_are_captured_by_the_shortest_run_that_fits() {
        for (pattern, topic, expected) in [
            ("mall.payments", "mall.payments", Some("")),
            ("mall.payments", "mall.payments2", None),
            ("*.payments", "seoul.payments", Some("")),
            ("{site}.payments", "seoul.payments", Some("site=seoul")),
            ("{site}.payments", ".payments", None),
            ("{site}.payments", "a.payments.payments", Some("site=a.payments")),
            ("{site}.{table}", "a.b.c", Some("site=a table=b.c")),
            ("{site}.{table}", ".a.b", Some("site=.a table=b")),
            ("{a}{b}-*", "xyz-", Some("a=x b=yz")),
            ("*{a}", "xyz", Some("a=xyz")),
            ("{a}*", "가나다", Some("a=가")),
            ("x{a", "x{a", Some("")),
        ] {
            let source = SourceSpec::plain(pattern, Role::Clicks, Format::Json, "store");
            let found = captures(&source, topic)
                .map(|names| names.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), expected, "{pattern} on {topic}");
        }
        let mut source = SourceSpec::plain("a", Role::Clicks, Format::Json, "store");
        source.topics.push("{b}".to_string());
        assert_eq!(captures(&source, "a"), Some(BTreeMap::new()));
        assert_eq!(captured_names(&SourceSpec::plain("{x}-*-{y}", Role::Clicks, Format::Json, "s")), ["x", "y"]);
    }
}
