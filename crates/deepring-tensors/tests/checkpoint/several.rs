//! Several writers of one generation.

use crate::child::{argument, await_line, spawn};
use crate::harness::{directory, engine, names_in, say, source};
use crate::model::{check, generation, is_clean, mixed, read, store};
use deepring_tensors::checkpoint::{BeginOptions, CheckpointWriter, JoinOptions, PutOptions, Token};
use deepring_tensors::{DType, Declared, Error, Source};
use std::path::Path;
use std::time::Duration;

/// Rows of a matrix of 8 by 3, whose bytes are those of the whole one.
fn rows(name: &str, first: u64, count: u64) -> (Source<Vec<u8>>, PutOptions) {
    let whole = source(name, DType::F32, &[8, 3]);
    let data = whole.data[first as usize * 12..(first + count) as usize * 12].to_vec();
    let declared = Declared { name: name.into(), dtype: DType::F32, shape: vec![count, 3] };
    (Source { declared, data }, PutOptions::new().within([8, 3], [first, 0]))
}

fn put(writer: &CheckpointWriter, (source, options): (Source<Vec<u8>>, PutOptions)) {
    writer.put(source, options).wait().expect("put");
}

#[test]
fn writers_in_threads_make_one_generation() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let first = store.begin(BeginOptions::new().writers(4)).wait().expect("a writer");
    let token = first.token();
    let tensors: Vec<Vec<_>> = (0..4).map(|writer| mixed(&format!("w{writer}"))).collect();
    std::thread::scope(|scope| {
        for (number, tensors) in tensors.iter().enumerate().skip(1) {
            let store = &store;
            scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(20 * number as u64));
                let writer = store.join(&token, number as u32, JoinOptions::new()).wait().expect("joined");
                writer.put_all(tensors.clone(), "main").wait().expect("put");
                put(&writer, rows("split", 2 * number as u64, 2));
                put(&writer, rows("twice", 2 * number as u64, 1));
                put(&writer, rows("twice", 2 * number as u64 + 1, 1));
                assert_eq!(writer.commit().wait().expect("its part").number, 1);
            });
        }
        first.put_all(tensors[0].clone(), "main").wait().expect("put");
        put(&first, rows("split", 0, 2));
        put(&first, rows("twice", 0, 2));
        first.commit().wait().expect("a commit");
    });
    let at = generation(place.path(), 1);
    let mut found = read(&engine, &at);
    for (name, pieces) in [("split", 4), ("twice", 7)] {
        let found = found.remove(name).expect("the tensor");
        assert_eq!(found.len(), pieces, "{name}");
        let all: Vec<u8> = found.into_iter().flat_map(|(_, _, bytes)| bytes).collect();
        assert_eq!(all, source(name, DType::F32, &[8, 3]).data, "the pieces are in the order of writers and files");
    }
    for tensor in tensors.concat() {
        assert!(found[&tensor.declared.name][0].2 == tensor.data, "{}", tensor.declared.name);
    }
    assert!(!names_in(&at).contains(&"model.safetensors.index.json".into()), "a split tensor is in no index");
    assert!(!names_in(&at).iter().any(|name| name.starts_with("lock-")));
}

#[test]
fn a_file_with_pieces_says_where_they_are() {
    let (place, engine) = (directory(), engine());
    let writer = store(&engine, place.path()).begin(BeginOptions::new()).wait().expect("a writer");
    writer.put(source("whole \"q\"", DType::U8, &[3]), PutOptions::new()).wait().expect("put");
    for first in [0, 4] {
        put(&writer, rows("split", first, 4));
    }
    writer.commit().wait().expect("a commit");
    let path = generation(place.path(), 1).join("data-00000-main-00000.safetensors");
    let bytes = std::fs::read(path).expect("a file");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("the reference reads it");
    let said = header.metadata().clone().expect("metadata");
    assert_eq!((said["DCP_VERSION"].as_str(), said["format"].as_str()), ("1.0", "pt"));
    let places: serde_json::Value = serde_json::from_str(&said["DCP_SHARDING_INFO"]).expect("JSON");
    let expected = serde_json::json!({
        "whole \"q\"": { "saved_offsets": [0], "global_shape": [3] },
        "split": { "saved_offsets": [0, 0], "global_shape": [8, 3] },
    });
    assert_eq!(places, expected);
}

