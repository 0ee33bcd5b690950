//! What the machine boots into: an archive with the guest program as its first process and, on
//! request, the engine's test binaries.
//!
//! Our programs are linked statically, so that they need no libraries. Programs that tests call are
//! copied from this host, with their libraries.

use super::cpio::Archive;
use super::{failure, packages, process};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Programs of this host that tests run.
const PROGRAMS: [&str; 3] = ["mkfs.ext4", "ls", "cat"];

/// Modules that the guest and the tests need and that are not built into the kernel.
const MODULES: [&str; 2] = ["loop", "overlay"];

/// Where the test binaries lie in the guest.
pub const SUITE: &str = "suite";

/// What the archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Trials of the engine as it ships.
    Trials,
    /// The same, and its tests.
    Suite,
    /// Trials that have to fail: the engine has planted bugs.
    Planted,
}

/// Builds below the lab's folder, because other flags in the usual folder would rebuild everything
/// each time. Returns cargo's messages.
fn cargo(folder: &Path, arguments: &[&str], is_static: bool) -> io::Result<String> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).args(["--message-format=json-render-diagnostics", "-q"]);
    command.arg("--target-dir").arg(folder.join("build"));
    if is_static {
        // With a named target, the flags do not reach procedural macros, which cannot be static.
        let flags = "-Ctarget-feature=+crt-static -Cstrip=debuginfo";
        command.args(["--target", TARGET]).env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags);
        // An emulated processor is slow enough; assertions stay.
        command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "3");
    }
    process::run_command(&mut command)
}

/// The strings of a key in cargo's messages. They are our paths, so nothing in them is escaped.
fn values<'a>(messages: &'a str, key: &str) -> Vec<&'a str> {
    let before = format!("\"{key}\":\"");
    messages.split(&before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

/// Builds the drive's plugin.
///
/// # Errors
/// If it does not build.
pub fn build_plugin(folder: &Path) -> io::Result<PathBuf> {
    cargo(folder, &["build", "-p", "deepring-trials", "--example", "drive"], false)?;
    let plugin = folder.join("build/debug/examples/libdrive.so");
    if plugin.is_file() { Ok(plugin) } else { Err(failure("the plugin was built but cannot be found")) }
}

/// Builds the archive. Returns its path and the names of the test binaries in it.
///
/// # Errors
/// If something does not build or cannot be found.
pub fn build(folder: &Path, modules: &Path, purpose: Purpose) -> io::Result<(PathBuf, Vec<String>)> {
    let (name, features) = match purpose {
        Purpose::Trials => ("initramfs", ""),
        Purpose::Suite => ("initramfs-suite", ""),
        Purpose::Planted => ("initramfs-planted", "planted"),
    };
    let guest = cargo(folder, &["build", "-p", "deepring-trials", "--bin", "lab-guest", "--features", features], true)?;
    let guest = *values(&guest, "executable").last().ok_or_else(|| failure("cargo built no lab-guest"))?;
    let path = folder.join(name);
    let mut archive = Archive::new(BufWriter::new(File::create(&path)?));
    for directory in ["dev", "proc", "sys", "tmp", "data", "data/raw", SUITE, "bin", "lib", "modules"] {
        archive.directory(directory)?;
    }
    // The kernel opens it for the first process before anything is mounted.
    archive.character_device("dev/console", 5, 1)?;
    archive.file("init", 0o755, &fs::read(guest)?)?;
    for module in MODULES {
        let found = process::run("find", &[&modules.to_string_lossy(), "-name", &format!("{module}.ko")])?;
        let found = found.lines().next().ok_or_else(|| failure(format!("the kernel's package has no module {module}")))?;
        archive.file(&format!("modules/{module}.ko"), 0o644, &fs::read(found)?)?;
    }
    let mut names = Vec::new();
    if purpose == Purpose::Suite {
        add_programs(&mut archive)?;
        let messages = cargo(folder, &["test", "-p", "deepring", "--tests", "--no-run"], true)?;
        for executable in values(&messages, "executable") {
            let file = Path::new(executable).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((name, _)) = file.rsplit_once('-') else { continue };
            archive.file(&format!("{SUITE}/{name}"), 0o755, &fs::read(executable)?)?;
            names.push(name.to_owned());
        }
    }
    archive.finish()?;
    Ok((path, names))
}

/// Copies programs of this host with the libraries that the dynamic linker would load, at the same
/// places.
fn add_programs(archive: &mut Archive<BufWriter<File>>) -> io::Result<()> {
    let mut files = BTreeSet::new();
    for name in PROGRAMS {
        let program = packages::program(name).ok_or_else(|| failure(format!("there is no {name}")))?;
        archive.file(&format!("bin/{name}"), 0o755, &fs::read(&program)?)?;
        let libraries = process::run("ldd", &[&program.to_string_lossy()])?;
        files.extend(libraries.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned));
    }
    let mut directories = BTreeSet::from(["bin".to_owned(), "lib".to_owned()]);
    for file in files {
        let inside = file.trim_start_matches('/');
        let folders: Vec<_> = Path::new(inside).ancestors().skip(1).filter_map(Path::to_str).filter(|name| !name.is_empty()).collect();
        for folder in folders.into_iter().rev() {
            if directories.insert(folder.to_owned()) {
                archive.directory(folder)?;
            }
        }
        archive.file(inside, 0o755, &fs::read(&file)?)?;
    }
    Ok(())
}
