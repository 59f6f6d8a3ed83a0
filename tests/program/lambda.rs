//! The real function against a local Lambda runtime API and a real Redis, beside the server that answers from the same view.
//!
//! ```text
//! replay ─► Redis ─┬─► serve ─────────────► answer ─┐
//!                  └─► storeflow-lambda ──► answer ─┴─► the same, but for what only one of them can say
//! ```

use serde_json::json;

use crate::support::lambda::{Function, Said, Sender, request_id};

/// Settings of which nothing can be reached.
const NOWHERE: [(&str, &str); 3] =
    [("STOREFLOW_REDIS", "redis://127.0.0.1:1"), ("STOREFLOW_JOB_NAME", "mall"), ("STOREFLOW_PUBLIC", "true")];

#[test]
fn a_start_that_cannot_be_is_told_to_lambda_in_one_line() {
    let secret = "hunter2";
    for (name, value, words) in [
        ("STOREFLOW_REDIS", "", "STOREFLOW_REDIS is not set: "),
        ("STOREFLOW_REDIS", "http://x:hunter2@y", "STOREFLOW_REDIS is not what it may be: "),
        ("STOREFLOW_JOB_NAME", "", "STOREFLOW_JOB_NAME is not set: "),
        ("STOREFLOW_PUBLIC", "false", "STOREFLOW_API_KEYS is not set: "),
    ] {
        let variables: Vec<(&str, &str)> =
            NOWHERE.into_iter().map(|(set, usual)| (set, if set == name { value } else { usual })).collect();
        let (kind, error, code, log) = Function::start(&variables).fail_to_start();
        let message = error["errorMessage"].as_str().expect("a message");
        assert_eq!(
            (kind.as_str(), &error["errorType"], code),
            ("Storeflow.Settings", &json!("Storeflow.Settings"), Some(2)),
            "{log}"
        );
        assert!(message.starts_with(words) && !message.contains('\n'), "{message}");
        assert_eq!(log.trim_end(), format!("error: {message}"));
        assert!(!log.contains(secret) && !error.to_string().contains(secret), "{log}");
    }
}

#[test]
fn what_is_no_event_is_refused_and_the_next_one_is_answered() {
    let mut function = Function::start(&NOWHERE);
    function.ready();
    for event in [json!({}), json!({ "Records": [] }), json!("x")] {
        let error = function.refuse(&event);
        assert!(error["errorMessage"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
    for sender in Sender::ALL {
        assert_eq!(function.ask(sender, "GET", "/healthz", &[]).status, 200, "{sender:?}");
    }
}
