//! What happens when a process of the cluster goes away while timely runs.
//!
//! Timely's own threads panic when a socket breaks, poison the workers' queues and let their panics cascade; and a worker
//! that returns early closes its sockets as if all had been said, after which the others wait for ever. Here timely gets
//! sockets that do neither:
//!
//! ```text
//! timely:recv ◄── read ── WatchedStream ◄── socket     end without goodbye ─► PeerWatch: lost; the thread stands still
//! timely:send ──► write ─ WatchedStream ──► socket     goodbye is held back until PeerWatch::completed()
//! ```
//!
//! Upholds: (1) a lost peer is one [`PeerLost`], of the first that went, and no panic; (2) a process that did not complete
//! never says goodbye, so whatever ends it, its peers notice; (3) bytes pass unchanged.
//! What follows: after a loss timely's threads never end, so the guards of the workers must not be joined or dropped
//! (`std::mem::forget`): the process says why and exits.
//! Absent on purpose: a heartbeat. A peer that hangs is found by its own `/healthz`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use timely::communication::allocator::zero_copy::stream::Stream;

/// A process that went away in the middle of a run.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "process {process} at \"{host}\" went away; its own log says why. \
     Nothing that was shown is taken back; start all processes together again"
)]
pub struct PeerLost {
    /// Its index.
    pub process: usize,
    /// Its address as it was given.
    pub host: String,
    /// How it was noticed.
    #[source]
    pub source: Arc<io::Error>,
}

/// Tells whether a peer was lost. Clones watch the same cluster.
#[derive(Clone, Default)]
pub struct PeerWatch {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    lost: Option<PeerLost>,
    completed: bool,
    on_loss: Option<Box<dyn FnOnce(PeerLost) + Send>>,
}

impl PeerWatch {
    /// The first process that went away, if one did: then end this process without joining workers.
    pub fn lost(&self) -> Option<PeerLost> {
        self.locked().lost.clone()
    }

    /// Calls `act` once, on whichever thread notices a loss; at once if there was one.
    pub fn on_loss(&self, act: impl FnOnce(PeerLost) + Send + 'static) {
        let mut state = self.locked();
        match state.lost.clone() {
            Some(lost) => {
                drop(state);
                act(lost);
            }
            None => state.on_loss = Some(Box::new(act)),
        }
    }

    /// Says that this process's workers have done all they had to: only now are the others told goodbye. Call it before
    /// joining the workers' guards, and only if no worker failed.
    pub fn completed(&self) {
        self.locked().completed = true;
        self.state.1.notify_all();
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, peer: &Peer, source: io::Error) {
        let mut state = self.locked();
        if state.lost.is_some() {
            return;
        }
        let lost = PeerLost { process: peer.process, host: peer.host.clone(), source: Arc::new(source) };
        state.lost = Some(lost.clone());
        let act = state.on_loss.take();
        drop(state);
        if let Some(act) = act {
            act(lost);
        }
    }

    fn await_completion(&self) {
        let state = self.locked();
        drop(self.state.1.wait_while(state, |state| !state.completed).unwrap_or_else(PoisonError::into_inner));
    }
}

impl fmt::Debug for PeerWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerWatch").field("lost", &self.lost()).finish_non_exhaustive()
    }
}

struct Peer {
    process: usize,
    host: String,
}

/// A socket to a peer as timely takes it.
pub(super) struct WatchedStream {
    stream: TcpStream,
    peer: Arc<Peer>,
    watch: PeerWatch,
    /// Of what this handle read or wrote.
    frames: Frames,
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream, process: usize, host: &str, watch: PeerWatch) -> Self {
        let peer = Arc::new(Peer { process, host: host.to_owned() });
        WatchedStream { stream, peer, watch, frames: Frames::default() }
    }

    /// Notes the loss and never returns: an error would make timely's thread panic.
    fn lose(&self, error: io::Error) -> ! {
        self.watch.lose(&self.peer, error);
        loop {
            std::thread::park();
        }
    }
}

impl Read for WatchedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) if !self.frames.ended => {
                    self.lose(io::Error::new(io::ErrorKind::UnexpectedEof, "its connection was closed"));
                }
                Ok(read) => {
                    self.frames.follow(&buffer[..read]);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.lose(error),
            }
        }
    }
}

