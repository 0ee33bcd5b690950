//! The parts of the drive lab that need no virtual machine: the drive that loses its cache, the
//! ledger, the archive, the protocol. Each checker is given what it must reject.

use deepring::BackendKind;
use deepring_trials::lab::cache::{Unflushed, WriteCache, unflushed};
use deepring_trials::lab::content::{Content, SLOT_BYTES, SLOTS_START};
use deepring_trials::lab::cpio::Archive;
use deepring_trials::lab::cut::{Loss, settle, survivors};
use deepring_trials::lab::ledger::Ledger;
use deepring_trials::lab::protocol::{Failed, Found, LeftOut, Lines, Order, Report, Stream, Writing};
use deepring_trials::saves::Seen;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SEED: u64 = 11;

fn drive(folder: &Path) -> (PathBuf, PathBuf) {
    let (image, journal) = (folder.join("image"), folder.join("journal"));
    std::fs::write(&image, vec![0; 64 << 10]).expect("an image");
    (image, journal)
}

fn sector_bytes(_: u64) -> u64 {
    512
}

// ---- the drive ----

#[test]
fn a_drive_reads_the_last_write_whether_flushed_or_not() {
    let place = tempfile::tempdir().expect("a directory");
    let (image, journal) = drive(place.path());
    let mut cache = WriteCache::open(&image, &journal).expect("a drive");
    cache.write(&[1; 8192], 512, false).expect("a write");
    cache.flush().expect("a flush");
    cache.write(&[2; 1024], 3584, false).expect("a write");
    cache.write(&[3; 512], 4096, false).expect("a write");
    let mut found = vec![0; 12288];
    cache.read(&mut found, 0).expect("a read");
    let expected = [vec![0; 512], vec![1; 3072], vec![2; 512], vec![3; 512], vec![1; 4096], vec![0; 3584]].concat();
    assert_eq!(found, expected);
    let mut part = vec![0; 1024];
    cache.read(&mut part, 3584).expect("a read");
    assert_eq!(part, expected[3584..4608]);
    assert_eq!(cache.write(&[0; 100], 0, false).expect_err("not a sector").kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn a_cut_loses_only_unflushed_writes() {
    let place = tempfile::tempdir().expect("a directory");
    let (image, journal) = drive(place.path());
    let mut cache = WriteCache::open(&image, &journal).expect("a drive");
    cache.write(&[1; 512], 0, false).expect("a write");
    cache.flush().expect("a flush");
    cache.write(&[2; 512], 512, false).expect("a write");
    cache.write(&[3; 512], 1024, true).expect("a forced write");
    drop(cache);
    let damage = settle(&image, &journal, Loss::Everything, SEED, sector_bytes).expect("a cut");
    assert_eq!((damage.unflushed, damage.unflushed_bytes, damage.kept, damage.torn), (2, 1024, 1, false));
    let found = std::fs::read(&image).expect("the image");
    assert_eq!(found[..1536], [vec![1; 512], vec![0; 512], vec![3; 512]].concat());
    assert!(WriteCache::open(&image, &journal).is_ok(), "the journal is settled");
}

#[test]
fn an_incomplete_journal_record_is_ignored() {
    let place = tempfile::tempdir().expect("a directory");
    let (image, journal) = drive(place.path());
    let mut cache = WriteCache::open(&image, &journal).expect("a drive");
    cache.write(&[7; 512], 0, false).expect("a write");
    cache.write(&[8; 1024], 512, false).expect("a write");
    drop(cache);
    let whole = std::fs::read(&journal).expect("the journal");
    for cut in [whole.len() - 1, whole.len() - 1024, whole.len() - 1030] {
        std::fs::write(&journal, &whole[..cut]).expect("a shorter journal");
        assert_eq!(unflushed(&journal).expect("the journal"), [Unflushed { offset: 0, forced: false, data: vec![7; 512] }]);
        assert!(WriteCache::open(&image, &journal).is_err(), "an unsettled journal is refused");
    }
}

#[test]
fn the_seed_repeats_which_writes_survive_and_at_most_one_is_torn() {
    let writes: Vec<_> = (0..40).map(|index| Unflushed { offset: index * 8192, forced: index % 7 == 0, data: vec![1; 4096] }).collect();
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        for loss in Loss::ALL {
            let ranges = survivors(&writes, loss, seed, sector_bytes);
            assert_eq!(ranges, survivors(&writes, loss, seed, sector_bytes), "seed {seed}");
            let parts = ranges.iter().filter(|range| !range.is_empty() && range.len() < 4096).count();
            assert_eq!(parts, usize::from(loss == Loss::Torn), "seed {seed}, {loss}");
            for (write, range) in writes.iter().zip(&ranges) {
                assert!(!write.forced || range.len() == 4096, "seed {seed}, {loss}: a forced write was lost");
                assert!(range.start % 512 == 0 && range.end % 512 == 0, "seed {seed}, {loss}: torn inside a sector");
                assert!(write.forced || loss != Loss::Everything || range.is_empty(), "seed {seed}: {loss} kept a write");
            }
            torn += parts;
            if loss == Loss::Subset {
                kept += ranges.iter().filter(|range| !range.is_empty()).count();
                lost += ranges.iter().filter(|range| range.is_empty()).count();
            }
        }
        let whole = survivors(&writes, Loss::Torn, seed, |_| 4096);
        assert!(whole.iter().all(|range| range.is_empty() || range.len() == 4096), "seed {seed}: torn inside a unit");
    }
    assert!(lost > 1000 && kept > 1000 && torn > 0, "{lost} lost, {kept} kept, {torn} torn");
}

// ---- content and ledger ----

fn file(stream: Stream, generation: u64) -> Found {
    Content::new(SEED, stream).look(generation, &Content::new(SEED, stream).make(generation), 0)
}

fn slot(stream: Stream, number: u64, bytes: &[u8]) -> Found {
    Content::new(SEED, stream).look(number, bytes, SLOTS_START + number * SLOT_BYTES)
}

#[test]
fn content_identifies_the_generation_of_each_sector() {
    let content = Content::new(SEED, Stream::Slot);
    let (old, new) = (content.make(8), content.make(10));
    let mut mixed = old.clone();
    // From a sector border on, and inside a sector, as where two requests met.
    mixed[24..24 + 5 * 512].copy_from_slice(&new[24..24 + 5 * 512]);
    mixed[100_000..100_300].copy_from_slice(&new[100_000..100_300]);
    let found = slot(Stream::Slot, 0, &mixed);
    assert_eq!((found.foreign, found.pure()), (0, None), "{found:?}");
    assert!(found.made_of.iter().any(|&(generation, sectors)| generation == 10 && (6..=8).contains(&sectors)), "{found:?}");
    assert_eq!(slot(Stream::Slot, 0, &new).pure(), Some(10));
    for generation in 1..200 {
        assert_eq!(file(Stream::New, generation).pure(), Some(generation));
    }
}

type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn content_of_no_generation_is_foreign() {
    let content = Content::new(SEED, Stream::Slot);
    let whole = content.make(8);
    let changes: [Change<'_>; 5] = [
        &|bytes| bytes[70_000] ^= 1,
        &|bytes| bytes[SLOT_BYTES as usize - 1] ^= 1,
        &|bytes| bytes[5000..5512].fill(0),
        // Of the same generation, from another place.
        &|bytes| bytes.copy_within(4120..8216, 20_504),
        // Of another stream.
        &|bytes| bytes[24..1048].copy_from_slice(&Content::new(SEED, Stream::Raw).make(8)[24..1048]),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut bytes = whole.clone();
        change(&mut bytes);
        assert!(slot(Stream::Slot, 0, &bytes).foreign > 0, "change {index} went unseen");
    }
}

/// A ledger with generations 5, 6 and 7 of a stream acknowledged.
fn ledger(stream: Stream) -> Ledger {
    let mut ledger = Ledger::new(SEED);
    assert_eq!(ledger.first_of_next(stream), 5);
    (5..=7).for_each(|generation| ledger.acknowledge(stream, generation));
    ledger
}

#[test]
fn the_ledger_accepts_what_the_protocol_allows() {
    for stream in [Stream::New, Stream::Create] {
        let all = [5, 6, 7].map(|generation| file(stream, generation));
        assert!(ledger(stream).judge(&all, &[]).is_good());
        let more = [&all[..], &[file(stream, 8)]].concat();
        let mut with_more = ledger(stream);
        assert!(with_more.judge(&more, &[]).is_good(), "an unacknowledged generation can be there, whole");
        assert!(!with_more.judge(&all, &[]).is_good(), "what was there after a cut has to stay");
    }

    for (stream, generation) in [(Stream::Replace, 7), (Stream::Replace, 8), (Stream::Put, 7), (Stream::Put, 8)] {
        let content = Content::new(SEED, stream);
        assert!(ledger(stream).judge(&[content.look(0, &content.make(generation), 0)], &[]).is_good());
    }

    let content = Content::new(SEED, Stream::Slot);
    let mut half = content.make(6);
    half[..10_000].copy_from_slice(&content.make(8)[..10_000]);
    assert!(ledger(Stream::Slot).judge(&[slot(Stream::Slot, 0, &half), slot(Stream::Slot, 1, &content.make(7))], &[]).is_good());
}

#[test]
fn the_ledger_reports_lost_and_mixed_generations() {
    let lost = |ledger: &mut Ledger, found: &[Found]| {
        let verdict = ledger.judge(found, &[]);
        assert!(!verdict.lost.is_empty() && verdict.mixed.is_empty(), "{verdict:?}");
    };
    let mixed = |ledger: &mut Ledger, found: &[Found]| assert!(!ledger.judge(found, &[]).mixed.is_empty());

    for stream in [Stream::New, Stream::Create] {
        lost(&mut ledger(stream), &[5, 6].map(|generation| file(stream, generation)));
        let mut torn = Content::new(SEED, stream).make(8);
        torn.pop();
        let torn = Content::new(SEED, stream).look(8, &torn, 0);
        mixed(&mut ledger(stream), &[file(stream, 5), file(stream, 6), file(stream, 7), torn]);
    }

    for stream in [Stream::Replace, Stream::Put] {
        let content = Content::new(SEED, stream);
        lost(&mut ledger(stream), &[]);
        lost(&mut ledger(stream), &[content.look(0, &content.make(6), 0)]);
    }

    for stream in [Stream::Slot, Stream::Raw] {
        let content = Content::new(SEED, stream);
        let (even, old) = (slot(stream, 0, &content.make(6)), slot(stream, 1, &content.make(5)));
        lost(&mut ledger(stream), &[even.clone(), old]);
        lost(&mut ledger(stream), std::slice::from_ref(&even));
        let mut half = content.make(7);
        half[..10_000].copy_from_slice(&content.make(5)[..10_000]);
        lost(&mut ledger(stream), &[even.clone(), slot(stream, 1, &half)]);
        half[10_000] ^= 1;
        mixed(&mut ledger(stream), &[even, slot(stream, 1, &half)]);
    }
}

fn seen(version: Option<u64>) -> Seen {
    Seen { stream: Stream::Shards, version, leftovers: 0, wrong: None }
}

#[test]
fn the_ledger_knows_which_version_of_a_model_can_be_there() {
    let mut ledger = Ledger::new(SEED);
    let first = ledger.first_of_next(Stream::Shards);
    (first..=first + 2).for_each(|version| ledger.acknowledge(Stream::Shards, version));
    let judge = |seen: &[Seen]| ledger.clone().judge(&[], seen);
    assert!(judge(&[seen(Some(first + 2))]).is_good());
    assert!(judge(&[seen(Some(first + 3))]).is_good(), "the next one can have been saved");
    assert!(!judge(&[]).lost.is_empty());
    assert!(!judge(&[seen(None)]).lost.is_empty());
    assert!(!judge(&[seen(Some(first + 1))]).lost.is_empty());
    assert!(!judge(&[seen(Some(first + 4))]).mixed.is_empty(), "it was never begun");
    assert!(!judge(&[Seen { wrong: Some("half".into()), ..seen(None) }]).mixed.is_empty());
    assert_eq!((ledger.acknowledged(), ledger.first_of_next(Stream::Shards)), (3, first + 4));
}

#[test]
fn the_next_attempt_does_not_overwrite_the_last_acknowledged_generation() {
    let mut ledger = ledger(Stream::Slot);
    let first = ledger.first_of_next(Stream::Slot);
    assert!(first > 8 && first % 2 != 7 % 2, "{first}");
}

// ---- archive and protocol ----

#[test]
fn an_archive_has_the_layout_the_kernel_expects() {
    let mut archive = Archive::new(Vec::new());
    archive.directory("bin").expect("a directory");
    archive.file("bin/init", 0o755, b"12345").expect("a file");
    archive.character_device("console", 5, 1).expect("a device");
    let bytes = archive.finish().expect("an end");
    assert_eq!(bytes.len() % 4, 0);
    let (mut at, mut seen) = (0, Vec::new());
    while at < bytes.len() {
        assert_eq!(&bytes[at..at + 6], b"070701");
        let field = |index: usize| {
            let digits = &bytes[at + 6 + index * 8..at + 14 + index * 8];
            usize::from_str_radix(std::str::from_utf8(digits).expect("digits"), 16).expect("a number")
        };
        let (name_len, len) = (field(11), field(6));
        let name = String::from_utf8(bytes[at + 110..at + 109 + name_len].to_vec()).expect("a name");
        assert_eq!(bytes[at + 109 + name_len], 0);
        let content = (at + 110 + name_len).next_multiple_of(4);
        seen.push((name, field(1), (field(9), field(10)), bytes[content..content + len].to_vec()));
        at = (content + len).next_multiple_of(4);
    }
    let entry = |name: &str, mode, device, content: &[u8]| (name.to_owned(), mode, device, content.to_vec());
    let expected = [
        entry("bin", 0o040_755, (0, 0), b""),
        entry("bin/init", 0o100_755, (0, 0), b"12345"),
        entry("console", 0o020_600, (5, 1), b""),
        entry("TRAILER!!!", 0, (0, 0), b""),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn orders_and_reports_are_parsed_from_what_they_print() {
    let first = BTreeMap::from([(Stream::New, 3), (Stream::Raw, 9)]);
    let orders = [
        Order::Verify(u64::MAX),
        Order::Write(Writing { seed: 1, backend: BackendKind::Threads, left_out: LeftOut::DirectorySync, first }),
        Order::Suite("exact".into(), vec!["one".into(), "two".into()]),
        Order::Off,
    ];
    for order in orders {
        assert_eq!(order.to_string().parse(), Ok(order));
    }
    let failed = Failed { device: "raw".into(), code: "EIO".into(), syscall: "read".into(), position: None, requested: 7, transferred: 0 };
    let reports = [
        Report::Ready("Linux 6.1, a drive".into()),
        Report::Found(file(Stream::New, 5)),
        Report::Found(Found { first_foreign: Some(512), foreign: 2, ..file(Stream::New, 6) }),
        Report::Seen(seen(Some(7))),
        Report::Seen(Seen { leftovers: 2, wrong: Some("it cannot be opened: ERR_DEEPRING_FORMAT".into()), ..seen(None) }),
        Report::Acknowledged(Stream::Slot, 12),
        Report::Failed(failed),
        Report::Broken("a b c".into()),
    ];
    for report in reports {
        assert_eq!(report.to_string().parse(), Ok(report));
    }
    for noise in ["", "ack new", "ack new 1 2", "ack old 1", "acknowledged new 1", "[    1.5] random kernel words"] {
        assert!(noise.parse::<Report>().is_err(), "{noise:?}");
    }
}

#[test]
fn an_incomplete_line_is_not_an_acknowledgment() {
    let mut lines = Lines::default();
    assert_eq!(lines.take(b"ack new 1\nack ne"), ["ack new 1"]);
    assert_eq!(lines.take(b"w 12"), Vec::<String>::new());
    assert_eq!(lines.take(b"3\r\nack new 1"), ["ack new 123"]);
}
