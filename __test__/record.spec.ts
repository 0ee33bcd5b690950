/** What crosses to the binding and back means the same on both sides. */

import test from 'ava'
import type * as generated from '../binding.cjs'
import type { Info, Stats } from '../index.ts'
import { load } from '../lib/core/load.ts'
import {
  DIRECT,
  FIELD,
  FLAG,
  MANY,
  MANY_FLAG,
  MANY_NUMBERS,
  NUMBERS,
  OPEN,
  PRIORITY,
  RECORD,
  SCALE,
  STAGED,
  STAGED_FLAG,
  STAGED_NUMBERS,
  STATUS,
  type Failure,
  type Many,
  type Opened,
  type OpenedShared,
  type Refused,
  type ReplaceRequest,
  type Replacing,
  type Stat,
} from '../lib/core/record.ts'

import type {
  BeginRequest,
  BegunCheckpoint,
  Collected,
  Committed,
  LatestCheckpoint,
  OpenedCheckpoint,
  Reused,
} from '../lib/core/checkpoints.ts'
import type {
  GroupLeased,
  SwapLeased,
  SwapperRequest,
  SwapperStatistics,
  SwapPutRequest,
  SwapRequest,
  SwapStatistics,
  SwapTensor,
} from '../lib/core/swaps.ts'
import type {
  LoadedTensors,
  OpenedTable,
  Saved,
  SaveRequest,
  Selected,
  StreamGroup,
  TableRow,
  TableRows,
  TensorColumns,
  Texts,
  Verified,
  WrittenSave,
} from '../lib/core/tensors.ts'

/** Compiles only if an object of the binding can be used as what the facade declares. */
type Fits<Generated extends Declared, Declared> = Generated

// Details cross as `unknown`, so that the published declarations do not lead to the binding's.
export type Details = [
  Fits<generated.Failure, Failure>,
  Fits<generated.Many, Many>,
  Fits<generated.Refused, Refused>,
  Fits<generated.Opened, Opened>,
  Fits<generated.OpenedShared, OpenedShared>,
  Fits<generated.Stat, Stat>,
  Fits<generated.Replacing, Replacing>,
  Fits<ReplaceRequest, generated.ReplaceRequest>,
  // The facade adds what the binding's file says of itself.
  Fits<generated.Info, Omit<Info, 'libc'>>,
  Fits<generated.Stats, Stats>,
  Fits<generated.OpenedTable, OpenedTable>,
  Fits<generated.TableRow, TableRow>,
  Fits<generated.TableRows, TableRows>,
  Fits<generated.Texts, Texts>,
  Fits<generated.Selected, Selected>,
  Fits<generated.LoadedTensors, LoadedTensors>,
  Fits<generated.StreamGroup, StreamGroup>,
  Fits<generated.WrittenSave, WrittenSave>,
  Fits<generated.Saved, Saved>,
  Fits<generated.Verified, Verified>,
  Fits<SaveRequest, generated.SaveRequest>,
  Fits<TensorColumns, generated.TensorColumns>,
  Fits<BeginRequest, generated.BeginRequest>,
  Fits<generated.BegunCheckpoint, BegunCheckpoint>,
  Fits<generated.OpenedCheckpoint, OpenedCheckpoint>,
  Fits<generated.LatestCheckpoint, LatestCheckpoint>,
  Fits<generated.Reused, Reused>,
  Fits<generated.Committed, Committed>,
  Fits<generated.Collected, Collected>,
  Fits<SwapRequest, generated.SwapRequest>,
  Fits<SwapPutRequest, generated.SwapPutRequest>,
  Fits<generated.SwapLeased, SwapLeased>,
  Fits<generated.SwapTensor, SwapTensor>,
  Fits<generated.SwapStatistics, SwapStatistics>,
  Fits<SwapperRequest, generated.SwapperRequest>,
  Fits<generated.GroupLeased, GroupLeased>,
  Fits<generated.SwapperStatistics, SwapperStatistics>,
]

test('the layout of a record is the same in the binding', (t) => {
  t.deepEqual(new (load().Session)().layout(), {
    field: FIELD,
    status: STATUS,
    flag: FLAG,
    scale: SCALE,
    staged: STAGED,
    stagedFlag: STAGED_FLAG,
    many: MANY,
    manyFlag: MANY_FLAG,
    numbers: NUMBERS,
    open: OPEN,
    direct: DIRECT,
    priority: PRIORITY,
  } as never)
  t.is(Object.keys(FIELD).length, RECORD)
  t.is(Object.keys(STAGED).length, STAGED_NUMBERS)
  t.is(Object.keys(MANY).length, MANY_NUMBERS)
})
