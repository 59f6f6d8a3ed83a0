//! Processes are threads here; sockets are real.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};

use timely::dataflow::operators::vec::{Input, Map};
use timely::dataflow::operators::{Exchange, Inspect, Probe};

use super::handshake::{HandshakeError, dial};
use super::*;

const SECRET: &str = "open sesame, open sesame";

/// Processes that are about to start: their listeners are open, so no port can be lost.
struct Town {
    hosts: Vec<String>,
    listeners: Vec<Option<TcpListener>>,
}

impl Town {
    fn of(processes: usize) -> Town {
        let listeners: Vec<TcpListener> = (0..processes).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let hosts = listeners.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect();
        Town { hosts, listeners: listeners.into_iter().map(Some).collect() }
    }

    fn settings(&self, process: usize) -> ClusterSettings {
        ClusterSettings {
            process,
            hosts: self.hosts.clone(),
            bind: Bind::OwnHost,
            job: "mall".to_owned(),
            run_id: "today".to_owned(),
            secret: Secret::new(SECRET).expect("long enough"),
            timeout: Duration::from_secs(30),
            workers: 2,
        }
    }

    fn start(&mut self, process: usize) -> JoinHandle<Result<Cluster, ClusterError>> {
        self.start_as(process, |_| {})
    }

    fn start_as(
        &mut self,
        process: usize,
        change: impl FnOnce(&mut ClusterSettings),
    ) -> JoinHandle<Result<Cluster, ClusterError>> {
        let mut settings = self.settings(process);
        change(&mut settings);
        let listener = self.listeners[process].take().expect("started once");
        spawn(move || Cluster::form_on(&settings, listener))
    }

    fn form(processes: usize) -> Vec<Cluster> {
        let mut town = Town::of(processes);
        let starting: Vec<_> = (0..processes).map(|process| town.start(process)).collect();
        starting.into_iter().map(|one| one.join().expect("no panic").expect("formed")).collect()
    }

    /// Knocks at a process as somebody else would; like a peer it comes again if the crowd pushes it out.
    fn knock(&self, at: usize, secret: &str, who: Identity) -> Result<TcpStream, HandshakeError> {
        let secret = Secret::new(secret).expect("long enough");
        loop {
            let stream = TcpStream::connect(&self.hosts[at])?;
            match dial(&stream, &who, at, &secret, Instant::now() + Duration::from_secs(20)) {
                Err(HandshakeError::Connection(_)) => {}
                end => return end.map(|()| stream),
            }
        }
    }
}

fn identity(process: usize, instance: &str) -> Identity {
    Identity {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        job: "mall".to_owned(),
        run_id: "today".to_owned(),
        processes: 4,
        workers: 2,
        process,
        instance: instance.to_owned(),
    }
}

