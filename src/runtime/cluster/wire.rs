//! Frames between processes before timely takes the sockets over: a length, then so many bytes.
//!
//! Upholds: no frame is longer than its reader allows, no read or write lasts beyond its deadline, however slowly the other
//! side drips; and not one byte beyond a frame is read, since what follows may be timely's.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Sends one frame.
pub(super) fn write_frame(mut stream: &TcpStream, body: &[u8], deadline: Instant) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(|_| io::Error::new(ErrorKind::InvalidInput, "too long for a frame"))?;
    for mut bytes in [&length.to_be_bytes()[..], body] {
        while !bytes.is_empty() {
            stream.set_write_timeout(Some(left(deadline)?))?;
            match stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) => again(error)?,
            }
        }
    }
    Ok(())
}

/// Receives one frame of at most `limit` bytes.
pub(super) fn read_frame(stream: &TcpStream, limit: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    read_exactly(stream, &mut length, deadline)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a frame of {length} bytes where {limit} are allowed")));
    }
    let mut body = vec![0; length];
    read_exactly(stream, &mut body, deadline)?;
    Ok(body)
}

fn read_exactly(mut stream: &TcpStream, buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection was closed")),
            Ok(read) => filled += read,
            Err(error) => again(error)?,
        }
    }
    Ok(())
}

/// The time until the deadline, never nothing: a timeout of zero would mean none.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::Error::new(ErrorKind::TimedOut, "nothing came in time")) } else { Ok(left) }
}

/// An interrupted or timed out call is made again; whether there is time left for it, `left` decides.
fn again(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(()),
        _ => Err(error),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Two ends of a connection.
    pub(in crate::runtime::cluster) fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let one = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        (one, listener.accept().expect("accepted").0)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn frames_follow_each_other_and_nothing_is_read_ahead() {
        let (one, mut other) = pair();
        write_frame(&one, b"first", soon()).expect("sent");
        write_frame(&one, b"", soon()).expect("sent");
        (&one).write_all(b"rest").expect("sent");
        assert_eq!(read_frame(&other, 5, soon()).expect("a frame"), b"first");
        assert_eq!(read_frame(&other, 5, soon()).expect("a frame"), b"");
        let mut rest = [0; 4];
        other.read_exact(&mut rest).expect("the rest");
        assert_eq!(&rest, b"rest");
    }

    #[test]
    fn too_long_closed_and_silent() {
        let (one, other) = pair();
        write_frame(&one, b"longer", soon()).expect("sent");
        assert_eq!(read_frame(&other, 5, soon()).expect_err("too long").kind(), ErrorKind::InvalidData);
        let (one, other) = pair();
        let soon_over = Instant::now() + Duration::from_millis(30);
        assert_eq!(read_frame(&other, 5, soon_over).expect_err("silent").kind(), ErrorKind::TimedOut);
        (&one).write_all(&[0, 0, 0, 3, 1]).expect("sent");
        drop(one);
        assert_eq!(read_frame(&other, 5, soon()).expect_err("cut").kind(), ErrorKind::UnexpectedEof);
    }
}
