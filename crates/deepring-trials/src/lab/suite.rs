//! The engine's own test suite inside the machine: another kernel, the real nvme driver, two sector
//! sizes, polling queues.

use super::machine::{Machine, Shape};
use super::protocol::{Order, Ran, Report};
use super::{Artifacts, say};
use std::io;
use std::time::{Duration, Instant};

/// Large enough for the largest test, and sparse.
const DISK_BYTES: u64 = 6 << 30;

/// An emulated processor is some twenty times slower than a real one, and the longest test binary
/// takes 20 seconds on a real one.
const BINARY_LIMIT: Duration = Duration::from_secs(900);

/// A test that cannot hold in the machine, and why. The list is printed with the results.
struct Excluded {
    binary: &'static str,
    test: &'static str,
    why: &'static str,
}

/// What the loop driver of Linux 6.1 does where later ones return EIO.
const LOOP_GIVES_ZEROS: &str =
    "the loop device of the machine's kernel (6.1) reads zeros past the end of its backing file, without an error";

const CORPUS_IS_MISSING: &str = "the corpus is part of the sources, which the machine does not have";

const READS_ARE_FASTER: &str =
    "an emulated processor returns memory more slowly than the emulated drive reads, so there is nothing to detect";

/// All other tests run.
const EXCLUDED: [Excluded; 6] = [
    Excluded {
        binary: "faults",
        test: "broken_disk::a_disk_that_lost_its_second_half_gives_eio_with_position_and_bytes",
        why: LOOP_GIVES_ZEROS,
    },
    Excluded { binary: "faults", test: "broken_disk::a_file_on_a_disk_that_lost_its_end_gives_eio", why: LOOP_GIVES_ZEROS },
    Excluded { binary: "owned", test: "guarded::the_canaries_detect_a_buffer_that_is_returned_too_early", why: READS_ARE_FASTER },
    Excluded { binary: "deepring", test: "fuzz::tests::a_planner_with_a_bug_is_noticed", why: CORPUS_IS_MISSING },
    Excluded { binary: "deepring", test: "fuzz::tests::no_input_of_the_corpus_breaks_a_promise", why: CORPUS_IS_MISSING },
    Excluded { binary: "deepring", test: "fuzz::tests::no_mutation_of_the_corpus_breaks_a_promise", why: CORPUS_IS_MISSING },
];

/// A machine for the suite.
struct Configuration {
    name: &'static str,
    sector_bytes: u32,
    parameters: &'static str,
    /// These binaries only; all if empty.
    only: &'static [&'static str],
}

const CONFIGURATIONS: [Configuration; 3] = [
    Configuration { name: "sectors of 512 bytes", sector_bytes: 512, parameters: "", only: &[] },
    Configuration { name: "sectors of 4096 bytes", sector_bytes: 4096, parameters: "", only: &[] },
    // The engine does not poll; queues that support polling must make no difference to it.
    Configuration { name: "two polling queues", sector_bytes: 512, parameters: "nvme.poll_queues=2", only: &["exact", "storm"] },
];

/// The result of the suite.
#[derive(Debug, Default, Clone, Copy)]
pub struct SuiteSummary {
    /// Tests that passed, in all configurations.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that reported that they cannot run there.
    pub skipped: u64,
}

/// Runs the suite in each configuration, or only the test binaries whose name contains `word`.
///
/// # Errors
/// If the lab itself fails. A failed test is not an error; it is in the summary.
pub fn run(artifacts: &Artifacts, word: Option<&str>) -> io::Result<SuiteSummary> {
    let mut summary = SuiteSummary::default();
    for Excluded { binary, test, why } in &EXCLUDED {
        say(&format!("suite: excluded: {binary}: {test}: {why}"));
    }
    for configuration in &CONFIGURATIONS {
        let names = artifacts.suite.iter().filter(|name| configuration.only.is_empty() || configuration.only.contains(&name.as_str()));
        let names: Vec<_> = names.filter(|name| word.is_none_or(|word| name.contains(word))).collect();
        if !names.is_empty() {
            run_configuration(artifacts, configuration, &names, &mut summary)?;
        }
    }
    Ok(summary)
}

fn run_configuration(
    artifacts: &Artifacts,
    configuration: &Configuration,
    names: &[&String],
    summary: &mut SuiteSummary,
) -> io::Result<()> {
    let image = artifacts.folder.join("suite.image");
    super::sparse(&image, DISK_BYTES)?;
    super::format(&image, DISK_BYTES)?;
    let Configuration { sector_bytes, parameters, .. } = *configuration;
    let mut machine = Machine::boot(artifacts, &Shape { plain: Some(&image), sector_bytes, parameters, ..Shape::default() })?;
    say(&format!("suite, {}: {}", configuration.name, machine.kernel));
    for &name in names {
        let without = EXCLUDED.iter().filter(|excluded| excluded.binary == name).map(|excluded| excluded.test.to_owned()).collect();
        // By this host's clock, which is not emulated.
        let started = Instant::now();
        machine.order(&Order::Suite(name.clone(), without))?;
        loop {
            match machine.next(BINARY_LIMIT)? {
                Report::Ran(Ran { name, passed, failed, skipped }) => {
                    let seconds = started.elapsed().as_secs_f64();
                    say(&format!(
                        "suite, {}: {name}: {passed} passed, {failed} failed, {skipped} skipped in {seconds:.1} s",
                        configuration.name
                    ));
                    summary.passed += passed;
                    summary.failed += failed;
                    summary.skipped += skipped;
                    break;
                }
                Report::Note(note) => say(&format!("suite, {}: {note}", configuration.name)),
                other => return Err(machine.error(&format!("while running {name}: {other:?}"))),
            }
        }
    }
    let failed = summary.failed > 0;
    let console = artifacts.folder.join("console.log");
    machine.off()?;
    if failed {
        // The next machine would overwrite it.
        let kept = artifacts.folder.join(format!("suite-{}.log", configuration.name.replace(' ', "-")));
        std::fs::copy(console, &kept)?;
        say(&format!("suite, {}: the output of the tests is in {}", configuration.name, kept.display()));
    }
    Ok(())
}
