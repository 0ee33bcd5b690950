/** What is done with files. `sync` is a new file that is on the disk when the region ends. */
export type Task = 'read' | 'overwrite' | 'new' | 'sync'
