//! Datagrams of one flow gathered for one segmented send. Knows no socket.

use std::io::IoSlice;

/// Datagrams that one send takes at most; any Linux with segmented sends takes as many.
pub const MAX_DATAGRAMS: usize = 64;
/// Bytes that one send takes at most: the longest datagram of IPv4.
pub const MAX_BYTES: usize = 65_507;

/// One or more datagrams that lie one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams<'a> {
    /// All of them; none is one datagram of no length.
    pub bytes: &'a [u8],
    /// The size of each but the last, which may be shorter, in bytes; no less than 1 unless `bytes` is empty.
    pub stride: usize,
    /// The congestion marks, two bits.
    pub ecn: u8,
}

impl Datagrams<'_> {
    /// The length of the first, in bytes.
    fn first(&self) -> usize {
        if self.stride == 0 { self.bytes.len() } else { self.stride.min(self.bytes.len()) }
    }

    /// One by one.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let alone = self.bytes.is_empty().then_some(self);
        alone.into_iter().chain(self.bytes.chunks(self.first().max(1)).map(move |bytes| Datagrams { bytes, ..self }))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        if self.bytes.is_empty() { 1 } else { self.bytes.len().div_ceil(self.first()) }
    }
}

/// Datagrams of one flow, in order, that one send can take: all of one size, but the last may be shorter, and all
/// with the same congestion marks.
///
/// An empty datagram and one longer than [`MAX_BYTES`] stand alone.
#[derive(Debug)]
pub struct Run<'a> {
    parts: [IoSlice<'a>; MAX_DATAGRAMS],
    used: usize,
    datagrams: usize,
    bytes: usize,
    /// The size of each datagram but the last, in bytes.
    segment: usize,
    ecn: u8,
    /// Nothing can follow.
    closed: bool,
}

impl<'a> Run<'a> {
    /// An empty one.
    pub fn new() -> Run<'a> {
        Run {
            parts: [IoSlice::new(&[]); MAX_DATAGRAMS],
            used: 0,
            datagrams: 0,
            bytes: 0,
            segment: 0,
            ecn: 0,
            closed: false,
        }
    }

    /// Takes as many of `more` as fit and returns the others: they go into the next run, once this one is sent
    /// and [cleared](Run::clear). An empty run takes one at least.
    pub fn push(&mut self, more: Datagrams<'a>) -> Option<Datagrams<'a>> {
        let first = more.first();
        if self.datagrams == 0 {
            self.segment = first;
            self.ecn = more.ecn;
        } else if self.closed || more.ecn != self.ecn || first == 0 {
            return Some(more);
        }
        let length = more.bytes.len();
        let same = first == self.segment;
        let shorter_last = first < self.segment && first == length;
        if !same && !shorter_last {
            return Some(more);
        }
        let count = more.count();
        if self.datagrams + count <= MAX_DATAGRAMS && self.bytes + length <= MAX_BYTES {
            self.take(more.bytes, count);
            self.closed = length == 0 || !length.is_multiple_of(self.segment);
            return None;
        }
        let room = (MAX_BYTES - self.bytes) / self.segment;
        let mut fit = room.min(MAX_DATAGRAMS - self.datagrams).min(length / self.segment);
        if self.datagrams == 0 {
            fit = fit.max(1);
        }
        self.closed = true;
        let (now, later) = more.bytes.split_at_checked(fit * self.segment).unwrap_or((more.bytes, &[]));
        if fit > 0 {
            self.take(now, fit);
        }
        (!later.is_empty()).then_some(Datagrams { bytes: later, ..more })
    }

    fn take(&mut self, bytes: &'a [u8], datagrams: usize) {
        // Each part is one datagram at least, so there is a place.
        if let Some(part) = self.parts.get_mut(self.used) {
            *part = IoSlice::new(bytes);
            self.used += 1;
            self.bytes += bytes.len();
            self.datagrams += datagrams;
        }
    }

    /// Takes all of `more`; each run that is full or cannot go on with what follows is given to `send`.
    ///
    /// What is left in the end is a run still open.
    pub fn feed(&mut self, more: Datagrams<'a>, mut send: impl FnMut(&Run<'a>)) {
        let mut rest = Some(more);
        while let Some(more) = rest {
            rest = self.push(more);
            if rest.is_some() {
                send(self);
                self.clear();
            }
        }
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        (self.used, self.datagrams, self.bytes, self.segment, self.ecn, self.closed) = (0, 0, 0, 0, 0, false);
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// How many datagrams it holds.
    pub fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// The bytes of all its datagrams.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The congestion marks of all its datagrams.
    pub fn ecn(&self) -> u8 {
        self.ecn
    }

    /// What is sent, in order.
    pub fn parts(&self) -> &[IoSlice<'a>] {
        self.parts.get(..self.used).unwrap_or_default()
    }

    /// The size to cut at, in bytes, if there are several datagrams.
    pub fn segment(&self) -> Option<u16> {
        u16::try_from(self.segment).ok().filter(|_| self.datagrams > 1)
    }

    /// Its datagrams one by one.
    pub fn each(&self) -> impl Iterator<Item = &[u8]> {
        let segment = self.segment.max(1);
        let empty = self.datagrams == 1 && self.bytes == 0;
        let cut = self.parts().iter().flat_map(move |part| part.chunks(segment));
        empty.then_some(&[][..]).into_iter().chain(cut)
    }
}

impl Default for Run<'_> {
    fn default() -> Self {
        Run::new()
    }
}
