//! Tests that change their process (limits, user, system-call filter, environment) or measure it
//! run in a child process: the test binary starts itself again with the name of that one test.

use super::{patient, say, skip, test_name};
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Set in the child to the name of its test.
const VARIABLE: &str = "DEEPRING_TEST_CHILD";

/// Longer than any of these tests takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// The exit status of a child process that calls [`again`].
const AGAIN: i32 = 43;

/// The type of what names a limit: glibc has its own.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// Runs `body` in a child process. Call it on the test's own thread, and let it be all the test
/// does.
pub(crate) fn alone(body: impl FnOnce()) {
    alone_with(|_| {}, body);
}

/// As [`alone`], after `prepare` has changed the command.
pub(crate) fn alone_with(prepare: impl Fn(&mut Command), body: impl FnOnce()) {
    let test = test_name();
    if is_child_for(&test) {
        return body();
    }
    for _ in 0..20 {
        let (status, output) = run(&test, &prepare);
        if status.code() == Some(AGAIN) {
            continue;
        }
        assert!(status.success(), "the child process failed: {status}");
        assert!(output.contains("1 passed"), "the child process ran another test than {test}");
        return;
    }
    panic!("no child process proved anything");
}

/// Ends this child process, and lets [`alone`] start another one: the scheduler did not bring about
/// what the test looks at, and this process cannot try again.
pub(crate) fn again(why: &str) -> ! {
    say(&format!("{why}: another process tries again"));
    std::process::exit(AGAIN)
}

/// As [`alone`], but the child process exits the moment `body` returns, with its requests still in
/// flight.
pub(crate) fn alone_ending(body: impl FnOnce()) {
    const STATUS: i32 = 42;
    let test = test_name();
    if is_child_for(&test) {
        body();
        std::process::exit(STATUS);
    }
    let (status, _) = run(&test, |_| {});
    assert_eq!(status.code(), Some(STATUS), "the child process failed: {status}");
}

fn is_child_for(test: &str) -> bool {
    std::env::var(VARIABLE).is_ok_and(|name| name == test)
}

/// Runs one test in a child process and returns its exit status and its output.
fn run(test: &str, prepare: impl FnOnce(&mut Command)) -> (ExitStatus, String) {
    let mut log = tempfile::tempfile().expect("a file for the child's output");
    let mut command = Command::new(std::env::current_exe().expect("the test binary"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(VARIABLE, test);
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a descriptor")).stderr(log.try_clone().expect("a descriptor"));
    prepare(&mut command);
    let mut child = command.spawn().expect("a child process");
    let (limit, started) = (patient(LIMIT), Instant::now());
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child's status") {
            break Some(status);
        }
        if started.elapsed() > limit {
            child.kill().expect("the child killed");
            child.wait().expect("the child's end");
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let mut output = String::new();
    log.rewind().expect("the child's output");
    log.read_to_string(&mut output).expect("the child's output is UTF-8");
    say(&output);
    // libtest hides what `say` prints in a test that passes, but a skip in the child must be
    // visible.
    output.lines().filter_map(|line| line.strip_prefix("skipped: ")?.split_once(": ")).for_each(|(_, why)| skip(why));
    (status.unwrap_or_else(|| panic!("the child process did not end within {limit:?}")), output)
}

/// Sets a resource limit of this process, soft and hard.
pub(crate) fn limit(resource: Resource, value: u64) {
    set_limit(resource, libc::rlimit { rlim_cur: value, rlim_max: value });
}

/// Lowers a limit so that it can be raised again.
pub(crate) fn limit_for_now(resource: Resource, value: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a local struct.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit.rlim_cur = value.min(limit.rlim_max);
    set_limit(resource, limit);
}

fn set_limit(resource: Resource, limit: libc::rlimit) {
    // SAFETY: reads a local struct.
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    assert_eq!(set, 0, "setrlimit: {}", std::io::Error::last_os_error());
}

/// A directory with these permissions that every user can reach: the checkout can lie below one that
/// only its owner can enter.
pub(crate) fn directory_for_all(mode: u32) -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(mode)).expect("permissions");
    place
}

/// Gives up root for good: becomes the user `nobody`.
pub(crate) fn become_nobody() {
    const NOBODY: libc::uid_t = 65534;
    // SAFETY: no groups are passed.
    assert_eq!(unsafe { libc::setgroups(0, std::ptr::null()) }, 0);
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setgid(NOBODY) }, 0);
    // SAFETY: no pointers; the C library changes all threads.
    assert_eq!(unsafe { libc::setuid(NOBODY) }, 0);
}

/// Makes a system call fail with `errno` from now on, in this thread and the threads it starts.
/// With `everywhere`, in all threads.
pub(crate) fn forbid(call: libc::c_long, errno: i32, everywhere: bool) {
    let flags = if everywhere { libc::SECCOMP_FILTER_FLAG_TSYNC } else { 0 };
    filter_calls(&[step(JUMP_EQUAL, 0, 1, call as u32), fails(errno)], flags);
}

/// As [`forbid`], for calls with this second argument only, in this thread and those it starts.
pub(crate) fn forbid_command(call: libc::c_long, command: u32, errno: i32) {
    forbid_argument(call, 1, command, errno, 0);
}

/// As [`forbid`], for calls on this descriptor only, in all threads.
pub(crate) fn forbid_on(call: libc::c_long, fd: u32, errno: i32) {
    forbid_argument(call, 0, fd, errno, libc::SECCOMP_FILTER_FLAG_TSYNC);
}

fn forbid_argument(call: libc::c_long, index: u32, value: u32, errno: i32, flags: libc::c_ulong) {
    let argument = step(LOAD_WORD, 0, 0, 16 + 8 * index); // the low half of seccomp_data.args[index]
    filter_calls(&[step(JUMP_EQUAL, 0, 3, call as u32), argument, step(JUMP_EQUAL, 0, 1, value), fails(errno)], flags);
}

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn fails(errno: i32) -> libc::sock_filter {
    step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

/// Installs a filter of system calls: `steps` get the number of the call, and what they do not end is
/// allowed.
fn filter_calls(steps: &[libc::sock_filter], flags: libc::c_ulong) {
    let (number, allow) = (step(LOAD_WORD, 0, 0, 0), step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let mut program = [&[number], steps, &[allow]].concat();
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the program, which outlives the call.
    let set = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
    assert_eq!(set, 0, "seccomp: {}", std::io::Error::last_os_error());
}
