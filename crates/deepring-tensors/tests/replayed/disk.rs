//! [`Replay`]: the disk after each call of a record, as a process that goes on sees it, and as a power cut can leave it.
//!
//! A cut follows POSIX, as the replay of one replaced file does in `deepring` (`src/replacement/replay.rs`). That one knows each
//! write and mode of its file; here are many files and directories, and what matters of a file is whether it is whole.
//!
//! * A name is safe once its directory was flushed afterwards. Before that, each change of a name can be there or not, whatever
//!   became of the others. A rename is one change.
//! * The bytes of a file are safe once it was flushed. Before that, it can be empty, all zeros, half there, or whole.

use crate::harness::names_in;
use deepring::sim::Recorded;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file or directory, whatever its names.
type Node = usize;

/// The directories of a disk, and what they have. What is not among them is a file.
#[derive(Debug, Clone, Default)]
struct Tree(HashMap<Node, BTreeMap<OsString, Node>>);

/// The directory of the record.
const ROOT: Node = 0;

/// A change of the names in one directory: the old name goes, the new one comes.
#[derive(Debug, Clone)]
struct Change {
    directory: Node,
    old: Option<OsString>,
    new: Option<(OsString, Node)>,
}

#[derive(Debug, Clone)]
enum Step {
    Name(Change),
    FlushNames(Node),
    FlushBytes(Node),
}

/// What is there of the bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Whole,
    Empty,
    Zeros,
    Half,
}

/// What readers see, which does not depend on anything else: whether the caller knew that the commit had ended, and files.
type Seen = (bool, Vec<(PathBuf, Node, Form)>);

/// See the module.
pub(crate) struct Replay {
    pub(crate) calls: Vec<Recorded>,
    steps: Vec<Step>,
    start: Tree,
    contents: HashMap<Node, Vec<u8>>,
    /// Files that were there before, which are safe.
    old: HashSet<Node>,
    /// The store, from the directory of the record.
    store: PathBuf,
}

/// What a power cut leaves: what is safe, and changes that can each be there or not.
struct Cut<'r> {
    safe: Tree,
    loose: Vec<&'r Change>,
    flushed: HashSet<Node>,
}

/// A directory before it is recorded.
pub(crate) struct Before {
    tree: Tree,
    contents: HashMap<Node, Vec<u8>>,
    nodes: HashMap<(u64, u64), Node>,
}

impl Before {
    /// What is there now. All of it counts as safe.
    pub(crate) fn of(root: &Path) -> Self {
        let mut before = Self { tree: Tree::default(), contents: HashMap::new(), nodes: HashMap::new() };
        assert_eq!(before.read(root), ROOT);
        before
    }

    fn read(&mut self, path: &Path) -> Node {
        let data = path.symlink_metadata().expect("an entry");
        let next = self.nodes.len();
        let node = *self.nodes.entry((data.dev(), data.ino())).or_insert(next);
        if data.is_dir() {
            let names = names_in(path).into_iter().map(|name| (OsString::from(&name), self.read(&path.join(name)))).collect();
            self.tree.0.insert(node, names);
        } else {
            self.contents.insert(node, std::fs::read(path).expect("a file"));
        }
        node
    }

    /// With the calls that were made since. What they have written is read now.
    pub(crate) fn then(self, root: &Path, calls: Vec<Recorded>, store: impl Into<PathBuf>) -> Replay {
        let Self { tree: mut start, mut contents, nodes } = self;
        let (mut live, mut next, old) = (start.clone(), nodes.len(), contents.keys().copied().collect());
        let mut made = || {
            next += 1;
            next - 1
        };
        let steps: Vec<Step> = calls
            .iter()
            .map(|call| {
                let step = live.step(call, &mut made);
                if let Step::Name(change) = &step {
                    live.apply(change);
                }
                step
            })
            .collect();
        live.each_file(ROOT, root, &mut |path, node| drop(contents.insert(node, std::fs::read(path).expect("a file"))));
        // Nodes that are made later, so that a directory without names is not taken for a file.
        for node in live.0.keys() {
            start.0.entry(*node).or_default();
        }
        Replay { calls, steps, start, contents, old, store: store.into() }
    }
}

impl Tree {
    fn node(&self, path: &Path) -> Node {
        let step = |node: Node, name: &OsStr| *self.0[&node].get(name).unwrap_or_else(|| panic!("{} was not recorded", path.display()));
        path.iter().fold(ROOT, step)
    }

    /// The directory of an entry, and its name.
    fn entry(&self, path: &Path) -> (Node, OsString) {
        (self.node(path.parent().expect("a directory")), path.file_name().expect("a name").to_owned())
    }

