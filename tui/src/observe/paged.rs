//! Memory of a moment: small ranges come from pages that are read once.
//!
//! What a green thread or task waits for is told by some ten to fifty words here and there, one leading to the next, so they
//! cannot be asked for together. A call for each costs more than copying the page it is on, and neighbours have theirs on the
//! same pages: their frames, futures and names are allocated together, and their types are the same.

use super::addresses::AddressMap;
use crate::remote::{Memory, Request};
use std::cell::RefCell;
use std::time::{Duration, Instant};

const PAGE_BYTES: usize = 4096;
/// Longer ranges are read as they are.
const SMALL_BYTES: usize = 512;
/// So many requests at once are a batch, which costs one call anyhow.
const FEW: usize = 4;
/// Pages held at a time.
const PAGES_LIMIT: usize = 128;
/// For so long a page is believed. To read what one green thread or task has by a call for each word took as long, and the
/// process runs meanwhile either way.
const FRESH: Duration = Duration::from_micros(200);

/// A process's memory through pages that are forgotten after a moment.
pub struct Paged<'a> {
    memory: &'a dyn Memory,
    pages: RefCell<Pages>,
}

#[derive(Default)]
struct Pages {
    /// Where in `bytes` a page is; `None` if it cannot be read whole.
    places: AddressMap<u64, Option<usize>>,
    bytes: Vec<u8>,
    used: usize,
    /// When the first of them was read.
    since: Option<Instant>,
}

impl<'a> Paged<'a> {
    /// Holds nothing yet.
    pub fn new(memory: &'a dyn Memory) -> Self {
        Self { memory, pages: RefCell::default() }
    }
}

impl Pages {
    fn forget(&mut self) {
        self.places.clear();
        (self.used, self.since) = (0, None);
    }

    fn page(&mut self, memory: &dyn Memory, number: u64) -> Option<&[u8]> {
        let place = match self.places.get(&number) {
            Some(&place) => place,
            None => {
                if self.places.len() >= PAGES_LIMIT {
                    self.forget();
                }
                self.since.get_or_insert_with(Instant::now);
                let place = self.used;
                if self.bytes.len() < place + PAGE_BYTES {
                    self.bytes.resize(place + PAGE_BYTES, 0);
                }
                let page = &mut self.bytes[place..place + PAGE_BYTES];
                let is_read = memory.read(number * PAGE_BYTES as u64, page).is_some();
                self.used += if is_read { PAGE_BYTES } else { 0 };
                let place = is_read.then_some(place);
                self.places.insert(number, place);
                place
            }
        };
        place.map(|place| &self.bytes[place..place + PAGE_BYTES])
    }

    /// Fills a buffer from the pages it is on.
    fn fill(&mut self, memory: &dyn Memory, address: u64, buffer: &mut [u8]) -> Option<()> {
        address.checked_add(buffer.len() as u64)?;
        let (mut address, mut rest) = (address, buffer);
        while !rest.is_empty() {
            let at = (address % PAGE_BYTES as u64) as usize;
            let page = self.page(memory, address / PAGE_BYTES as u64)?;
            let (part, behind) = rest.split_at_mut(rest.len().min(PAGE_BYTES - at));
            part.copy_from_slice(&page[at..at + part.len()]);
            address = address.wrapping_add(part.len() as u64);
            rest = behind;
        }
        Some(())
    }
}

