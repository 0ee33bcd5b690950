/// <reference types="node" preserve="true" />
/**
 * Tensors in files: `deepring/safetensors`.
 *
 * Opens safetensors files of any size, one or several, and loads or streams them at the drive's own speed: by name, by
 * pattern, by slice, within a budget of memory. Saves so that nothing is ever destroyed. {@link tensorTable} does the same for
 * files of any other format, whose tensors another parser has found. docs/safetensors.md is the guide.
 *
 * @packageDocumentation
 */

export type { Declaration } from './columns.ts'
export { convertTensor, type ConvertedDType, type ConvertOptions } from './convert.ts'
export { SafetensorsFile } from './file.ts'
export type { TensorInfo } from './info.ts'
export type { LoadOptions, TensorOptions } from './load.ts'
export { TensorMap, type LoadReceipt } from './map.ts'
export { openSafetensors, tensorTable, type OpenSafetensorsOptions, type TableOptions, type TensorRow } from './open.ts'
export type { SaveReceipt, WriterOptions } from './save-options.ts'
export { saveSafetensors, type SaveOptions } from './save.ts'
export { Selection, type Choice } from './selection.ts'
export type { Slice } from './slices.ts'
export type { StreamOptions } from './stream.ts'
export { TensorTable, type Damage, type Verification, type VerifyOptions } from './table.ts'
export { FileTensor, type AnyTensor } from './tensor.ts'
export { SafetensorsWriter, type WriteTensorOptions } from './writer.ts'
export type { OnProgress, Progress } from '../core/progress.ts'
