//! The virtual machine and its drives.
//!
//! The guest's first serial port is the kernel's console and goes to a log. The second one carries
//! orders and reports. A thread reads it, so that reports are taken as they arrive, and those that
//! arrived before a power cut are counted after it.

use super::cut::{self, Damage, Loss};
use super::process::Server;
use super::protocol::{Lines, Order, Report};
use super::{Artifacts, failure, packages};
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Enough for the test binaries in memory and the largest test, and little for the host.
const MEMORY_MEGABYTES: u32 = 2048;

/// Two, so that driver and callers run at the same time, as on the smallest machine the engine
/// supports.
const CORES: u32 = 2;

/// A kernel takes about three seconds to boot, and longer on a busy host.
const BOOT_LIMIT: Duration = Duration::from_secs(120);

/// How long nbdkit has to start listening.
const LISTEN_LIMIT: Duration = Duration::from_secs(20);

/// The delay of a drive's answers.
#[derive(Debug, Default, Clone, Copy)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Delays {
    pub read_ms: u64,
    pub write_ms: u64,
}

/// A drive that nbdkit serves.
#[derive(Debug)]
pub struct Drive {
    /// Its content.
    pub image: PathBuf,
    /// While this file exists, reads fail.
    pub read_error: PathBuf,
    /// While this file exists, writes fail.
    pub write_error: PathBuf,
    /// While this file exists, flushes fail.
    pub flush_error: PathBuf,
    journal: PathBuf,
    socket: PathBuf,
    server: Server,
}

impl Drive {
    /// Makes the image of a new drive: all zeros, with an empty cache.
    ///
    /// # Errors
    /// Those of the files.
    pub fn blank(artifacts: &Artifacts, name: &str, bytes: u64) -> io::Result<PathBuf> {
        let file = |end: &str| artifacts.folder.join(format!("{name}.{end}"));
        super::sparse(&file("journal"), 0)?;
        super::sparse(&file("image"), bytes)?;
        Ok(file("image"))
    }

