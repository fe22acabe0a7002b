//! The decoder fed with damaged memory: pages of a real Python process, with words replaced at random.
//!
//! 1. A Python process with tasks, and with greenlets where that module is installed, is read once through a recorder.
//! 2. Words on the recorded pages are replaced: by noise, by zero, by all ones, by addresses of other recorded words.
//! 3. Everything is decoded again. It must end, not panic, and ask for a bounded number of bytes.

use evtop::decode::{GreenletFinder, Python};
use evtop::observe::Stacks;
use evtop::remote::{Image, Interpreter, Mapping, Memory, Request, Target};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const PAGE_BYTES: u64 = 4096;
/// What decoding the damaged image may ask for: some times what the sound one needs.
const BYTES_LIMIT: u64 = 1 << 30;

const PROGRAM: &str = "
import asyncio, sys
try:
    import greenlet
except ImportError:
    greenlet = None
async def inner(n):
    await asyncio.sleep(1000 + n)
async def outer(n):
    await asyncio.gather(inner(n), inner(n + 1))
def green(n, parent):
    local = [n] * n
    parent.switch()
async def main():
    tasks = [asyncio.create_task(outer(n), name=f'task {n}') for n in range(20)]
    if greenlet:
        parent = greenlet.getcurrent()
        greens = [greenlet.greenlet(green) for n in range(20)]
        for n, g in enumerate(greens[:15]):
            g.switch(n, parent)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    print('ready', flush=True)
    await asyncio.gather(*tasks)
asyncio.run(main())
";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start() -> Running {
    let python = std::env::var("EVTOP_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child =
        Command::new(python).args(["-c", PROGRAM]).stdout(Stdio::piped()).spawn().expect("python3");
    let out = child.stdout.take().expect("piped");
    let running = Running(child);
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line).expect("a line");
    assert_eq!(line.trim(), "ready");
    running
}

/// Keeps every page that is read.
struct Recorder<'a> {
    memory: &'a dyn Memory,
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl Memory for Recorder<'_> {
    fn read_many(&self, requests: &mut [Request<'_>]) {
        for request in requests {
            let first = request.address / PAGE_BYTES;
            let last = (request.address + request.buffer.len().max(1) as u64 - 1) / PAGE_BYTES;
            for page in first..=last {
                let mut pages = self.pages.borrow_mut();
                if let std::collections::btree_map::Entry::Vacant(entry) = pages.entry(page)
                    && let Some(bytes) = self.memory.bytes(page * PAGE_BYTES, PAGE_BYTES as usize)
                {
                    entry.insert(bytes);
                }
            }
            request.is_read = self.memory.read(request.address, request.buffer).is_some();
        }
    }
}

/// Joins neighbouring pages, because an image is read range by range.
fn image_of(pages: BTreeMap<u64, Vec<u8>>) -> Image {
    let mut image = Image::default();
    let mut run: Option<(u64, Vec<u8>)> = None;
    for (page, bytes) in pages {
        match &mut run {
            Some((start, all)) if *start + all.len() as u64 == page * PAGE_BYTES => all.extend(bytes),
            _ => {
                if let Some((start, all)) = run.take() {
                    image.place(start, all);
                }
                run = Some((page * PAGE_BYTES, bytes));
            }
        }
    }
    if let Some((start, all)) = run {
        image.place(start, all);
    }
    image
}

struct Sound {
    image: Image,
    interpreter: Interpreter,
    greenlet: Option<evtop::remote::GreenletModule>,
    maps: Vec<Mapping>,
    implementations: Vec<u64>,
    /// Words on pages that decoding reads, rather than the whole heap that is searched.
    hot: Vec<u64>,
}

/// What was decoded: threads, frames, tasks, greenlets.
fn decode_all(
    memory: &dyn Memory,
    sound: (&Interpreter, Option<evtop::remote::GreenletModule>, &[Mapping], &[u64]),
) -> [usize; 4] {
    let (interpreter, module, maps, implementations) = sound;
    let python = Python::new(memory, interpreter);
    let mut stacks = Stacks::default();
    let threads = python.threads();
    let mut tops: Vec<u64> = threads.iter().map(|thread| thread.frame).collect();
    let tasks: Vec<_> = python.task_objects().into_iter().filter_map(|task| python.task(task)).collect();
    for task in &tasks {
        tops.extend(task.chain.iter().map(|step| step.frame));
        let _ = (python.class_path(task.event_loop), python.type_name_of(task.awaited));
        let _ =
            python.attribute(task.awaited, "_children").and_then(|children| python.sequence(children, 4096));
    }
    let mut finder = GreenletFinder::default();
    let mut found = 0;
    if let Some(module) = module {
        let records = if implementations.is_empty() {
            let all = finder.find(&python, &module, maps, &[]);
            finder.read(&python, &all)
        } else {
            finder.find(&python, &module, maps, &[]);
            finder.read(&python, implementations)
        };
        found = records.len();
        for record in &records {
            tops.extend(python.field(record.top_frame, 24));
            let _ = (python.callable_code(record.run), python.type_name(record.class));
        }
    }
    let mut frames = 0;
    for walk in python.walk(&tops) {
        let (stack, _) = stacks.decode(&python, &walk.frames);
        frames += stack.len();
        for located in &stack {
            for name in ["self", "delay", "n", "parent", "local"] {
                if let Some(value) = located.local(&python, name) {
                    let _ = (python.number(value), python.string(value), python.attributes(value));
                    let _ = python.length_hint(value);
                }
            }
        }
    }
    let _ = (python.gil_holder(), python.is_collecting(), python.current_task());
    [threads.len(), frames, tasks.len(), found]
}