    fn step(&mut self, call: &Recorded, made: &mut impl FnMut() -> Node) -> Step {
        let name = |(directory, name): (Node, OsString), node| Step::Name(Change { directory, old: None, new: Some((name, node)) });
        match call {
            Recorded::Create(path) => name(self.entry(path), made()),
            Recorded::MakeDirectory(path) => {
                let node = made();
                self.0.insert(node, BTreeMap::new());
                name(self.entry(path), node)
            }
            Recorded::Link(from, to) => name(self.entry(to), self.node(from)),
            Recorded::Rename(from, to) => {
                let (node, (directory, old), (other, new)) = (self.node(from), self.entry(from), self.entry(to));
                assert_eq!(directory, other, "one change is of one directory");
                Step::Name(Change { directory, old: Some(old), new: Some((new, node)) })
            }
            Recorded::RemoveFile(path) | Recorded::RemoveDirectory(path) => {
                let (directory, old) = self.entry(path);
                Step::Name(Change { directory, old: Some(old), new: None })
            }
            Recorded::SyncDirectory(path) => Step::FlushNames(self.node(path)),
            Recorded::SyncFile(path) => Step::FlushBytes(self.node(path)),
        }
    }

    fn apply(&mut self, Change { directory, old, new }: &Change) {
        let names = self.0.entry(*directory).or_default();
        if let Some(old) = old {
            names.remove(old);
        }
        names.extend(new.clone());
    }

    /// All files below a directory that is here.
    fn each_file(&self, directory: Node, path: &Path, each: &mut impl FnMut(&Path, Node)) {
        for (name, node) in &self.0[&directory] {
            let path = path.join(name);
            if self.0.contains_key(node) { self.each_file(*node, &path, each) } else { each(&path, *node) }
        }
    }

    /// The directory at this path, if it is there.
    fn find(&self, path: &Path) -> Option<Node> {
        path.iter().try_fold(ROOT, |node, name| self.0.get(&node)?.get(name).copied())
    }
}

/// The number of a generation, if this is its name.
pub(crate) fn number(name: &OsStr) -> Option<u64> {
    name.to_str().filter(|name| name.len() == 12).and_then(|name| name.parse().ok())
}

/// What readers do not look at.
fn is_ignored(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("lock-") || name.to_string_lossy().starts_with('.')
}

impl Replay {
    /// The most changes that are tried in every combination.
    const LOOSE_MAX: usize = 20;

