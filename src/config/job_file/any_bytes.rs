//! Whatever a file holds there is an answer: a job that can be written and read again, or mistakes with their places.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::messages::MALL;
use super::*;

/// Reads the bytes and holds the answer against its promises.
#[track_caller]
fn check(bytes: &[u8]) {
    match parse_bytes(bytes, "f") {
        Ok(job) => assert_eq!(parse(&job.to_string(), "f").ok(), Some(job)),
        Err(error) => {
            let said = error.to_string();
            let JobFileError::Mistakes { mistakes, more, .. } = error else { panic!("not read at all: {said}") };
            let text = String::from_utf8_lossy(bytes);
            let lines: Vec<&str> = text.split('\n').collect();
            assert!(!mistakes.is_empty());
            assert_eq!(said.lines().count(), mistakes.len() + usize::from(more > 0), "{said}");
            assert!(mistakes.is_sorted_by_key(|mistake| (mistake.line, mistake.column)), "{said}");
            for Mistake { line, column, what } in &mistakes {
                let line = lines.get(line - 1).unwrap_or_else(|| panic!("no line {line}: {what}"));
                assert!((1..=line.chars().count() + 1).contains(column), "no column {column}: {what}");
                assert!(what.len() < 2_000 && !what.contains(char::is_control), "{what:?}");
            }
        }
    }
}

/// Pieces job files are made of, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let words = source::FIELDS.iter().chain(&FIELDS).map(|word| (*word).to_owned());
    let signs = [
        "=",
        ".",
        ",",
        "\n",
        "\n",
        "\n[[source]]\n",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "\"\"\"",
        "'''",
        "#",
        "\\",
        "-",
        "%",
        " ",
        "\r",
        "\u{feff}",
        "é",
        "\0",
    ];
    let values = [
        "\"30m\"",
        "\"a\"",
        "1",
        "0x_",
        "1.5",
        "true",
        "nan",
        "2026-01-01",
        "[]",
        "{}",
        "{ field = \"t\", unit = \"ms\" }",
        "\"payments\"",
        "\"%F\"",
        "99999999999999999999",
    ];
    let pieces: Vec<String> = words.chain(signs.iter().chain(&values).map(|sign| (*sign).to_owned())).collect();
    proptest::collection::vec(proptest::sample::select(pieces), 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes);
    }

    #[test]
    fn random_text(text in "\\PC{0,100}") {
        check(text.as_bytes());
    }

    #[test]
    fn pieces_of_job_files(text in pieces()) {
        check(text.as_bytes());
    }

    /// A valid job file with a few bytes lost, replaced or put in.
    #[test]
    fn damaged(cuts in proptest::collection::vec((0..MALL.len(), 0..12_usize, pieces(), any::<bool>()), 1..4)) {
        let mut bytes = MALL.as_bytes().to_vec();
        for (at, length, put, whole) in cuts {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            let put = put.as_bytes();
            bytes.splice(at..end, put[..if whole { put.len() } else { put.len().min(2) }].iter().copied());
        }
        check(&bytes);
    }

    /// Any text as a time format, as jiff reads and writes it.
    #[test]
    fn any_format(format in "(%[-_0^#]?[0-9]{0,3}[.:]{0,3}[a-zA-Z%]|\\PC|[ :-]){0,6}") {
        let unit = format!("unit = {{ format = {} }}", toml_text(&format));
        check(MALL.replace("unit = \"us\"", &unit).as_bytes());
    }
}

fn toml_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _ = write!(quoted, "\\U{:08X}", u32::from(c));
    }
    quoted + "\""
}

#[test]
fn cut_anywhere() {
    for end in 0..=MALL.len() {
        check(&MALL.as_bytes()[..end]);
    }
}

#[test]
fn any_line_lost_or_repeated() {
    let lines: Vec<&str> = MALL.lines().collect();
    for i in 0..lines.len() {
        let without: Vec<&str> = lines.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, line)| *line).collect();
        check(without.join("\n").as_bytes());
        let mut twice = lines.clone();
        twice.insert(i, lines[i]);
        check(twice.join("\n").as_bytes());
    }
}

/// Dotted keys nest tables far deeper than a test's stack holds.
#[test]
fn nested_deeply() {
    let path = vec!["a"; 79].join(".");
    let inline = (0..78).fold("1".to_owned(), |inner, _| format!("{{{path}={inner}}}"));
    check(format!("[{path}]\n{path}={inline}\n{path}={inline}").as_bytes());
    for open in ["[", "{a=", "a.", "[[", "[a."] {
        check(open.repeat(10_000).as_bytes());
        check(format!("a = {}", open.repeat(10_000)).as_bytes());
    }
}

/// As large as a job file may be, and nothing right in it: the answer comes at once all the same.
#[test]
fn large_and_wrong() {
    let numbered = |line: fn(usize) -> String| {
        let mut text = String::new();
        for i in 0.. {
            let line = line(i);
            if text.len() + line.len() > FILE_BYTES_MAX as usize {
                return text;
            }
            text.push_str(&line);
        }
        text
    };
    let texts = [
        numbered(|i| format!("produkt{i} = 1\n")),
        numbered(|_| "= 1\n".to_owned()),
        numbered(|_| "= ".to_owned()),
        numbered(|_| "a = é ".to_owned()),
        numbered(|_| "[] ]\n".to_owned()),
        numbered(|i| if i < 40_000 { "[[source]]\n" } else { "= \n" }.to_owned()),
        numbered(|i| if i % 2 == 0 { "[[source]]\n" } else { "x = y z\n" }.to_owned()),
        numbered(|_| "[[source]]\n".to_owned()),
        numbered(|_| "[[source]]\ntopic = \"t\"\n".to_owned()),
        format!("[[source]]\ntopics = [{}]", &numbered(|i| format!("\"{i}*\","))[..900_000]),
        format!("[[source]]\ntopic = \"{}\"\n\"{}\" = 1", "*".repeat(500_000), "x".repeat(500_000)),
        numbered(|i| format!("[[source]]\ntopics = [\"{i}*a*b*c*d*e\", \"{i}\"]\n")),
        numbered(|i| format!("[a.b.c{i}]\n")),
    ];
    for text in texts {
        let start = Instant::now();
        check(text.as_bytes());
        let took = start.elapsed();
        assert!(took < Duration::from_secs(20), "{took:?} for {:?}…", text.chars().take(40).collect::<String>());
    }
}

#[test]
fn files_that_are_none() {
    let said = |path: &Path| load(path).map_err(|error| format!("{:#}", anyhow::Error::from(error)));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let shown = path.display();
    let large = path.join("large.toml");
    File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let utf16 = path.join("utf16.toml");
    std::fs::write(&utf16, b"name = \"a\"\n# \xfe").unwrap();
    for (path, expected) in [
        (
            path.join("none.toml"),
            format!("could not read job file \"{shown}/none.toml\": No such file or directory (os error 2)"),
        ),
        (path.to_owned(), format!("could not read job file \"{shown}\": Is a directory (os error 21)")),
        (large, format!("job file \"{shown}/large.toml\" is larger than 1048576 bytes; is it a job file?")),
        (utf16, format!("{shown}/utf16.toml:2:3: byte 0xfe is not UTF-8; save the file as UTF-8")),
        (path.join("nul\0"), format!("could not read job file \"{shown}/nul\0\": file name contained an unexpected NUL byte")),
    ] {
        assert_eq!(said(&path), Err(expected));
    }
}