impl Memory for Paged<'_> {
    fn read_many(&self, requests: &mut [Request<'_>]) {
        if requests.len() > FEW || requests.iter().any(|request| request.buffer.len() > SMALL_BYTES) {
            return self.memory.read_many(requests);
        }
        let mut pages = self.pages.borrow_mut();
        for request in requests {
            request.is_read = pages.fill(self.memory, request.address, request.buffer).is_some()
                // The end of a mapping may be nearer than that of the page, in an image of one.
                || self.memory.read(request.address, request.buffer).is_some();
        }
    }

    fn for_each_record(&self, addresses: &[u64], stride: usize, take: &mut dyn FnMut(usize, &[u8])) {
        self.memory.for_each_record(addresses, stride, take);
    }

    fn turn_to_next(&self) {
        let mut pages = self.pages.borrow_mut();
        if pages.since.is_some_and(|since| since.elapsed() > FRESH) {
            pages.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Image;
    use std::cell::Cell;

    struct Counted {
        image: RefCell<Image>,
        reads: Cell<usize>,
    }

    impl Memory for Counted {
        fn read_many(&self, requests: &mut [Request<'_>]) {
            self.reads.set(self.reads.get() + 1);
            self.image.borrow().read_many(requests);
        }
    }

    fn counted(ranges: &[(u64, usize)]) -> Counted {
        let mut image = Image::default();
        for &(start, length) in ranges {
            image.place(start, (0..length).map(|at| (at % 251) as u8).collect());
        }
        Counted { image: RefCell::new(image), reads: Cell::new(0) }
    }

    fn expected(from: usize, length: usize) -> Vec<u8> {
        (from..from + length).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn a_page_is_read_once_and_a_range_may_cross_its_end() {
        let memory = counted(&[(0x1_0000, 3 * PAGE_BYTES)]);
        let paged = Paged::new(&memory);
        for at in [0, 8, 800, PAGE_BYTES - 8] {
            assert_eq!(paged.bytes(0x1_0000 + at as u64, 8), Some(expected(at, 8)));
        }
        assert_eq!(memory.reads.get(), 1);
        assert_eq!(paged.bytes(0x1_0000 + PAGE_BYTES as u64 - 5, 13), Some(expected(PAGE_BYTES - 5, 13)));
        assert_eq!(memory.reads.get(), 2);
    }

    #[test]
    fn what_no_whole_page_holds_is_read_as_it_is() {
        let memory = counted(&[(0x1_0010, 100)]);
        let paged = Paged::new(&memory);
        assert_eq!(paged.bytes(0x1_0018, 40), Some(expected(8, 40)));
        assert_eq!(paged.bytes(0x1_0010 + 90, 40), None);
        assert_eq!(paged.bytes(u64::MAX - 3, 8), None);
        assert_eq!(paged.bytes(u64::MAX - 7, 8), None);
    }

    #[test]
    fn long_ranges_and_batches_pass_by_the_pages() {
        let memory = counted(&[(0x1_0000, 2 * PAGE_BYTES)]);
        let paged = Paged::new(&memory);
        assert_eq!(paged.bytes(0x1_0000, 600), Some(expected(0, 600)));
        let (records, read) = paged.records(&[0x1_0008, 0x1_0100, 0x9_0000], 8);
        assert_eq!((&records[..8], read), (&expected(8, 8)[..], vec![true, true, false]));
        assert!(paged.pages.borrow().places.is_empty());
    }

    #[test]
    fn a_page_is_forgotten_between_one_and_the_next_once_it_is_old() {
        let memory = counted(&[(0x1_0000, PAGE_BYTES)]);
        let paged = Paged::new(&memory);
        assert_eq!(paged.word(0x1_0000), Some(u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7])));
        for (_, bytes) in memory.image.borrow_mut().ranges_mut() {
            bytes.fill(0);
        }
        std::thread::sleep(FRESH * 2);
        assert_ne!(paged.word(0x1_0000), Some(0));
        paged.turn_to_next();
        assert_eq!(paged.word(0x1_0000), Some(0));
    }

    #[test]
    fn no_more_pages_are_held_than_the_limit() {
        let memory = counted(&[(0x1_0000, (PAGES_LIMIT + 10) * PAGE_BYTES)]);
        let paged = Paged::new(&memory);
        for page in 0..PAGES_LIMIT + 10 {
            let at = page * PAGE_BYTES + 16;
            assert_eq!(paged.bytes(0x1_0000 + at as u64, 8), Some(expected(at, 8)));
        }
        assert!(paged.pages.borrow().bytes.len() <= PAGES_LIMIT * PAGE_BYTES);
    }
}
