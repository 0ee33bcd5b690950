//! [`Turns`]: records that wait for JavaScript, in lines that take turns.
//!
//! JavaScript can be slower than a drive. Then records pile up, and the one of a file must not wait for the hundred thousand
//! of another. Those of one file stay in their order.

use crate::record::Record;
use std::collections::VecDeque;

/// Lines that take turns. Files share them by their numbers.
const LINES: usize = 8;

/// Records that one line gives before the next: few against a drain, and enough to stay in one line's memory.
const TURN: usize = 16;

/// Where a record waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Before all others: transfers of the class `latency`.
    First,
    /// With those of this file, or of others.
    Of(u32),
}

impl Line {
    /// What belongs to no open file.
    pub const OTHER: Self = Self::Of(0);
}

#[derive(Default)]
pub struct Turns {
    first: VecDeque<Record>,
    lines: [VecDeque<Record>; LINES],
    /// The line whose turn it is.
    turn: usize,
    len: usize,
}

impl Turns {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, line: Line, record: Record) {
        self.len += 1;
        match line {
            Line::First => self.first.push_back(record),
            Line::Of(file) => self.lines[file as usize % LINES].push_back(record),
        }
    }

    /// Takes as many records as are there, at most `max`.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(Record)) -> usize {
        let count = self.len.min(max);
        self.len -= count;
        let first = self.first.len().min(count);
        self.first.drain(..first).for_each(&mut each);
        let mut left = count - first;
        while left > 0 {
            let line = &mut self.lines[self.turn];
            let some = line.len().min(TURN).min(left);
            line.drain(..some).for_each(&mut each);
            left -= some;
            self.turn = (self.turn + 1) % LINES;
        }
        count
    }

    /// All lines, each in its order.
    pub fn lines(&self) -> impl Iterator<Item = &VecDeque<Record>> {
        [&self.first].into_iter().chain(&self.lines)
    }
}

/// How many lines [`Turns::lines`] has.
pub const LINE_COUNT: usize = LINES + 1;
