//! Generations that come from elsewhere, file by file.

use crate::disks::Mounted;
use crate::harness::{bytes, directory, engine, names_in};
use crate::model::{generation, is_clean, mixed, store};
use deepring::Engine;
use deepring_tensors::checkpoint::{Arrival, BeginOptions, Checkpoints, FileCheck, JoinOptions, Listing, PutOptions};
use deepring_tensors::{DType, Declared, Error, Reason, Source};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A store with a generation, and one without.
struct Places {
    engine: Engine,
    from: TempDir,
    to: TempDir,
    listing: Listing,
}

fn places(write: impl FnOnce(&Checkpoints)) -> Places {
    let (engine, from, to) = (engine(), directory(), directory());
    let source = store(&engine, from.path());
    write(&source);
    let listing = source.generation(1).wait().expect("a generation").listing().wait().expect("a listing");
    Places { engine, from, to, listing }
}

fn save(store: &Checkpoints) {
    let writer = store.begin(BeginOptions::new().step(3)).wait().expect("begun");
    for tensor in mixed("m") {
        writer.put(tensor, PutOptions::new()).wait().expect("put");
    }
    assert!(writer.commit().wait().expect("committed").files > 1);
}

/// Two writers, each with a piece of one tensor.
fn save_in_pieces(store: &Checkpoints) {
    let first = store.begin(BeginOptions::new().writers(2)).wait().expect("begun");
    let second = store.join(&first.token(), 1, JoinOptions::new()).wait().expect("joined");
    for (start, writer) in [(0, &first), (2, &second)] {
        let declared = Declared { name: "split".into(), dtype: DType::U8, shape: vec![2, 700_000] };
        let source = Source { declared, data: bytes(1_400_000, start) };
        writer.put(source, PutOptions::new().within([4, 700_000], [start, 0])).wait().expect("a piece");
    }
    second.commit().wait().expect("its part");
    first.commit().wait().expect("committed");
}

impl Places {
    fn arrive(&self) -> (Checkpoints, Arrival) {
        let to = store(&self.engine, self.to.path());
        let arrival = to.receive(&self.listing).wait().expect("begun").expect("it is not there");
        (to, arrival)
    }

    fn file(&self, number: usize) -> (Vec<u8>, FileCheck) {
        let path = generation(self.from.path(), 1).join(&self.listing.files()[number].name);
        let bytes = std::fs::read(path).expect("a file");
        let header_bytes = self.listing.header_bytes(number, &bytes).expect("a header");
        let check = self.listing.check(number, &bytes[..header_bytes as usize]).expect("a header");
        assert_eq!((check.header_bytes(), check.bytes()), (header_bytes, bytes.len() as u64));
        (bytes, check)
    }

    /// Brings a file in pieces of this size, the last ones first.
    fn bring(&self, arrival: &Arrival, number: usize, piece_bytes: u64) {
        let (bytes, check) = self.file(number);
        let file = arrival.begin(number, &check).wait().expect("begun");
        let header = 0..check.header_bytes();
        let pieces: Vec<_> = std::iter::once(header).chain(check.pieces(piece_bytes)).collect();
        assert!(pieces.windows(2).all(|two| two[0].end == two[1].start) && pieces.last().expect("one").end == check.bytes());
        for piece in pieces.into_iter().rev() {
            let (start, end) = (piece.start as usize, piece.end as usize);
            let middle = usize::midpoint(start, end);
            file.write(piece.start, vec![bytes[start..middle].to_vec(), bytes[middle..end].to_vec()]).wait().expect("written");
        }
        file.finish().wait().expect("a file");
    }

    fn temporary(&self) -> Option<PathBuf> {
        let name = names_in(self.to.path()).into_iter().find(|name| name.starts_with(".tmp-"))?;
        Some(self.to.path().join(name))
    }
}

fn same(from: &Path, to: &Path) {
    let [from, to] = [from, to].map(|place| generation(place, 1));
    assert_eq!(names_in(&from), names_in(&to));
    for name in names_in(&from) {
        assert!(std::fs::read(from.join(&name)).expect("a file") == std::fs::read(to.join(&name)).expect("a file"), "{name}");
    }
}

#[test]
fn files_that_come_in_pieces_in_any_order_are_the_generation_that_was_sent() {
    for write in [save, save_in_pieces] {
        let places = places(write);
        for piece_bytes in [1, 1 << 20, 3 << 20, u64::MAX] {
            let (to, arrival) = places.arrive();
            (0..places.listing.files().len()).rev().for_each(|number| places.bring(&arrival, number, piece_bytes));
            assert!(to.list().wait().expect("a list").is_empty());
            let generation = arrival.commit().wait().expect("committed");
            assert_eq!(
                (generation.number, generation.bytes, generation.files as usize),
                (1, places.listing.bytes(), places.listing.files().len())
            );
            same(places.from.path(), places.to.path());
            let checkpoint = to.generation(1).wait().expect("a generation");
            assert!(checkpoint.verify(None).wait().expect("verified").is_whole());
            assert!(to.receive(&places.listing).wait().expect("a look").is_none(), "it is there");
            drop(checkpoint);
            to.remove(1).wait().expect("removed");
        }
        assert!(is_clean(places.to.path()));
    }
}

