use super::super::frame::PAGE_BYTES;
use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { kept: 16 << 20, hot: 4 << 20, spare: 64 << 20 };
const MAPPING_BYTES: usize = 8 << 20;

/// One page as a model sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Page {
    used: bool,
    touched: bool,
    lazy: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Take { pages: usize, huge: bool, zeroed: bool },
    Give { index: usize, lazy: bool },
    Surplus { all: bool, settle: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pages = prop_oneof![4 => 1usize..40, 3 => 40usize..700, 1 => 700usize..10_000];
    let step = prop_oneof![
        5 => (pages, any::<bool>(), any::<bool>()).prop_map(|(pages, huge, zeroed)| Step::Take { pages, huge, zeroed }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(index, lazy)| Step::Give { index, lazy }),
        2 => (prop::bool::weighted(0.1), any::<bool>()).prop_map(|(all, settle)| Step::Surplus { all, settle }),
    ];
    proptest::collection::vec(step, 1..160)
}

/// The extents, a model of every page, and what is out.
struct Checked {
    extents: Extents<usize>,
    pages: BTreeMap<usize, Page>,
    mappings: BTreeMap<usize, usize>,
    next: usize,
    taken: Vec<(usize, usize)>,
    pending: Vec<Surplus>,
}

impl Checked {
    fn new() -> Self {
        let extents = Extents::new(LIMITS);
        Self { extents, pages: BTreeMap::new(), mappings: BTreeMap::new(), next: 1 << 40, taken: Vec::new(), pending: Vec::new() }
    }

    fn page(&mut self, address: usize) -> &mut Page {
        self.pages.get_mut(&address).expect("a page of a mapping")
    }

    fn take(&mut self, len: usize, align: usize, zeroed: bool) {
        let taken = self.extents.take(len, align, zeroed).unwrap_or_else(|| {
            // Neighbors, as the kernel likes to place them: extents must not be merged across.
            let bytes = len.max(MAPPING_BYTES).next_multiple_of(FRAME_BYTES);
            self.extents.add(self.next, bytes, self.next);
            self.mappings.insert(self.next, bytes);
            self.pages.extend((self.next..self.next + bytes).step_by(PAGE_BYTES).map(|at| (at, Page::default())));
            self.next += bytes;
            self.extents.take(len, align, zeroed).expect("room in a new mapping")
        });
        assert!(taken.start.is_multiple_of(align));
        let bytes = self.mappings[&taken.owner];
        assert!(taken.owner <= taken.start && taken.start + len <= taken.owner + bytes, "in one mapping");
        let mut lazy = false;
        for at in (taken.start..taken.start + len).step_by(PAGE_BYTES) {
            let is_listed = taken.touched.iter().any(|range| range.contains(&at));
            let page = self.page(at);
            assert!(!page.used, "handed out twice");
            assert_eq!(is_listed, zeroed && page.touched, "what may be other than zero");
            lazy |= page.lazy;
            *page = Page { used: true, touched: true, lazy: false };
        }
        assert_eq!(taken.lazy, lazy);
        self.taken.push((taken.start, len));
    }

    fn give(&mut self, index: usize, lazy: bool) {
        if self.taken.is_empty() {
            return;
        }
        let (start, len) = self.taken.swap_remove(index % self.taken.len());
        (start..start + len).step_by(PAGE_BYTES).for_each(|at| *self.page(at) = Page { used: false, touched: true, lazy });
        self.extents.give(start, len, lazy);
    }

    fn settle(&mut self) {
        for surplus in std::mem::take(&mut self.pending) {
            for at in surplus.range.clone().step_by(PAGE_BYTES) {
                let page = self.page(at);
                assert!(page.used);
                let lazy = page.touched && surplus.fate == Fate::Lazy;
                *page = Page { used: false, touched: lazy, lazy };
            }
            if let Some(home) = self.extents.settle(&surplus) {
                let bytes = self.mappings.remove(&home).expect("a mapping");
                for at in (home..home + bytes).step_by(PAGE_BYTES) {
                    assert_eq!(self.pages.remove(&at), Some(Page::default()), "in use or kept, and unmapped");
                }
            }
        }
    }

