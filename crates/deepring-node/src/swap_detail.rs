//! What swap stores and optimizer swappers report, as JavaScript gets it.

use deepring_tensors::DType;
use deepring_tensors::swap::{OptimizerStats, SwapInfo, SwapLease, SwapState, SwapStats};
use napi_derive::napi;
use std::time::Duration;

/// A lease that was given.
#[napi(object, object_from_js = false)]
pub struct SwapLeased {
    pub lease: u32,
    /// Absent: a type that only the table of the store knows.
    pub dtype: Option<String>,
    pub shape: Vec<f64>,
    pub bytes: f64,
}

impl SwapLeased {
    /// Without its number.
    pub fn of(lease: &SwapLease) -> Self {
        Self { lease: 0, dtype: lease.dtype().map(name), shape: extents(lease.shape()), bytes: lease.bytes().len() as f64 }
    }
}

fn name(dtype: DType) -> String {
    dtype.name().to_owned()
}

fn extents(shape: &[u64]) -> Vec<f64> {
    shape.iter().map(|&extent| extent as f64).collect()
}

/// What a store says of a tensor.
#[napi(object, object_from_js = false)]
pub struct SwapTensor {
    pub dtype: Option<String>,
    pub shape: Vec<f64>,
    pub bytes: f64,
    #[napi(ts_type = "'stored' | 'reading' | 'resident' | 'dirty' | 'writing' | 'leased'")]
    pub state: String,
}

impl From<SwapInfo> for SwapTensor {
    fn from(info: SwapInfo) -> Self {
        let state = match info.state {
            SwapState::Reading => "reading",
            SwapState::Resident => "resident",
            SwapState::Dirty => "dirty",
            SwapState::Writing => "writing",
            SwapState::Leased => "leased",
            _ => "stored",
        };
        Self { dtype: info.dtype.map(name), shape: extents(&info.shape), bytes: info.len as f64, state: state.to_owned() }
    }
}

/// See `deepring_tensors::swap::SwapStats`.
#[napi(object, object_from_js = false)]
pub struct SwapStatistics {
    pub memory: f64,
    pub used: f64,
    pub resident: f64,
    pub reading: f64,
    pub dirty: f64,
    pub leased: f64,
    pub used_max: f64,
    pub capacity: f64,
    pub stored: f64,
    pub adopted: f64,
    pub read: f64,
    pub written: f64,
    pub joined: f64,
    pub hits: f64,
    pub misses: f64,
    pub prefetched: f64,
    pub prefetch_hits: f64,
    pub expired: f64,
    pub evicted: f64,
}

impl From<SwapStats> for SwapStatistics {
    fn from(stats: SwapStats) -> Self {
        Self {
            memory: stats.memory as f64,
            used: stats.used as f64,
            resident: stats.resident as f64,
            reading: stats.reading as f64,
            dirty: stats.dirty as f64,
            leased: stats.leased as f64,
            used_max: stats.used_max as f64,
            capacity: stats.capacity as f64,
            stored: stats.stored as f64,
            adopted: stats.adopted as f64,
            read: stats.read as f64,
            written: stats.written as f64,
            joined: stats.joined as f64,
            hits: stats.hits as f64,
            misses: stats.misses as f64,
            prefetched: stats.prefetched as f64,
            prefetch_hits: stats.prefetch_hits as f64,
            expired: stats.expired as f64,
            evicted: stats.evicted as f64,
        }
    }
}

/// A lease of a group that was given.
#[napi(object, object_from_js = false)]
pub struct GroupLeased {
    pub lease: u32,
    pub group: String,
}

/// See `deepring_tensors::swap::OptimizerStats`.
#[napi(object, object_from_js = false)]
pub struct SwapperStatistics {
    pub memory: f64,
    pub used: f64,
    pub used_max: f64,
    pub depth: f64,
    pub read: f64,
    pub written: f64,
    pub leases: f64,
    pub read_ms: f64,
    pub write_ms: f64,
    pub io_ms: f64,
    pub compute_ms: f64,
    pub stall_ms: f64,
    pub overlap: f64,
}

impl From<OptimizerStats> for SwapperStatistics {
    fn from(stats: OptimizerStats) -> Self {
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        Self {
            memory: stats.memory as f64,
            used: stats.used as f64,
            used_max: stats.used_max as f64,
            depth: stats.depth as f64,
            read: stats.read as f64,
            written: stats.written as f64,
            leases: stats.leases as f64,
            read_ms: ms(stats.read_time),
            write_ms: ms(stats.write_time),
            io_ms: ms(stats.io_time),
            compute_ms: ms(stats.compute_time),
            stall_ms: ms(stats.stall_time),
            overlap: stats.overlap(),
        }
    }
}