    fn cut(&self, end: usize) -> Cut<'_> {
        let mut cut = Cut { safe: self.start.clone(), loose: Vec::new(), flushed: self.old.clone() };
        for step in &self.steps[..end] {
            match step {
                Step::Name(change) => cut.loose.push(change),
                Step::FlushNames(directory) => {
                    let flushed = cut.loose.extract_if(.., |change| change.directory == *directory);
                    flushed.for_each(|change| cut.safe.apply(change));
                }
                Step::FlushBytes(file) => drop(cut.flushed.insert(*file)),
            }
        }
        cut
    }

    /// Directories whose names decide what a reader sees: those on the way to the store, and those that can be generations.
    fn seen(&self, cut: &Cut<'_>) -> (HashSet<Node>, HashSet<Node>) {
        let changed = |change: &&Change| change.new.clone().map(|(name, node)| (change.directory, name, node));
        let names = cut.safe.0.iter().flat_map(|(directory, names)| names.iter().map(|(name, node)| (*directory, name.clone(), *node)));
        let all: Vec<_> = names.chain(cut.loose.iter().filter_map(changed)).collect();
        let mut ways = HashSet::from([ROOT]);
        let mut stores = ways.clone();
        for step in &self.store {
            stores =
                all.iter().filter(|(directory, name, _)| stores.contains(directory) && name == step).map(|(_, _, node)| *node).collect();
            ways.extend(&stores);
        }
        let generations = all.iter().filter(|(directory, name, _)| stores.contains(directory) && number(name).is_some());
        let generations = generations.map(|(_, _, node)| *node).collect();
        ways.retain(|way| !stores.contains(way));
        (ways.union(&generations).copied().collect(), stores)
    }

    /// Looks at every disk that a power cut after any call can leave, as far as readers see it: at each once. `look` is given
    /// the directory of the store, and whether the caller knew that the commit had ended. Returns how many disks there are, or
    /// what is wrong with one.
    pub(crate) fn cut_everywhere(&self, mut look: impl FnMut(&Path, bool) -> Result<(), String>) -> Result<usize, String> {
        let mut known = HashSet::new();
        for end in 0..=self.calls.len() {
            let cut = self.cut(end);
            let (always, stores) = self.seen(&cut);
            let is_seen = |change: &Change| {
                let names = change.old.iter().chain(change.new.iter().map(|(name, _)| name));
                always.contains(&change.directory)
                    || stores.contains(&change.directory) && names.into_iter().any(|name| number(name).is_some())
            };
            let loose: Vec<&Change> = cut.loose.iter().copied().filter(|change| is_seen(change)).collect();
            assert!(loose.len() <= Self::LOOSE_MAX, "{} changes are loose after {:?}", loose.len(), self.calls[..end].last());
            let has_ended = end == self.calls.len();
            // From all of them downward: what is wrong with a few less is found soon.
            for kept in (0..1u32 << loose.len()).rev() {
                let mut tree = cut.safe.clone();
                let kept = loose.iter().enumerate().filter(|(index, _)| kept >> index & 1 == 1);
                kept.for_each(|(_, change)| tree.apply(change));
                self.look_at(&tree, &cut.flushed, has_ended, &mut known, &mut look)
                    .map_err(|what| format!("{what}, after {:?}", self.calls[..end].last()))?;
            }
        }
        Ok(known.len())
    }

    /// One tree, in each form that its files can have. One file alone is not whole at a time: where several are not, one of them
    /// is enough to be wrong.
    fn look_at(
        &self,
        tree: &Tree,
        flushed: &HashSet<Node>,
        has_ended: bool,
        known: &mut HashSet<Seen>,
        look: &mut impl FnMut(&Path, bool) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some(store) = tree.find(&self.store) else {
            let place = TempDir::new().expect("a directory");
            return if known.insert((has_ended, Vec::new())) { look(place.path(), has_ended) } else { Ok(()) };
        };
        let (mut files, mut names) = (Vec::new(), Vec::new());
        for (name, generation) in tree.0[&store].iter().filter(|(name, _)| number(name).is_some()) {
            names.push(PathBuf::from(name));
            tree.each_file(*generation, Path::new(name), &mut |path, node| files.push((path.to_owned(), node)));
        }
        let visible: Vec<_> = files.iter().filter(|(path, _)| !path.iter().any(is_ignored)).collect();
        let loose = visible.iter().filter(|(_, node)| !flushed.contains(node));
        let alone = loose.flat_map(|(_, node)| [Form::Empty, Form::Zeros, Form::Half].map(|form| Some((*node, form))));
        for odd in std::iter::once(None).chain(alone) {
            let form = |node: Node| odd.filter(|(other, _)| *other == node).map_or(Form::Whole, |(_, form)| form);
            let mut seen: Vec<_> = visible.iter().map(|(path, node)| (path.clone(), *node, form(*node))).collect();
            // Also those that have no files.
            seen.extend(names.iter().map(|name| (name.clone(), ROOT, Form::Whole)));
            if known.insert((has_ended, seen)) {
                let place = TempDir::new().expect("a directory");
                for name in &names {
                    std::fs::create_dir(place.path().join(name)).expect("a directory");
                }
                for (path, node) in &files {
                    self.write(*node, form(*node), &place.path().join(path));
                }
                look(place.path(), has_ended)?;
            }
        }
        Ok(())
    }

    /// Makes the disk of a process that goes on after so many calls: all of them have happened.
    pub(crate) fn after(&self, calls: usize, root: &Path) {
        let cut = self.cut(calls);
        let mut tree = cut.safe;
        cut.loose.iter().for_each(|change| tree.apply(change));
        self.make(&tree, ROOT, root);
    }

    /// Makes the disk of a power cut after so many calls that leaves nothing but what is safe.
    pub(crate) fn safe_after(&self, calls: usize, root: &Path) {
        self.make(&self.cut(calls).safe, ROOT, root);
    }

    fn make(&self, tree: &Tree, directory: Node, at: &Path) {
        for (name, node) in &tree.0[&directory] {
            let path = at.join(name);
            if tree.0.contains_key(node) {
                std::fs::create_dir(&path).expect("a directory");
                self.make(tree, *node, &path);
            } else {
                self.write(*node, Form::Whole, &path);
            }
        }
    }

    /// A file that is not there at the end was empty: nothing but locks is made and removed.
    fn write(&self, node: Node, form: Form, path: &Path) {
        let bytes = self.contents.get(&node).map_or(&[][..], Vec::as_slice);
        let mut bytes = bytes[..if form == Form::Empty { 0 } else { bytes.len() }].to_vec();
        let kept = if form == Form::Half { bytes.len() / 2 } else { 0 };
        if form != Form::Whole {
            bytes[kept..].fill(0);
        }
        std::fs::write(path, bytes).expect("a file");
    }
}
