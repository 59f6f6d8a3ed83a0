//! Lines of a partition file, in bounded chunks.
//!
//! Upholds: each line once, in order, with its 0-based number; lines of white space keep their number and are not handed out;
//! whether a whole chunk is UTF-8 is found in one pass, so that lines need no pass of their own.
//! Keeps: one buffer, as long as its chunk or the longest line seen.

use std::fs::File;
use std::io::{self, Read};

use super::dataset::{Packing, PartitionFile};

/// A line, without its line feed.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// 0-based line number.
    pub number: u64,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Known to be UTF-8; if not, unknown.
    pub utf8: bool,
}

/// Reads a file line by line.
pub struct Lines {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// Next byte to hand out, end of the last complete line, end of what was read.
    at: usize,
    complete: usize,
    filled: usize,
    chunk: usize,
    number: u64,
    utf8: bool,
    ended: bool,
}

impl Lines {
    /// Opens a file, unpacking as needed, reading about `chunk` bytes at a time.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(file: &PartitionFile, chunk: usize) -> io::Result<Self> {
        let raw = File::open(&file.path)?;
        let input: Box<dyn Read + Send> = match file.packing {
            Packing::Plain => Box::new(raw),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(raw)?),
            Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(io::BufReader::new(raw))),
        };
        Ok(Lines::new(input, chunk))
    }

    /// Lines of any reader.
    pub fn new(input: Box<dyn Read + Send>, chunk: usize) -> Self {
        Lines {
            input,
            buffer: vec![0; chunk.max(16)],
            at: 0,
            complete: 0,
            filled: 0,
            chunk: chunk.max(16),
            number: 0,
            utf8: true,
            ended: false,
        }
    }

    /// The next line that is not white space, or `None` at the end.
    ///
    /// # Errors
    /// If reading or unpacking fails.
    #[inline]
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if self.at == self.complete && !self.fill()? {
                return Ok(None);
            }
            let start = self.at;
            let end = match memchr::memchr(b'\n', &self.buffer[start..self.complete]) {
                Some(len) => {
                    self.at = start + len + 1;
                    start + len
                }
                None => {
                    self.at = self.complete;
                    self.complete
                }
            };
            let number = self.number;
            self.number += 1;
            // Most lines start with a brace; only others are looked at for being blank.
            let blank = |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
            if self.buffer[start..end].first() == Some(&b'{') || !blank(&self.buffer[start..end]) {
                return Ok(Some(Line { number, bytes: &self.buffer[start..end], utf8: self.utf8 }));
            }
        }
    }

    /// The number of the next line.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Makes at least one more line complete; false at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.at = 0;
        self.complete = 0;
        let mut searched = 0;
        while !self.ended {
            if self.buffer.len() - self.filled < self.chunk / 2 {
                // A line longer than the buffer: it must be held whole.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let read = match self.input.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            self.ended = read == 0;
            self.filled += read;
            if let Some(last) = memchr::memrchr(b'\n', &self.buffer[searched..self.filled]) {
                self.complete = searched + last + 1;
                break;
            }
            searched = self.filled;
        }
        if self.ended && self.complete == 0 {
            self.complete = self.filled;
        }
        self.utf8 = simdutf8::basic::from_utf8(&self.buffer[..self.complete]).is_ok();
        Ok(self.complete > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8], chunk: usize) -> Vec<(u64, Vec<u8>)> {
        let mut lines = Lines::new(Box::new(io::Cursor::new(text.to_vec())), chunk);
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().expect("memory") {
            assert!(!line.utf8 || std::str::from_utf8(line.bytes).is_ok());
            all.push((line.number, line.bytes.to_vec()));
        }
        all
    }

    proptest! {
        /// However small the chunk, the lines are those of a plain split.
        #[test]
        fn agree_with_a_plain_split(text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'{'), any::<u8>()], 0..300), chunk in 1usize..80) {
            let expected: Vec<(u64, Vec<u8>)> = text
                .split(|&byte| byte == b'\n')
                .enumerate()
                .filter(|(_, line)| !line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r')))
                .map(|(number, line)| (number as u64, line.to_vec()))
                .collect();
            prop_assert_eq!(read(&text, chunk), expected);
        }
    }
}
