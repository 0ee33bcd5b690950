//! The program in the virtual machine. It is the machine's first process: it mounts the file
//! systems, reports that it is ready, and runs orders.

mod objects;
mod port;
mod saver;
mod stress;
mod suite;
mod system;
mod verifier;
mod writer;

use super::protocol::{Order, Report};
use port::Port;
use std::path::Path;
use std::sync::Arc;
use stress::Stress;
pub(super) use system::LOOP;

/// Where the file system of the first drive is mounted.
const DATA: &str = "/data";

/// The first drive.
const DEVICE: &str = "/dev/nvme0n1";

/// Starts the machine up and runs orders until it is switched off. Errors are reported, or printed
/// on the console.
#[allow(clippy::print_stderr, reason = "only the console is left if the serial port is missing")]
pub fn main() {
    if let Err(error) = system::mount_basics() {
        eprintln!("lab-guest: {error}");
    }
    match Port::open() {
        Ok(port) => run_orders(&Arc::new(port)),
        Err(error) => eprintln!("lab-guest: the serial port: {error}"),
    }
    system::power_off();
}

fn run_orders(port: &Arc<Port>) {
    match system::start(Path::new(DEVICE), Path::new(DATA)) {
        Ok(about) => port.send(&Report::Ready(about)),
        Err(error) => port.send(&Report::Broken(format!("start: {error}"))),
    }
    let mut stress: Option<Stress> = None;
    while let Some(line) = port.receive() {
        let done = match line.parse::<Order>() {
            Err(error) => Err(error),
            Ok(Order::Verify(seed)) => verifier::verify(port, seed),
            Ok(Order::Write(writing)) => writer::write(port, &writing),
            Ok(Order::Suite(name, without)) => suite::run(port, &name, &without),
            Ok(Order::Stress(seed)) => Stress::start(port, seed).map(|started| stress = Some(started)),
            Ok(Order::Sync) => stress.as_ref().ok_or_else(|| "no stress is running".to_owned()).map(Stress::sync),
            Ok(Order::Stop) => {
                drop(stress.take());
                port.send(&Report::Verified);
                Ok(())
            }
            Ok(Order::Off) => return,
        };
        if let Err(error) = done {
            port.send(&Report::Broken(error));
        }
    }
}
