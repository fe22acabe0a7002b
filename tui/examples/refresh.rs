//! What looks cost: `cargo run --release -p evtop --example refresh PID [LOOKS]` prints the processor time of attaching,
//! of the first look, which finds every green thread, and of each later one.

use evtop::observe::Observer;
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

fn processor_ms() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 * 1e3 + used.tv_nsec as f64 / 1e6
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pid = arguments.next().ok_or("give a process id")?.parse()?;
    let looks: usize = arguments.next().map_or(Ok(20), |count| count.parse())?;
    let started = (Instant::now(), processor_ms());
    let mut observer = Observer::attach(pid)?;
    let step = |name: &str, from: (Instant, f64)| {
        let wall_ms = from.0.elapsed().as_secs_f64() * 1e3;
        println!("{name:<8} {:>8.2} ms of processor, {wall_ms:>8.2} ms", processor_ms() - from.1);
    };
    step("attach", started);
    for look in 0..=looks {
        let from = (Instant::now(), processor_ms());
        let snapshot = observer.look()?;
        let counters = &snapshot.counters;
        step(if look == 0 { "find" } else { "look" }, from);
        if look == 0 || look == looks {
            println!(
                "         {} green threads, {} frames, {} reads, {} torn, {} cut, {} undecodable, {} lost",
                counters.green_threads_found,
                counters.frames,
                counters.read_calls,
                counters.stacks_torn,
                counters.stacks_cut,
                counters.frames_undecodable,
                counters.green_threads_lost
            );
        }
    }
    Ok(())
}
