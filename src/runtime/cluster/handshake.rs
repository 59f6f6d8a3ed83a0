//! Two processes prove to each other that they belong to the same run, before either trusts a byte.
//!
//! ```text
//! dialer                                         listener
//!   │ hello: magic, format, nonce d                 │
//!   │ ────────────────────────────────────────────► │
//!   │                challenge: magic, format, nonce l
//!   │ ◄──────────────────────────────────────────── │
//!   │ claim: who I am, whom I look for; proof(d, l, claim)
//!   │ ────────────────────────────────────────────► │ ✓ proof, ✓ same run, ✓ its place is free
//!   │       verdict: who I am, yes or no; proof(d, l, claim, verdict)
//!   │ ◄──────────────────────────────────────────── │
//! ```
//!
//! Upholds: neither side learns the secret; proofs cover both nonces (nothing can be replayed), both roles (nothing can be
//! reflected) and everything that is claimed; whoever does not know the secret learns that a storeflow listens here, and no
//! more. A listener that knows the secret but is another run's says whose it is, so that the error can.
//!
//! Absent on purpose: encryption. What timely sends afterwards is as open as the network is; a relay in the middle that
//! passes the handshake on can read it.

use std::io::{self, ErrorKind};
use std::net::TcpStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::secret::{Secret, random};
use super::wire::{read_frame, write_frame};

const MAGIC: &[u8] = b"storeflow cluster";
/// Raised when the handshake, or what is exchanged between it and timely, changes.
const FORMAT: u8 = 1;
const NONCE: usize = 32;
const PROOF: usize = 32;
/// Job and run ids are short; nobody needs more.
const FRAME_MAX: usize = 4096;

/// Who a process says it is. All but `process` and `instance` must be the same everywhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The program's version: timely's messages are those of one build.
    pub(super) program: String,
    pub(super) job: String,
    pub(super) run_id: String,
    pub(super) processes: usize,
    /// Worker threads of each process.
    pub(super) workers: usize,
    pub(super) process: usize,
    /// Random, of this start of this process: a second process of the same index has another.
    pub(super) instance: String,
}

/// Why a connection is not the peer it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the connection ended, or stood still, in the handshake")]
    Connection(#[from] io::Error),
    #[error("what is there does not speak as storeflow's processes of this version do")]
    Stranger,
    #[error("it does not have this cluster's secret")]
    Secret,
    #[error("{0}")]
    Differs(String),
    #[error("process {0} has already joined: was it started twice?")]
    Taken(usize),
}

#[derive(Serialize, Deserialize)]
struct Claim {
    from: Identity,
    to: usize,
}

#[derive(Serialize, Deserialize)]
struct Verdict {
    from: Identity,
    /// Whether the place of the dialer is another's already.
    taken: bool,
    /// What the listener found to differ.
    wrong: Option<String>,
}

/// The dialer's part: after it, the other end is process `to` of the same run.
pub(super) fn dial(
    stream: &TcpStream,
    me: &Identity,
    to: usize,
    secret: &Secret,
    deadline: Instant,
) -> Result<(), HandshakeError> {
    let mine = random::<NONCE>()?;
    write_frame(stream, &greeting(&mine), deadline)?;
    let theirs = nonce_of(&read(stream, deadline)?)?;
    let claim = json(&Claim { from: me.clone(), to });
    let proof = secret.proof(&[b"dialer", &mine, &theirs, &claim]);
    write_frame(stream, &[&proof[..], &claim].concat(), deadline)?;
    let answer = read(stream, deadline)?;
    // An empty verdict: our proof was none to it.
    let (proof, verdict) = answer.split_at_checked(PROOF).ok_or(HandshakeError::Secret)?;
    if !secret.is_proof(&[b"listener", &mine, &theirs, &claim, verdict], proof) {
        return Err(HandshakeError::Secret);
    }
    let verdict: Verdict = serde_json::from_slice(verdict).map_err(|_| HandshakeError::Stranger)?;
    match difference(me, &verdict.from).or_else(|| other_index(&verdict.from, to)) {
        Some(what) => Err(HandshakeError::Differs(what)),
        None if verdict.taken => Err(HandshakeError::Taken(me.process)),
        None => verdict.wrong.map_or(Ok(()), |what| Err(HandshakeError::Differs(format!("it says of this process: {what}")))),
    }
}

