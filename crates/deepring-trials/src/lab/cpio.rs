//! Writes the archive that a kernel unpacks into its first file system: cpio in the "newc" format,
//! uncompressed.
//!
//! Format: <https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>. Every header is
//! 110 bytes of ASCII, and names and contents are padded to four bytes.

use std::io::{self, Write};

/// The format neither truncates nor checks names, so the writer refuses those the kernel would
/// (`PATH_MAX`).
const NAME_BYTES_MAX: usize = 4095;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive being written. [`Archive::finish`] ends it; without the end the kernel treats it as
/// corrupt.
#[derive(Debug)]
pub struct Archive<W: Write> {
    out: W,
    entries: u32,
}

struct Entry<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    content: &'a [u8],
}

impl<W: Write> Archive<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// A directory, which must come before its entries.
    ///
    /// # Errors
    /// Those of the writer; a name too long.
    pub fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(&Entry { name, mode: DIRECTORY | 0o755, device: (0, 0), content: &[] })
    }

    /// A file with these permissions and this content.
    ///
    /// # Errors
    /// Those of the writer; a name too long, or a content of 4 GiB or more, which the format cannot
    /// represent.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entry(&Entry { name, mode: REGULAR | permissions, device: (0, 0), content })
    }

    /// A character device, such as the console that the kernel opens for the first process.
    ///
    /// # Errors
    /// As for [`Archive::directory`].
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(&Entry { name, mode: CHARACTER_DEVICE | 0o600, device: (major, minor), content: &[] })
    }

    /// Ends the archive and returns the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(&Entry { name: "TRAILER!!!", mode: 0, device: (0, 0), content: &[] })?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let Entry { name, mode, device: (major, minor), content } = *entry;
        let refuse = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?}: {what}")));
        if name.len() > NAME_BYTES_MAX {
            return refuse("the name is too long");
        }
        let Ok(len) = u32::try_from(content.len()) else { return refuse("the content is too long") };
        self.entries += 1;
        // inode, mode, uid, gid, links, mtime, size, device of the file system (2), device (2),
        // length of the name with its NUL, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, len, 0, 0, major, minor, name.len() as u32 + 1, 0];
        let mut header = String::from("070701");
        header.extend(fields.map(|field| format!("{field:08x}")));
        header += name;
        self.padded(header.as_bytes(), 1)?;
        self.padded(content, 0)
    }

    /// Writes bytes, at least `zeros` zeros, and zeros up to a multiple of four.
    fn padded(&mut self, bytes: &[u8], zeros: usize) -> io::Result<()> {
        let len = bytes.len() + zeros;
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 8][..len.next_multiple_of(4) - bytes.len()])
    }
}
