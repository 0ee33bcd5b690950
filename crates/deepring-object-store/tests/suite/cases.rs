//! The functions of one version's suite that apply to a store without pages of listings and without uploads by number. The crate
//! `deepring-tier` has them, too.

use super::object_store::{Error, integration as suite};
use super::stores::each;

#[test]
fn put_get_delete_list() {
    each(&async |store| suite::put_get_delete_list(store).await);
}

#[test]
fn get_opts() {
    each(&async |store| suite::get_opts(store).await);
}

#[test]
fn put_opts_with_update() {
    each(&async |store| suite::put_opts(store, true).await);
}

#[test]
fn stream_get() {
    each(&async |store| suite::stream_get(store).await);
}

#[test]
fn list_uses_directories_correctly() {
    each(&async |store| suite::list_uses_directories_correctly(store).await);
}

#[test]
fn list_with_delimiter() {
    each(&async |store| suite::list_with_delimiter(store).await);
}

#[test]
fn list_with_offset_exclusivity() {
    each(&async |store| suite::list_with_offset_exclusivity(store).await);
}

#[test]
fn get_nonexistent_object() {
    each(&async |store| {
        let got = suite::get_nonexistent_object(store, None).await;
        assert!(matches!(got, Err(Error::NotFound { .. })), "{got:?}");
    });
}

#[test]
fn rename_and_copy() {
    each(&async |store| suite::rename_and_copy(store).await);
}

#[test]
fn copy_if_not_exists() {
    each(&async |store| suite::copy_if_not_exists(store).await);
}

#[test]
fn copy_rename_nonexistent_object() {
    each(&async |store| suite::copy_rename_nonexistent_object(store).await);
}

#[test]
fn multipart_race_condition_the_last_writer_wins() {
    each(&async |store| suite::multipart_race_condition(store, true).await);
}

#[test]
fn multipart_out_of_order() {
    each(&async |store| suite::multipart_out_of_order(store).await);
}
