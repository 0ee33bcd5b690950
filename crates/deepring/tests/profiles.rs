//! Promise: **honest**, of profiles: where a search begins is said, and a profile that is not believed changes nothing.
//!
//! What the environment names is read when an engine is built, so each test is a process of its own. Those of devices
//! without a name that lasts are reported as skipped.

mod harness;

use deepring::{Engine, EngineBuilder, OpenOptions, PathInfo, WindowMode, WindowSize};
use harness::child::{alone, alone_with, become_nobody, directory_for_all};
use harness::disk::{Loop, as_root, ext4_image, mount, with_mounts};
use harness::{builders, bytes, directory, patient, skip};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const WINDOW: u64 = 2 << 20;
const SHARED: u64 = 1 << 20;

/// The variables of a child process whose profiles are in `place`.
fn profiles_in(place: &Path) -> impl Fn(&mut Command) {
    let (home, file) = (place.join("home"), place.join("file"));
    move |command| {
        command.env_remove("XDG_CONFIG_HOME").env("HOME", &home).env("DEEPRING_PROFILE", &file);
    }
}

fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
    release.trim().split('.').take(2).collect::<Vec<_>>().join(".")
}

/// A profile of this device.
fn text_of(device: &str) -> String {
    format!(
        "version = 1\ndevice = {device}\nkernel = {}\nread.window = {WINDOW}\nread.shared = {SHARED}\nread.block = {SHARED}\n",
        kernel()
    )
}

/// What profiles name the device of a directory by.
fn device_of(place: &Path) -> Option<String> {
    let device = Engine::builder().profile(false).build().expect("an engine").path_info(place).expect("the directory").profile.device;
    if device.is_none() {
        skip("the device has neither a serial number nor a UUID");
    }
    device
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    fs::write(path, text).expect("the profile");
    fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("permissions");
}

