//! What the lab needs from Debian: two emulators, a formatter, a kernel.

use super::{failure, process, say};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Programs, and the packages they come in.
const PROGRAMS: [(&str, &str); 4] =
    [("qemu-system-x86_64", "qemu-system-x86"), ("nbdkit", "nbdkit"), ("mkfs.ext4", "e2fsprogs"), ("dpkg-deb", "dpkg")];

/// The package that depends on the newest cloud kernel of the distribution.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";

/// Where a program is.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Users have no sbin in their path, but mkfs works for them.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Installs missing programs, if this is root on Debian; else returns an error with the command to
/// run.
///
/// # Errors
/// If a program is still missing afterwards.
pub fn require_programs() -> io::Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(name, _)| program(name).is_none()).map(|&(_, package)| package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install --no-install-recommends {}", missing.join(" "));
    if !crate::harness::disk::is_root() || program("apt-get").is_none() {
        return Err(failure(format!("{} missing; install with: {by_hand}", missing.join(", "))));
    }
    say(&format!("installing {}", missing.join(", ")));
    let arguments = [&["install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600"], &missing[..]].concat();
    let install = || {
        let mut command = std::process::Command::new("apt-get");
        process::run_command(command.env("DEBIAN_FRONTEND", "noninteractive").args(&arguments))
    };
    // The list of packages can be old or absent; update it only then.
    if install().is_err() {
        process::run("apt-get", &["update", "-qq"])?;
        install()?;
    }
    match PROGRAMS.iter().find(|(name, _)| program(name).is_none()) {
        Some((name, _)) => Err(failure(format!("{name} is missing although its package was installed"))),
        None => Ok(()),
    }
}

/// The unpacked kernel package below `folder`, downloaded the first time: the kernel's image and
/// the folder of its modules.
///
/// # Errors
/// If the package cannot be downloaded or unpacked.
pub fn kernel(folder: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let folder = folder.join("kernel");
    if let Some(found) = unpacked(&folder) {
        return Ok(found);
    }
    fs::create_dir_all(&folder)?;
    let depends = match process::run("apt-cache", &["depends", KERNEL_PACKAGE]) {
        Ok(depends) if depends.contains("Depends") => depends,
        _ => {
            process::run("apt-get", &["update", "-qq"])?;
            process::run("apt-cache", &["depends", KERNEL_PACKAGE])?
        }
    };
    let package = (depends.lines())
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .ok_or_else(|| failure(format!("apt knows no {KERNEL_PACKAGE}; the lab needs Debian's package sources for amd64")))?;
    say(&format!("downloading {package}"));
    let mut download = std::process::Command::new("apt-get");
    process::run_command(download.current_dir(&folder).args(["download", "-qq", package]))?;
    let archives = fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let archive = archives.filter(|path| path.extension().is_some_and(|end| end == "deb")).max();
    let archive = archive.ok_or_else(|| failure("apt-get downloaded nothing"))?;
    process::run("dpkg-deb", &["-x", &archive.to_string_lossy(), &folder.to_string_lossy()])?;
    unpacked(&folder).ok_or_else(|| failure(format!("{} has no kernel in it", archive.display())))
}

fn unpacked(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let images = fs::read_dir(folder.join("boot")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let image = images.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vmlinuz-"))).max()?;
    let release = image.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
    // The modules are unpacked last; a package that was only partly unpacked is unpacked again.
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| folder.join(place).join(&release));
    let modules = modules.into_iter().find(|path| path.join("modules.builtin").is_file())?;
    Some((image, modules))
}
