//! Plain objects for JavaScript. Their documentation is in `lib/core/record.ts` and
//! `lib/core/native.ts`.

use crate::checkpoints_detail::{BegunCheckpoint, Collected, Committed, LatestCheckpoint, OpenedCheckpoint, Reused};
use crate::failure::{Failure, MemberFailure};
use crate::swap_detail::{GroupLeased, SwapLeased};
use crate::tensors::OpenedTable;
use crate::tensors_detail::{Fresh, LoadedTensors, Saved, StreamGroup, Verified, WrittenSave};
use crate::whole::Replacing;
use deepring::{BackendKind, Engine, File, FileStat, WindowMode};
use napi::bindgen_prelude::*;
use napi_derive::napi;

/// A range that is not one: as it was given, or as it follows from those before it.
#[napi(object, object_from_js = false)]
#[derive(Clone)]
pub struct Refused {
    pub index: u32,
    pub position: Either<f64, BigInt>,
    pub length: Either<f64, BigInt>,
    pub offset: Either<f64, BigInt>,
}

/// What became of the ranges of a call.
#[napi(object, object_from_js = false)]
pub struct Many {
    /// Of a call that failed: its error.
    pub failure: Option<Failure>,
    /// The ranges that failed, in the order of their indices.
    pub failures: Vec<Failure>,
    /// The range for which the call was refused.
    pub refused: Option<Refused>,
    /// Bytes of each range, if they were asked for.
    pub counts: Option<Float64Array>,
    /// The same of their checksums.
    pub checksums: Option<Uint32Array>,
    /// Bytes that were read beside those of the ranges.
    pub overread: f64,
}

#[napi(object)]
pub struct Opened {
    pub file: u32,
    /// As it was when the file was opened; `Session.fileFlags` says what runs now.
    pub direct: bool,
    pub direct_reason: String,
    pub offset_alignment: u32,
    pub memory_alignment: u32,
    pub locks_reason: String,
}

impl Opened {
    pub fn of(number: u32, file: &File) -> Self {
        let support = file.direct_support();
        Self {
            file: number,
            direct: file.direct(),
            direct_reason: support.reason.clone(),
            offset_alignment: support.offset_alignment,
            memory_alignment: support.memory_alignment,
            locks_reason: file.process_locks().reason,
        }
    }
}

#[napi(object)]
pub struct Stat {
    pub size: BigInt,
    pub blocks: BigInt,
    pub block_size: u32,
    pub dev: BigInt,
    pub ino: BigInt,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime_ns: BigInt,
    pub mtime_ns: BigInt,
    pub ctime_ns: BigInt,
    pub birthtime_ns: BigInt,
}

impl From<FileStat> for Stat {
    fn from(stat: FileStat) -> Self {
        Self {
            size: stat.size.into(),
            blocks: stat.blocks.into(),
            block_size: stat.block_size,
            dev: stat.dev.into(),
            ino: stat.ino.into(),
            mode: stat.mode,
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            atime_ns: stat.atime_ns.into(),
            mtime_ns: stat.mtime_ns.into(),
            ctime_ns: stat.ctime_ns.into(),
            birthtime_ns: stat.birthtime_ns.into(),
        }
    }
}

#[napi(object)]
pub struct EngineConfig {
    #[napi(ts_type = "'uring' | 'threads'")]
    pub backend: Option<String>,
    pub queue_depth: Option<u32>,
    pub block_size: Option<f64>,
    pub in_flight_bytes: Option<f64>,
    #[napi(ts_type = "'auto' | 'fixed'")]
    pub window: Option<String>,
    pub max_queued: Option<f64>,
    pub threads: Option<u32>,
    pub profile: Option<bool>,
}

