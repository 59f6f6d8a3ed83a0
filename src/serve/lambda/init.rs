//! A start that failed: said in the log and to Lambda, which shows it to whoever invoked the function.
//!
//! Absent on purpose: a client for HTTP. Lambda's runtime API is on the loopback interface, speaks HTTP/1.1, and is told one thing
//! here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use crate::runtime::launch::MEND;

/// How long Lambda may take to hear it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says why the function cannot start.
pub(super) fn failed(error: &anyhow::Error) -> ExitCode {
    // Files of keys are told of line by line.
    let message = format!("{error:#}").lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    eprintln!("error: {message}");
    if let Ok(address) = std::env::var("AWS_LAMBDA_RUNTIME_API")
        && let Err(error) = tell(&address, &message)
    {
        eprintln!("error: Lambda could not be told: {error}");
    }
    ExitCode::from(MEND)
}

fn tell(address: &str, message: &str) -> std::io::Result<()> {
    let kind = "Storeflow.Settings";
    let body = json!({ "errorType": kind, "errorMessage": message, "stackTrace": [] }).to_string();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST /2018-06-01/runtime/init/error HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Lambda-Runtime-Function-Error-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())?;
    // An answer says that it was heard; what it says does not matter.
    stream.read(&mut [0; 64]).map(|_| ())
}