/// Uses the device until the engine has looked for its profile, and returns what is known then.
fn met(builder: EngineBuilder, place: &Path) -> (PathInfo, WindowSize) {
    let path = place.join("data");
    fs::write(&path, bytes(0, 1 << 20, 1)).expect("the file");
    let engine = builder.build().expect("an engine");
    let file = engine.open(&path, OpenOptions::new().read(true)).expect("the file");
    file.read_exact_at(vec![0; 1 << 20], 0).wait().result.expect("it can be read");
    let (limit, started) = (patient(Duration::from_secs(10)), Instant::now());
    while engine.info().profile.reason == "no device was used yet" {
        assert!(started.elapsed() < limit, "no profile was looked for");
        std::thread::sleep(Duration::from_millis(1));
    }
    // What the thread has found reaches the driver with its next turn, and the board by that.
    loop {
        let (info, [window]) = (engine.path_info(&path).expect("info"), &engine.stats().windows[..]) else { panic!("one device") };
        if !info.profile.used || window.read.bytes == WINDOW || started.elapsed() > limit {
            assert_eq!(info.window, *window);
            return (info, window.read);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_search_begins_where_a_profile_says() {
    let place = directory();
    alone_with(profiles_in(place.path()), || {
        let file = std::env::var_os("DEEPRING_PROFILE").expect("set by the parent");
        let Some(device) = device_of(place.path()) else { return };
        write(Path::new(&file), &text_of(&device));
        for builder in builders() {
            let first = builder.clone().build().expect("an engine").path_info(place.path()).expect("info");
            assert_eq!((first.window.read.bytes, first.window.read.shared_bytes), (WINDOW, SHARED), "before it is used");
            let (info, window) = met(builder, place.path());
            assert_eq!((window.bytes, window.shared_bytes), (WINDOW, SHARED));
            assert_eq!(info.window.write.bytes, 64 << 20, "of writes it says nothing");
            assert!(info.profile.used);
            assert_eq!((info.profile.path.as_deref(), info.profile.device), (Some(Path::new(&file)), Some(device.clone())));
            assert_eq!(info.profile.reason, "the search begins with it");
        }
    });
}

#[test]
fn a_profile_is_found_by_its_device_in_the_directory_of_the_user() {
    let place = directory();
    let variables = |command: &mut Command| {
        command.env_remove("DEEPRING_PROFILE").env_remove("XDG_CONFIG_HOME").env("HOME", place.path());
    };
    alone_with(variables, || {
        let home = std::env::var_os("HOME").expect("set by the parent");
        let (home, other) = (Path::new(&home), directory());
        let Some(device) = device_of(other.path()) else { return };
        let before = Engine::builder().build().expect("an engine");
        assert_eq!(before.info().profile.path.as_deref(), Some(home.join(".config/deepring").as_path()));
        let missing = before.path_info(other.path()).expect("info").profile;
        assert_eq!((missing.used, missing.reason.as_str()), (false, "there is none; deepring tune makes one"));
        write(&missing.path.expect("where it is looked for"), &text_of(&device));
        let (info, window) = met(Engine::builder(), other.path());
        assert_eq!((info.profile.used, window.bytes), (true, WINDOW));
    });
}

#[test]
fn a_profile_that_is_not_believed_changes_nothing_and_says_why() {
    let place = directory();
    alone_with(profiles_in(place.path()), || {
        let file = std::env::var_os("DEEPRING_PROFILE").expect("set by the parent");
        let file = Path::new(&file);
        let Some(device) = device_of(place.path()) else { return };
        let refused = |reason: &str| {
            let (info, window) = met(Engine::builder(), place.path());
            assert!(!info.profile.used && window.bytes == 64 << 20, "{reason}: {window:?}");
            assert!(info.profile.reason.contains(reason), "'{}' is not '{reason}'", info.profile.reason);
        };
        refused("there is none");
        let whole = text_of(&device);
        for (text, reason) in [
            (whole.replace("version = 1", "version = 2"), "of another version: 2, not 1"),
            (whole.replace(&device, "a disk"), "of another device: 'a disk', not '"),
            (whole.replace(&kernel(), "2.4"), "of another kernel: 2.4, not "),
            (whole.replace("read.window = 2", "read.window = x"), "damaged: line 4 is not a number from"),
            (whole[..whole.len() / 2].to_owned() + "\0", "damaged: "),
            (String::new(), "damaged: it has no version"),
            (whole.clone() + &"# long\n".repeat(10_000), "damaged: it is longer than"),
        ] {
            write(file, &text);
            refused(reason);
        }
        fs::write(file, b"version = 1\xff").expect("the profile");
        refused("damaged: it is not valid UTF-8");
        write(file, &whole);
        for (mode, octal) in [(0o602, "602"), (0o620, "620")] {
            fs::set_permissions(file, PermissionsExt::from_mode(mode)).expect("permissions");
            refused(&format!("refused: others can write it (mode {octal})"));
        }
        fs::remove_file(file).expect("the profile");
        fs::create_dir(file).expect("a directory");
        refused("it is not a file");
        fs::remove_dir(file).expect("the directory");
        let name = std::ffi::CString::new(file.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: a terminated string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        refused("it is not a file");
    });
}

#[test]
fn a_profile_of_another_user_is_refused() {
    as_root(|| {
        let place = directory_for_all(0o777);
        alone_with(profiles_in(place.path()), || {
            let file = std::env::var_os("DEEPRING_PROFILE").expect("set by the parent");
            let file = Path::new(&file);
            let own = directory();
            let Some(device) = device_of(own.path()) else { return };
            write(file, &text_of(&device));
            std::os::unix::fs::chown(file, Some(65534), None).expect("another owner");
            let found = met(Engine::builder(), own.path()).0.profile;
            assert_eq!((found.used, found.reason.as_str()), (false, "refused: it belongs to user 65534, not to 0"), "also to root");
            // And one of root's, to a user.
            std::os::unix::fs::chown(file, Some(0), None).expect("the first owner");
            fs::set_permissions(file, PermissionsExt::from_mode(0o644)).expect("permissions");
            become_nobody();
            let found = Engine::builder().build().expect("an engine").path_info(std::env::temp_dir()).expect("info").profile;
            if found.device.is_some() {
                assert_eq!((found.used, found.reason.as_str()), (false, "refused: it belongs to user 0, not to 65534"));
            }
        });
    });
}

#[test]
fn profiles_are_off_where_the_program_or_its_user_says_so() {
    let place = directory();
    alone_with(profiles_in(place.path()), || {
        let file = std::env::var_os("DEEPRING_PROFILE").expect("set by the parent");
        let Some(device) = device_of(place.path()) else { return };
        write(Path::new(&file), &text_of(&device));
        for (builder, reason) in [
            (Engine::builder().profile(false), "the engine's options say so"),
            (Engine::builder().window(WindowMode::Fixed), "the window is fixed: nothing is searched for"),
        ] {
            let engine = builder.build().expect("an engine");
            let found = engine.path_info(place.path()).expect("info");
            assert_eq!(found.profile.reason, reason);
            assert_eq!((found.profile.used, found.profile.path, engine.info().profile.path), (false, None, None));
            assert_ne!(found.window.read.bytes, WINDOW);
        }
    });
}

#[test]
fn the_variable_off_and_a_user_without_a_home_have_no_profile() {
    alone(|| {
        // This process is alone, and has no other thread now.
        for (profile, reason) in [("off", "DEEPRING_PROFILE is 'off'"), ("", "neither XDG_CONFIG_HOME nor HOME names a directory")] {
            // SAFETY: no other thread reads the environment.
            unsafe { std::env::set_var("DEEPRING_PROFILE", profile) };
            for name in ["HOME", "XDG_CONFIG_HOME"] {
                // SAFETY: as above.
                unsafe { std::env::remove_var(name) };
            }
            let engine = Engine::builder().build().expect("an engine");
            let found = engine.info().profile;
            assert_eq!((found.used, found.path, found.reason.as_str()), (false, None, reason));
        }
    });
}

#[test]
fn a_device_without_a_serial_number_is_known_by_the_uuid_of_its_file_system() {
    with_mounts(|place| {
        const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
        let (image, at) = (place.join("image"), place.join("disk"));
        ext4_image(&image, 16 << 20, &["-U", UUID]);
        mount(&Loop::attach(&image).path, &at, "ext4", 0, "");
        let engine = Engine::builder().profile(false).build().expect("an engine");
        match engine.path_info(&at).expect("info").profile.device {
            Some(device) => assert_eq!(device, format!("UUID {UUID}")),
            None => skip("the kernel does not report the UUID of a file system"),
        }
    });
}
