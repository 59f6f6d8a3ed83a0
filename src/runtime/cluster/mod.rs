//! Several processes become one cluster, or say clearly why not.
//!
//! ```text
//! settings ─► form: dial and listen (join), prove (handshake), agree (gather) ─► Cluster
//!                          all_gather: partitions, generation, … or somebody's error ─┤
//!                                    into_timely: sockets with a watch on each peer ──┴─► workers
//! ```
//!
//! Timely's own bootstrap takes any eight bytes for a process index, waits for ever, and so can be joined or hung by a port
//! scanner, a stale process of an earlier start, or another job. Here sockets reach timely only after both ends have proved
//! that they know the secret and are of the same job, run, size and build.
//!
//! Upholds: (1) nothing joins that is not the peer it claims to be, and nothing takes a peer's place; (2) every wait is
//! bounded, and its error names who is missing or what answered instead; (3) after `form`, every process has a socket to
//! every other; (4) a process that leaves later is noticed by all ([`PeerWatch`]).
//! Keeps: one socket per peer.
//! Absent on purpose: reconnecting (in timely one dead process ends the cluster) and encryption (see `handshake`).

mod gather;
mod handshake;
mod join;
mod secret;
mod watch;
mod wire;

use std::any::Any;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use timely::communication::Config;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::{AllocatorBuilder, ProcessBuilder};
use timely::communication::initialize::Hooks;

use gather::Said;
use handshake::Identity;
use join::Gathering;
pub use secret::{Secret, SecretTooShort};
pub(crate) use secret::{hexadecimal, random};
use watch::WatchedStream;
pub use watch::{PeerLost, PeerWatch};

/// What a failed process still waits for its peers to read its reason.
const FAREWELL: Duration = Duration::from_secs(2);
/// Longer than the peers' own timeouts differ: who joined last has until then to say that all is well.
const LAST_ROUND: Duration = Duration::from_secs(5);

/// How a process finds the others, and what all must agree on.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// This process, an index into `hosts`.
    pub process: usize,
    /// `HOST:PORT` of every process, in the same order everywhere.
    pub hosts: Vec<String>,
    /// Where this process listens.
    pub bind: Bind,
    /// Name (and fingerprint) of the job.
    pub job: String,
    /// Of this start of the whole cluster: new for each, the same for all.
    pub run_id: String,
    /// What all know and nobody else.
    pub secret: Secret,
    /// For the cluster to form, and for each round of `all_gather`.
    pub timeout: Duration,
    /// Worker threads of each process.
    pub workers: usize,
}

/// Where a process listens for the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bind {
    /// At its own entry of the hosts.
    #[default]
    OwnHost,
    /// At another address, such as `0.0.0.0:2101` behind a translated one.
    Address(String),
    /// At the socket that standard input is: opened by whoever started this process, so that its port cannot be lost.
    Inherited,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Settings that cannot be.
    #[error("{0}")]
    Settings(String),
    /// The address is another's, or not of this machine.
    #[error("could not listen on {at} for the other processes; is it an address of this machine, and the port free?")]
    Listen {
        /// The address.
        at: String,
        /// What the system said.
        source: io::Error,
    },
    /// A thread, a random number or a socket option was refused.
    #[error("could not set up the cluster")]
    System(#[from] io::Error),
    /// Not everybody came in time.
    #[error("the cluster did not form within {timeout:?}: {}", listed(.missing))]
    Missing {
        /// How long was waited.
        timeout: Duration,
        /// Process, its host, and why it is missing.
        missing: Vec<(usize, String, String)>,
    },
    /// Processes said that they cannot go on: each with its own words.
    #[error("{}", quoted(.0))]
    GaveUp(Vec<(usize, String)>),
    /// A process went away, or said nothing in time, between the handshake and timely.
    #[error("process {process} at \"{host}\" was lost while the cluster started; see its log")]
    Lost {
        /// Its index.
        process: usize,
        /// Its address.
        host: String,
        /// How it was noticed.
        source: io::Error,
    },
    /// A message that is too long for a round.
    #[error("a message of {bytes} bytes is too long to tell the other processes; at most {max} are allowed", max = gather::MESSAGE_MAX)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Timely refused.
    #[error("could not set up {workers} workers: {why}")]
    Workers {
        /// Threads wanted.
        workers: usize,
        /// Its words.
        why: String,
    },
}

