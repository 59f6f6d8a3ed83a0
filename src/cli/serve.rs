//! `storeflow serve`: the query API over a view that another process publishes, or a finished run's files.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Failure;
use super::redis_args::RedisArgs;
use super::serve_args::ServeArgs;
use super::store_args::StoreArgs;
use crate::serve::view::View;
use crate::serve::view::files::FilesServed;
use crate::serve::view::redis::RedisServed;

/// Answer questions for numbers over HTTP: from the Redis view of a job, or from the files of a finished run
///
/// docs/api.md says what can be asked; `curl http://127.0.0.1:8080/v1/stores` is a beginning. SIGTERM lets what is in flight finish.
#[derive(Debug, Args)]
pub struct ServeCommandArgs {
    /// Where to listen; port 0 takes a free one, which the log names. Other addresses than this machine's need --api-keys
    #[arg(long, env = "STOREFLOW_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    #[command(flatten)]
    serve: ServeArgs,

    /// The job whose Redis view it is
    #[arg(long, env = "STOREFLOW_JOB_NAME", value_name = "NAME", requires = "redis")]
    job_name: Option<String>,

    #[command(flatten)]
    redis: RedisArgs,

    #[command(flatten)]
    store: StoreArgs,
}

/// What a store that does not answer gets before the answer says so.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
/// If the flags are wrong, the address is taken, or there is no such view.
pub fn run(args: &ServeCommandArgs) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let opened = args.serve.open(&args.listen)?;
    let view: Arc<dyn View> = match (args.redis.resolve()?, &args.job_name) {
        (Some(settings), Some(job)) => Arc::new(RedisServed::connect(&settings, job)),
        (Some(_), None) => return Err(anyhow::anyhow!("--redis needs to know whose view to serve: give --job-name").into()),
        (None, _) => Arc::new(FilesServed::new(args.store.open_within(STORE_PATIENCE)?)),
    };
    let server = opened.start(view)?;
    if let Some(signal) = signals.forever().next() {
        tracing::info!(signal, "stopping: what is in flight is finished");
    }
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            tracing::warn!(signal, "told twice to stop: ending without finishing");
            std::process::exit(2);
        }
    })?;
    server.stop();
    Ok(())
}
