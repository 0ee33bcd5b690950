//! Random operations on real files of many file systems, against a model, for as many operations as
//! you like.
//!
//! `npm run fsx -- --seed 1 --ops 1000000`
//!
//! Ends with one line, `fsx: seed S, N operations, P places, V violations`, and exits with 1 if
//! there was a violation. A failure is printed as a short script. `--script FILE` runs it again, on
//! every place or on that of `--place`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

use deepring_trials::fsx::{Campaign, Place, PlantedBug, Source, Summary, names, with_places};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const USAGE: &str = "Usage: fsx [--seed N] [--ops N] [--place NAME]... [--dir PATH]... [--script FILE] [--planted NAME]";

/// A script from a file is repeated until this many operations are done, unless `--ops` is given.
const REPLAYED_OPERATIONS: u64 = 2_000;

struct Arguments {
    seed: u64,
    operations: Option<u64>,
    places: Vec<String>,
    directories: Vec<PathBuf>,
    script: Option<PathBuf>,
    bug: Option<PlantedBug>,
}

fn main() -> ExitCode {
    match arguments(std::env::args().skip(1)).and_then(|arguments| campaign(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("fsx: {error}\n{USAGE}\nPlaces: {}", names().join(" "));
            ExitCode::FAILURE
        }
    }
}

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

fn arguments(mut given: impl Iterator<Item = String>) -> Fallible<Arguments> {
    let mut arguments = Arguments { seed: 1, operations: None, places: Vec::new(), directories: Vec::new(), script: None, bug: None };
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--seed" => arguments.seed = value()?.parse()?,
            "--ops" => arguments.operations = Some(value()?.replace('_', "").parse()?),
            "--place" => arguments.places.push(value()?),
            "--dir" => arguments.directories.push(value()?.into()),
            "--script" => arguments.script = Some(value()?.into()),
            "--planted" => {
                let name = value()?;
                let found = PlantedBug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
                arguments.bug = Some(found.ok_or_else(|| format!("there is no planted bug {name}; there are {:?}", PlantedBug::ALL))?);
            }
            _ => return Err(format!("unknown argument {argument}").into()),
        }
    }
    if let Some(name) = arguments.places.iter().find(|name| !names().contains(&name.as_str())) {
        return Err(format!("unknown place {name}").into());
    }
    if arguments.places.is_empty() && arguments.directories.is_empty() {
        arguments.places = names().into_iter().map(str::to_owned).collect();
    }
    Ok(arguments)
}

fn campaign(arguments: &Arguments) -> Fallible<bool> {
    let (source, usual) = match &arguments.script {
        None => (Source::Seed(arguments.seed), 1_000_000),
        Some(file) => (Source::Script(Box::new(std::fs::read_to_string(file)?.parse()?)), REPLAYED_OPERATIONS),
    };
    let campaign = Campaign { source, operations: arguments.operations.unwrap_or(usual), bug: arguments.bug };
    let directories: Vec<_> = arguments.directories.iter().map(std::fs::canonicalize).collect::<Result<_, _>>()?;
    let ran = with_places(&arguments.places, |places, missing| {
        for (place, why) in missing {
            eprintln!("fsx: skipped: {place}: {why}");
        }
        let places: Vec<_> = places.iter().cloned().chain(directories.iter().map(|path| Place::at(path))).collect();
        if places.is_empty() {
            return None;
        }
        Some((run(&campaign, &places), places.len()))
    });
    let Some((summary, places)) = ran else { return Err("there is no place to run on".into()) };
    report(&summary);
    let violations = u32::from(summary.violation.is_some());
    println!("fsx: seed {}, {} operations, {places} places, {violations} violations", arguments.seed, summary.operations);
    Ok(summary.violation.is_none())
}

fn run(campaign: &Campaign, places: &[Place]) -> Summary {
    let begun = Instant::now();
    let reported = Mutex::new(begun);
    campaign.run(places, |operations| {
        let Ok(mut reported) = reported.lock() else { return };
        if reported.elapsed() >= Duration::from_secs(10) {
            *reported = Instant::now();
            eprintln!("fsx: {operations} operations, {:.0} s", begun.elapsed().as_secs_f64());
        }
    })
}

fn report(summary: &Summary) {
    let Some(violation) = &summary.violation else { return };
    let (short, what) = &violation.short;
    println!("fsx: VIOLATION on {}, script {}: {}", violation.place, violation.number, violation.what);
    println!("fsx: shrunk to {} operations: {what}", short.len());
    println!("fsx: save the following lines to a file and run it again with --place {} --script FILE", violation.place);
    print!("{short}");
}
