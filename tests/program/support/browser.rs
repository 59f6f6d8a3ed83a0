//! A real Chromium over the dashboard, told what to do by `tests/browser/driver.mjs`.
//!
//! ```text
//! test ── a line of JSON ──► driver.mjs (Node.js, Playwright) ──► Chromium ──► the server
//!      ◄── a line of JSON ──                                  ◄── what the page shows, logs, asks for
//! ```
//!
//! Upholds: the browser ends with its test, however that ends; every command is answered, or fails by name.
//! Absent on purpose: what a page should show, which is `exported`'s.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::services::{Kind, shared};

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts it; `None`, said aloud, where there is none to be had.
    #[track_caller]
    pub(crate) fn start() -> Option<Browser> {
        let found = shared(Kind::Browser)?;
        let mut command = Command::new(found.variable("STOREFLOW_TEST_BROWSER_NODE"));
        command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/browser/driver.mjs"));
        command.env("NODE_PATH", found.variable("STOREFLOW_TEST_BROWSER_MODULES"));
        command.env("STOREFLOW_TEST_BROWSER", found.variable("STOREFLOW_TEST_BROWSER"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Node.js starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Some(Browser { input: child.stdin.take(), output, child })
    }

    /// Does one thing; what came of it.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &str, more: Value) -> Value {
        let mut line = json!({ "do": command });
        let fields = line.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        let input = self.input.as_mut().expect("open until the end");
        writeln!(input, "{line}").expect("the driver listens");
        let mut reply = String::new();
        self.output.read_line(&mut reply).expect("the driver answers");
        let mut reply: Value = serde_json::from_str(&reply).unwrap_or_else(|_| panic!("{line}: the driver is gone: {reply:?}"));
        assert!(reply["error"].is_null(), "{}", reply["error"].as_str().unwrap_or_default());
        reply["answer"].take()
    }

    /// Opens a page, as in a browser that was never here, and waits for its numbers. `looks`: `locale`, `theme`, `width`, `height`.
    #[track_caller]
    pub(crate) fn open(&mut self, url: &str, mut looks: Value) {
        looks["url"] = url.into();
        self.tell("open", looks);
    }

    /// What the page shows.
    #[track_caller]
    pub(crate) fn read(&mut self) -> Value {
        self.tell("read", json!({}))
    }

    /// Serious things that axe finds; the others are printed.
    #[track_caller]
    pub(crate) fn no_barrier(&mut self, what: &str) {
        let found = self.tell("axe", json!({}));
        let violations = found["violations"].as_array().expect("a list");
        let serious = |violation: &&Value| matches!(violation["impact"].as_str(), Some("serious" | "critical") | None);
        let told = |violation: &Value| format!("{} {}: {:#}", violation["impact"], violation["id"], violation["nodes"]);
        let grave: Vec<String> = violations.iter().filter(serious).map(told).collect();
        assert!(grave.is_empty(), "{what}: {}", grave.join("\n"));
        for violation in violations {
            println!("{what}: {}", told(violation));
        }
        assert!(found["passes"].as_u64().is_some_and(|passes| passes > 10), "{what}: axe looked at nothing: {found}");
    }

    /// Nothing happened behind the page that should not: no error and no warning logged, none thrown, no request elsewhere, no
    /// request that failed or was refused, and it was loaded once.
    #[track_caller]
    pub(crate) fn nothing_wrong(&mut self, address: &str) {
        self.nothing_wrong_but(address, |_| false);
    }

    /// The same, except for those that `excused` knows: what was logged or failed.
    #[track_caller]
    pub(crate) fn nothing_wrong_but(&mut self, address: &str, excused: impl Fn(&str) -> bool) {
        let seen = self.tell("seen", json!({}));
        let texts = |name: &str| -> Vec<String> {
            let list = seen[name].as_array().expect("a list");
            list.iter().map(|text| text.as_str().expect("text").to_owned()).collect()
        };
        for list in ["console", "errors", "failed", "refused"] {
            // What the page itself no longer wants, such as the stream of a store that it has left, is no failure.
            let given_up = |text: &String| list == "failed" && text.starts_with("net::ERR_ABORTED ");
            let wrong: Vec<String> = texts(list).into_iter().filter(|text| !given_up(text) && !excused(text)).collect();
            assert!(wrong.is_empty(), "{list}: {wrong:#?}");
        }
        let requested: BTreeSet<String> = texts("requested").into_iter().collect();
        let ours =
            |url: &String| url.starts_with(&format!("http://{address}/")) || url.starts_with("data:") || url.starts_with("blob:");
        let elsewhere: Vec<&String> = requested.iter().filter(|url| !ours(url)).collect();
        assert!(elsewhere.is_empty() && !requested.is_empty(), "requests that leave the host: {elsewhere:#?}");
        assert_eq!(seen["navigations"], 1, "the page was loaded once: {seen:#}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of its input ends it, and Chromium with it.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
