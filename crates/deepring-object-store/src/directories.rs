//! Directories that are made for an object, and flushed so that they stay.

use deepring::{Directory, Result};
use std::path::Path;

/// The mode of a directory, less the umask.
const MODE: u32 = 0o777;

/// Opens a directory, and makes it first if it is missing, with those above it. With `synced`, each that was made is there
/// after a power failure. Blocks.
///
/// # Errors
/// Those of [`Directory::open`] and [`Directory::make_directory`]: `ENOTDIR` if something above it is no directory.
pub(crate) fn open_made(path: &Path, synced: bool) -> Result<Directory> {
    let missing = match Directory::open(path) {
        Err(error) if error.errno() == Some(libc::ENOENT) => error,
        opened => return opened,
    };
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Err(missing) };
    let above = open_made(above, synced)?;
    match above.make_directory(name, MODE) {
        // Another call was faster.
        Err(error) if error.errno() == Some(libc::EEXIST) => Directory::open(path),
        Err(error) => Err(error),
        Ok(made) => {
            if synced {
                above.sync()?;
            }
            Ok(made)
        }
    }
}
