//! From evidence to a class. Pure.

use super::evidence::Evidence;
use crate::remote::Activity;
use crate::state::{Class, Trust};

/// A class, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Judgement {
    /// The class.
    pub class: Class,
    /// How sure.
    pub trust: Trust,
}

fn exact(class: Class) -> Judgement {
    Judgement { class, trust: Trust::Exact }
}

fn inferred(class: Class) -> Judgement {
    Judgement { class, trust: Trust::Inferred }
}

/// C database clients, by the library that waits.
const DATABASE_LIBRARIES: [&str; 9] = [
    "libpq",
    "libmysqlclient",
    "libmariadb",
    "libclntsh",
    "libodbc",
    "_mysql",
    "libtds",
    "_psycopg",
    "libmongoc",
];
/// Ports of database servers, for drivers linked statically.
const DATABASE_PORTS: [&str; 4] = [":5432", ":3306", ":1521", ":1433"];

/// Judges one closer look.
pub fn classify(evidence: &Evidence) -> Judgement {
    match evidence.activity {
        Activity::Running => judge_running(evidence),
        Activity::Fault => inferred(Class::Cpu),
        Activity::Call { number, arguments, .. } => judge_call(evidence, number, arguments),
    }
}

fn judge_running(evidence: &Evidence) -> Judgement {
    if evidence.is_collecting {
        return exact(Class::Gc);
    }
    if evidence.library(&["sqlite"]).is_some() {
        return inferred(Class::Sqlite);
    }
    exact(Class::Cpu)
}

fn judge_call(evidence: &Evidence, number: i64, arguments: [u64; 6]) -> Judgement {
    if evidence.is_on_gil {
        return exact(Class::Gil);
    }
    if evidence.library(&["sqlite"]).is_some() {
        return inferred(Class::Sqlite);
    }
    match number {
        // clock_nanosleep, nanosleep; Python 3.10 sleeps in select and pselect6 without descriptors.
        230 | 35 => exact(Class::Sleep),
        23 | 270 if arguments[0] == 0 => exact(Class::Sleep),
        61 | 247 => exact(Class::Subprocess),
        202 => judge_futex(evidence),
        // poll, ppoll, select, pselect6, epoll_wait, epoll_pwait, epoll_pwait2
        7 | 271 | 23 | 270 | 232 | 281 | 441 => judge_poll(evidence, number),
        // connect, accept, sendto, recvfrom, sendmsg, recvmsg, accept4, recvmmsg, sendmmsg
        42..=47 | 288 | 299 | 307 => judge_socket(evidence),
        // read, write, pread64, pwrite64, readv, writev, sendfile, splice, preadv, pwritev
        0 | 1 | 17..=20 | 40 | 275 | 295 | 296 => judge_transfer(evidence),
        // flock
        73 => exact(Class::Lock),
        // open, stat and their kin, msync, truncate, getdents, rename, mkdir, unlink, fsync, sync, fallocate, …
        2..=6 | 26 | 74..=90 | 162 | 217 | 257..=264 | 277 | 285 | 306 | 316 | 326 | 332 => {
            exact(Class::File)
        }
        _ => exact(Class::Syscall),
    }
}

fn judge_futex(evidence: &Evidence) -> Judgement {
    if evidence.has_frame(6, "importlib._bootstrap>", None)
        || evidence.has_frame(3, "importlib/_bootstrap.py", None)
    {
        return inferred(Class::ImportLock);
    }
    exact(Class::Lock)
}

fn is_resolving(evidence: &Evidence) -> bool {
    evidence.is_resolving
        || evidence.library(&["libresolv", "libnss_", "libcares"]).is_some()
        || evidence.has_frame(2, "/socket.py", Some("getaddrinfo"))
        || evidence.descriptor.as_ref().is_some_and(|descriptor| {
            descriptor.target.starts_with("udp") && descriptor.target.ends_with(":53")
        })
}

fn is_database(evidence: &Evidence) -> bool {
    evidence.library(&DATABASE_LIBRARIES).is_some()
        || evidence.descriptor.as_ref().is_some_and(|descriptor| {
            // A socket of Python's own to such a port is a pure Python driver: an ordinary socket.
            let is_python_socket = evidence.library(&["_socket.", "_ssl."]).is_some();
            !is_python_socket
                && !evidence.libraries.is_empty()
                && DATABASE_PORTS.iter().any(|port| descriptor.target.ends_with(port))
        })
}

