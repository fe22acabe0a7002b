//! Arguments.

use clap::{Args as ClapArgs, Parser, Subcommand};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  evtop                     list the processes that could be observed
  evtop 4242                open the screens on process 4242
  evtop --once 4242         print every green thread and task with its stack
  evtop dump 4242 --json | jq .green_threads
  evtop watch 4242 --for 10s
                            print a line for each call that blocks the hub
  evtop watch 4242 --threshold 50ms --json > stalls.jsonl
  evtop watch 4242 --for 1m --fail || echo \"something blocked the hub\"

Exit codes:
  0  done                             5  not a CPython process
  1  the process could not be read    6  32-bit, or not x86-64
  2  wrong arguments                  7  a CPython that is not supported
  3  no such process, or it ended     8  watch --fail: something stalled
  4  not permitted                    9  watch --fail: no hub to watch
  128 + n  the screens were ended by signal n (129: the terminal was closed)
  101      a bug in evtop; the terminal is restored

evtop reads the process's memory and /proc. It does not stop the process
(unless --pause), write to it, or need it to cooperate. It needs the permission
that a debugger needs: the same user (with kernel.yama.ptrace_scope = 0), or
CAP_SYS_PTRACE. In a container: docker run --pid=container:NAME
--cap-add=SYS_PTRACE …

Every value is exact (read and checked), sampled (true when looked at) or
inferred (concluded); JSON carries the label.";

/// See green threads, tasks and the calls that block them in a running Eventlet, gevent or asyncio process.
#[derive(Debug, Parser)]
#[command(name = "evtop", version, about, after_help = EXAMPLES, max_term_width = 80)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    /// What to do; without it, the screens.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The process; without it, evtop lists candidates.
    #[arg(value_parser = parse_pid)]
    pub pid: Option<i32>,
    /// Print one snapshot as plain text and end.
    #[arg(long, requires = "pid")]
    pub once: bool,
    /// With --once: stop the process for some milliseconds, so that no green thread is missed.
    #[arg(long, requires = "once")]
    pub pause: bool,
}

/// Subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print one snapshot.
    Dump(DumpArgs),
    /// Print each stall of a hub as it ends.
    Watch(WatchArgs),
    /// List the processes that could be observed.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `dump`.
#[derive(Debug, ClapArgs)]
pub struct DumpArgs {
    /// The process.
    #[arg(value_parser = parse_pid)]
    pub pid: i32,
    /// As JSON (schema evtop.snapshot/2).
    #[arg(long)]
    pub json: bool,
    /// Stop the process for some milliseconds, so that no green thread is missed.
    #[arg(long)]
    pub pause: bool,
}

/// Arguments of `watch`.
#[derive(Debug, ClapArgs)]
pub struct WatchArgs {
    /// The process.
    #[arg(value_parser = parse_pid)]
    pub pid: i32,
    /// How long to watch (10s, 500ms, 5m); without it, until interrupted or the process ends.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_span)]
    pub duration: Option<Duration>,
    /// Shorter stalls are not shown.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = parse_duration)]
    pub threshold: Duration,
    /// One JSON object a line (schema evtop.stall/1).
    #[arg(long)]
    pub json: bool,
    /// Exit with code 8 if anything stalled: for tests and CI.
    #[arg(long)]
    pub fail: bool,
}

/// A process id: a number above zero.
fn parse_pid(text: &str) -> Result<i32, String> {
    let remedy = "write the number that evtop list or pgrep shows, as in evtop 4242";
    text.parse().ok().filter(|&pid| pid > 0).ok_or_else(|| format!("a process has a number: {remedy}"))
}

/// A time that is not zero.
fn parse_span(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("nothing can be seen in no time: write 10s, or leave it out".to_owned()),
        span => Ok(span),
    }
}

/// Parses `10s`, `20ms`, `1.5m`, `2h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        // Nobody would notice that 20 seconds were meant to be milliseconds.
        "" if !number.is_empty() => return Err(format!("a time needs a unit: write {text}ms or {text}s")),
        _ => return Err("a time is a number with the unit us, ms, s, m or h: write 20ms or 10s".to_owned()),
    };
    let number: f64 =
        number.parse().map_err(|_| "a time is a number with a unit: write 20ms or 10s".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(parse_duration("20ms"), Ok(Duration::from_millis(20)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(parse_duration("ten").is_err());
        assert!(parse_duration("3 parsecs").is_err());
        assert!(parse_span("0s").is_err());
        assert_eq!(parse_duration("20"), Err("a time needs a unit: write 20ms or 20s".to_owned()));
    }

    #[test]
    fn help_fits_eighty_columns() {
        for path in [&["evtop"][..], &["evtop", "dump"], &["evtop", "watch"], &["evtop", "list"]] {
            let mut command = Args::command();
            command.build();
            let found =
                path[1..].iter().try_fold(&mut command, |command, name| command.find_subcommand_mut(name));
            let help = found.expect("a subcommand").render_long_help().to_string();
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{path:?}: {line}");
            }
        }
    }
}
