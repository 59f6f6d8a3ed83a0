//! `storeflow decode` from outside: what goes in by files, pipes and keys, and how it ends.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value as Json;

use crate::support::binary::{Ended, dataset, refuse, run, storeflow, succeed, text};

/// Arguments over the small mall's job.
fn args<'a>(job: &'a str, topic: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["decode", "--job", job, "--topic", topic], more].concat()
}

/// Runs it with this as its input.
fn piped(args: &[&str], input: &str) -> Ended {
    let mut command = storeflow(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let ended = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
}

#[test]
fn decode_prints_one_line_for_each_record_of_a_file_however_it_is_packed() {
    let mall = dataset("mall-small");
    let job = text(&mall.join("mall.toml"));
    for topic in ["mall.payments", "mall.order_items", "mall.products", "mall.clicks"] {
        for file in ["0.ndjson", "1.ndjson.zst", "3.ndjson.gz"] {
            let path = text(&mall.join(topic).join(file));
            let printed = succeed(&args(&job, topic, &[&path]));
            let lines: Vec<Json> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            assert!(!lines.is_empty(), "{path}");
            assert!(lines.iter().all(|line| line["position"].is_u64() && line["outcome"].is_string()), "{path}");
            let positions: Vec<u64> = lines.iter().filter_map(|line| line["position"].as_u64()).collect();
            assert!(positions.is_sorted(), "{path} is told in order");
        }
    }
}

#[test]
fn decode_reads_a_pipe_and_is_strict_only_if_told() {
    let job = text(&dataset("mall-small").join("mall.toml"));
    let records = concat!(
        r#"{"op":"c","after":{"product_id":7,"store_id":3,"state":"ON_SALE"}}"#,
        "\n",
        r#"{"op":"c","after":{"product_id":8,"state":"ON_SALE"}}"#,
        "\n"
    );
    let good = records.lines().next().expect("a line");
    let Ended { code, out, err } = piped(&args(&job, "mall.products", &[]), records);
    assert_eq!((code, out.lines().count()), (Some(0), 2), "{out}{err}");
    let strict = args(&job, "mall.products", &["--strict"]);
    assert_eq!(piped(&strict, records).code, Some(1));
    assert_eq!((piped(&strict, good).code, piped(&strict, "").code), (Some(0), Some(0)));
    assert!(out.contains("\"outcome\":\"dead_letter\""), "{out}");
    assert!(err.contains("2 records: "), "{err}");
}

#[test]
fn decode_says_what_it_cannot_read() {
    let job = text(&dataset("mall-small").join("mall.toml"));
    refuse(&args(&job, "mall.payment", &[]), &["\"mall.payment\"", "\"mall.payments\""]);
    refuse(&args(&job, "mall.payments", &["/nowhere/0.ndjson"]), &["/nowhere/0.ndjson"]);
    let folder = tempfile::tempdir().expect("a folder");
    let damaged = folder.path().join("0.ndjson.gz");
    std::fs::write(&damaged, "no gzip").expect("written");
    refuse(&args(&job, "mall.payments", &[&text(&damaged)]), &["0.ndjson.gz"]);
    assert_eq!(run(&mut storeflow(&["decode", "--job", &job])).code, Some(2), "a topic must be named");
}
