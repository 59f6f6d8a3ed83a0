//! A real Redis server, from PATH, that tests start, kill and empty.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use storeflow::publish::redis::{RedisSettings, SecretUrl};

use super::services::{Kind, shared};

/// A server on a port of its own, ended with the test.
pub(crate) struct Redis {
    folder: tempfile::TempDir,
    port: u16,
    password: Option<&'static str>,
    cluster: bool,
    child: Option<Child>,
}

/// A server for the test of that name. `None`, said by name, where there is none to be had; with `CI=true` that fails.
pub(crate) fn redis(test: &str) -> Option<Redis> {
    start(test, None, false)
}

/// As [`redis`], with a password or in cluster mode.
pub(crate) fn start(test: &str, password: Option<&'static str>, cluster: bool) -> Option<Redis> {
    let there = || Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
    // Where it is missing, `scripts/services` installs it, or says why it cannot.
    if !there() {
        shared(Kind::Redis)?;
    }
    if !there() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{test} needs redis-server in PATH");
        eprintln!("SKIPPED: {test}: no redis-server in PATH");
        return None;
    }
    // A cluster's nodes speak to each other over a port 10,000 further on.
    let highest = if cluster { u16::MAX - 10_000 } else { u16::MAX };
    let port = || TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("an address").port();
    let port = std::iter::repeat_with(port).find(|port| *port <= highest).expect("there are such ports");
    let mut redis = Redis { folder: tempfile::tempdir().expect("a folder"), port, password, cluster, child: None };
    redis.start();
    Some(redis)
}

impl Redis {
    pub(crate) fn url(&self) -> String {
        let password = self.password.map_or_else(String::new, |password| format!(":{password}@"));
        format!("redis://{password}127.0.0.1:{}", self.port)
    }

    /// The cluster of these nodes, started with `cluster`, each with its part of the slots.
    pub(crate) fn cluster(nodes: &[Redis]) -> RedisSettings {
        let slots = 16_384 / nodes.len();
        for (at, node) in nodes.iter().enumerate() {
            let last = if at + 1 == nodes.len() { 16_383 } else { (at + 1) * slots - 1 };
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &(at * slots).to_string(), &last.to_string()]);
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
            nodes.iter().for_each(|other| node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string()]));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while !nodes.iter().all(|node| node.ask::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")) {
            assert!(Instant::now() < deadline, "the cluster is not formed");
            std::thread::sleep(Duration::from_millis(20));
        }
        let urls: Vec<String> = nodes.iter().map(Redis::url).collect();
        RedisSettings { url: SecretUrl::parse(&urls.join(","), None).expect("URLs"), cluster: true }
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        RedisSettings { url: SecretUrl::parse(&self.url(), None).expect("a URL"), cluster: self.cluster }
    }

    /// Starts it, with what is in its folder.
    pub(crate) fn start(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(self.folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(password) = self.password {
            command.args(["--requirepass", password]);
        }
        if self.cluster {
            command.args(["--cluster-enabled", "yes"]);
        }
        self.child = Some(command.spawn().expect("redis-server starts"));
        let deadline = Instant::now() + Duration::from_secs(30);
        let answers = || {
            let mut connection = ::redis::Client::open(self.url()).ok()?.get_connection().ok()?;
            ::redis::cmd("PING").query::<String>(&mut connection).ok()
        };
        while answers().is_none() {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a power failure would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("redis-server can be killed");
            child.wait().expect("redis-server ends");
        }
    }

    /// Ends it in order: it comes back with all that anybody has read of it.
    pub(crate) fn stop_saving(&mut self) {
        let mut connection =
            ::redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("Redis is there");
        // It hangs up in place of an answer.
        let _ = ::redis::cmd("SHUTDOWN").arg("SAVE").query::<()>(&mut connection);
        if let Some(mut child) = self.child.take() {
            child.wait().expect("redis-server ends");
        }
    }

    /// Runs a command.
    pub(crate) fn ask<T: ::redis::FromRedisValue>(&self, parts: &[&str]) -> T {
        let mut connection =
            ::redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("Redis is there");
        let mut command = ::redis::Cmd::new();
        for part in parts {
            command.arg(part);
        }
        command.query(&mut connection).expect("Redis answers")
    }

    /// Forgets what was saved.
    pub(crate) fn remove_saved(&self) {
        let saved = self.folder.path().join("dump.rdb");
        if saved.exists() {
            std::fs::remove_file(saved).expect("the saved data can be removed");
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
