//! The API against its own OpenAPI document, by somebody else's program: Schemathesis asks what the document allows and what it does not,
//! and looks at whether status, headers, media type and JSON are what it says.

use std::process::Command;

use storeflow::serve::keys::{digest_of, new_key};

use crate::api::{Server, ran};
use crate::support::binary::text;
use crate::support::services::{Kind, shared};

/// Questions per operation, of random ones: together some thousands.
const EXAMPLES: &str = "60";

/// Asks; it must find nothing. Streams do not end by themselves, and their events are another test's.
fn finds_nothing(schemathesis: &str, server: &Server, how: &[&str]) {
    let document = format!("http://{}/openapi.json", server.address);
    let mut command = Command::new(schemathesis);
    command.args(["run", &document, "--exclude-path", "/v1/stream", "--seed", "6"]).args(how);
    // It keeps what it found below the folder it is started in.
    let folder = tempfile::tempdir().expect("a folder");
    let output = command.current_dir(folder.path()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("6 selected"), "{said}");
}

#[test]
fn schemathesis_finds_nothing() {
    let Some(schemathesis) = shared(Kind::Schemathesis) else { return };
    let (_folder, out) = ran();
    let mut server = Server::start(&["serve", "--data-dir", &out, "--listen", "127.0.0.1:0"]);
    finds_nothing(schemathesis.address(), &server, &["--checks", "all", "--max-examples", EXAMPLES]);
    server.running.stop();
}

#[test]
fn schemathesis_finds_nothing_where_keys_are_in_use() {
    let Some(schemathesis) = shared(Kind::Schemathesis) else { return };
    let (folder, out) = ran();
    let (keys, key) = (text(&folder.path().join("keys.toml")), new_key().expect("random numbers"));
    let hash: String = digest_of(&key).0.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&keys, format!("[[key]]\nid = \"all\"\nsha256 = \"{hash}\"\n")).expect("written");
    let flags = ["serve", "--data-dir", &out, "--listen", "127.0.0.1:0", "--api-keys", &keys, "--rate", "100000"];
    let mut server = Server::start(&flags);
    let header = format!("Authorization: Bearer {key}");
    let all = ["--checks", "all", "--exclude-checks", "ignored_auth", "--max-examples", "10", "--header", &header];
    finds_nothing(schemathesis.address(), &server, &all);
    // What asks without a key is answered ten times a second, and each case asks so twice.
    let refused = [
        "--checks",
        "ignored_auth",
        "--phases",
        "examples,fuzzing",
        "--max-examples",
        "3",
        "--rate-limit",
        "3/s",
        "--header",
        &header,
    ];
    finds_nothing(schemathesis.address(), &server, &refused);
    server.running.stop();
}
