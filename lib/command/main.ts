#!/usr/bin/env node
/** The command `deepring`: what `npx deepring` starts. */

import { main } from './run.ts'

void main(process.argv.slice(2))
