//! [`Tensor`]: the bytes of a tensor in engine memory. [`TensorMap`]: those of many.

use crate::budget::Permit;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::plan::{Place, Plan};
use crate::read::LoadReceipt;
use crate::table::Selection;
use crate::tensors::Tensors;
use deepring::SharedBuffer;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Engine memory that several tensors share, and its place in a budget.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) bytes: SharedBuffer,
    pub(crate) permit: Option<Permit>,
}

/// A tensor, or a slice of one, in engine memory. Its memory is that of its group, which is returned with the last tensor in
/// it. Its bytes begin at an address that suits its elements.
#[derive(Clone)]
pub struct Tensor {
    tensors: Tensors,
    index: usize,
    shape: Vec<usize>,
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl Tensor {
    /// Its name.
    pub fn name(&self) -> &str {
        self.tensors.table().columns.names.get(self.index)
    }

    /// Its element type. `None` if this crate does not know it.
    pub fn dtype(&self) -> Option<DType> {
        self.tensors.table().columns.dtype(self.index)
    }

    /// The name of its element type.
    pub fn dtype_name(&self) -> &str {
        self.tensors.table().columns.dtype_name(self.index)
    }

    /// Its extents, outermost first; of a slice, those of the slice.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements, row by row, as they are in the file: little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes[self.range.clone()]
    }

    /// The same bytes as a buffer that can be written by [`deepring::File`] without a copy.
    pub fn to_buffer(&self) -> SharedBuffer {
        self.memory.bytes.slice(self.range.clone())
    }

    /// Moves a tensor of a stream out of its group into memory of its own, which counts against the budget until the last
    /// clone is dropped. Copies its bytes, unless it has its group for itself.
    ///
    /// # Errors
    /// [`Error::Budget`] if the budget has no room for it; no memory.
    pub fn keep(self) -> Result<Self> {
        let len = self.range.len();
        let Some(permit) = &self.memory.permit else { return Ok(self) };
        if permit.bytes() <= len as u64 {
            return Ok(self);
        }
        let permit = permit.another(len as u64).map_err(|budget| Error::Budget {
            needed: len as u64,
            budget,
            tensor: Some(self.name().to_owned()),
        })?;
        let mut own = self.tensors.engine().pooled_buffer(len)?;
        own.copy_from_slice(self.bytes());
        let memory = Arc::new(Memory { bytes: own.freeze(), permit: Some(permit) });
        Ok(Self { memory, range: 0..len, ..self })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({:?}, {} {:?})", self.name(), self.dtype_name(), self.shape)
    }
}

/// Tensors that were loaded together, by name. A [`Tensor`] is made when it is asked for.
#[derive(Debug)]
pub struct TensorMap {
    pub(crate) tensors: Tensors,
    pub(crate) selection: Selection,
    pub(crate) plan: Arc<Plan>,
    pub(crate) groups: Vec<Arc<Memory>>,
    pub(crate) receipt: LoadReceipt,
}

impl TensorMap {
    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.selection.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.selection.is_empty()
    }

    /// How they were loaded.
    pub fn receipt(&self) -> LoadReceipt {
        self.receipt
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<Tensor> {
        let index = self.tensors.table().find(name)?;
        // The selection is in the order of the table.
        let nth = self.selection.indices.binary_search(&(index as u32)).ok()?;
        Some(self.nth(nth))
    }

    /// All of them, in the order of their bytes.
    pub fn iter(&self) -> impl Iterator<Item = Tensor> + '_ {
        (0..self.len()).map(|nth| self.nth(nth))
    }

    fn nth(&self, nth: usize) -> Tensor {
        let place = self.plan.places[nth];
        tensor_at(&self.tensors, &self.plan, self.selection.indices[nth], place, &self.groups[place.group as usize])
    }
}

/// The tensor of this index at its place.
pub(crate) fn tensor_at(tensors: &Tensors, plan: &Plan, index: u32, place: Place, memory: &Arc<Memory>) -> Tensor {
    let (shape, len) = extent(tensors, plan, index);
    let start = place.offset as usize;
    let memory = Arc::clone(memory);
    let shape = shape.into_iter().map(|extent| extent as usize).collect();
    Tensor { tensors: tensors.clone(), index: index as usize, shape, memory, range: start..start + len as usize }
}

/// The shape and bytes of a tensor, or of its slice.
pub(crate) fn extent(tensors: &Tensors, plan: &Plan, index: u32) -> (Vec<u64>, u64) {
    let columns = &tensors.table().columns;
    match plan.sliced.get(&index) {
        Some(runs) => (runs.shape.clone(), runs.bytes()),
        None => (columns.shapes.get(index as usize).collect(), columns.lens[index as usize]),
    }
}

/// The reference crate can save tensors. One of a type that it does not know is bytes to it.
#[cfg(feature = "safetensors")]
impl safetensors::View for &Tensor {
    fn dtype(&self) -> safetensors::Dtype {
        let known = |dtype: DType| serde_json::from_str(&format!("\"{dtype}\"")).ok();
        Tensor::dtype(self).and_then(known).unwrap_or(safetensors::Dtype::U8)
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.bytes().into()
    }

    fn data_len(&self) -> usize {
        self.range.len()
    }
}
