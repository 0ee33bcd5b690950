//! Multipart uploads.

use crate::harness::{assert_same, bytes};
use crate::places::{at, files, get, listed, put, stores};
use object_store_014::{Error, MultipartUpload, ObjectStoreExt};
use pollster::block_on;

#[test]
fn parts_of_any_size_in_any_order_are_one_object_in_the_order_of_the_calls() {
    for (place, store) in stores() {
        let content = bytes(0, 3_000_017, 1);
        let mut upload = block_on(store.put_multipart(&at("dir/object"))).expect("an upload");
        let cuts = [0, 1, 1, 5000, 70_000, 2_000_003, 3_000_017];
        let mut parts: Vec<_> = cuts.windows(2).map(|cut| upload.put_part(content[cut[0]..cut[1]].to_vec().into())).collect();
        parts.reverse();
        for part in parts {
            block_on(part).expect("a part");
        }
        assert_eq!(listed(&store, ""), [""; 0]);
        assert!(matches!(get(&store, "dir/object"), Err(Error::NotFound { .. })));
        let done = block_on(upload.complete()).expect("complete");
        assert_eq!(block_on(store.head(&at("dir/object"))).expect("an object").e_tag, done.e_tag);
        assert_same(&get(&store, "dir/object").expect("an object"), &content, "the parts");
        assert_eq!(files(place.path()), ["dir/object"]);
        assert_eq!((store.stats().uploads, store.stats().bytes_put), (1, 3_000_017));
    }
}

#[test]
fn an_upload_without_parts_is_an_empty_object() {
    for (_place, store) in stores() {
        let mut upload = block_on(store.put_multipart(&at("object"))).expect("an upload");
        block_on(upload.complete()).expect("complete");
        assert_eq!(get(&store, "object").expect("an object"), b"");
    }
}

#[test]
fn an_upload_whose_parts_are_in_progress_cannot_be_completed_yet() {
    for (_place, store) in stores() {
        put(&store, "object", "old");
        let mut upload = block_on(store.put_multipart(&at("object"))).expect("an upload");
        let part = upload.put_part(bytes(0, 1 << 20, 2).into());
        let error = block_on(upload.complete()).expect_err("a part is in progress");
        assert!(error.to_string().contains("parts of the upload are still in progress: 1"), "{error}");
        assert_eq!(get(&store, "object").expect("an object"), b"old");
        block_on(part).expect("a part");
        block_on(upload.complete()).expect("now it can");
        assert_eq!(get(&store, "object").expect("an object").len(), 1 << 20);
    }
}

#[test]
fn a_part_that_was_dropped_fails_the_upload_and_leaves_the_old_object() {
    for (place, store) in stores() {
        put(&store, "object", "old");
        let mut upload = block_on(store.put_multipart(&at("object"))).expect("an upload");
        block_on(upload.put_part(bytes(0, 1 << 20, 3).into())).expect("a part");
        drop(upload.put_part(bytes(0, 1 << 20, 4).into()));
        let error = block_on(upload.complete()).expect_err("a part is missing");
        assert!(error.to_string().contains("dropped"), "{error}");
        block_on(upload.abort()).expect("it can be aborted");
        assert_eq!(files(place.path()), ["object"]);
        assert_eq!(get(&store, "object").expect("an object"), b"old");
    }
}

#[test]
fn an_upload_that_has_ended_refuses_everything() {
    for (place, store) in stores() {
        for aborted in [false, true] {
            let mut upload = block_on(store.put_multipart(&at("object"))).expect("an upload");
            let ended = if aborted { block_on(upload.abort()) } else { block_on(upload.complete()).map(drop) };
            ended.expect("the end");
            for result in [block_on(upload.put_part("x".into())), block_on(upload.abort()), block_on(upload.complete()).map(drop)] {
                assert!(result.expect_err("it has ended").to_string().contains("before"));
            }
        }
        assert_eq!(files(place.path()), ["object"]);
    }
}

#[test]
fn an_upload_that_is_dropped_leaves_no_file() {
    for (place, store) in stores() {
        let mut upload = block_on(store.put_multipart(&at("dir/object"))).expect("an upload");
        let part = upload.put_part(bytes(0, 4 << 20, 5).into());
        drop(upload);
        drop(part);
        crate::dropped::eventually_only(place.path(), &[]);
    }
}