#[test]
fn a_cluster_forms_among_strangers() {
    let mut town = Town::of(4);
    let mut starting = vec![town.start(0), town.start(1)];
    // More silent ones than are let in at a time.
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(&town.hosts[0]).expect("connected")).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let noise: Vec<JoinHandle<()>> = town
        .hosts
        .iter()
        .take(2)
        .map(|host| {
            let (host, stop) = (host.clone(), Arc::clone(&stop));
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    drop(TcpStream::connect(&host));
                    if let Ok(mut stream) = TcpStream::connect(&host) {
                        let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                    }
                    if let Ok(mut stream) = TcpStream::connect(&host) {
                        // What timely itself would take for process 2.
                        let _ = stream.write_all(&2u64.to_be_bytes());
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    for at in [0, 1] {
        let refused = |secret, who| town.knock(at, secret, who).expect_err("turned away").to_string();
        assert!(refused("open barley, open barley", identity(2, "thief")).contains("secret"));
        let stale = Identity { run_id: "yesterday".to_owned(), ..identity(2, "stale") };
        assert!(refused(SECRET, stale).contains("run \"today\" of job \"mall\""));
        let other = Identity { job: "other".to_owned(), ..identity(2, "other") };
        assert!(refused(SECRET, other).contains("run \"today\" of job \"mall\""));
        // Two processes of one index: the second is turned away while the first lives, and only so long.
        let first = town.knock(at, SECRET, identity(2, "first")).expect("its place is free");
        let second = refused(SECRET, identity(2, "second"));
        assert!(second.contains("started twice"), "{second}");
        let again = town.knock(at, SECRET, identity(2, "first")).expect("the same start comes again");
        drop((first, again));
    }
    starting.extend([2, 3].map(|process| town.start(process)));
    let mut clusters: Vec<Cluster> = starting.into_iter().map(|one| one.join().expect("no panic").expect("formed")).collect();
    stop.store(true, Ordering::Relaxed);
    noise.into_iter().for_each(|one| one.join().expect("no panic"));
    drop(silent);
    // The sockets are those of the right peers: more goes through them than any buffer holds.
    let told: Vec<_> = std::thread::scope(|scope| {
        let each = clusters.iter_mut().map(|cluster| {
            let message = vec![cluster.process() as u8; 4 << 20];
            scope.spawn(move || cluster.all_gather(Ok(message)).expect("told"))
        });
        each.collect::<Vec<_>>().into_iter().map(|one| one.join().expect("no panic")).collect()
    });
    for all in told {
        assert!(all.iter().zip(0..).all(|(message, process)| message.len() == 4 << 20 && message[0] == process));
    }
}

#[test]
fn who_is_missing_is_named_and_why() {
    let mut town = Town::of(3);
    let briefly = |settings: &mut ClusterSettings| settings.timeout = Duration::from_millis(400);
    let starting = [town.start_as(0, briefly), town.start_as(1, briefly)];
    for one in starting {
        let error = one.join().expect("no panic").expect_err("incomplete").to_string();
        let host = &town.hosts[2];
        assert!(error.contains(&format!("process 2 at \"{host}\" is missing (it did not connect)")), "{error}");
        assert!(!error.contains("process 1 at"), "{error}");
    }
}

#[test]
fn what_answered_in_place_of_a_process_is_told() {
    let check = |change: fn(&mut ClusterSettings), words: &str| {
        let mut town = Town::of(2);
        let brief = Duration::from_millis(600);
        let one = town.start_as(0, |settings| settings.timeout = brief);
        let other = town.start_as(1, |settings| {
            settings.timeout = brief;
            change(settings);
        });
        for one in [one, other] {
            let error = one.join().expect("no panic").expect_err("incomplete").to_string();
            assert!(error.contains(words), "{error}");
        }
    };
    check(|settings| settings.secret = Secret::new("open barley, open barley").expect("long enough"), "secret");
    check(|settings| settings.run_id = "yesterday".to_owned(), "is a process of an earlier start still running?");
    check(|settings| settings.job = "other".to_owned(), "this is run \"today\" of job");
    check(|settings| settings.workers = 3, "2 processes of ");
}

#[test]
fn one_process_learns_that_another_could_not_reach_a_third() {
    let mut town = Town::of(3);
    let briefly = |settings: &mut ClusterSettings| settings.timeout = Duration::from_secs(4);
    let (zero, two) = (town.start_as(0, briefly), town.start_as(2, briefly));
    // Process 1 looks for process 0 where nobody is.
    let nowhere = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").to_string();
    let one = town.start_as(1, |settings| {
        settings.hosts[0] = nowhere;
        briefly(settings);
    });
    let own = one.join().expect("no panic").expect_err("incomplete").to_string();
    assert!(own.contains("process 0 at") && own.contains("could not connect"), "{own}");
    let told = two.join().expect("no panic").expect_err("told").to_string();
    assert!(told.contains("process 1 gave up") && told.contains("process 0 at"), "{told}");
    let missed = zero.join().expect("no panic").expect_err("incomplete").to_string();
    assert!(missed.contains("process 1 at"), "{missed}");
}

#[test]
fn settings_that_cannot_be() {
    let town = Town::of(2);
    let check = |change: fn(&mut ClusterSettings), words: &str| {
        let mut settings = town.settings(1);
        change(&mut settings);
        let error = Cluster::form(&settings).expect_err("refused").to_string();
        assert!(error.contains(words), "{error}");
    };
    check(|settings| settings.process = 2, "process 2 is not among the 2 hosts");
    check(|settings| settings.hosts[0] = settings.hosts[1].clone(), "is there twice");
    check(|_| {}, "could not listen on");
    check(|settings| settings.bind = Bind::Address("192.0.2.1:1".to_owned()), "\"192.0.2.1:1\"");
}

#[test]
fn an_error_of_one_reaches_all() {
    let clusters = Town::form(3);
    let each: Vec<_> = clusters
        .into_iter()
        .map(|mut cluster| {
            spawn(move || {
                assert_eq!(cluster.all_gather(Ok(vec![7])).expect("told"), [[7], [7], [7]]);
                let fails = cluster.process() == 1;
                cluster.all_gather(if fails { Err("no such bucket".to_owned()) } else { Ok(Vec::new()) })
            })
        })
        .collect();
    for one in each {
        let error = one.join().expect("no panic").expect_err("told");
        assert!(matches!(&error, ClusterError::GaveUp(each) if *each == [(1, "no such bucket".to_owned())]), "{error}");
    }
}

#[test]
fn a_process_that_leaves_in_a_round_is_named() {
    let mut clusters = Town::form(2);
    let (mut zero, one) = (clusters.remove(0), clusters.remove(0));
    drop(one);
    let error = zero.all_gather(Ok(Vec::new())).expect_err("alone");
    assert!(matches!(&error, ClusterError::Lost { process: 1, .. }), "{error}");
}

/// Runs two processes of two workers: each worker puts in numbers of its own, which travel to the worker they name.
#[test]
fn a_dataflow_runs_across_processes() {
    let sum = Arc::new(AtomicU64::new(0));
    let each: Vec<_> = Town::form(2)
        .into_iter()
        .map(|cluster| {
            let sum = Arc::clone(&sum);
            spawn(move || {
                let watch = cluster.watch();
                assert_eq!(cluster.worker_range(2), cluster.process() * 2..cluster.process() * 2 + 2);
                let (builders, others) = cluster.into_timely(2).expect("set up");
                let guards = timely::execute::execute_from(builders, others, timely::WorkerConfig::default(), move |worker| {
                    let (me, peers) = (worker.index() as u64, worker.peers() as u64);
                    assert_eq!(peers, 4);
                    let sum = Arc::clone(&sum);
                    let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
                        let (input, stream) = scope.new_input::<u64>();
                        let (probe, _) = stream
                            .exchange(|number| *number)
                            .map(move |number| {
                                assert_eq!(number % peers, me);
                                number
                            })
                            .inspect(move |number| {
                                sum.fetch_add(*number, Ordering::Relaxed);
                            })
                            .probe();
                        (input, probe)
                    });
                    for round in 0..50u64 {
                        for number in 0..1_000 {
                            input.send(round * 1_000 + number);
                        }
                        input.advance_to(round + 1);
                        while probe.less_than(input.time()) {
                            worker.step();
                        }
                    }
                });
                let guards = guards.expect("started");
                while !guards.guards().iter().all(JoinHandle::is_finished) {
                    std::thread::yield_now();
                }
                watch.completed();
                assert!(guards.join().iter().all(Result::is_ok));
                assert!(watch.lost().is_none());
            })
        })
        .collect();
    each.into_iter().for_each(|one| one.join().expect("no panic"));
    assert_eq!(sum.load(Ordering::Relaxed), 4 * (0..50_000u64).sum::<u64>());
}