fn judge_poll(evidence: &Evidence, number: i64) -> Judgement {
    if is_resolving(evidence) {
        return inferred(Class::Dns);
    }
    if is_database(evidence) {
        return inferred(Class::Database);
    }
    if evidence.has_frame(4, "/subprocess.py", None) {
        return inferred(Class::Subprocess);
    }
    let is_select_module =
        evidence.library(&["select."]).is_some() || evidence.has_frame(2, "/selectors.py", None);
    let is_socket_module = evidence.library(&["_socket.", "_ssl.", "cygrpc"]).is_some();
    // A socket with a timeout polls its one descriptor before each operation.
    let is_one_socket = matches!(number, 7 | 271)
        && evidence.polled == 1
        && evidence.descriptor.as_ref().is_some_and(|descriptor| descriptor.link.starts_with("socket:"));
    if !is_select_module && (is_socket_module || is_one_socket) {
        return inferred(Class::Socket);
    }
    exact(Class::Select)
}

fn judge_socket(evidence: &Evidence) -> Judgement {
    if is_resolving(evidence) {
        return inferred(Class::Dns);
    }
    if is_database(evidence) {
        return inferred(Class::Database);
    }
    exact(Class::Socket)
}

fn judge_transfer(evidence: &Evidence) -> Judgement {
    let Some(descriptor) = &evidence.descriptor else { return inferred(Class::File) };
    if descriptor.link.starts_with("socket:") {
        return judge_socket(evidence);
    }
    let is_character = descriptor.link.starts_with("/dev/") && !descriptor.link.starts_with("/dev/shm/");
    if descriptor.link.starts_with("pipe:") || is_character {
        if evidence.has_frame(6, "/subprocess.py", None) {
            return inferred(Class::Subprocess);
        }
        return exact(Class::Pipe);
    }
    exact(Class::File)
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Descriptor;
    use super::*;
    use crate::state::Frame;
    use std::sync::Arc;

    fn call(number: i64, first: u64) -> Evidence {
        Evidence {
            activity: Activity::Call { number, arguments: [first, 0, 0, 0, 0, 0], stack: 0 },
            stack: vec![Arc::new(Frame::new("work".into(), "/app/a.py".into(), 1))],
            descriptor: None,
            polled: 0,
            path: None,
            libraries: Vec::new(),
            is_resolving: false,
            is_on_gil: false,
            is_collecting: false,
        }
    }

    fn on(mut evidence: Evidence, link: &str, target: &str) -> Evidence {
        evidence.descriptor = Some(Descriptor { fd: 5, link: link.to_owned(), target: target.to_owned() });
        evidence
    }

    #[test]
    fn each_call_has_the_class_of_what_it_waits_for() {
        assert_eq!(classify(&call(230, 0)).class, Class::Sleep);
        assert_eq!(classify(&call(270, 0)).class, Class::Sleep);
        assert_eq!(classify(&call(270, 6)).class, Class::Select);
        assert_eq!(classify(&call(61, 0)).class, Class::Subprocess);
        assert_eq!(classify(&call(202, 0)).class, Class::Lock);
        assert_eq!(classify(&call(74, 4)).class, Class::File);
        assert_eq!(classify(&on(call(0, 5), "socket:[7]", "tcp a → b")).class, Class::Socket);
        assert_eq!(classify(&on(call(0, 5), "pipe:[7]", "pipe:[7]")).class, Class::Pipe);
        assert_eq!(classify(&on(call(0, 5), "/data/x", "/data/x")).class, Class::File);
    }

    #[test]
    fn the_waiting_library_decides_between_a_socket_and_a_database_driver() {
        let mut evidence = on(call(7, 0), "socket:[7]", "tcp 127.0.0.1:40000 → 127.0.0.1:5432");
        evidence.polled = 1;
        assert_eq!(classify(&evidence).class, Class::Socket);
        evidence.libraries = vec!["libpq-9b38f5e3.so.5.17".to_owned()];
        assert_eq!(classify(&evidence).class, Class::Database);
    }

    #[test]
    fn a_pure_python_driver_on_a_database_port_is_a_socket() {
        let mut evidence = on(call(45, 5), "socket:[7]", "tcp 127.0.0.1:40000 → 127.0.0.1:5432");
        evidence.libraries = vec!["_socket.cpython-311-x86_64-linux-gnu.so".to_owned()];
        assert_eq!(classify(&evidence).class, Class::Socket);
    }

    #[test]
    fn sqlite_sleeping_for_a_lock_is_sqlite_and_not_a_sleep() {
        let mut evidence = call(230, 0);
        evidence.libraries = vec!["libsqlite3.so.0.8.6".to_owned()];
        assert_eq!(classify(&evidence).class, Class::Sqlite);
    }

    #[test]
    fn a_futex_of_the_gil_is_no_lock() {
        let mut evidence = call(202, 0x1000);
        evidence.is_on_gil = true;
        assert_eq!(classify(&evidence).class, Class::Gil);
    }

    #[test]
    fn a_resolver_polling_its_server_is_a_name_lookup() {
        let evidence = on(call(7, 0), "socket:[7]", "udp 10.0.0.2:40000 → 10.0.0.1:53");
        assert_eq!(classify(&evidence).class, Class::Dns);
    }
}
