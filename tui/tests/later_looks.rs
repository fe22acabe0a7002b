//! Later looks read only what changed, and miss none of it: on a real program whose greenlets take turns when told.

use evtop::observe::Observer;
use evtop::state::Snapshot;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const PROGRAM: &str = "
import sys, greenlet
main = greenlet.getcurrent()
def rests():
    main.switch()
def walks(n):
    while True:
        main.switch()
        n = n + 1
        main.switch()
def deepens(depth):
    main.switch()
    deepens(depth + 1)
class Other(greenlet.greenlet):
    pass
def ends():
    main.switch()
def new(kind):
    made = kind(ends)
    made.switch()
    return made
greens = [greenlet.greenlet(f) for f in (rests, walks, deepens)]
greens[0].switch()
greens[1].switch(0)
greens[2].switch(0)
brief = new(greenlet.greenlet)
kinds = [Other, greenlet.greenlet]
print('ready', flush=True)
for line in sys.stdin:
    # The next one lies where the last one lay, or will when its turn comes again.
    brief.switch()
    del brief
    kinds.reverse()
    brief = new(kinds[1])
    greens[1].switch()
    greens[2].switch()
    print('went on', flush=True)
";

struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    /// `None` where the interpreter has no greenlet module.
    fn start() -> Option<Self> {
        let python = std::env::var("EVTOP_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let mut child = Command::new(python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut program = Self { child, input, output };
        (program.line() == "ready").then_some(program)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    fn go_on(&mut self) {
        self.input.write_all(b"\n").expect("a running program");
        assert_eq!(self.line(), "went on");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a green thread's stack, innermost first.
fn lines(snapshot: &Snapshot, name: &str) -> Vec<u32> {
    let green = snapshot.green_threads.iter().find(|green| &*green.name == name).expect(name);
    green.stack.iter().map(|frame| frame.line).collect()
}

#[test]
fn a_greenlet_that_took_the_place_of_another_is_not_taken_for_it() {
    let Some(mut program) = Program::start() else {
        eprintln!("skipped: EVTOP_TEST_PYTHON has no greenlet");
        return;
    };
    let mut observer = Observer::attach(program.child.id() as i32).expect("a child can be observed");
    let mut brief = || {
        let snapshot = observer.look().expect("a running program");
        let mut found = snapshot.green_threads.iter().filter(|green| &*green.name == "ends");
        let green = found.next().expect("the brief one");
        assert!(found.next().is_none());
        (green.class.to_string(), green.id)
    };
    let mut places = std::collections::HashSet::new();
    for round in 0..6 {
        let (class, id) = brief();
        assert_eq!(class, ["greenlet.greenlet", "Other"][round % 2]);
        places.insert(id);
        program.go_on();
    }
    assert!(places.len() < 6, "no place was used again, so nothing was tested");
}

#[test]
fn a_stack_that_changed_is_read_anew_and_one_that_did_not_is_kept() {
    let Some(mut program) = Program::start() else {
        eprintln!("skipped: EVTOP_TEST_PYTHON has no greenlet");
        return;
    };
    let mut observer = Observer::attach(program.child.id() as i32).expect("a child can be observed");
    let mut look = || observer.look().expect("a running program");
    let first = look();
    assert_eq!(lines(&first, "rests"), [5]);
    assert_eq!(lines(&first, "walks"), [8]);
    assert_eq!(lines(&first, "deepens"), [12]);
    let again = look();
    assert_eq!(lines(&again, "walks"), [8]);
    assert!(again.counters.read_calls < first.counters.read_calls);
    // The same frame at the same address, one instruction further.
    program.go_on();
    let later = look();
    assert_eq!(lines(&later, "rests"), [5]);
    assert_eq!(lines(&later, "walks"), [10]);
    assert_eq!(lines(&later, "deepens"), [12, 13]);
    for _ in 0..3 {
        program.go_on();
    }
    let last = look();
    assert_eq!(lines(&last, "walks"), [8]);
    assert_eq!(lines(&last, "deepens"), [12, 13, 13, 13, 13]);
}