impl EngineConfig {
    pub fn build(&self) -> deepring::Result<Engine> {
        let mut builder = Engine::builder();
        match self.backend.as_deref() {
            Some("uring") => builder = builder.backend(BackendKind::Uring),
            Some("threads") => builder = builder.backend(BackendKind::Threads),
            _ => {}
        }
        if let Some(depth) = self.queue_depth {
            builder = builder.queue_depth(depth);
        }
        if let Some(bytes) = self.block_size {
            builder = builder.block_bytes(bytes as u64);
        }
        if let Some(bytes) = self.in_flight_bytes {
            builder = builder.in_flight_bytes(bytes as u64);
        }
        match self.window.as_deref() {
            Some("auto") => builder = builder.window(WindowMode::Auto),
            Some("fixed") => builder = builder.window(WindowMode::Fixed),
            _ => {}
        }
        if let Some(operations) = self.max_queued {
            builder = builder.max_queued(operations as u64);
        }
        if let Some(threads) = self.threads {
            builder = builder.threads(threads as usize);
        }
        if let Some(used) = self.profile {
            builder = builder.profile(used);
        }
        builder.build()
    }
}

#[napi(object)]
pub struct EngineLimits {
    pub queue_depth: u32,
    pub block_size: f64,
}

#[napi(object)]
pub struct HandleLimits {
    pub queue_depth: u32,
    pub block_size: f64,
    pub single_submit: bool,
    pub refill_when_empty: bool,
    pub priority: u32,
}

/// See `deepring::WindowSize`.
#[napi(object)]
pub struct WindowSize {
    pub bytes: f64,
    pub shared_bytes: f64,
    pub blocks: u32,
}

impl From<deepring::WindowSize> for WindowSize {
    fn from(size: deepring::WindowSize) -> Self {
        Self { bytes: size.bytes as f64, shared_bytes: size.shared_bytes as f64, blocks: size.blocks }
    }
}

/// See `deepring::DeviceWindow`.
#[napi(object)]
pub struct DeviceWindow {
    pub device: String,
    pub read: WindowSize,
    pub write: WindowSize,
}

impl From<deepring::DeviceWindow> for DeviceWindow {
    fn from(window: deepring::DeviceWindow) -> Self {
        Self { device: window.device, read: window.read.into(), write: window.write.into() }
    }
}

/// See `deepring::ProfileInfo`.
#[napi(object)]
pub struct ProfileInfo {
    pub device: Option<String>,
    pub path: Option<String>,
    pub used: bool,
    pub reason: String,
}

impl From<deepring::ProfileInfo> for ProfileInfo {
    fn from(profile: deepring::ProfileInfo) -> Self {
        let path = profile.path.map(|path| path.to_string_lossy().into_owned());
        Self { device: profile.device, path, used: profile.used, reason: profile.reason }
    }
}

#[napi(object)]
pub struct PathInfo {
    pub path: String,
    pub device: String,
    pub device_requests: u32,
    pub queue_depth: u32,
    pub window: DeviceWindow,
    pub file_system: String,
    pub direct: bool,
    pub direct_reason: String,
    pub offset_alignment: u32,
    pub memory_alignment: u32,
    pub locks: bool,
    pub locks_reason: String,
    pub profile: ProfileInfo,
}

#[napi(object)]
pub struct Info {
    #[napi(ts_type = "'uring' | 'threads'")]
    pub backend: String,
    pub reason: String,
    pub kernel: String,
    pub flags: Vec<String>,
    pub ring_entries: u32,
    pub memlock_bytes: f64,
    #[napi(ts_type = "'always' | 'madvise' | 'never' | 'unknown'")]
    pub huge_pages: String,
    pub queue_depth: u32,
    pub block_size: f64,
    pub in_flight_bytes: f64,
    #[napi(ts_type = "'auto' | 'fixed'")]
    pub window: String,
    pub max_queued: f64,
    pub threads: u32,
    pub version: String,
    pub profile: ProfileInfo,
    pub path: Option<PathInfo>,
}

