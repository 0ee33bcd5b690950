//! Scripts as text, one line each for the writers, an engine, a handle, an operation. `#` begins a
//! comment.

use super::script::{EngineSpec, HandleSpec, Mode, Op, Patience, Range, Script};
use crate::harness::program::Memory;
use deepring::BackendKind;
use std::fmt;
use std::str::FromStr;

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "writers {}", self.writers)?;
        for engine in &self.engines {
            writeln!(f, "engine {} block {} depth {}", engine.backend.as_str(), engine.block_bytes, engine.queue_depth)?;
        }
        for handle in &self.handles {
            writeln!(f, "handle engine {} {}", handle.engine, handle.mode)?;
        }
        (1..).zip(&self.ops).try_for_each(|(number, op)| writeln!(f, "{op}  # {number}"))
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Write { handle, range, memory, patience } => write!(f, "write {handle} {range} {} {patience}", Words(memory)),
            Self::Read { handle, range, memory, exact, patience } => {
                write!(f, "read {handle} {range} {} {patience} {}", Words(memory), if exact { "exact" } else { "upto" })
            }
            Self::SetLen { handle, size } => write!(f, "set-len {handle} {size}"),
            Self::Punch { range } => write!(f, "punch {range}"),
            Self::Zero { range, extend } => write!(f, "zero {range} {}", if extend { "extend" } else { "keep" }),
            Self::Sync { handle, data_only } => write!(f, "sync {handle} {}", if data_only { "data" } else { "all" }),
            Self::Stat { handle } => write!(f, "stat {handle}"),
            Self::Reopen { handle, mode, truncate } => {
                write!(f, "reopen {handle} {mode} {}", if truncate { "truncate" } else { "keep" })
            }
            Self::Check { handle, plain_first } => {
                write!(f, "check {handle} {}", if plain_first { "plain-first" } else { "engine-first" })
            }
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {} len {}", self.position, self.len)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        })
    }
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waits => "waits",
            Self::Cancels => "cancels",
            Self::CancelsLate => "cancels-late",
            Self::Drops => "drops",
        })
    }
}

struct Words(Memory);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Memory::Slice(offset) => write!(f, "slice {offset}"),
            Memory::Engine(offset) => write!(f, "engine {offset}"),
        }
    }
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut script = Self { engines: Vec::new(), handles: Vec::new(), writers: 1, ops: Vec::new() };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                let mut words = Line(line.split_whitespace());
                let read = words.read_into(&mut script).and_then(|()| words.end());
                read.map_err(|error| format!("line {}: {error}: {line}", number + 1))?;
            }
        }
        let missing = script.handles.iter().any(|handle| handle.engine >= script.engines.len());
        match (script.handles.is_empty(), missing, script.writers) {
            (true, ..) => Err("a script needs a handle".into()),
            (_, true, _) => Err("a handle names an engine that does not exist".into()),
            (.., 0) => Err("a script needs a writer".into()),
            _ => Ok(script),
        }
    }
}

/// The words of one line that have not been read yet.
struct Line<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Line<'a> {
    fn read_into(&mut self, script: &mut Script) -> Result<(), String> {
        match self.word()? {
            "writers" => script.writers = self.number()? as usize,
            "engine" => {
                let backend = self.one_of(&[("uring", BackendKind::Uring), ("threads", BackendKind::Threads)])?;
                let block_bytes = self.named("block")?;
                script.engines.push(EngineSpec { backend, block_bytes, queue_depth: self.named("depth")? as u32 });
            }
            "handle" => {
                let engine = self.named("engine")? as usize;
                script.handles.push(HandleSpec { engine, mode: self.mode()? });
            }
            name => script.ops.push(self.op(name)?),
        }
        Ok(())
    }

    fn op(&mut self, name: &str) -> Result<Op, String> {
        Ok(match name {
            "write" => Op::Write { handle: self.handle()?, range: self.range()?, memory: self.memory()?, patience: self.patience()? },
            "read" => Op::Read {
                handle: self.handle()?,
                range: self.range()?,
                memory: self.memory()?,
                patience: self.patience()?,
                exact: self.one_of(&[("exact", true), ("upto", false)])?,
            },
            "set-len" => Op::SetLen { handle: self.handle()?, size: self.number()? },
            "punch" => Op::Punch { range: self.range()? },
            "zero" => Op::Zero { range: self.range()?, extend: self.one_of(&[("extend", true), ("keep", false)])? },
            "sync" => Op::Sync { handle: self.handle()?, data_only: self.one_of(&[("data", true), ("all", false)])? },
            "stat" => Op::Stat { handle: self.handle()? },
            "reopen" => {
                let (handle, mode) = (self.handle()?, self.mode()?);
                Op::Reopen { handle, mode, truncate: self.one_of(&[("truncate", true), ("keep", false)])? }
            }
            "check" => Op::Check { handle: self.handle()?, plain_first: self.one_of(&[("plain-first", true), ("engine-first", false)])? },
            _ => return Err(format!("unknown operation '{name}'")),
        })
    }

    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a word is missing".into())
    }

    fn end(&mut self) -> Result<(), String> {
        self.0.next().map_or(Ok(()), |word| Err(format!("unexpected word '{word}'")))
    }

    fn number(&mut self) -> Result<u64, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("'{word}' is not a number"))
    }

    fn named(&mut self, name: &str) -> Result<u64, String> {
        self.one_of(&[(name, ())])?;
        self.number()
    }

    fn one_of<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, String> {
        let word = self.word()?;
        let found = choices.iter().find(|(name, _)| *name == word);
        found
            .map(|&(_, value)| value)
            .ok_or_else(|| format!("'{word}' is not one of {:?}", choices.iter().map(|(name, _)| name).collect::<Vec<_>>()))
    }

    fn handle(&mut self) -> Result<usize, String> {
        Ok(self.number()? as usize)
    }

    fn range(&mut self) -> Result<Range, String> {
        Ok(Range { position: self.named("at")?, len: self.named("len")? })
    }

    fn memory(&mut self) -> Result<Memory, String> {
        let memory = self.one_of::<fn(usize) -> Memory>(&[("slice", Memory::Slice), ("engine", Memory::Engine)])?;
        Ok(memory(self.number()? as usize))
    }

    fn mode(&mut self) -> Result<Mode, String> {
        self.one_of(&[("direct", Mode::Direct), ("buffered", Mode::Buffered)])
    }

    fn patience(&mut self) -> Result<Patience, String> {
        use Patience::{Cancels, CancelsLate, Drops, Waits};
        self.one_of(&[("waits", Waits), ("cancels", Cancels), ("cancels-late", CancelsLate), ("drops", Drops)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsx::generate;

    #[test]
    fn a_script_is_parsed_from_what_it_prints() {
        for seed in 0..50 {
            let script = generate::script(seed, &[BackendKind::Uring, BackendKind::Threads]);
            assert_eq!(script.to_string().parse(), Ok(script), "seed {seed}");
        }
    }

    #[test]
    fn a_parse_error_names_its_line() {
        let error = "engine uring block 4096 depth 0\nhandle engine 0 direct\nwrite 0 at x len 3 slice 0 waits".parse::<Script>();
        assert!(error.is_err_and(|error| error.starts_with("line 3: 'x' is not a number")));
    }
}
