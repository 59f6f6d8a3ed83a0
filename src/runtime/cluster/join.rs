//! Brings the sockets of a cluster together: process j dials every i < j, and listens for every k > j, all at once.
//!
//! ```text
//! dialer threads, one per lower process ── dial, prove, retry ──┐
//!                                                               ▼
//! listener ── one thread per connection ── check, admit ──► places: a proven socket per process
//! ```
//!
//! Upholds: a connection takes a place only after its proof; silent or talkative strangers cost a thread for a few seconds
//! and nothing else; a second process of the same index does not displace the first, a new connection of the *same* start
//! of a process does (its first one may have died on the way to the verdict). What went wrong for each missing process is
//! remembered for the one error at the end.
//!
//! Keeps: at most [`PENDING_MAX`] unproven connections; the oldest makes way.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::handshake::{HandshakeError, Identity, answer, dial};
use super::secret::Secret;

/// Time for one handshake: four small frames. Shorter than any cluster's timeout, so that a silent stranger cannot use it up.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Time for one attempt to connect; a packet that a firewall swallows would otherwise take minutes.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Between two attempts: peers start within seconds of each other, and a refused connection costs nothing.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Between two looks at the listener.
const ACCEPT_EVERY: Duration = Duration::from_millis(5);
/// Unproven connections at a time. A peer's handshake takes milliseconds, so it passes between floods of any scanner.
const PENDING_MAX: usize = 64;
/// Different reasons for turning connections away that are remembered for the error.
const REASONS_MAX: usize = 8;

/// A cluster that comes together. Dropping it closes the door; threads end by themselves within a handshake's time.
pub(super) struct Gathering {
    shared: Arc<Shared>,
}

struct Shared {
    me: Identity,
    secret: Secret,
    hosts: Vec<String>,
    deadline: Instant,
    places: Mutex<Places>,
    changed: Condvar,
}

struct Places {
    /// Nobody is admitted any more.
    closed: bool,
    of: Vec<Place>,
    pending: VecDeque<(u64, TcpStream)>,
    /// Why connections were turned away, how many, and the last one's address.
    turned_away: BTreeMap<String, (usize, SocketAddr)>,
}

#[derive(Default)]
struct Place {
    joined: Option<Joined>,
    /// The last thing that kept it from joining.
    trouble: Option<String>,
}

struct Joined {
    stream: TcpStream,
    instance: String,
    /// Of the connection; 0 where this process dialed.
    number: u64,
    /// It knows that it has joined. Until then its connection is one of the pending ones, and not to be used.
    told: bool,
}

impl Gathering {
    /// Starts dialing and listening.
    pub(super) fn start(
        me: Identity,
        secret: Secret,
        hosts: Vec<String>,
        listener: TcpListener,
        deadline: Instant,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (lower, count) = (me.process, hosts.len());
        let places = Places {
            closed: false,
            of: (0..count).map(|_| Place::default()).collect(),
            pending: VecDeque::new(),
            turned_away: BTreeMap::new(),
        };
        let shared = Arc::new(Shared { me, secret, hosts, deadline, places: Mutex::new(places), changed: Condvar::new() });
        let gathering = Gathering { shared: Arc::clone(&shared) };
        for to in 0..lower {
            let shared = Arc::clone(&shared);
            thread("cluster:dial", move || shared.dial_until_joined(to))?;
        }
        thread("cluster:listen", move || shared.listen(&listener))?;
        Ok(gathering)
    }

