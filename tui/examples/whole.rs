//! Whether stacks are whole: `cargo run --release -p evtop --example whole PID LOOKS [--pause] [OUTERMOST…]` looks so often, prints
//! each stack whose outermost function is none of those named, and counts them and those that could not be read. With
//! `--pause` it also prints how many looks found how many green threads alive.

use evtop::observe::Observer;
use evtop::state::{Frame, GreenThread};
use std::collections::BTreeMap;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let pid = arguments.next().ok_or("give a process id")?.parse()?;
    let looks: usize = arguments.next().ok_or("give a number of looks")?.parse()?;
    let mut outermost: Vec<String> = arguments.collect();
    let is_paused = outermost.first().is_some_and(|first| first == "--pause");
    outermost.retain(|name| name != "--pause");
    let is_whole = |stack: &[Arc<Frame>]| {
        let last = stack.last().map(|frame| frame.function.rsplit('.').next().unwrap_or_default().to_owned());
        last.is_none_or(|name| outermost.contains(&name))
    };
    let mut observer = Observer::attach(pid)?;
    let (mut stacks, mut nonsense, mut torn, mut cut, mut without) = (0, 0, 0, 0, 0);
    let mut alive: BTreeMap<usize, usize> = BTreeMap::new();
    for look in 0..looks {
        let snapshot = if is_paused { observer.look_paused()? } else { observer.look()? };
        let is_alive = |green: &&GreenThread| green.role == "green thread" && green.state != "dead";
        *alive.entry(snapshot.green_threads.iter().filter(is_alive).count()).or_insert(0) += 1;
        torn += snapshot.counters.stacks_torn;
        cut += snapshot.counters.stacks_cut;
        without += snapshot.threads.iter().filter(|thread| thread.stack.is_empty()).count();
        let greens = snapshot.green_threads.iter().map(|green| (green.state, &*green.stack));
        let threads = snapshot.threads.iter().map(|thread| ("thread", thread.stack.as_slice()));
        for (state, stack) in greens.chain(threads) {
            stacks += 1;
            if !is_whole(stack) {
                nonsense += 1;
                let names: Vec<&str> = stack.iter().map(|frame| &*frame.function).collect();
                println!("look {look}: {state}: {}", names.join(" < "));
            }
        }
    }
    if is_paused {
        println!("looks by the number alive: {alive:?}");
    }
    println!(
        "{looks} looks, {stacks} stacks, {nonsense} nonsense, {torn} torn, {cut} cut, {without} threads without a stack"
    );
    Ok(())
}