/// What a child does: joins, puts its tensors, and says that it is there; then commits, or waits to be killed.
fn as_writer(arguments: &[String]) {
    let [path, token, number, commits] = arguments else { panic!("four arguments") };
    let engine = engine();
    let token: Token = token.parse().expect("a token");
    let number = number.parse().expect("a number");
    let writer = store(&engine, Path::new(path)).join(&token, number, JoinOptions::new()).wait().expect("joined");
    writer.put_all(mixed(&format!("w{number}")), "main").wait().expect("put");
    if commits == "yes" {
        writer.commit().wait().expect("its part");
        say("committed");
        return;
    }
    say("here");
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn writers_in_other_processes_make_one_generation() {
    const TEST: &str = "several::writers_in_other_processes_make_one_generation";
    if let Some(arguments) = argument(TEST) {
        return as_writer(&arguments);
    }
    let (place, engine) = (directory(), engine());
    let first = store(&engine, place.path()).begin(BeginOptions::new().writers(3)).wait().expect("a writer");
    let (path, token) = (place.path().to_str().expect("UTF-8"), first.token().to_string());
    let mut children: Vec<_> = ["1", "2"].into_iter().map(|number| spawn(TEST, &[path, &token, number, "yes"])).collect();
    first.put_all(mixed("w0"), "main").wait().expect("put");
    let made = first.commit().wait().expect("a commit");
    for child in &mut children {
        await_line(child, "committed");
        assert!(child.wait().expect("the child").success());
    }
    let at = generation(place.path(), made.number);
    let expected: Vec<_> = (0..3).flat_map(|writer| mixed(&format!("w{writer}"))).collect();
    check(&engine, &at, &expected);
}

#[test]
fn a_writer_that_was_killed_is_named() {
    const TEST: &str = "several::a_writer_that_was_killed_is_named";
    if let Some(arguments) = argument(TEST) {
        return as_writer(&arguments);
    }
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let first = store.begin(BeginOptions::new().writers(3)).wait().expect("a writer");
    let (path, token) = (place.path().to_str().expect("UTF-8"), first.token().to_string());
    let mut child = spawn(TEST, &[path, &token, "1", "no"]);
    await_line(&mut child, "here");
    let other = store.join(&first.token(), 2, JoinOptions::new()).wait().expect("joined");
    other.commit().wait().expect("its part");
    assert!(matches!(store.join(&first.token(), 1, JoinOptions::new()).wait(), Err(Error::Conflict { .. })), "it is at work");
    child.kill().expect("killed");
    child.wait().expect("the child's end");
    assert!(matches!(store.join(&first.token(), 1, JoinOptions::new()).wait(), Err(Error::Conflict { .. })), "it was at work");
    let error = first.commit().wait().expect_err("no part of writer 1");
    assert!(matches!(&error, Error::Incomplete { generation: 1, writers } if writers == &[1]), "{error}");
    assert!(is_clean(place.path()) && store.list().wait().expect("a list").is_empty());
}

#[test]
fn a_writer_that_was_killed_after_its_part_counts() {
    const TEST: &str = "several::a_writer_that_was_killed_after_its_part_counts";
    if let Some(arguments) = argument(TEST) {
        as_writer(&arguments);
        std::thread::sleep(Duration::from_secs(600));
    }
    let (place, engine) = (directory(), engine());
    let first = store(&engine, place.path()).begin(BeginOptions::new().writers(2)).wait().expect("a writer");
    let mut child = spawn(TEST, &[place.path().to_str().expect("UTF-8"), &first.token().to_string(), "1", "yes"]);
    await_line(&mut child, "committed");
    child.kill().expect("killed");
    child.wait().expect("the child's end");
    let made = first.commit().wait().expect("a commit");
    check(&engine, &generation(place.path(), made.number), &mixed("w1"));
}

#[test]
fn a_writer_that_gives_up_or_never_joins_is_named() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let first = store.begin(BeginOptions::new().writers(4).patience(Duration::ZERO)).wait().expect("a writer");
    store.join(&first.token(), 1, JoinOptions::new()).wait().expect("joined").abort().wait().expect("an abort");
    store.join(&first.token(), 2, JoinOptions::new()).wait().expect("joined").commit().wait().expect("its part");
    let error = first.commit().wait().expect_err("no parts");
    assert!(matches!(&error, Error::Incomplete { writers, .. } if writers == &[1, 3]), "{error}");
    assert_eq!(error.code(), "ERR_DEEPRING_INCOMPLETE");
}

