/** Whether fio is installed, and in which version. */
export type FioState = { readonly version: string } | { readonly missing: string }