/// The listener's part. `admit` is asked about a process of the same run whether its place is free, before it is told so.
/// Who knew the secret but is another is in the error's second half.
pub(super) fn answer(
    stream: &TcpStream,
    me: &Identity,
    secret: &Secret,
    deadline: Instant,
    admit: impl FnOnce(&Identity) -> bool,
) -> Result<Identity, (HandshakeError, Option<usize>)> {
    let unknown = |error: HandshakeError| (error, None);
    let theirs = read(stream, deadline).and_then(|hello| nonce_of(&hello)).map_err(unknown)?;
    let mine = random::<NONCE>().map_err(|error| unknown(error.into()))?;
    write_frame(stream, &greeting(&mine), deadline).map_err(|error| unknown(error.into()))?;
    let frame = read(stream, deadline).map_err(unknown)?;
    let (proof, claim) = frame.split_at_checked(PROOF).ok_or((HandshakeError::Stranger, None))?;
    if !secret.is_proof(&[b"dialer", &theirs, &mine, claim], proof) {
        // Says no more than that, and proves nothing: a proof of ours would be one to guess the secret by.
        let _ = write_frame(stream, &[], deadline);
        return Err(unknown(HandshakeError::Secret));
    }
    let Claim { from, to } = serde_json::from_slice(claim).map_err(|_| unknown(HandshakeError::Stranger))?;
    let wrong = difference(me, &from).or_else(|| {
        (to != me.process || from.process <= me.process || from.process >= me.processes).then(|| {
            format!("it is process {} and looked for process {to} here: are the hosts the same everywhere?", from.process)
        })
    });
    let taken = wrong.is_none() && !admit(&from);
    let verdict = json(&Verdict { from: me.clone(), taken, wrong: wrong.clone() });
    let proof = secret.proof(&[b"listener", &theirs, &mine, claim, &verdict]);
    let sent = write_frame(stream, &[&proof[..], &verdict].concat(), deadline);
    let error = match (wrong, taken, sent) {
        (Some(what), ..) => HandshakeError::Differs(what),
        (None, true, _) => HandshakeError::Taken(from.process),
        (None, false, Err(error)) => error.into(),
        (None, false, Ok(())) => return Ok(from),
    };
    Err((error, Some(from.process)))
}

fn greeting(nonce: &[u8; NONCE]) -> Vec<u8> {
    [MAGIC, &[FORMAT], nonce].concat()
}

fn nonce_of(greeting: &[u8]) -> Result<[u8; NONCE], HandshakeError> {
    let nonce = greeting.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(&[FORMAT]));
    nonce.and_then(|nonce| nonce.try_into().ok()).ok_or(HandshakeError::Stranger)
}

/// A frame; one that is too long for us is not from one of us.
fn read(stream: &TcpStream, deadline: Instant) -> Result<Vec<u8>, HandshakeError> {
    read_frame(stream, FRAME_MAX, deadline).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => HandshakeError::Stranger,
        _ => error.into(),
    })
}

fn json(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("texts and numbers are JSON")
}

/// What keeps another process that knows the secret from being of this run.
fn difference(mine: &Identity, theirs: &Identity) -> Option<String> {
    if theirs.program != mine.program {
        return Some(format!("it is storeflow {}, this is {}", theirs.program, mine.program));
    }
    if (&theirs.job, &theirs.run_id) != (&mine.job, &mine.run_id) {
        return Some(format!(
            "it belongs to run \"{}\" of job \"{}\", this is run \"{}\" of job \"{}\": \
             is a process of an earlier start still running?",
            theirs.run_id, theirs.job, mine.run_id, mine.job
        ));
    }
    if (theirs.processes, theirs.workers) != (mine.processes, mine.workers) {
        return Some(format!(
            "it counts {} processes of {} workers, this one {} of {}",
            theirs.processes, theirs.workers, mine.processes, mine.workers
        ));
    }
    None
}