impl Info {
    pub fn of(engine: &Engine, found: Option<(std::path::PathBuf, deepring::PathInfo)>) -> Self {
        let info = engine.info();
        let path = found.map(|(path, found)| PathInfo {
            path: path.to_string_lossy().into_owned(),
            device: found.device,
            device_requests: found.device_requests,
            queue_depth: found.queue_depth,
            window: found.window.into(),
            file_system: found.file_system,
            direct: found.direct_io.available,
            direct_reason: found.direct_io.reason,
            offset_alignment: found.direct_io.offset_alignment,
            memory_alignment: found.direct_io.memory_alignment,
            locks: found.process_locks.available,
            locks_reason: found.process_locks.reason,
            profile: found.profile.into(),
        });
        Self {
            backend: info.backend.as_str().to_owned(),
            reason: info.reason,
            kernel: info.kernel,
            flags: info.flags.iter().map(|&flag| flag.to_owned()).collect(),
            ring_entries: info.ring_entries,
            memlock_bytes: info.memlock_bytes.map_or(-1.0, |bytes| bytes as f64),
            huge_pages: info.huge_pages.as_str().to_owned(),
            queue_depth: info.queue_depth.unwrap_or(deepring::QUEUE_DEPTH_DEFAULT),
            block_size: info.block_bytes as f64,
            in_flight_bytes: info.in_flight_bytes as f64,
            window: if info.window == WindowMode::Auto { "auto" } else { "fixed" }.to_owned(),
            max_queued: info.max_queued as f64,
            threads: info.threads as u32,
            profile: info.profile.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path,
        }
    }
}

macro_rules! latency {
    ($($name:ident,)*) => {
        #[napi(object)]
        pub struct LatencyStats { $(pub $name: f64,)* }

        /// Of one class.
        #[napi(object)]
        pub struct ClassLatency { $(pub $name: f64,)* pub sum_us: f64, pub up_to_us: Vec<f64>, pub counts: Vec<f64> }

        impl From<&deepring::LatencySummary> for LatencyStats {
            fn from(summary: &deepring::LatencySummary) -> Self {
                Self { $($name: summary.$name as f64,)* }
            }
        }

        impl From<&deepring::LatencyHistogram> for ClassLatency {
            fn from(histogram: &deepring::LatencyHistogram) -> Self {
                let (up_to_us, counts) = histogram.buckets.iter().map(|&(top, count)| (top as f64, count as f64)).unzip();
                Self { $($name: histogram.summary.$name as f64,)* sum_us: histogram.sum_us as f64, up_to_us, counts }
            }
        }
    };
}

latency! { count, min_us, max_us, mean_us, p50_us, p90_us, p99_us, p999_us, }

/// By the names of the classes.
#[napi(object)]
pub struct ClassLatencies {
    pub latency: ClassLatency,
    pub throughput: ClassLatency,
    pub background: ClassLatency,
}

impl From<&deepring::Stats> for ClassLatencies {
    fn from(stats: &deepring::Stats) -> Self {
        // In the order of `Priority::ALL`.
        let [latency, throughput, background] = [0, 1, 2].map(|class| ClassLatency::from(&stats.classes[class]));
        Self { latency, throughput, background }
    }
}

macro_rules! stats {
    ($($name:ident,)*) => {
        #[napi(object)]
        pub struct Stats { $(pub $name: f64,)* pub latency: LatencyStats, pub classes: ClassLatencies, pub windows: Vec<DeviceWindow> }

        impl From<deepring::Stats> for Stats {
            fn from(stats: deepring::Stats) -> Self {
                Self {
                    $($name: stats.$name as f64,)*
                    latency: LatencyStats::from(&stats.latency),
                    classes: ClassLatencies::from(&stats),
                    windows: stats.windows.into_iter().map(DeviceWindow::from).collect(),
                }
            }
        }
    };
}

stats! {
    submitted, completed, failed, canceled, resumed, retried, bounced_bytes, punted, downgraded, leaked, leaked_bytes, read_bytes,
    written_bytes, in_flight, in_flight_max, in_flight_bytes, in_flight_bytes_max, queued, buffers, buffer_bytes,
    pooled_bytes, panics,
}

