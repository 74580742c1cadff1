//! The framing of a chunked body, as it passes. Pure: no socket, no clock.
//!
//! The bytes go on verbatim, so everything is refused that the next parser could read otherwise: a bare CR or LF, a
//! blank around a size, a size of too many digits, extensions without end, folded or malformed trailers, and trailers
//! that would change the framing if somebody took them for fields of the head.

use super::fields::{field_line, is_control, slice};

/// The longest extension of one chunk, in bytes.
pub const MAX_EXTENSION: usize = 1024;

/// The most bytes of trailers, line ends included.
pub const MAX_TRAILERS: usize = 16 * 1024;

/// The most digits of a size.
const MAX_DIGITS: u8 = 16;

/// Fields that say where messages end or go; they count in a head only.
const NO_TRAILERS: [&str; 3] = ["content-length", "transfer-encoding", "host"];

/// What is wrong with the framing. After any of these nothing that follows can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkProblem {
    /// No hexadecimal digits, too many, 2^63 or more, or something behind them that is no extension.
    #[error("the size of a chunk is malformed")]
    Size,
    /// More than [`MAX_EXTENSION`] bytes, or a control character.
    #[error("the extension of a chunk is unusable")]
    Extension,
    /// A CR without LF, or the other way round.
    #[error("a line of the framing ends in a bare CR or LF")]
    LineEnd,
    /// The chunk goes on where its size said that it ends.
    #[error("a chunk is not as long as its size says")]
    DataEnd,
    /// Not `name: value`, folded, with a control character, or a field that must not come late.
    #[error("a trailer is unusable")]
    Trailer,
    /// More than [`MAX_TRAILERS`] bytes.
    #[error("the trailers are larger than {MAX_TRAILERS} bytes")]
    TrailersTooLarge,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    /// This many digits are read.
    Size(u8),
    /// This many bytes of an extension are read.
    Extension(usize),
    /// The CR after a size is read.
    SizeEnd,
    Data,
    /// The data is read.
    DataEnd,
    /// The data and its CR are read.
    DataLf,
    Trailer,
    /// The CR of a trailer, or of the empty line, is read.
    TrailerLf,
    Done,
    Failed(ChunkProblem),
}

/// Follows one chunked body from its first size to the empty line after its trailers.
#[derive(Debug, Clone, Default)]
pub struct Chunked {
    state: State,
    /// The size being read; then what is left of the chunk.
    left: u64,
    payload: u64,
    /// The trailer being read.
    line: Vec<u8>,
    trailers: usize,
}

impl Chunked {
    /// How many of these bytes, which follow those of the last call, belong to the body, its framing included. It is
    /// all of them until the body is over. After a problem there is only that problem.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, ChunkProblem> {
        let mut rest = bytes;
        loop {
            self.state = match (self.state, rest) {
                (State::Failed(problem), _) => return Err(problem),
                (State::Done, _) | (_, []) => return Ok(bytes.len() - rest.len()),
                (State::Data, _) => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                    rest = rest.get(here..).unwrap_or_default();
                    self.left -= here as u64;
                    self.payload += here as u64;
                    if self.left == 0 { State::DataEnd } else { State::Data }
                }
                (_, [byte, behind @ ..]) => {
                    rest = behind;
                    self.step(*byte).unwrap_or_else(State::Failed)
                }
            }
        }
    }

    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of data that passed, without sizes, line ends and trailers.
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// The state after a byte of framing.
    fn step(&mut self, byte: u8) -> Result<State, ChunkProblem> {
        match (self.state, byte) {
            (State::Size(_) | State::Extension(_), b'\r') => Ok(State::SizeEnd),
            (_, b'\n') if !matches!(self.state, State::SizeEnd | State::DataEnd | State::DataLf | State::TrailerLf) => {
                Err(ChunkProblem::LineEnd)
            }
            (State::Size(_), b';') => Ok(State::Extension(1)),
            (State::Start, _) => self.digit(byte, 0),
            (State::Size(digits), _) => self.digit(byte, digits),
            (State::Extension(MAX_EXTENSION), _) => Err(ChunkProblem::Extension),
            (State::Extension(_), _) if is_control(byte) => Err(ChunkProblem::Extension),
            (State::Extension(n), _) => Ok(State::Extension(n + 1)),
            (State::SizeEnd, b'\n') if self.left == 0 => Ok(State::Trailer),
            (State::SizeEnd, b'\n') => Ok(State::Data),
            (State::DataEnd, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Start),
            (State::DataEnd | State::DataLf, _) => Err(ChunkProblem::DataEnd),
            (State::Trailer | State::TrailerLf, _) => self.trailer(byte),
            (State::SizeEnd, _) => Err(ChunkProblem::LineEnd),
            (state @ (State::Data | State::Done | State::Failed(_)), _) => Ok(state),
        }
    }

    fn digit(&mut self, byte: u8, digits: u8) -> Result<State, ChunkProblem> {
        let digit = char::from(byte).to_digit(16).ok_or(ChunkProblem::Size)?;
        if digits == MAX_DIGITS {
            return Err(ChunkProblem::Size);
        }
        // Sixteen digits fit.
        self.left = self.left << 4 | u64::from(digit);
        if self.left >> 63 == 1 { Err(ChunkProblem::Size) } else { Ok(State::Size(digits + 1)) }
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkProblem> {
        self.trailers += 1;
        match (self.state, byte) {
            (State::TrailerLf, b'\n') if self.line.is_empty() => Ok(State::Done),
            (State::TrailerLf, b'\n') => self.trailer_line(),
            (State::TrailerLf, _) => Err(ChunkProblem::LineEnd),
            (_, b'\r') => Ok(State::TrailerLf),
            _ if is_control(byte) => Err(ChunkProblem::Trailer),
            // The line ends to come have room.
            _ if self.trailers > MAX_TRAILERS - 4 => Err(ChunkProblem::TrailersTooLarge),
            _ => {
                self.line.push(byte);
                Ok(State::Trailer)
            }
        }
    }

    fn trailer_line(&mut self) -> Result<State, ChunkProblem> {
        let (name, _) = field_line(&self.line, 0..self.line.len()).map_err(|_| ChunkProblem::Trailer)?;
        let name = slice(&self.line, &name);
        if NO_TRAILERS.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes())) {
            return Err(ChunkProblem::Trailer);
        }
        self.line.clear();
        Ok(State::Trailer)
    }
}

#[cfg(test)]
mod tests;