fn other_index(theirs: &Identity, wanted: usize) -> Option<String> {
    (theirs.process != wanted).then(|| format!("it is process {}: are the hosts in the same order everywhere?", theirs.process))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::time::Duration;

    use super::super::wire::tests::pair;
    use super::*;

    fn process(index: usize) -> Identity {
        Identity {
            program: "1".to_owned(),
            job: "mall".to_owned(),
            run_id: "today".to_owned(),
            processes: 3,
            workers: 2,
            process: index,
            instance: format!("instance {index}"),
        }
    }

    fn secret(text: &str) -> Secret {
        Secret::new(&format!("{text} {text} {text}")).expect("long enough")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    type Ends = (Result<(), HandshakeError>, Result<Identity, (HandshakeError, Option<usize>)>);

    fn meet(dialer: &Identity, to: usize, listener: &Identity, secrets: [&str; 2], free: bool) -> Ends {
        let (one, other) = pair();
        std::thread::scope(|scope| {
            let dialed = scope.spawn(|| dial(&one, dialer, to, &secret(secrets[0]), soon()));
            let answered = answer(&other, listener, &secret(secrets[1]), soon(), |_| free);
            (dialed.join().expect("no panic"), answered)
        })
    }

    #[test]
    fn processes_of_one_run_meet() {
        let (dialed, answered) = meet(&process(2), 0, &process(0), ["open sesame"; 2], true);
        dialed.expect("admitted");
        assert_eq!(answered.expect("a peer"), process(2));
    }

    #[test]
    fn both_sides_say_what_differs() {
        let check = |dialer: Identity, to, secrets, free, dialed: &str, answered: &str| {
            let (one, other) = meet(&dialer, to, &process(0), secrets, free);
            let (one, other) = (one.expect_err("refused").to_string(), other.expect_err("refused").0.to_string());
            assert!(one.contains(dialed) && other.contains(answered), "{one}\n{other}");
        };
        let same = ["open sesame"; 2];
        check(process(1), 0, ["open sesame", "open barley"], true, "secret", "secret");
        check(process(1), 0, same, false, "started twice", "started twice");
        check(process(1), 2, same, true, "it is process 0", "looked for process 2");
        check(process(0), 0, same, true, "it says of this process", "is process 0 and looked for");
        let stale = Identity { run_id: "yesterday".to_owned(), ..process(1) };
        check(stale, 0, same, true, "run \"today\" of job \"mall\", this is run \"yesterday\"", "run \"yesterday\"");
        check(Identity { job: "other".to_owned(), ..process(1) }, 0, same, true, "job \"mall\"", "job \"other\"");
        check(Identity { workers: 3, ..process(1) }, 0, same, true, "3 processes of 2 workers", "3 processes of 3 workers");
        check(Identity { program: "2".to_owned(), ..process(1) }, 0, same, true, "storeflow 1", "storeflow 2");
    }

    #[test]
    fn a_listener_tells_strangers_nothing() {
        for words in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", &[0; 512], b"\0\0\0\x05hello", b""]
        {
            let (mut one, other) = pair();
            let answered = std::thread::scope(|scope| {
                let answered =
                    scope.spawn(|| answer(&other, &process(0), &secret("open sesame"), soon(), |_| panic!("admitted")));
                one.write_all(words).expect("sent");
                one.shutdown(Shutdown::Write).expect("no more");
                answered.join().expect("no panic")
            });
            assert!(answered.is_err());
            drop(other);
            let mut heard = Vec::new();
            // A reset is as good an end as any.
            let _ = one.read_to_end(&mut heard);
            assert!(heard.is_empty(), "{words:?} heard {heard:?}");
        }
    }

    #[test]
    fn what_was_said_once_cannot_be_said_again() {
        // A tap between the two keeps what the dialer said and says it again to the same listener.
        let ((one, tap), (relay, other)) = (pair(), pair());
        let said = std::thread::scope(|scope| {
            scope.spawn(|| dial(&one, &process(1), 0, &secret("open sesame"), soon()).expect("admitted"));
            scope.spawn(|| answer(&other, &process(0), &secret("open sesame"), soon(), |_| true).expect("a peer"));
            let mut said = Vec::new();
            for _ in 0..2 {
                said.push(read_frame(&tap, FRAME_MAX, soon()).expect("a frame"));
                write_frame(&relay, said.last().expect("pushed"), soon()).expect("sent");
                let back = read_frame(&relay, FRAME_MAX, soon()).expect("a frame");
                write_frame(&tap, &back, soon()).expect("sent");
            }
            said
        });
        let (one, other) = pair();
        let again = std::thread::scope(|scope| {
            let answered = scope.spawn(|| answer(&other, &process(0), &secret("open sesame"), soon(), |_| panic!("admitted")));
            said.iter().for_each(|frame| write_frame(&one, frame, soon()).expect("sent"));
            answered.join().expect("no panic")
        });
        assert!(matches!(again, Err((HandshakeError::Secret, None))), "{again:?}");
    }
}