    fn check(&self) {
        let kept = self.pages.values().filter(|page| !page.used && page.touched).count() * PAGE_BYTES;
        assert_eq!(self.extents.kept(), kept);
        let free: usize = self.pages.values().filter(|page| !page.used).count() * PAGE_BYTES;
        assert_eq!(self.extents.by_start.values().sum::<usize>(), free);
        assert_eq!(self.extents.by_start.len(), self.extents.by_len.len());
    }

    fn surplus(&mut self, all: bool) {
        self.pending.extend(self.extents.surplus(all));
        let withdrawn: Vec<usize> = self.pending.iter().flat_map(|surplus| surplus.range.clone().step_by(PAGE_BYTES)).collect();
        for at in withdrawn {
            self.page(at).used = true;
        }
    }

    fn assert_bounded(&self) {
        let spare = self.extents.spare;
        let is_spare = |at: usize| spare.is_some_and(|(home, _)| (home..home + self.mappings[&home]).contains(&at));
        let kept = |lazy: bool| {
            let counts = |(at, page): &(&usize, &Page)| !is_spare(**at) && !page.used && page.touched && (lazy || !page.lazy);
            self.pages.iter().filter(counts).count() * PAGE_BYTES
        };
        assert!(kept(true) <= LIMITS.kept, "{} kept", kept(true));
        assert!(kept(false) <= LIMITS.hot, "{} hot", kept(false));
        assert!(spare.is_none_or(|(_, bytes)| bytes <= LIMITS.spare));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 192 }))]

    #[test]
    fn extents_never_overlap_and_what_is_kept_is_bounded(steps in steps()) {
        let mut checked = Checked::new();
        for step in steps {
            match step {
                Step::Take { pages, huge, zeroed } => checked.take(pages * PAGE_BYTES, if huge { FRAME_BYTES } else { PAGE_BYTES }, zeroed),
                Step::Give { index, lazy } => checked.give(index, lazy),
                Step::Surplus { all, settle } => {
                    checked.surplus(all);
                    if settle {
                        checked.settle();
                    }
                }
            }
            checked.check();
        }
        while !checked.taken.is_empty() {
            checked.give(0, false);
        }
        checked.settle();
        checked.surplus(false);
        checked.settle();
        checked.check();
        checked.assert_bounded();
        checked.surplus(true);
        checked.settle();
        prop_assert_eq!(checked.extents.kept(), 0);
        prop_assert!(checked.mappings.is_empty(), "mappings are left");
    }
}

#[test]
fn free_memory_serves_every_size() {
    let mut extents = Extents::new(LIMITS);
    extents.add(1 << 40, MAPPING_BYTES, ());
    let pieces: Vec<usize> = (0..MAPPING_BYTES >> 16).map(|_| extents.take(64 << 10, PAGE_BYTES, false).expect("a piece").start).collect();
    assert!(extents.take(PAGE_BYTES, PAGE_BYTES, false).is_none());
    pieces.into_iter().rev().for_each(|start| extents.give(start, 64 << 10, false));
    let whole = extents.take(MAPPING_BYTES, FRAME_BYTES, true).expect("all of it");
    assert_eq!(whole.touched.first(), Some(&(1 << 40..(1 << 40) + MAPPING_BYTES)));
    extents.give(whole.start, MAPPING_BYTES, false);
    assert!(extents.take(12 << 10, PAGE_BYTES, false).is_some());
}

#[test]
fn free_pages_between_used_ones_are_bounded_too() {
    let mut extents = Extents::new(LIMITS);
    let bytes = 64 << 20;
    extents.add(1 << 40, bytes, ());
    let pieces: Vec<usize> = (0..bytes >> 16).map(|_| extents.take(64 << 10, PAGE_BYTES, false).expect("a piece").start).collect();
    for start in pieces.iter().enumerate().filter(|(index, _)| index % 16 != 0).map(|(_, start)| *start) {
        extents.give(start, 64 << 10, false);
        for surplus in extents.surplus(false) {
            extents.settle(&surplus);
        }
        assert!(extents.kept() <= LIMITS.kept);
    }
}