impl ClusterError {
    /// Whether all processes, started together once more, may do better: another one is or was the trouble.
    pub fn may_pass(&self) -> bool {
        use ClusterError::{GaveUp, Lost, Missing, System};
        matches!(self, Missing { .. } | GaveUp(_) | Lost { .. } | System(_))
    }
}

fn listed(missing: &[(usize, String, String)]) -> String {
    let each = missing.iter().map(|(process, host, why)| format!("process {process} at \"{host}\" is missing ({why})"));
    each.collect::<Vec<_>>().join("; ")
}

fn quoted(each: &[(usize, String)]) -> String {
    each.iter().map(|(process, text)| format!("process {process} gave up: {text}")).collect::<Vec<_>>().join("; ")
}

/// The processes of a run, connected. One process alone is a cluster, too.
#[derive(Debug)]
pub struct Cluster {
    process: usize,
    hosts: Vec<String>,
    workers: Option<usize>,
    sockets: Vec<Option<TcpStream>>,
    timeout: Duration,
    round: u32,
    watch: PeerWatch,
}

impl Cluster {
    /// Connects to all other processes, and returns when all others have done so, too.
    ///
    /// # Errors
    /// If somebody is missing at the end of the timeout, or could not start; it is named.
    pub fn form(settings: &ClusterSettings) -> Result<Cluster, ClusterError> {
        let (process, hosts) = (settings.process, &settings.hosts);
        let processes = hosts.len();
        if process >= processes {
            return Err(ClusterError::Settings(format!("process {process} is not among the {processes} hosts, counted from 0")));
        }
        if let Some(at) = (1..processes).find(|&at| hosts[..at].contains(&hosts[at])) {
            return Err(ClusterError::Settings(format!("host \"{}\" is there twice; each process has its own", hosts[at])));
        }
        Cluster::form_on(settings, listen(settings)?)
    }

    /// As [`Cluster::form`], of settings that are good.
    fn form_on(settings: &ClusterSettings, listener: TcpListener) -> Result<Cluster, ClusterError> {
        let ClusterSettings { process, hosts, job, run_id, workers, timeout, .. } = settings;
        let (process, processes) = (*process, hosts.len());
        let deadline = Instant::now() + *timeout;
        let me = Identity {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            job: job.clone(),
            run_id: run_id.clone(),
            processes,
            workers: *workers,
            process,
            instance: hexadecimal(&random::<16>()?),
        };
        let (sockets, missing) = Gathering::start(me, settings.secret.clone(), hosts.clone(), listener, deadline)?.finish();
        let mut cluster = Cluster {
            process,
            hosts: hosts.clone(),
            workers: Some(*workers),
            sockets,
            timeout: *timeout,
            round: 0,
            watch: PeerWatch::default(),
        };
        let formed = if missing.is_empty() {
            Ok(())
        } else {
            let missing = missing.into_iter().map(|(process, why)| (process, hosts[process].clone(), why)).collect();
            Err(ClusterError::Missing { timeout: *timeout, missing })
        };
        // Each is connected to all it can reach; now all learn whether all are.
        let message = formed.as_ref().map(|()| Vec::new()).map_err(ToString::to_string);
        let told = cluster.exchange(&message, deadline.max(Instant::now()) + LAST_ROUND);
        if let Err(error) = formed.and(told.map(drop)) {
            cluster.leave();
            return Err(error);
        }
        Ok(cluster)
    }

    /// One process alone.
    pub fn single() -> Cluster {
        Cluster {
            process: 0,
            hosts: vec!["this process".to_owned()],
            workers: None,
            sockets: vec![None],
            timeout: Duration::ZERO,
            round: 0,
            watch: PeerWatch::default(),
        }
    }

    /// This process's index.
    pub fn process(&self) -> usize {
        self.process
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.sockets.len()
    }

    /// Timely's indices of this process's workers, if each process has `workers`.
    pub fn worker_range(&self, workers: usize) -> Range<usize> {
        self.process * workers..(self.process + 1) * workers
    }

    /// Tells of a process that goes away later.
    pub fn watch(&self) -> PeerWatch {
        self.watch.clone()
    }