    /// Serves an image as a drive with a volatile cache. Writes are delayed by `delays.write_ms`,
    /// reads by `delays.read_ms`.
    ///
    /// # Errors
    /// If nbdkit does not start.
    pub fn serve(artifacts: &Artifacts, name: &str, delays: Delays) -> io::Result<Self> {
        let file = |end: &str| artifacts.folder.join(format!("{name}.{end}"));
        let (image, journal, socket) = (file("image"), file("journal"), file("socket"));
        let errors = [file("read-error"), file("write-error"), file("flush-error")];
        errors.iter().chain([&socket]).for_each(|path| drop(fs::remove_file(path)));
        let [read_error, write_error, flush_error] = errors;
        let mut arguments: Vec<String> = ["--foreground", "--exit-with-parent", "--filter=error"].map(String::from).into();
        arguments.push("--filter=delay".into());
        arguments.extend(["--unix".into(), text(&socket), text(&artifacts.plugin)]);
        arguments.extend([format!("image={}", text(&image)), format!("journal={}", text(&journal))]);
        arguments.push(format!("flush-error={}", text(&flush_error)));
        for (operation, path) in [("pread", &read_error), ("pwrite", &write_error)] {
            arguments.extend([format!("error-{operation}=EIO"), format!("error-{operation}-rate=100%")]);
            arguments.push(format!("error-{operation}-file={}", text(path)));
        }
        arguments.extend([format!("rdelay={}ms", delays.read_ms), format!("wdelay={}ms", delays.write_ms)]);
        let log = file("nbdkit.log");
        let mut server = Server::start("nbdkit", &arguments, &log)?;
        let started = Instant::now();
        while !socket.exists() {
            if server.ended()?.is_some() || started.elapsed() > LISTEN_LIMIT {
                return Err(failure(format!("nbdkit does not serve: {}", fs::read_to_string(&log)?.trim())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { image, read_error, write_error, flush_error, journal, socket, server })
    }

    /// Stops the drive, or continues it: requests stay unanswered in between.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn pause(&self, paused: bool) -> io::Result<()> {
        self.server.pause(paused)
    }

    /// Cuts the power: unflushed writes are lost in this way, and no write is torn inside one of
    /// the units that begin at its offset.
    ///
    /// # Errors
    /// Those of image and journal.
    pub fn cut(mut self, loss: Loss, seed: u64, unit_bytes: impl Fn(u64) -> u64) -> io::Result<Damage> {
        self.server.kill()?;
        cut::settle(&self.image, &self.journal, loss, seed, unit_bytes)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// How a machine is configured.
#[derive(Debug, Default, Clone, Copy)]
pub struct Shape<'a> {
    /// Sockets of drives, in the order of their names in the guest.
    pub drives: &'a [&'a Drive],
    /// An image file that is used directly, with the host's cache, instead of a drive.
    pub plain: Option<&'a Path>,
    /// The sector size of the drives: 512 or 4096.
    pub sector_bytes: u32,
    /// More parameters for the kernel.
    pub parameters: &'a str,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    server: Server,
    serial: UnixStream,
    reports: Receiver<io::Result<Report>>,
    console: PathBuf,
    /// The guest's description of itself when it was ready.
    pub kernel: String,
}

impl Machine {
    /// Boots, and waits until the guest is ready.
    ///
    /// # Errors
    /// If it does not start; the message ends with the last lines of its console.
    pub fn boot(artifacts: &Artifacts, shape: &Shape<'_>) -> io::Result<Self> {
        let mut machine = Self::power_on(artifacts, shape)?;
        match machine.next(BOOT_LIMIT)? {
            Report::Ready(kernel) => machine.kernel = kernel,
            other => return Err(machine.error(&format!("the guest began with {other:?}"))),
        }
        Ok(machine)
    }

    /// Starts a machine without waiting for it.
    ///
    /// # Errors
    /// If qemu does not start.
    pub fn power_on(artifacts: &Artifacts, shape: &Shape<'_>) -> io::Result<Self> {
        let (port, console) = (artifacts.folder.join("serial.socket"), artifacts.folder.join("console.log"));
        drop(fs::remove_file(&port));
        let listener = UnixListener::bind(&port)?;
        // On a busy host the guest measures its time stamp counter wrongly. If it trusts it, its
        // clock can run many times too fast. It also misses ticks, and takes that for a broken
        // timer, if it checks it.
        let parameters = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on tsc=unstable no_timer_check";
        let parameters = format!("{parameters} {}", shape.parameters);
        let mut arguments: Vec<String> =
            ["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-nodefaults", "-no-reboot"].map(String::from).into();
        let mut add = |pairs: &[(&str, String)]| pairs.iter().for_each(|(name, value)| arguments.extend([(*name).into(), value.clone()]));
        add(&[("-display", "none".into()), ("-m", MEMORY_MEGABYTES.to_string()), ("-smp", CORES.to_string())]);
        add(&[("-kernel", text(&artifacts.kernel)), ("-initrd", text(&artifacts.initramfs)), ("-append", parameters)]);
        add(&[("-serial", format!("file:{}", text(&console)))]);
        add(&[("-chardev", format!("socket,id=reports,path={}", text(&port))), ("-serial", "chardev:reports".into())]);
        let served = shape.drives.iter().map(|drive| format!("file=nbd+unix:///?socket={},cache=none", text(&drive.socket)));
        let plain = shape.plain.iter().map(|image| format!("file={},cache=unsafe", text(image)));
        for (index, source) in served.chain(plain).enumerate() {
            let sector = shape.sector_bytes;
            add(&[("-drive", format!("{source},if=none,id=drive{index},format=raw"))]);
            let sectors = format!("logical_block_size={sector},physical_block_size={sector}");
            add(&[("-device", format!("nvme,serial=lab{index},drive=drive{index},max_ioqpairs=8,{sectors}"))]);
        }
        let log = artifacts.folder.join("qemu.log");
        let qemu = packages::program("qemu-system-x86_64").ok_or_else(|| failure("there is no qemu-system-x86_64"))?;
        let mut qemu = Server::start(qemu, &arguments, &log)?;
        let serial = accept(&listener, &mut qemu).map_err(|error| failure(format!("{error}: {}", tail(&log))))?;
        let (sender, reports) = channel();
        let mut reading = serial.try_clone()?;
        std::thread::spawn(move || {
            let (mut lines, mut bytes) = (Lines::default(), [0; 4096]);
            while let Ok(count @ 1..) = reading.read(&mut bytes) {
                for line in lines.take(&bytes[..count]) {
                    // The receiver is gone if this fails.
                    let _ = sender.send(line.parse().map_err(failure));
                }
            }
        });
        Ok(Self { server: qemu, serial, reports, console, kernel: String::new() })
    }

    /// Sends the guest an order.
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn order(&mut self, order: &Order) -> io::Result<()> {
        self.serial.write_all(format!("{order}\n").as_bytes())
    }

    /// The next report.
    ///
    /// # Errors
    /// If there is none within the limit, something other than a report arrives, or the machine is
    /// gone.
    pub fn next(&mut self, limit: Duration) -> io::Result<Report> {
        self.next_within(limit)?.ok_or_else(|| self.error(&format!("the guest sent no report for {limit:?}")))
    }

    /// The next report, if there is one within the limit.
    ///
    /// # Errors
    /// If something other than a report arrives, or the machine is gone.
    pub fn next_within(&mut self, limit: Duration) -> io::Result<Option<Report>> {
        match self.reports.recv_timeout(limit) {
            Ok(report) => report.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.error("the machine is gone")),
        }
    }

    /// Cuts the power. Returns the reports that had arrived.
    ///
    /// # Errors
    /// If the machine cannot be killed, or sent something that is not a report.
    pub fn cut(mut self) -> io::Result<Vec<Report>> {
        self.server.kill()?;
        // The reader thread ends, and with it the channel, when everything has been read.
        self.reports.iter().collect()
    }

    /// Lets the guest unmount and switch off.
    ///
    /// # Errors
    /// If it does not.
    pub fn off(mut self) -> io::Result<()> {
        self.order(&Order::Off)?;
        let started = Instant::now();
        while self.server.ended()?.is_none() {
            if started.elapsed() > BOOT_LIMIT {
                return Err(self.error("the guest does not switch off"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether the kernel has printed nothing. A kernel that starts normally prints nothing either.
    pub fn is_console_empty(&self) -> bool {
        fs::metadata(&self.console).is_ok_and(|console| console.len() == 0)
    }

    /// An error with the last lines of the console.
    pub fn error(&self, what: &str) -> io::Error {
        failure(format!("{what}; its console ({}) ends with:\n{}", self.console.display(), tail(&self.console)))
    }
}

/// Waits for qemu to connect.
fn accept(listener: &UnixListener, server: &mut Server) -> io::Result<UnixStream> {
    listener.set_nonblocking(true)?;
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => return stream.set_nonblocking(false).map(|()| stream),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if server.ended()?.is_some() => return Err(failure("qemu ended at once")),
            Err(_) if started.elapsed() > LISTEN_LIMIT => return Err(failure("qemu does not start")),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The last lines of a log.
fn tail(path: &Path) -> String {
    const LINES: usize = 30;
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
