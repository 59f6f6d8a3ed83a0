//! The walk over JSON that all decoders share, held against a reader that builds a tree.
#![no_main]

use storeflow_fuzz::bounded;
use storeflow_fuzz::decode::json::{Fields, Value, read, unescape};

const NAMES: [&str; 4] = ["id", "op", "payload", ""];

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    // Decoders are given nothing else.
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let fields = Fields::new(NAMES);
    let mut found = [Value::Absent; NAMES.len()];
    let walked = bounded(text.len(), || read(text, &fields, &mut found));
    let tree: Result<serde_json::Value, _> = serde_json::from_slice(text);
    assert_eq!(walked.is_ok(), tree.is_ok(), "{walked:?} and {tree:?}");
    let Ok(tree) = tree else { return };
    for (name, value) in NAMES.into_iter().zip(found) {
        let expected = tree.get(name);
        match value {
            Value::Absent => assert_eq!(expected, None),
            Value::Unsaid => panic!("only what patches are made of is unsaid"),
            Value::Plain(raw) => assert_eq!(expected.and_then(|text| text.as_str()).map(str::as_bytes), Some(raw)),
            Value::Escaped(raw) => {
                let unescaped = bounded(text.len(), || unescape(raw));
                assert_eq!(expected.and_then(|text| text.as_str()).map(str::as_bytes), Some(unescaped.as_slice()));
            }
            Value::Null => assert_eq!(expected, Some(&serde_json::Value::Null)),
            Value::Bool(raw) | Value::Number(raw) | Value::Object(raw) | Value::Array(raw) => {
                assert_eq!(serde_json::from_slice::<serde_json::Value>(raw).ok().as_ref(), expected);
            }
        }
    }
});
