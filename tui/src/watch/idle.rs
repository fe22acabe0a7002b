//! Telling a hub asleep in its own wait from a hub that is blocked.

use super::evidence::Evidence;
use crate::observe::is_hub_file;
use crate::remote::Activity;
use crate::state::Frame;
use std::sync::Arc;

/// poll, select, epoll_wait, pselect6, ppoll, epoll_pwait, io_uring_enter, epoll_pwait2.
const WAITS: [i64; 8] = [7, 23, 232, 270, 271, 281, 426, 441];
/// nanosleep, clock_nanosleep: eventlet's poll hubs sleep when they have no descriptor.
const SLEEPS: [i64; 2] = [35, 230];
/// Libraries that wait for a loop without a Python frame of their own.
const LOOP_LIBRARIES: [&str; 5] = ["loop.cpython", "corecext", "corecffi", "libuv", "uringhub"];
/// Functions in a hub's files that call what others gave the hub.
const CALLBACKS: [&str; 5] = ["__call__", "fire_timers", "_run", "squelch_exception", "switch"];

/// Whether the innermost frame is the hub's own code rather than something the hub calls.
fn is_hub_code(file: &str, function: &str) -> bool {
    let name = function.rsplit('.').next().unwrap_or(function);
    is_hub_file(file) && !CALLBACKS.contains(&name)
}

/// Whether the innermost frames are the hub's own code; the selectors module serves loops and others, so that its
/// caller decides.
pub fn is_hub_stack(stack: &[Arc<Frame>]) -> bool {
    let is_selector = stack.first().is_some_and(|frame| frame.file.ends_with("/selectors.py"));
    stack.get(usize::from(is_selector)).is_none_or(|frame| is_hub_code(&frame.file, &frame.function))
}

/// Whether a closer look shows a hub that waits for work.
pub fn is_idle(evidence: &Evidence) -> bool {
    let Activity::Call { number, arguments, .. } = evidence.activity else { return false };
    let top = evidence.top();
    let is_hub = is_hub_stack(&evidence.stack);
    let is_wait = WAITS.contains(&number);
    let is_empty_select = matches!(number, 23 | 270) && arguments[0] == 0;
    if is_hub && is_wait && !is_empty_select {
        return true;
    }
    if SLEEPS.contains(&number) || is_empty_select {
        return is_hub && top.is_some_and(|frame| frame.file.contains("/eventlet/hubs/"));
    }
    is_wait
        && evidence
            .libraries
            .first()
            .is_some_and(|library| LOOP_LIBRARIES.iter().any(|name| library.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep(number: i64, stack: &[(&str, &str)]) -> Evidence {
        Evidence {
            activity: Activity::Call { number, arguments: [5, 0, 0, 0, 0, 0], stack: 0 },
            stack: stack
                .iter()
                .map(|&(file, function)| Arc::new(Frame::new(function.into(), file.into(), 1)))
                .collect(),
            descriptor: None,
            polled: 0,
            path: None,
            libraries: Vec::new(),
            is_resolving: false,
            is_on_gil: false,
            is_collecting: false,
        }
    }

    #[test]
    fn a_loop_in_its_selector_is_idle_and_anybody_else_in_one_is_not() {
        let selector = ("/lib/python3.11/selectors.py", "EpollSelector.select");
        assert!(is_idle(&asleep(232, &[selector, ("/lib/python3.11/asyncio/base_events.py", "_run_once")])));
        assert!(!is_idle(&asleep(7, &[selector, ("/lib/python3.11/subprocess.py", "Popen._communicate")])));
    }

    #[test]
    fn a_timer_of_the_hub_that_polls_is_blocked() {
        assert!(is_idle(&asleep(232, &[("/x/eventlet/hubs/epolls.py", "Hub.do_poll")])));
        assert!(!is_idle(&asleep(232, &[("/x/eventlet/hubs/timer.py", "Timer.__call__")])));
    }

    #[test]
    fn eventlet_sleeping_without_descriptors_is_idle() {
        assert!(is_idle(&asleep(230, &[("/x/eventlet/hubs/poll.py", "Hub.wait")])));
        assert!(!is_idle(&asleep(230, &[("/app/main.py", "work")])));
    }
}