#[test]
fn who_may_join() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let first = store.begin(BeginOptions::new().writers(3)).wait().expect("a writer");
    let token = first.token();
    assert_eq!(token.to_string().parse::<Token>().expect("a token"), token);
    for number in [0, 3, u32::MAX] {
        assert!(matches!(store.join(&token, number, JoinOptions::new()).wait(), Err(Error::Argument(_))), "writer {number}");
    }
    let second = store.join(&token, 1, JoinOptions::new()).wait().expect("joined");
    let twice = store.join(&token, 1, JoinOptions::new()).wait().expect_err("twice");
    assert!(matches!(twice, Error::Conflict { generation: 1, .. }), "{twice}");
    second.commit().wait().expect("its part");
    let again = store.join(&token, 1, JoinOptions::new()).wait().expect_err("after its part");
    assert_eq!(again.code(), "ERR_DEEPRING_CONFLICT");
    first.abort().wait().expect("an abort");
    let late = store.join(&token, 2, JoinOptions::new()).wait().expect_err("aborted");
    assert!(matches!(late, Error::NoGeneration { generation: 1 }), "{late}");
    for writers in [0, 65_537] {
        assert!(matches!(store.begin(BeginOptions::new().writers(writers)).wait(), Err(Error::Argument(_))));
    }
    for text in ["", "1", "1-2-3", &format!("{token}-"), &format!("+{token}"), &token.to_string().to_uppercase()] {
        assert_eq!(text.parse::<Token>().is_ok(), text == token.to_string(), "{text:?}");
    }
}

#[test]
fn pieces_that_do_not_make_a_tensor_are_refused() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let commit = |ours: (Source<Vec<u8>>, PutOptions), theirs: (Source<Vec<u8>>, PutOptions)| {
        let first = store.begin(BeginOptions::new().writers(2)).wait().expect("a writer");
        let second = store.join(&first.token(), 1, JoinOptions::new()).wait().expect("joined");
        put(&first, ours);
        put(&second, theirs);
        second.commit().wait().expect("its part");
        let error = first.commit().wait().expect_err("they do not agree");
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        assert!(is_clean(place.path()));
        error.to_string()
    };
    let hole = commit(rows("w", 0, 3), rows("w", 5, 3));
    assert!(hole.contains("[3..5, 0..3]") && hole.contains("\"w\""), "{hole}");
    let tail = commit(rows("w", 0, 3), rows("w", 3, 4));
    assert!(tail.contains("[7..8, 0..3]"), "{tail}");
    let overlap = commit(rows("w", 0, 5), rows("w", 4, 4));
    assert!(overlap.contains("[4..5, 0..3]"), "{overlap}");
    let (mut other, options) = rows("w", 4, 4);
    other.declared.dtype = DType::I32;
    let dtype = commit(rows("w", 0, 4), (other, options));
    assert!(dtype.contains("F32") && dtype.contains("I32"), "{dtype}");
    let (other, _) = rows("w", 4, 4);
    let shape = commit(rows("w", 0, 4), (other, PutOptions::new().within([9, 3], [4, 0])));
    assert!(shape.contains("[8, 3]") && shape.contains("[9, 3]"), "{shape}");
    let (other, _) = rows("w", 0, 4);
    let whole = commit(rows("w", 0, 4), (other, PutOptions::new()));
    assert!(whole.contains("whole"), "{whole}");
    let both = commit((source("x", DType::U8, &[5]), PutOptions::new()), (source("x", DType::U8, &[5]), PutOptions::new()));
    assert!(both.contains("writers 0 and 1"), "{both}");
    assert!(store.list().wait().expect("a list").is_empty());
}

#[test]
fn a_part_of_another_attempt_is_refused() {
    let (place, engine) = (directory(), engine());
    let store = store(&engine, place.path());
    let old = store.begin(BeginOptions::new()).wait().expect("a writer").commit().wait().expect("a commit");
    let first = store.begin(BeginOptions::new().writers(2)).wait().expect("a writer");
    let part = std::fs::read(generation(place.path(), old.number).join("part-00000.json")).expect("a part");
    let temporary = names_in(place.path()).into_iter().find(|name| name.starts_with(".tmp-")).expect("a temporary");
    std::fs::write(place.path().join(temporary).join("part-00001.json"), part).expect("a foreign part");
    let error = first.commit().wait().expect_err("a foreign part");
    assert!(matches!(error, Error::Format { reason: deepring_tensors::Reason::Identity, .. }), "{error}");
}