fn record() -> Sound {
    let running = start();
    let target = Target::open(running.0.id() as i32).expect("a Python process of ours");
    let maps = target.process.maps().expect("its mappings");
    let recorder = Recorder { memory: &target.memory, pages: RefCell::default() };
    let python = Python::new(&recorder, &target.interpreter);
    let mut finder = GreenletFinder::default();
    let implementations =
        target.greenlet.map(|module| finder.find(&python, &module, &maps, &[])).unwrap_or_default();
    let counts = decode_all(&recorder, (&target.interpreter, target.greenlet, &maps, &[]));
    assert!(counts[0] >= 1 && counts[1] > 40 && counts[2] >= 60, "{counts:?}");
    assert!(target.greenlet.is_none() || counts[3] >= 15, "{counts:?}");
    // Without the greenlet module nothing is searched: what is read now is what is decoded.
    let narrow = Recorder { memory: &target.memory, pages: RefCell::default() };
    decode_all(&narrow, (&target.interpreter, None, &maps, &[]));
    let mut hot: Vec<u64> = narrow.pages.borrow().keys().copied().collect();
    hot.extend(implementations.iter().map(|address| address / PAGE_BYTES));
    Sound {
        hot,
        image: image_of(recorder.pages.into_inner()),
        interpreter: target.interpreter.clone(),
        greenlet: target.greenlet,
        maps,
        implementations,
    }
}

#[derive(Debug, Clone)]
enum Damage {
    Noise(u64),
    Byte(u8),
    Zero,
    Ones,
    Elsewhere(prop::sample::Index, u16),
    Small(u16),
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, Damage)> {
    let kind = prop_oneof![
        any::<u64>().prop_map(Damage::Noise),
        any::<u8>().prop_map(Damage::Byte),
        Just(Damage::Zero),
        Just(Damage::Ones),
        (any::<prop::sample::Index>(), any::<u16>()).prop_map(|(at, offset)| Damage::Elsewhere(at, offset)),
        any::<u16>().prop_map(Damage::Small),
    ];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), kind)
}

fn apply(
    image: &mut Image,
    hot: &[u64],
    (page, at, kind): &(prop::sample::Index, prop::sample::Index, Damage),
) {
    let address = hot[page.index(hot.len())] * PAGE_BYTES + at.index(PAGE_BYTES as usize / 8) as u64 * 8;
    let word = match kind {
        Damage::Noise(word) => *word,
        Damage::Byte(byte) => u64::from(*byte) * 0x0101_0101_0101_0101,
        Damage::Zero => 0,
        Damage::Ones => u64::MAX,
        Damage::Elsewhere(other, offset) => {
            hot[other.index(hot.len())] * PAGE_BYTES + u64::from(*offset) % PAGE_BYTES / 8 * 8
        }
        Damage::Small(word) => u64::from(*word),
    };
    for (&start, bytes) in image.ranges_mut() {
        if let Some(offset) = address.checked_sub(start).filter(|&offset| offset + 8 <= bytes.len() as u64) {
            let offset = offset as usize;
            bytes[offset..offset + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
}

#[test]
fn damaged_memory_neither_panics_nor_reads_without_bound() {
    let sound = record();
    let parts = (&sound.interpreter, sound.greenlet, sound.maps.as_slice(), sound.implementations.as_slice());
    let cases = std::env::var("EVTOP_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 32,
        ..ProptestConfig::default()
    };
    proptest!(config, |(wounds in prop::collection::vec(damage(), 1..4000))| {
        let mut image = sound.image.clone();
        for wound in &wounds {
            apply(&mut image, &sound.hot, wound);
        }
        let before = image.bytes_asked();
        decode_all(&image, parts);
        prop_assert!(image.bytes_asked() - before < BYTES_LIMIT, "{} bytes", image.bytes_asked() - before);
    });
}