#[test]
fn bytes_that_are_not_right_are_never_written() {
    let places = places(save);
    let (_, arrival) = places.arrive();
    let number = (0..places.listing.files().len()).max_by_key(|&number| places.listing.files()[number].bytes).expect("files");
    let (bytes, check) = places.file(number);
    let file = arrival.begin(number, &check).wait().expect("begun");
    let piece = check.pieces(1).into_iter().find(|piece| piece.end - piece.start == 1 << 20).expect("a whole chunk");
    let (start, end) = (piece.start as usize, piece.end as usize);
    let refused = |position: u64, bytes: Vec<u8>| file.write(position, vec![bytes]).wait().expect_err("not right");
    let mut damaged = bytes[start..end].to_vec();
    damaged[77] ^= 1;
    let Error::Checksum { position, .. } = refused(piece.start, damaged) else { panic!("another error") };
    assert_eq!(position, piece.start);
    for (position, len, reason) in [(piece.start, (1 << 20) - 1, Reason::Truncated), (check.bytes(), 1, Reason::Trailing)] {
        let error = refused(position, bytes[start..start + len].to_vec());
        assert!(matches!(&error, Error::Format { reason: found, .. } if *found == reason), "{error}");
    }
    for position in [1, piece.start + 1, check.bytes() + 1, u64::MAX] {
        assert!(matches!(refused(position, bytes[start..end].to_vec()), Error::Argument(_)), "{position}");
    }
    let mut header = bytes[..check.header_bytes() as usize].to_vec();
    *header.last_mut().expect("bytes") = b'\n';
    assert!(matches!(refused(0, header), Error::Format { reason: Reason::Part, .. }));
    let error = file.finish().wait().expect_err("nothing has come");
    assert!(error.to_string().contains("have not come"), "{error}");
    assert!(!arrival.has(number).wait().expect("a look"));
    let error = arrival.commit().wait().expect_err("nothing has come");
    assert!(error.to_string().contains("has not arrived"), "{error}");
}

#[test]
fn a_header_is_the_one_that_the_part_sums() {
    let places = places(save);
    let (bytes, check) = places.file(0);
    let header = &bytes[..check.header_bytes() as usize];
    for change in [0, 8, 20, header.len() - 1] {
        let mut changed = header.to_vec();
        changed[change] ^= 1;
        assert!(matches!(places.listing.check(0, &changed), Err(Error::Format { .. })), "byte {change}");
    }
    for wrong in [&[][..], &header[..7], &header[..header.len() - 1], &bytes[..=header.len()]] {
        assert!(matches!(places.listing.check(0, wrong), Err(Error::Format { .. })), "{} bytes", wrong.len());
    }
    for wrong in [&[][..], &[0; 7], &[255; 8], &(bytes.len() as u64).to_le_bytes()] {
        assert!(matches!(places.listing.header_bytes(0, wrong), Err(Error::Format { .. })), "{wrong:?}");
    }
    let (_, arrival) = places.arrive();
    let (_, other) = places.file(1);
    assert!(matches!(arrival.begin(0, &other).wait(), Err(Error::Argument(_))));
}

#[test]
fn a_listing_is_what_its_manifest_says() {
    let places = places(save_in_pieces);
    let Places { listing, .. } = &places;
    let parts: Vec<Vec<u8>> = listing.parts().map(|(_, text)| text.to_vec()).collect();
    let named = Listing::parts_of(1, listing.manifest(), "x").expect("parts");
    assert_eq!(named.iter().map(|part| part.bytes).collect::<Vec<_>>(), parts.iter().map(|part| part.len() as u64).collect::<Vec<_>>());
    let again = Listing::new(1, listing.manifest().to_vec(), parts.clone(), "x").expect("a listing");
    assert_eq!((again.files(), again.id(), again.index()), (listing.files(), listing.id(), None));
    let reversed = parts.iter().rev().cloned().collect();
    let wrong = |generation, manifest: &[u8], parts| Listing::new(generation, manifest.to_vec(), parts, "place").expect_err("wrong");
    assert!(matches!(wrong(2, listing.manifest(), parts.clone()), Error::Format { reason: Reason::Identity, .. }));
    assert!(matches!(wrong(1, &listing.manifest()[1..], parts.clone()), Error::Format { reason: Reason::Manifest, .. }));
    assert!(matches!(wrong(1, listing.manifest(), vec![]), Error::Argument(_)));
    let Error::Format { path, .. } = wrong(1, listing.manifest(), reversed) else { panic!("another error") };
    assert!(path.starts_with("place"));
    assert_eq!((Listing::name_of(42), Listing::generation_of("000000000042")), ("000000000042".into(), Some(42)));
    for name in ["42", ".tmp-000000000042-00112233445566778899aabbccddeeff", "../000000000042", ""] {
        assert_eq!(Listing::generation_of(name), None);
    }
}

