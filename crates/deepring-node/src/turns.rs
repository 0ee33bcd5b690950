//! [`Turns`]: records that wait for JavaScript, in lines that take turns.
//!
//! JavaScript can be slower than a drive. Then records pile up, and the one of a file must not wait for the hundred thousand
//! of another. Those of one file stay in their order.

use crate::record::Record;
use std::collections::VecDeque;

/// Lines that take turns. Files share them by their numbers.
const LINES: usize = 8;

/// Requests whose records one line gives before the next: few against a drain, and enough to stay in one line's memory.
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
    /// Requests: those that were canceled together share records.
    len: usize,
}

impl Turns {
    pub fn len(&self) -> usize {
        self.len
    }

    fn line(&mut self, line: Line) -> &mut VecDeque<Record> {
        match line {
            Line::First => &mut self.first,
            Line::Of(file) => &mut self.lines[file as usize % LINES],
        }
    }

    pub fn push(&mut self, line: Line, record: Record) {
        self.len += record.ids().count();
        self.line(line).push_back(record);
    }

    /// As [`Turns::push`], of `count` requests that were canceled, neighbors by their numbers: in the last record of their
    /// line, if that is of those before them.
    pub fn push_canceled(&mut self, line: Line, first: u64, count: usize) {
        let joined = self.line(line).back_mut().is_some_and(|last| last.extend(first, count));
        if joined { self.len += count } else { self.push(line, Record::of_canceled(first, count)) }
    }

    /// Takes the records of as many requests as are there, at most `max`.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(Record)) {
        let count = self.len.min(max);
        self.len -= count;
        let mut left = count - take(&mut self.first, count, &mut each);
        while left > 0 {
            left -= take(&mut self.lines[self.turn], TURN.min(left), &mut each);
            self.turn = (self.turn + 1) % LINES;
        }
    }

    /// All lines, each in its order.
    pub fn lines(&self) -> impl Iterator<Item = &VecDeque<Record>> {
        [&self.first].into_iter().chain(&self.lines)
    }
}

/// Takes the records of at most `max` requests out of a line. Returns of how many.
fn take(line: &mut VecDeque<Record>, max: usize, each: &mut impl FnMut(Record)) -> usize {
    let mut taken = 0;
    while taken < max
        && let Some(first) = line.front_mut()
    {
        let count = first.ids().count();
        if count > max - taken {
            each(first.split_off_first(max - taken));
            return max;
        }
        taken += count;
        line.pop_front().into_iter().for_each(&mut *each);
    }
    taken
}

/// How many lines [`Turns::lines`] has.
pub const LINE_COUNT: usize = LINES + 1;
