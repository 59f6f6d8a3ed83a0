//! `storeflow serve`: the query API over a view that another process publishes, or a finished run's files.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Failure;
use super::observe_args::ObserveArgs;
use super::redis_args::RedisArgs;
use super::serve_args::ServeArgs;
use super::store_args::StoreArgs;
use crate::observe::health::Health;
use crate::observe::metrics::Registry;
use crate::observe::wall_ms;
use crate::publish::layout::Current;
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

    #[command(flatten)]
    store: StoreArgs,

    /// The job whose Redis view it is [default: that of the store, if one is given]
    #[arg(long, env = "STOREFLOW_JOB_NAME", value_name = "NAME", requires = "redis")]
    job_name: Option<String>,

    #[command(flatten)]
    redis: RedisArgs,

    #[command(flatten)]
    observe: ObserveArgs,
}

impl ServeCommandArgs {
    /// How it is watched.
    pub fn observe(&self) -> &ObserveArgs {
        &self.observe
    }
}

/// What is named in place of a job by whoever watches servers: they begin before there is a view that could say which it is of.
const OBSERVED_AS: &str = "serve";

/// What a store that does not answer gets before the answer says so.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the command.
///
/// # Errors
/// If the flags are wrong, the address is taken, or there is no such view.
pub fn run(args: &ServeCommandArgs) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let opened = args.serve.open(&args.listen, 2)?;
    let (registry, health) = (Registry::default(), Arc::new(Health::new(0, 0, wall_ms())));
    health.set_sources_reading(true);
    registry.register(Arc::clone(&health) as _);
    let _watching = args.observe.start(&registry, &health, OBSERVED_AS, 0)?;
    let server = opened.start(view(args)?, &registry, Some(&health))?;
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

/// The view that is asked for. Nothing of it is read yet: what it is in may still be away.
fn view(args: &ServeCommandArgs) -> Result<Arc<dyn View>, Failure> {
    let Some(settings) = args.redis.resolve()? else {
        return Ok(Arc::new(FilesServed::new(args.store.open_within(STORE_PATIENCE)?)));
    };
    let job = match &args.job_name {
        Some(name) => name.clone(),
        None if args.store.is_given() => Current::open(&args.store.open_within(STORE_PATIENCE)?)?.about.job,
        None => return Err(anyhow::anyhow!("--redis needs to know whose view to serve: give --job-name").into()),
    };
    tracing::info!(redis = ?settings, job, "reading the view in Redis");
    Ok(Arc::new(RedisServed::connect(&settings, &job)))
}
