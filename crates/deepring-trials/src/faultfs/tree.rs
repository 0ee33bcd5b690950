//! The files and directories of the fault file system: names in memory, content in unnamed files on
//! the backing file system.
//!
//! Nothing needs cleaning up, however the server ends. A file that lost its last name stays until
//! the kernel forgets it. Inode numbers are never reused, not even by the next server: here only
//! the numbers and the device distinguish two files.

use fuser::{Errno, FileAttr, FileType, INodeNo};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(super) enum Content {
    File(Arc<File>),
    Directory(BTreeMap<OsString, u64>),
}

#[derive(Debug)]
struct Node {
    content: Content,
    parent: u64,
    permissions: u16,
    owner: (u32, u32),
    has_name: bool,
    /// Lookups the kernel was given, less those it forgot.
    known: u64,
    /// `stat` reports [`TWIN`] for its number, as for every other twin.
    is_twin: bool,
}

/// The number that all files whose name begins with `twin` report, as unions of several file
/// systems do: the nodes are different ones.
const TWIN: u64 = 4242;

#[derive(Debug)]
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    backing: PathBuf,
}

impl Tree {
    /// An empty tree whose files take their space in `backing`.
    pub(super) fn new(backing: PathBuf) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64);
        let root = Node {
            content: Content::Directory(BTreeMap::new()),
            parent: 1,
            permissions: 0o755,
            owner: (0, 0),
            has_name: true,
            known: 1,
            is_twin: false,
        };
        Self { nodes: HashMap::from([(INodeNo::ROOT.0, root)]), next: now | 1 << 62, backing }
    }

    pub(super) fn file(&self, number: u64) -> Result<Arc<File>, Errno> {
        match &self.node(number)?.content {
            Content::File(file) => Ok(Arc::clone(file)),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }

    /// The number of the entry `name`, which is about to be given to the kernel.
    pub(super) fn look_up(&mut self, parent: u64, name: &OsStr) -> Result<u64, Errno> {
        let number = *self.entries(parent)?.get(name).ok_or(Errno::ENOENT)?;
        self.node_mut(number)?.known += 1;
        Ok(number)
    }

    /// The kernel has forgotten `times` lookups.
    pub(super) fn forget(&mut self, number: u64, times: u64) {
        let Some(node) = self.nodes.get_mut(&number) else { return };
        node.known = node.known.saturating_sub(times);
        if node.known == 0 && !node.has_name {
            self.nodes.remove(&number);
        }
    }

    pub(super) fn create(&mut self, parent: u64, name: &OsStr, kind: FileType, mode: u32, owner: (u32, u32)) -> Result<u64, Errno> {
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let content = match kind {
            FileType::Directory => Content::Directory(BTreeMap::new()),
            _ => Content::File(Arc::new(tempfile::tempfile_in(&self.backing)?)),
        };
        let number = self.next;
        self.next += 1;
        let is_twin = name.as_encoded_bytes().starts_with(b"twin");
        let node = Node { content, parent, permissions: (mode & 0o7777) as u16, owner, has_name: true, known: 1, is_twin };
        self.nodes.insert(number, node);
        self.entries_mut(parent)?.insert(name.to_owned(), number);
        Ok(number)
    }

    pub(super) fn remove(&mut self, parent: u64, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let number = *self.entries(parent)?.get(name).ok_or(Errno::ENOENT)?;
        match &self.node(number)?.content {
            Content::Directory(entries) if directory && !entries.is_empty() => return Err(Errno::ENOTEMPTY),
            Content::Directory(_) if !directory => return Err(Errno::EISDIR),
            Content::File(_) if directory => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.entries_mut(parent)?.remove(name);
        self.node_mut(number)?.has_name = false;
        self.forget(number, 0);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), replaces: bool) -> Result<(), Errno> {
        let number = *self.entries(from.0)?.get(from.1).ok_or(Errno::ENOENT)?;
        let is_directory = matches!(self.node(number)?.content, Content::Directory(_));
        match self.entries(to.0)?.get(to.1) {
            Some(&same) if same == number => return Ok(()),
            Some(_) if !replaces => return Err(Errno::EEXIST),
            Some(_) => self.remove(to.0, to.1, is_directory)?,
            None => {}
        }
        self.entries_mut(from.0)?.remove(from.1);
        self.entries_mut(to.0)?.insert(to.1.to_owned(), number);
        self.node_mut(number)?.parent = to.0;
        Ok(())
    }

    /// What is in a directory: number, kind and name.
    pub(super) fn list(&self, number: u64) -> Result<Vec<(u64, FileType, OsString)>, Errno> {
        let own = [(number, ".".into()), (self.node(number)?.parent, "..".into())];
        let entries = self.entries(number)?.iter().map(|(name, &number)| (number, name.clone()));
        own.into_iter().chain(entries).map(|(number, name)| Ok((number, self.kind(number)?, name))).collect()
    }

    pub(super) fn set_permissions(&mut self, number: u64, mode: u32) -> Result<(), Errno> {
        self.node_mut(number)?.permissions = (mode & 0o7777) as u16;
        Ok(())
    }

    pub(super) fn attributes(&self, number: u64) -> Result<FileAttr, Errno> {
        let node = self.node(number)?;
        let (size, blocks, changed) = match &node.content {
            Content::File(file) => {
                let metadata = file.metadata()?;
                (metadata.len(), std::os::unix::fs::MetadataExt::blocks(&metadata), metadata.modified()?)
            }
            Content::Directory(_) => (0, 0, UNIX_EPOCH),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks,
            atime: changed,
            mtime: changed,
            ctime: changed,
            crtime: UNIX_EPOCH,
            kind: self.kind(number)?,
            perm: node.permissions,
            nlink: u32::from(node.has_name),
            uid: node.owner.0,
            gid: node.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// What `stat` is to report.
    pub(super) fn reported(&self, number: u64) -> Result<FileAttr, Errno> {
        let attributes = self.attributes(number)?;
        Ok(if self.node(number)?.is_twin { FileAttr { ino: INodeNo(TWIN), ..attributes } } else { attributes })
    }

    fn kind(&self, number: u64) -> Result<FileType, Errno> {
        Ok(match self.node(number)?.content {
            Content::File(_) => FileType::RegularFile,
            Content::Directory(_) => FileType::Directory,
        })
    }

    fn node(&self, number: u64) -> Result<&Node, Errno> {
        self.nodes.get(&number).ok_or(Errno::ENOENT)
    }

    fn node_mut(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    fn entries(&self, number: u64) -> Result<&BTreeMap<OsString, u64>, Errno> {
        match &self.node(number)?.content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn entries_mut(&mut self, number: u64) -> Result<&mut BTreeMap<OsString, u64>, Errno> {
        match &mut self.node_mut(number)?.content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }
}