#[test]
fn a_peer_that_dies_under_timely_is_told_once_and_nothing_panics() {
    let mut clusters = Town::form(2);
    let (zero, one) = (clusters.remove(0), clusters.remove(0));
    let watch = zero.watch();
    let (told, losses) = std::sync::mpsc::channel();
    watch.on_loss(move |lost| told.send(lost).expect("heard"));
    let stop = Arc::new(AtomicBool::new(false));
    let (builders, others) = zero.into_timely(2).expect("set up");
    let stopped = Arc::clone(&stop);
    let guards = timely::execute::execute_from(builders, others, timely::WorkerConfig::default(), move |worker| {
        let dataflow = worker.next_dataflow_index();
        let _input = worker.dataflow::<u64, _, _>(|scope| scope.new_input::<u64>().0);
        while !stopped.load(Ordering::Relaxed) {
            worker.step_or_park(Some(Duration::from_millis(5)));
        }
        worker.drop_dataflow(dataflow);
    })
    .expect("started");
    drop(one);
    let lost = losses.recv().expect("a loss");
    assert_eq!((lost.process, losses.recv().is_err()), (1, true));
    stop.store(true, Ordering::Relaxed);
    // Workers are unharmed; timely's own threads stand still and are left to the end of the process.
    while !guards.guards().iter().all(JoinHandle::is_finished) {
        std::thread::yield_now();
    }
    std::mem::forget(guards);
}