/// What a record with a detail carries.
pub enum Detail {
    Failure(Failure),
    /// Of a group, in the order of the indices.
    Failures(Vec<MemberFailure>),
    /// Of a call with many ranges.
    Many(Box<Many>),
    /// An open file that JavaScript has no number for yet.
    File(File),
    Opened(Opened),
    Stat(Stat),
    /// Of the chunks of a file.
    Checksums(Vec<u32>),
    Info(Box<Info>),
    /// Something of the tensors that JavaScript has no number for yet.
    Fresh(Box<Fresh>),
    Table(Box<OpenedTable>),
    Loaded(Box<LoadedTensors>),
    Group(Box<StreamGroup>),
    Verified(Box<Verified>),
    Written(WrittenSave),
    Saved(Saved),
    Begun(BegunCheckpoint),
    Checkpoint(Box<OpenedCheckpoint>),
    Latest(Box<LatestCheckpoint>),
    Reused(Reused),
    Committed(Committed),
    Collected(Collected),
    SwapLeases(Vec<SwapLeased>),
    GroupLeased(GroupLeased),
    /// Of generations, or where parts of a file begin and end.
    Numbers(Vec<f64>),
    /// Of what has been registered.
    Number(u32),
    Replacing(Box<Replacing>),
}

impl ToNapiValue for Detail {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> Result<sys::napi_value> {
        match value {
            // SAFETY: the environment is the caller's; the conversion is derived code.
            Self::Failure(failure) => unsafe { Failure::to_napi_value(env, failure) },
            // SAFETY: as above.
            Self::Failures(failures) => unsafe { Vec::to_napi_value(env, failures) },
            // SAFETY: as above.
            Self::Many(many) => unsafe { Many::to_napi_value(env, *many) },
            // SAFETY: as above.
            Self::Opened(opened) => unsafe { Opened::to_napi_value(env, opened) },
            Self::File(_) => Err(Error::from_reason("a file without a number")),
            // SAFETY: as above.
            Self::Stat(stat) => unsafe { Stat::to_napi_value(env, stat) },
            // SAFETY: as above.
            Self::Checksums(sums) => unsafe { Uint32Array::to_napi_value(env, Uint32Array::new(sums)) },
            // SAFETY: as above.
            Self::Info(info) => unsafe { Info::to_napi_value(env, *info) },
            Self::Fresh(_) => Err(Error::from_reason("a value without a number")),
            // SAFETY: as above.
            Self::Table(table) => unsafe { OpenedTable::to_napi_value(env, *table) },
            // SAFETY: as above.
            Self::Loaded(loaded) => unsafe { LoadedTensors::to_napi_value(env, *loaded) },
            // SAFETY: as above.
            Self::Group(group) => unsafe { StreamGroup::to_napi_value(env, *group) },
            // SAFETY: as above.
            Self::Verified(verified) => unsafe { Verified::to_napi_value(env, *verified) },
            // SAFETY: as above.
            Self::Written(written) => unsafe { WrittenSave::to_napi_value(env, written) },
            // SAFETY: as above.
            Self::Saved(saved) => unsafe { Saved::to_napi_value(env, saved) },
            // SAFETY: as above.
            Self::Begun(begun) => unsafe { BegunCheckpoint::to_napi_value(env, begun) },
            // SAFETY: as above.
            Self::Checkpoint(checkpoint) => unsafe { OpenedCheckpoint::to_napi_value(env, *checkpoint) },
            // SAFETY: as above.
            Self::Latest(latest) => unsafe { LatestCheckpoint::to_napi_value(env, *latest) },
            // SAFETY: as above.
            Self::Reused(reused) => unsafe { Reused::to_napi_value(env, reused) },
            // SAFETY: as above.
            Self::Committed(committed) => unsafe { Committed::to_napi_value(env, committed) },
            // SAFETY: as above.
            Self::Collected(collected) => unsafe { Collected::to_napi_value(env, collected) },
            // SAFETY: as above.
            Self::SwapLeases(leases) => unsafe { Vec::to_napi_value(env, leases) },
            // SAFETY: as above.
            Self::GroupLeased(leased) => unsafe { GroupLeased::to_napi_value(env, leased) },
            // SAFETY: as above.
            Self::Numbers(numbers) => unsafe { Float64Array::to_napi_value(env, Float64Array::new(numbers)) },
            // SAFETY: as above.
            Self::Number(number) => unsafe { u32::to_napi_value(env, number) },
            // SAFETY: as above.
            Self::Replacing(replacing) => unsafe { Replacing::to_napi_value(env, *replacing) },
        }
    }
}
