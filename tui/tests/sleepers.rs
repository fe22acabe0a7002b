//! How long somebody stands at a place, and what is left of a sleep, on real programs that sleep over and over.

use evtop::observe::Observer;
use evtop::state::{Labelled, NodeId, Snapshot, Trust};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const TASKS: &str = "
import asyncio
async def rests():
    await asyncio.sleep(1000)
async def sleeps_again():
    while True:
        await asyncio.sleep(0.2)
async def main():
    tasks = [asyncio.ensure_future(f()) for f in (rests, sleeps_again)]
    await asyncio.sleep(0)
    print('ready', flush=True)
    await asyncio.gather(*tasks)
asyncio.run(main())
";

const GREEN_THREADS: &str = "
import warnings
warnings.simplefilter('ignore')
import eventlet
def rests():
    eventlet.sleep(1000)
def sleeps_again():
    while True:
        eventlet.sleep(0.2)
eventlet.spawn(rests)
eventlet.spawn(sleeps_again)
eventlet.sleep(0)
print('ready', flush=True)
eventlet.sleep(10000)
";

struct Program(Child);

impl Program {
    /// `None` where the interpreter lacks what the program imports.
    fn start(program: &str) -> Option<Self> {
        let python = std::env::var("EVTOP_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let child = Command::new(python)
            .args(["-c", program])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let mut program = Self(child);
        let mut line = String::new();
        let output = program.0.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        (line.trim() == "ready").then_some(program)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Sleeper {
    unchanged_ms: Option<Labelled<u64>>,
    left_ms: Option<u64>,
}

fn sleeper(snapshot: &Snapshot, function: &str) -> Option<Sleeper> {
    let greens = snapshot.green_threads.iter().map(|green| (&*green.name, green.id, green.unchanged_ms));
    let tasks = snapshot.tasks.iter().map(|task| (&*task.coroutine, task.id, task.unchanged_ms));
    let (_, id, unchanged_ms): (&str, NodeId, _) =
        greens.chain(tasks).find(|(name, ..)| *name == function)?;
    let timer = snapshot.timers.iter().find(|timer| timer.owner == id)?;
    Some(Sleeper { unchanged_ms, left_ms: timer.left_ms })
}

fn a_sleep_is_not_taken_for_the_one_before(program: &str) {
    let Some(program) = Program::start(program) else {
        eprintln!("skipped: EVTOP_TEST_PYTHON lacks what the program imports");
        return;
    };
    let mut observer = Observer::attach(program.0.id() as i32).expect("a child can be observed");
    let (mut looks, mut longest_ms) = (0, 0);
    loop {
        let snapshot = observer.look().expect("a running program");
        // While it is on the processor it does not sleep, and its timer may be replaced while it is read.
        if let Some(again) = sleeper(&snapshot, "sleeps_again") {
            assert!(again.left_ms.is_none_or(|left_ms| left_ms <= 200));
            if let Some(unchanged_ms) = again.unchanged_ms.filter(|time_ms| time_ms.trust == Trust::Sampled) {
                (looks, longest_ms) = (looks + 1, longest_ms.max(unchanged_ms.value));
            }
        }
        let rests = sleeper(&snapshot, "rests").expect("it sleeps");
        let left_ms = rests.left_ms.expect("a timer");
        assert!((900_000..=1_000_000).contains(&left_ms), "{left_ms}");
        if rests.unchanged_ms.is_some_and(|time_ms| time_ms.value > 2000) {
            break;
        }
        std::thread::yield_now();
    }
    // Two sleeps and a half would be more: the machine may be loaded.
    assert!(looks > 10, "{looks}");
    assert!(longest_ms < 500, "one sleep of 200 ms was seen for {longest_ms} ms");
}

#[test]
fn a_task_that_sleeps_again_is_not_taken_for_one_that_sleeps_on() {
    a_sleep_is_not_taken_for_the_one_before(TASKS);
}

#[test]
fn a_green_thread_that_sleeps_again_is_not_taken_for_one_that_sleeps_on() {
    a_sleep_is_not_taken_for_the_one_before(GREEN_THREADS);
}
