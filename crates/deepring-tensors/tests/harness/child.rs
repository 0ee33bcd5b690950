//! Tests in other processes: the test binary runs one of its tests again, which knows by a variable that it is the child.

use std::process::{Child, Command, Stdio};

const VARIABLE: &str = "DEEPRING_TEST_CHILD";

/// What this process was started for, if it is a child of this test.
pub(crate) fn argument(test: &str) -> Option<Vec<String>> {
    let given = std::env::var(VARIABLE).ok()?;
    let (name, rest) = given.split_once('\n')?;
    (name == test).then(|| rest.split('\n').map(str::to_owned).collect())
}

/// Runs this test again in another process.
pub(crate) fn spawn(test: &str, arguments: &[&str]) -> Child {
    start(Command::new(std::env::current_exe().expect("the test binary")), test, arguments)
}

/// The same under a limit, as `ulimit` is given it.
pub(crate) fn spawn_limited(test: &str, arguments: &[&str], limit: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]).arg(std::env::current_exe().expect("the test binary"));
    start(command, test, arguments)
}

fn start(mut command: Command, test: &str, arguments: &[&str]) -> Child {
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command.env(VARIABLE, format!("{test}\n{}", arguments.join("\n")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child process")
}

/// Waits for a line of the child, whose output stays open: what it prints afterwards must not fail.
pub(crate) fn await_line(child: &mut Child, expected: &str) {
    use std::io::{BufRead, BufReader, Read};
    let mut output = BufReader::new(child.stdout.take().expect("the child's output"));
    let found = output.by_ref().lines().map_while(Result::ok).any(|line| line.contains(expected));
    assert!(found, "the child has ended before it was {expected}");
    child.stdout = Some(output.into_inner());
}
