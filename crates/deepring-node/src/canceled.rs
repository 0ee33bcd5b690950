//! [`Canceled`]: the requests that JavaScript has canceled. Their numbers only count up, and a hundred thousand neighbors can
//! come in one call; so each is a bit, in pages of 4096.

use std::collections::HashMap;

/// Numbers of a page, as a power of two.
const PAGE_BITS: u32 = 12;

const WORDS: usize = 1 << (PAGE_BITS - 6);

#[derive(Default)]
pub struct Canceled {
    pages: HashMap<u64, Page>,
    len: usize,
}

struct Page {
    words: Box<[u64; WORDS]>,
    len: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { words: Box::new([0; WORDS]), len: 0 }
    }
}

/// The word and the bit of a number in its page.
fn place(id: u64) -> (usize, u64) {
    ((id >> 6) as usize % WORDS, 1 << (id % 64))
}

impl Canceled {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn extend(&mut self, ids: &[u64]) {
        for neighbors in ids.chunk_by(|a, b| a >> PAGE_BITS == b >> PAGE_BITS) {
            let page = self.pages.entry(neighbors[0] >> PAGE_BITS).or_default();
            let before = page.len;
            for &id in neighbors {
                let (word, bit) = place(id);
                page.len += usize::from(page.words[word] & bit == 0);
                page.words[word] |= bit;
            }
            self.len += page.len - before;
        }
    }

    pub fn contains(&self, id: u64) -> bool {
        let (word, bit) = place(id);
        self.pages.get(&(id >> PAGE_BITS)).is_some_and(|page| page.words[word] & bit != 0)
    }

    pub fn remove(&mut self, id: u64) {
        let Some(page) = self.pages.get_mut(&(id >> PAGE_BITS)) else { return };
        let (word, bit) = place(id);
        if page.words[word] & bit == 0 {
            return;
        }
        page.words[word] &= !bit;
        page.len -= 1;
        self.len -= 1;
        if page.len == 0 {
            self.pages.remove(&(id >> PAGE_BITS));
        }
    }
}
