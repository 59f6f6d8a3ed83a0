//! Flags that make several processes one cluster, shared by every command that runs in one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::duration;
use crate::runtime::cluster::{Bind, Cluster, ClusterSettings, Secret};

/// The variable with the secret. It is no flag: arguments are visible to every user of the machine.
const SECRET: &str = "STOREFLOW_CLUSTER_SECRET";

/// Which process of which cluster this is. Without hosts it is one process alone.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster (the secret comes from STOREFLOW_CLUSTER_SECRET or a file)")]
pub struct ClusterArgs {
    /// This process's number: the place of its own entry among the hosts, counted from 0
    #[arg(long, env = "STOREFLOW_PROCESS", value_name = "I", requires = "hosts")]
    process: Option<usize>,

    /// HOST:PORT of every process, the same list everywhere: separated by commas, or a file with one per line
    #[arg(long, env = "STOREFLOW_HOSTS", value_name = "FILE|LIST", requires = "process")]
    hosts: Option<String>,

    /// Where to listen for the other processes, if not at the own entry of the hosts; "stdin" is an open socket there
    #[arg(long, env = "STOREFLOW_BIND", value_name = "HOST:PORT", requires = "hosts")]
    bind: Option<String>,

    /// Names this start of the cluster: the same for all processes, another for each start
    #[arg(long, env = "STOREFLOW_RUN_ID", value_name = "TEXT", requires = "hosts")]
    run_id: Option<String>,

    /// File with the secret that all processes share and nobody else knows, at least 16 bytes
    #[arg(long, env = "STOREFLOW_CLUSTER_SECRET_FILE", value_name = "FILE", requires = "hosts")]
    cluster_secret_file: Option<PathBuf>,

    /// How long processes wait for each other to start
    #[arg(long, env = "STOREFLOW_CLUSTER_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = parse_timeout)]
    cluster_timeout: Timeout,
}

#[derive(Clone, Copy, Debug)]
struct Timeout(Duration);

impl Default for Timeout {
    fn default() -> Self {
        Timeout(Duration::from_secs(60))
    }
}

fn parse_timeout(text: &str) -> Result<Timeout, String> {
    match duration::read(text) {
        Ok(0) => Err("must be longer than nothing".to_owned()),
        Ok(millis) => Ok(Timeout(Duration::from_millis(millis))),
        Err(what) => Err(what.to_owned()),
    }
}

impl ClusterArgs {
    /// Forms the cluster of these flags, or of this process alone. `job` names what must be the same everywhere.
    ///
    /// # Errors
    /// If something is missing among the flags, or somebody among the processes.
    pub fn form(&self, job: &str, workers: usize) -> anyhow::Result<Cluster> {
        match self.settings(job, workers)? {
            Some(settings) => Ok(Cluster::form(&settings)?),
            None => Ok(Cluster::single()),
        }
    }

    /// As [`Cluster::form`] takes it; `None` without hosts.
    ///
    /// # Errors
    /// If the hosts or the secret cannot be read, or no run is named.
    pub fn settings(&self, job: &str, workers: usize) -> anyhow::Result<Option<ClusterSettings>> {
        let (Some(process), Some(hosts)) = (self.process, &self.hosts) else { return Ok(None) };
        let Some(run_id) = self.run_id.clone() else {
            bail!("a cluster needs --run-id (or STOREFLOW_RUN_ID): the same for all processes, another for each start");
        };
        Ok(Some(ClusterSettings {
            process,
            hosts: read_hosts(hosts)?,
            bind: match self.bind.as_deref() {
                None => Bind::OwnHost,
                Some("stdin") => Bind::Inherited,
                Some(address) => Bind::Address(address.to_owned()),
            },
            job: job.to_owned(),
            run_id,
            secret: self.secret()?,
            timeout: self.cluster_timeout.0,
            workers,
        }))
    }

    fn secret(&self) -> anyhow::Result<Secret> {
        let (text, from) = match (&self.cluster_secret_file, std::env::var(SECRET)) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file);
                (
                    text.with_context(|| format!("could not read the cluster's secret from \"{}\"", file.display()))?,
                    file.display().to_string(),
                )
            }
            (None, Ok(text)) => (text, SECRET.to_owned()),
            (None, Err(_)) => bail!(
                "a cluster needs a secret that its processes share: set {SECRET} or --cluster-secret-file \
                 (\"openssl rand -hex 32\" makes one)"
            ),
        };
        Secret::new(&text).with_context(|| format!("{from} holds no secret of use"))
    }
}

/// A list, or a file with one host per line; empty lines and `#` comments are left out.
fn read_hosts(given: &str) -> anyhow::Result<Vec<String>> {
    // HOST:PORT is no name anybody gives a file; one that is there all the same wins.
    let text = if Path::new(given).is_file() || !given.contains(':') {
        std::fs::read_to_string(given).with_context(|| format!("could not read the hosts from \"{given}\""))?
    } else {
        given.replace(',', "\n")
    };
    let hosts = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
    let hosts: Vec<String> = hosts.map(str::to_owned).collect();
    let has_port =
        |host: &String| host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
    if let Some(bad) = hosts.iter().find(|host| !has_port(host)) {
        bail!("\"{bad}\" among the hosts is not HOST:PORT");
    }
    if hosts.is_empty() {
        bail!("the hosts \"{given}\" name no process");
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        cluster: ClusterArgs,
    }

    fn typed(args: &[&str]) -> Result<Typed, clap::Error> {
        Typed::try_parse_from([&["x"], args].concat())
    }

    #[test]
    fn without_hosts_a_process_is_alone() {
        assert!(typed(&[]).expect("nothing is needed").cluster.settings("mall", 2).expect("good").is_none());
        assert!(typed(&["--process", "0"]).is_err() && typed(&["--hosts", "a:1"]).is_err());
    }

    #[test]
    fn hosts_by_list_and_by_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let (hosts, secret) = (folder.path().join("hosts"), folder.path().join("secret"));
        std::fs::write(&hosts, "# the cluster\na:1\n b:2 # second\n\n[::1]:3\n").expect("a file");
        std::fs::write(&secret, "a secret of many bytes\n").expect("a file");
        let (hosts, secret) = (hosts.to_str().expect("text"), secret.to_str().expect("text"));
        let settings = |hosts: &str, more: &[&str]| {
            let args = [&["--process", "1", "--hosts", hosts, "--run-id", "r", "--cluster-secret-file", secret], more].concat();
            typed(&args).expect("good flags").cluster.settings("mall", 2)
        };
        let of_file = settings(hosts, &["--bind", "stdin"]).expect("good").expect("a cluster");
        assert_eq!((of_file.hosts.join(" ").as_str(), of_file.bind), ("a:1 b:2 [::1]:3", Bind::Inherited));
        assert_eq!(of_file.secret.for_child(), "a secret of many bytes");
        let of_list = settings("a:1,b:2", &["--cluster-timeout", "5s"]).expect("good").expect("a cluster");
        assert_eq!((of_list.hosts.len(), of_list.timeout), (2, Duration::from_secs(5)));
        for (bad, word) in [("a:1,b", "\"b\""), ("/none", "could not read the hosts"), ("a:1,b:x", "\"b:x\"")] {
            let error = settings(bad, &[]).expect_err("refused").to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn what_a_cluster_needs_is_asked_for() {
        let error = typed(&["--process", "0", "--hosts", "a:1"]).expect("flags").cluster.settings("mall", 1).expect_err("no run");
        assert!(error.to_string().contains("--run-id"), "{error}");
    }
}