    /// Waits until everybody has joined or the time is over; the sockets then, by process, and for each that is missing why.
    pub(super) fn finish(self) -> (Vec<Option<TcpStream>>, Vec<(usize, String)>) {
        let shared = &self.shared;
        let mut places = shared.places();
        loop {
            let left = shared.deadline.saturating_duration_since(Instant::now());
            if shared.missing(&places).next().is_none() {
                places.drop_the_dead();
            }
            if left.is_zero() || shared.missing(&places).next().is_none() {
                break;
            }
            places = shared.changed.wait_timeout(places, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        places.closed = true;
        let turned_away = places.told_away();
        let missing = shared.missing(&places).map(|process| {
            let place = &places.of[process];
            let why = match (&place.trouble, process > shared.me.process) {
                (Some(trouble), _) => trouble.clone(),
                (None, true) => format!("it did not connect{turned_away}"),
                (None, false) => "it did not answer".to_owned(),
            };
            (process, why)
        });
        let missing = missing.collect();
        let sockets = places.of.iter_mut().map(|place| place.joined.take().map(|joined| joined.stream)).collect();
        (sockets, missing)
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut places = self.shared.places();
        places.closed = true;
        for (_, stream) in places.pending.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missing<'a>(&'a self, places: &'a Places) -> impl Iterator<Item = usize> + 'a {
        let is_there = |process: usize| places.of[process].joined.as_ref().is_some_and(|joined| joined.told);
        (0..places.of.len()).filter(move |&process| process != self.me.process && !is_there(process))
    }

    fn is_over(&self) -> bool {
        self.places().closed || Instant::now() >= self.deadline
    }

    /// Dials one process again and again. A wrong one that answers may be on its way out, so it is asked again, too.
    fn dial_until_joined(&self, to: usize) {
        let mut warned = String::new();
        while !self.is_over() {
            let trouble = match self.dial_once(to) {
                Ok(stream) => {
                    let mut places = self.places();
                    if !places.closed {
                        places.of[to].joined = Some(Joined { stream, instance: String::new(), number: 0, told: true });
                        self.changed.notify_all();
                    }
                    return;
                }
                Err(Trouble { text, is_wrong_peer }) => {
                    if is_wrong_peer && warned != text {
                        tracing::warn!(process = to, host = self.hosts[to], "{text}; trying again");
                        warned.clone_from(&text);
                    }
                    text
                }
            };
            self.places().of[to].trouble = Some(trouble);
            std::thread::sleep(RETRY_AFTER);
        }
    }

    fn dial_once(&self, to: usize) -> Result<TcpStream, Trouble> {
        let unreachable = |error: io::Error| Trouble { text: format!("could not connect to it: {error}"), is_wrong_peer: false };
        let stream = connect(&self.hosts[to], self.deadline).map_err(unreachable)?;
        prepare(&stream).map_err(unreachable)?;
        let deadline = self.deadline.min(Instant::now() + HANDSHAKE_MAX);
        dial(&stream, &self.me, to, &self.secret, deadline)
            .map(|()| stream)
            .map_err(|error| Trouble { is_wrong_peer: !matches!(error, HandshakeError::Connection(_)), text: chain(&error) })
    }

    fn listen(self: Arc<Self>, listener: &TcpListener) {
        let mut number = 0;
        while !self.is_over() {
            match listener.accept() {
                Ok((stream, address)) => {
                    number += 1;
                    if let Err(error) = self.meet(number, stream, address) {
                        tracing::debug!(%address, %error, "a connection was dropped");
                    }
                }
                // Out of descriptors, or a connection that was gone before it was accepted: the next look will tell.
                Err(_) => std::thread::sleep(ACCEPT_EVERY),
            }
        }
    }

    /// Meets one connection in a thread of its own.
    fn meet(self: &Arc<Self>, number: u64, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        prepare(&stream)?;
        let kept = stream.try_clone()?;
        let mut places = self.places();
        if places.pending.len() == PENDING_MAX
            && let Some((_, oldest)) = places.pending.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
        places.pending.push_back((number, kept));
        drop(places);
        let shared = Arc::clone(self);
        thread("cluster:meet", move || {
            let deadline = shared.deadline.min(Instant::now() + HANDSHAKE_MAX);
            let met = answer(&stream, &shared.me, &shared.secret, deadline, |peer| shared.admit(peer, number, &stream));
            let mut places = shared.places();
            places.pending.retain(|(other, _)| *other != number);
            match met {
                Ok(peer) => {
                    let joined = places.of[peer.process].joined.as_mut().filter(|joined| joined.number == number);
                    joined.into_iter().for_each(|joined| joined.told = true);
                    shared.changed.notify_all();
                }
                Err((error, of)) => places.turn_away(&error, number, address, of),
            }
        })
    }

    /// Gives a proven process its place, unless that is taken by another living one.
    fn admit(&self, peer: &Identity, number: u64, stream: &TcpStream) -> bool {
        let mut places = self.places();
        let closed = places.closed;
        let Some(place) = places.of.get_mut(peer.process) else { return false };
        if closed || place.joined.as_ref().is_some_and(|joined| joined.instance != peer.instance && is_alive(&joined.stream)) {
            return false;
        }
        let Ok(stream) = stream.try_clone() else { return false };
        place.joined = Some(Joined { stream, instance: peer.instance.clone(), number, told: false });
        true
    }
}

impl Places {
    fn turn_away(&mut self, error: &HandshakeError, number: u64, address: SocketAddr, process: Option<usize>) {
        let text = chain(error);
        match error {
            // Scanners and health checks: seen, but nothing that anybody has to look into.
            HandshakeError::Connection(_) | HandshakeError::Stranger => tracing::debug!(%address, "turned away: {text}"),
            _ => tracing::warn!(%address, "turned away: {text}"),
        }
        match process.and_then(|process| self.of.get_mut(process)) {
            Some(place) if !matches!(error, HandshakeError::Taken(_)) => {
                // The verdict did not reach it: it will come again, if it has not already.
                if place.joined.as_ref().is_some_and(|joined| joined.number == number) {
                    place.joined = None;
                }
                place.trouble = Some(format!("a connection from {address} was turned away: {text}"));
            }
            _ => {
                if self.turned_away.len() < REASONS_MAX || self.turned_away.contains_key(&text) {
                    let entry = self.turned_away.entry(text).or_insert((0, address));
                    *entry = (entry.0 + 1, address);
                }
            }
        }
    }

    /// Who connected and went away again before everybody was there is missing, and may come again. Those that this
    /// process dialed are left for the first round to find: nobody dials them a second time.
    fn drop_the_dead(&mut self) {
        for place in &mut self.of {
            if place.joined.as_ref().is_some_and(|joined| joined.number > 0 && !is_alive(&joined.stream)) {
                place.joined = None;
                place.trouble = Some("it connected and went away again".to_owned());
            }
        }
    }

    /// For the error: one wrong secret in a file explains more than "it did not connect".
    fn told_away(&self) -> String {
        let reasons = self.turned_away.iter();
        reasons.map(|(text, (count, last))| format!("; {count} turned away, the last from {last}: {text}")).collect()
    }
}

struct Trouble {
    text: String,
    is_wrong_peer: bool,
}

fn connect(host: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "its name has no address");
    for address in host.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now()).min(CONNECT_MAX);
        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
            // A port of the client range that nobody listens on can be dialed by itself.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => last = ErrorKind::ConnectionRefused.into(),
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Small messages go at once, and a peer whose machine is gone is missed within a minute also when nothing is said.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    // On some systems it would come with the listener's setting.
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let (after, every) = (Duration::from_secs(20), Duration::from_secs(10));
    let keepalive = socket2::TcpKeepalive::new().with_time(after).with_interval(every);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Whether the other end has not closed. Nothing is taken from the socket.
fn is_alive(stream: &TcpStream) -> bool {
    let alive = stream.set_nonblocking(true).map(|()| match stream.peek(&mut [0]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    });
    alive.unwrap_or(false) && stream.set_nonblocking(false).is_ok()
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(process: usize) -> Identity {
        Identity {
            program: "1".to_owned(),
            job: "mall".to_owned(),
            run_id: "today".to_owned(),
            processes: 2,
            workers: 1,
            process,
            instance: process.to_string(),
        }
    }

    #[test]
    fn who_was_admitted_is_missing_until_it_was_told() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let places = Places {
            closed: false,
            of: vec![Place::default(), Place::default()],
            pending: VecDeque::from([(1, stream.try_clone().expect("a clone"))]),
            turned_away: BTreeMap::new(),
        };
        let shared = Shared {
            me: identity(0),
            secret: Secret::new("sixteen bytes and more").expect("long enough"),
            hosts: vec![String::new(); 2],
            deadline: Instant::now(),
            places: Mutex::new(places),
            changed: Condvar::new(),
        };
        assert!(shared.admit(&identity(1), 1, &stream));
        // Its verdict is on the way. To go on now would close the connection under it, as one that is still pending.
        let mut places = shared.places();
        assert_eq!(shared.missing(&places).collect::<Vec<_>>(), [1]);
        places.of[1].joined.as_mut().expect("admitted").told = true;
        assert_eq!(shared.missing(&places).count(), 0);
    }
}
