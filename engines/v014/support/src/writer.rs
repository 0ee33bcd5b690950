//! A process that says how much it has written, until it is killed.

use std::io::{BufRead, BufReader, Result, Write};
use std::process::Child;

/// What comes before the number.
const DURABLE: &str = "durable ";

/// Says that so much is durable, for [`kill_after`].
///
/// # Errors
/// Fails if nobody reads.
pub fn say_durable(number: u64) -> Result<()> {
    say(&format!("{DURABLE}{number}"))
}

/// Says something at once.
///
/// # Errors
/// Fails if nobody reads.
pub fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Kills a process that calls [`say_durable`] again and again, once it has done so this often, and returns the last number that it
/// has said. `None`: it ended before.
///
/// # Errors
/// Fails if its output is not piped, or it cannot be killed.
pub fn kill_after(mut writer: Child, times: usize) -> Result<Option<u64>> {
    let output = writer.stdout.take().ok_or_else(|| std::io::Error::other("its output is not piped"))?;
    let lines = BufReader::new(output).lines().map_while(Result::ok);
    // Before the first one stands what the harness says.
    let mut numbers = lines.filter_map(|line| line.split_once(DURABLE)?.1.parse::<u64>().ok());
    let number = numbers.nth(times - 1);
    writer.kill()?;
    writer.wait()?;
    // What it has said meanwhile.
    Ok(number.map(|number| numbers.last().unwrap_or(number)))
}
