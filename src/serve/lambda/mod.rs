//! The query API as an AWS Lambda function: the router of the server, asked by events in place of connections.
//!
//! ```text
//! API Gateway (REST, HTTP), load balancer, function URL
//!      │ event                                                            Redis
//!      ▼                                                                    ▲
//! lambda_runtime ─► event::mended ─► lambda_http ─► event::restored ─► router ─► view::redis
//! ```
//!
//! Upholds: (1) an event is answered as the server answers the same request, byte for byte; (2) without keys the function does not
//! start, unless it is told that the gateway says who may ask; (3) what is wrong with its settings reaches the log and Lambda in one
//! line, before the first event; (4) no answer is older than its event, however long the container was frozen.
//! Keeps: connections to Redis, for as long as the container lives.
//! Absent on purpose: streams, which gateways and load balancers gather before they pass them on; and a limit on concurrent
//! requests, as a container answers one at a time.

mod event;
mod init;
mod settings;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, LambdaEvent, Request, Service, lambda_runtime, service_fn};
use serde::Serialize;
use serde_json::Value;
use tower::ServiceExt;

pub use settings::{LambdaSettings, SettingsError, VARIABLES};

use crate::observe::{LogFormat, start_logging};
use crate::runtime::launch::AGAIN;
use crate::serve;
use crate::serve::admission::Admission;
use crate::serve::api::{Api, ApiSettings};
use crate::serve::view::redis::RedisServed;

/// What is kept of answers: a container has little memory.
const ANSWERS_BYTES_MAX: usize = 8 << 20;

/// What a start waits for Redis, so that the first event need not; one that is away does not keep the function from starting.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Reads the environment and answers events until Lambda ends the process. 2 if there is something to mend, 3 if Lambda went away.
pub fn main() -> ExitCode {
    start_logging(LogFormat::Json, None);
    let (settings, admission) = match settings() {
        Ok(read) => read,
        Err(error) => return init::failed(&error),
    };
    // A container has one request at a time, and often less than one processor.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return init::failed(&error.into()),
    };
    let answers = async {
        let view = Arc::new(RedisServed::connect(&settings.redis, &settings.job));
        let api_settings = ApiSettings { answers_bytes_max: ANSWERS_BYTES_MAX, ..ApiSettings::default() };
        let api = Api::new(view, admission, api_settings);
        // What is wrong with it is in the log, and in the answers.
        let _ = tokio::time::timeout(FIRST_LOOK, api.shown()).await;
        let router = serve::router(Arc::clone(&api));
        let base_path = settings.base_path.as_str();
        lambda_runtime::run(service_fn(|event| {
            // Since the last event the container may have been frozen, and its clock with it: what was new then is of unknown age.
            api.forget();
            answer(router.clone(), base_path, event)
        }))
        .await
    };
    match runtime.block_on(answers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: Lambda's runtime went away: {error}");
            ExitCode::from(AGAIN)
        }
    }
}

fn settings() -> anyhow::Result<(LambdaSettings, Arc<Admission>)> {
    let settings = LambdaSettings::read(|name| std::env::var(name).ok())?;
    let admission = Admission::open(settings.admission.clone())?;
    Ok((settings, admission))
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
