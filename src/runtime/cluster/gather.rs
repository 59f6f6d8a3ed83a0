//! Everybody tells everybody, once: how processes agree before timely runs, and that nobody failed on the way.
//!
//! Upholds: all messages are read before any is judged, also by a process that failed itself, so that its own reason is
//! delivered before its sockets close; a process at another step is found out by the number of the round.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Instant;

use super::wire::{read_frame, write_frame};

/// The longest message. Lists of partitions take some hundred bytes each.
pub(super) const MESSAGE_MAX: usize = 64 << 20;
/// Round and kind before the message.
const HEADER: usize = 5;

/// What one process said; the inner error is its own.
pub(super) type Said = Result<Vec<u8>, String>;

/// Sends `message` to every socket and receives theirs, both at once so that no two can wait for each other to read.
pub(super) fn exchange(
    sockets: &[Option<TcpStream>],
    round: u32,
    message: &Said,
    deadline: Instant,
) -> Vec<Option<io::Result<Said>>> {
    let frame = frame_of(round, message);
    std::thread::scope(|scope| {
        let threads: Vec<_> = sockets
            .iter()
            .map(|socket| {
                let frame = &frame;
                socket.as_ref().map(|socket| {
                    let sent = scope.spawn(move || write_frame(socket, frame, deadline));
                    (sent, scope.spawn(move || receive(socket, round, deadline)))
                })
            })
            .collect();
        let ends = threads.into_iter().map(|threads| {
            threads.map(|(sent, received)| {
                let broke = || io::Error::other("the thread that talks to it broke");
                let sent = sent.join().unwrap_or_else(|_| Err(broke()));
                let received = received.join().unwrap_or_else(|_| Err(broke()));
                // What it said before it went away matters more than that it could not be answered.
                received.and_then(|said| if said.is_ok() { sent.map(|()| said) } else { Ok(said) })
            })
        });
        ends.collect()
    })
}

fn frame_of(round: u32, message: &Said) -> Vec<u8> {
    let (kind, body) = match message {
        Ok(body) => (0, body.as_slice()),
        Err(text) => (1, text.as_bytes()),
    };
    [&round.to_be_bytes()[..], &[kind], body].concat()
}

fn receive(socket: &TcpStream, round: u32, deadline: Instant) -> io::Result<Said> {
    let mut frame = read_frame(socket, HEADER + MESSAGE_MAX, deadline)?;
    let body = frame.split_off(HEADER.min(frame.len()));
    match (frame.get(..4), frame.get(4)) {
        // A process that fails may do so at an earlier step.
        (Some(_), Some(1)) => Ok(Err(String::from_utf8_lossy(&body).into_owned())),
        (Some(theirs), Some(0)) if theirs == round.to_be_bytes() => Ok(Ok(body)),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "it is at another step of the start")),
    }
}