    /// Every process gives a message and gets everybody's, in the order of processes. Wait for what takes long *before*
    /// the round: it is over after the cluster's timeout.
    ///
    /// # Errors
    /// If a process gave an error instead (all get it), went away, or said nothing in time. The cluster is of no use then.
    pub fn all_gather(&mut self, message: Result<Vec<u8>, String>) -> Result<Vec<Vec<u8>>, ClusterError> {
        if let Ok(message) = &message
            && message.len() > gather::MESSAGE_MAX
        {
            let error = ClusterError::TooLong { bytes: message.len() };
            let _ = self.exchange(&Err(error.to_string()), Instant::now() + self.timeout);
            self.leave();
            return Err(error);
        }
        let told = self.exchange(&message, Instant::now() + self.timeout);
        if told.is_err() {
            self.leave();
        }
        told
    }

    /// Hands the sockets to timely: builders for `workers` threads, and what must be kept until they have ended.
    ///
    /// # Errors
    /// If threads or sockets are refused.
    pub fn into_timely(self, workers: usize) -> Result<(Vec<AllocatorBuilder>, Box<dyn Any + Send>), ClusterError> {
        let refused = |why: String| ClusterError::Workers { workers, why };
        let Some(agreed) = self.workers.filter(|_| self.sockets.len() > 1) else {
            return Config::Process(workers).try_build().map_err(refused);
        };
        assert_eq!(agreed, workers, "all processes have agreed on their number of workers");
        let mut sockets = Vec::new();
        for (process, socket) in self.sockets.into_iter().enumerate() {
            if let Some(socket) = &socket {
                socket.set_read_timeout(None)?;
                socket.set_write_timeout(None)?;
            }
            sockets.push(socket.map(|socket| WatchedStream::new(socket, process, &self.hosts[process], self.watch.clone())));
        }
        let hooks = Hooks::default();
        let threads = ProcessBuilder::new_typed_vector(workers, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) = initialize_networking_from_sockets(threads, sockets, self.process, workers, hooks)?;
        Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
    }

    fn exchange(&mut self, message: &Said, deadline: Instant) -> Result<Vec<Vec<u8>>, ClusterError> {
        self.round += 1;
        let mut all = Vec::new();
        let mut lost = None;
        let mut gave_up = Vec::new();
        for (process, said) in gather::exchange(&self.sockets, self.round, message, deadline).into_iter().enumerate() {
            // This process's own place, or one that is known to be missing.
            let said = said.unwrap_or_else(|| Ok(message.clone()));
            match said {
                Ok(Ok(message)) => all.push(message),
                Ok(Err(text)) => gave_up.push((process, text)),
                Err(source) => {
                    let host = self.hosts[process].clone();
                    lost = lost.or(Some(ClusterError::Lost { process, host, source }));
                }
            }
        }
        // Who gave up is the cause of who is lost.
        if gave_up.is_empty() { lost.map_or(Ok(all), Err) } else { Err(ClusterError::GaveUp(gave_up)) }
    }

    /// Closes so that what was said last is still delivered: a socket closed with unread bytes would take it back.
    fn leave(&mut self) {
        let sockets: Vec<TcpStream> = self.sockets.iter_mut().filter_map(Option::take).collect();
        sockets.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Write)));
        let deadline = Instant::now() + FAREWELL;
        for mut socket in sockets {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = socket.set_read_timeout(Some(left));
            while socket.read(&mut [0; 4096]).is_ok_and(|read| read > 0) && Instant::now() < deadline {}
        }
    }
}

fn listen(settings: &ClusterSettings) -> Result<TcpListener, ClusterError> {
    let at = match &settings.bind {
        Bind::OwnHost => &settings.hosts[settings.process],
        Bind::Address(address) => address,
        Bind::Inherited => {
            return io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .map(|descriptor: OwnedFd| TcpListener::from(descriptor))
                // Any descriptor passes until it is asked where it listens.
                .and_then(|listener| listener.local_addr().map(|_| listener))
                .map_err(|source| ClusterError::Listen { at: "the socket on standard input".to_owned(), source });
        }
    };
    TcpListener::bind(at).map_err(|source| ClusterError::Listen { at: format!("\"{at}\""), source })
}

#[cfg(test)]
mod tests;