impl Write for WatchedStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The goodbye is the last header timely writes; one look at where this write would end finds it.
        if !self.frames.ended {
            let mut after = self.frames.clone();
            after.follow(bytes);
            if after.ended {
                self.watch.await_completion();
            }
        }
        match self.stream.write(bytes) {
            Ok(written) => {
                self.frames.follow(&bytes[..written]);
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => self.lose(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Stream for WatchedStream {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(WatchedStream {
            stream: self.stream.try_clone()?,
            peer: Arc::clone(&self.peer),
            watch: self.watch.clone(),
            frames: Frames::default(),
        })
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how).or_else(|error| self.lose(error))
    }
}

/// Follows timely's messages by their headers: six big-endian words, the fifth of which is the length of what follows; a
/// length of nothing is the goodbye (`timely_communication::networking::MessageHeader`).
#[derive(Clone)]
struct Frames {
    header: [u8; HEADER],
    /// Bytes of the header that are known.
    known: usize,
    /// Bytes of the body that are to come.
    body: u64,
    ended: bool,
}

const HEADER: usize = 48;
const LENGTH_AT: usize = 32;

impl Default for Frames {
    fn default() -> Self {
        Frames { header: [0; HEADER], known: 0, body: 0, ended: false }
    }
}

impl Frames {
    fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.body > 0 {
                let passed = self.body.min(bytes.len() as u64);
                self.body -= passed;
                bytes = &bytes[passed as usize..];
                continue;
            }
            let taken = bytes.len().min(HEADER - self.known);
            self.header[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            bytes = &bytes[taken..];
            if self.known == HEADER {
                let length: [u8; 8] = self.header[LENGTH_AT..LENGTH_AT + 8].try_into().expect("eight bytes");
                (self.body, self.known) = (u64::from_be_bytes(length), 0);
                self.ended = self.body == 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use timely::communication::networking::MessageHeader;

    use super::super::wire::tests::pair;
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let header = MessageHeader { channel: 9, source: 1, target_lower: 0, target_upper: 2, length, seqno: 77 };
        let mut bytes = Vec::new();
        header.write_to(&mut bytes).expect("written");
        bytes.resize(bytes.len() + length, 0);
        bytes
    }

    fn watched(stream: TcpStream) -> (WatchedStream, PeerWatch) {
        let watch = PeerWatch::default();
        (WatchedStream::new(stream, 1, "elsewhere:1", watch.clone()), watch)
    }

    #[test]
    fn frames_end_at_the_goodbye_however_they_are_cut() {
        let bytes = [message(1), message(100), message(0)].concat();
        for cut in 1..bytes.len() {
            let mut frames = Frames::default();
            for piece in bytes[..bytes.len() - 1].chunks(cut) {
                frames.follow(piece);
                assert!(!frames.ended, "pieces of {cut}");
            }
            frames.follow(&bytes[bytes.len() - 1..]);
            assert!(frames.ended, "pieces of {cut}");
        }
    }

    #[test]
    fn an_end_without_goodbye_is_a_loss() {
        let (one, mut other) = pair();
        let (mut stream, watch) = watched(one);
        let (told, lost) = std::sync::mpsc::channel();
        watch.on_loss(move |lost| told.send(lost).expect("heard"));
        other.write_all(&message(10)).expect("sent");
        drop(other);
        std::thread::spawn(move || while stream.read(&mut [0; 64]).expect("never fails") > 0 {});
        let lost = lost.recv().expect("a loss");
        assert_eq!(lost.process, 1);
        assert!(lost.to_string().contains("process 1 at \"elsewhere:1\" went away"), "{lost}");
        assert_eq!(watch.lost().expect("kept").source.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_end_after_goodbye_is_none() {
        let (one, mut other) = pair();
        let (mut stream, watch) = watched(one);
        other.write_all(&[message(10), message(0)].concat()).expect("sent");
        drop(other);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("read");
        assert_eq!(all, [message(10), message(0)].concat());
        assert!(watch.lost().is_none());
    }

    #[test]
    fn goodbye_waits_for_completion() {
        let (one, other) = pair();
        let (mut stream, watch) = watched(one);
        let sender = std::thread::spawn(move || {
            stream.write_all(&message(10)).expect("sent");
            stream.write_all(&message(0)).expect("sent");
        });
        let mut first = vec![0; message(10).len()];
        (&other).read_exact(&mut first).expect("the message");
        other.set_nonblocking(true).expect("set");
        assert_eq!((&other).read(&mut [0; 64]).expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
        other.set_nonblocking(false).expect("set");
        watch.completed();
        let mut rest = Vec::new();
        (&other).read_to_end(&mut rest).expect("the rest");
        assert_eq!(rest, message(0));
        sender.join().expect("no panic");
    }
}