#[test]
fn one_arrival_at_a_time_and_what_it_leaves_is_used_or_collected() {
    let places = places(save);
    let (to, arrival) = places.arrive();
    let Err(Error::Conflict { generation: 1, detail }) = to.receive(&places.listing).wait().map(drop) else { panic!("it is arriving") };
    assert_eq!(detail, "it is arriving already");
    assert_eq!(to.collect().wait().expect("collected").temporaries, 0, "it is alive");
    places.bring(&arrival, 0, 1 << 20);
    drop(arrival);
    let temporary = places.temporary().expect("what it has left");
    std::fs::write(temporary.join("part-00000.json"), "x").expect("a file");
    std::fs::write(temporary.join(".x.tmp"), "x").expect("a file");
    let (_, arrival) = places.arrive();
    assert_eq!((arrival.has(0).wait().expect("a look"), arrival.has(1).wait().expect("a look")), (true, false));
    let file = arrival.begin(1, &places.file(1).1).wait().expect("begun");
    assert_eq!(arrival.begin(0, &places.file(0).1).wait().expect_err("it is there").code(), "EEXIST");
    drop((arrival, file));
    assert_eq!(to.collect().wait().expect("collected").temporaries, 1);
    assert!(is_clean(places.to.path()));
    let (_, arrival) = places.arrive();
    places.bring(&arrival, 0, 1 << 20);
    arrival.abandon().wait().expect("gone");
    assert!(is_clean(places.to.path()));
}

#[test]
fn a_number_that_is_taken_is_a_conflict_before_and_at_the_end() {
    let places = places(save);
    let (to, arrival) = places.arrive();
    (0..places.listing.files().len()).for_each(|number| places.bring(&arrival, number, 1 << 20));
    std::fs::create_dir(generation(places.to.path(), 1)).expect("a directory");
    assert!(matches!(arrival.commit().wait(), Err(Error::Conflict { generation: 1, .. })));
    assert!(matches!(to.receive(&places.listing).wait(), Err(Error::Conflict { generation: 1, .. })));
    std::fs::remove_dir(generation(places.to.path(), 1)).expect("a directory");
    let (to, arrival) = places.arrive();
    assert!((0..places.listing.files().len()).all(|number| arrival.has(number).wait().expect("a look")), "all is there");
    arrival.commit().wait().expect("committed");
    assert_eq!(to.list().wait().expect("a list"), [1]);
    same(places.from.path(), places.to.path());
}

#[test]
fn a_store_that_is_closed_receives_nothing() {
    let places = places(save);
    let to = store(&places.engine, places.to.path());
    to.clone().close().wait().expect("closed");
    assert!(matches!(to.receive(&places.listing).wait(), Err(Error::Argument(_))));
    assert_eq!(names_in(places.to.path()), [""; 0]);
}

#[test]
fn a_full_disk_ends_an_arrival_which_goes_on_when_there_is_room() {
    let places = places(save);
    let Some(_small) = Mounted::memory(places.to.path(), "4m") else { return };
    let (_, arrival) = places.arrive();
    let is_small = |number: &usize| places.listing.files()[*number].bytes < 3 << 20;
    let (small, large): (Vec<usize>, Vec<usize>) = (0..places.listing.files().len()).partition(is_small);
    for &number in &small {
        places.bring(&arrival, number, 1 << 20);
    }
    let error = arrival.begin(large[0], &places.file(large[0]).1).wait().expect_err("no room");
    assert_eq!(error.code(), "ENOSPC", "{error}");
    drop(arrival);
    let remounted = Command::new("mount").args(["-o", "remount,size=32m"]).arg(places.to.path()).status();
    assert!(remounted.is_ok_and(|status| status.success()), "there is more room");
    let (_, arrival) = places.arrive();
    assert!(small.iter().all(|&number| arrival.has(number).wait().expect("a look")));
    for &number in &large {
        places.bring(&arrival, number, 1 << 20);
    }
    arrival.commit().wait().expect("committed");
    same(places.from.path(), places.to.path());
}
