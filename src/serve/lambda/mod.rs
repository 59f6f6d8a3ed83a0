//! The query API as an AWS Lambda function: the router of the server, asked by events in place of connections.
//!
//! ```text
//! API Gateway (REST, HTTP), load balancer, function URL
//!      │ event                                                            Redis
//!      ▼                                                                    ▲
//! lambda_runtime ─► event::mended ─► lambda_http ─► event::restored ─► router ─► view::redis
//! ```
//!
//! Upholds: (1) an event is answered as the server answers the same request, byte for byte; (2) without keys the function does not start, unless it is
//! told that the gateway says who may ask; (3) what is wrong with its settings reaches the log and Lambda in one line, before the first event.
//! Keeps: connections to Redis, for as long as the container lives.
//! Absent on purpose: streams, which gateways and load balancers gather before they pass them on; and a limit on concurrent requests, as a container answers one at
//! a time.

mod event;
mod init;
mod settings;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::process::ExitCode;

use axum::Router;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, LambdaEvent, Request, Service, lambda_runtime, service_fn};
use serde::Serialize;
use serde_json::Value;
use tower::ServiceExt;

pub use settings::{LambdaSettings, SettingsError, VARIABLES};

use crate::observe::{LogFormat, start_logging};
use crate::runtime::launch::AGAIN;

/// Reads the environment and answers events until Lambda ends the process. 2 if there is something to mend, 3 if Lambda went away.
pub fn main() -> ExitCode {
    start_logging(LogFormat::Json);
    let settings = match LambdaSettings::read(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(error) => return init::failed(&error.into()),
    };
    // A container has one request at a time, and often less than one processor.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return init::failed(&error.into()),
    };
    let (router, base_path) = (stand_in(), settings.base_path.as_str());
    let answers = lambda_runtime::run(service_fn(|event| answer(router.clone(), base_path, event)));
    match runtime.block_on(answers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: Lambda's runtime went away: {error}");
            ExitCode::from(AGAIN)
        }
    }
}

/// Answers an event with a router: what Lambda hands back to the sender.
///
/// # Errors
/// If it is no event of those senders.
async fn answer(
    router: Router,
    base_path: &str,
    event: LambdaEvent<Value>,
) -> Result<impl Serialize + use<>, lambda_runtime::Error> {
    let (event, context) = event.into_parts();
    let (event, aside) = event::mended(event, base_path);
    let event: LambdaRequest = serde_json::from_value(event)?;
    let ask = service_fn(move |request: Request| router.clone().oneshot(event::restored(request, &aside)));
    Adapter::from(ask).call(LambdaEvent::new(event, context)).await.map_err(|never: Infallible| match never {})
}

fn stand_in() -> Router {
    Router::new().fallback(|request: axum::extract::Request| async move {
        axum::Json(serde_json::json!({ "uri": request.uri().to_string() }))
    })
}
