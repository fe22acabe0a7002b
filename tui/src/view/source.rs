//! Source lines around a frame, as the files are on disk now.

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// Where source lines come from; a test brings its own.
pub trait Source: Debug {
    /// One line, counted from 1, without its end.
    fn line(&mut self, file: &str, line: u32) -> Option<String>;
}

/// No source at all.
#[derive(Debug)]
pub struct NoSource;

impl Source for NoSource {
    fn line(&mut self, _file: &str, _line: u32) -> Option<String> {
        None
    }
}

/// Files as the observed process sees them.
#[derive(Debug)]
pub struct SourceFiles {
    pid: i32,
    files: HashMap<String, Option<Vec<String>>>,
}

/// Larger files are not read: no one wrote them by hand.
const SIZE_LIMIT: u64 = 4 << 20;
/// Files kept; with more, all are forgotten and read again.
const FILES_LIMIT: usize = 32;

impl SourceFiles {
    /// For one process.
    pub fn new(pid: i32) -> Self {
        Self { pid, files: HashMap::new() }
    }
}

impl Source for SourceFiles {
    fn line(&mut self, file: &str, line: u32) -> Option<String> {
        if self.files.len() >= FILES_LIMIT && !self.files.contains_key(file) {
            self.files.clear();
        }
        let pid = self.pid;
        let lines = self.files.entry(file.to_owned()).or_insert_with(|| read(&locate(pid, file)?));
        lines.as_ref()?.get(usize::try_from(line).ok()?.checked_sub(1)?).cloned()
    }
}

/// The path under which a file of the process can be read from here: the process may live in another root.
pub fn locate(pid: i32, file: &str) -> Option<PathBuf> {
    if file.is_empty() || file.starts_with('<') {
        return None;
    }
    let absolute = if file.starts_with('/') {
        PathBuf::from(file)
    } else {
        std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?.join(file)
    };
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let is_own_root = std::fs::read_link(&root).is_ok_and(|root| root == Path::new("/"));
    let inside = root.join(absolute.strip_prefix("/").ok()?);
    // A mount namespace can differ while the root is called the same: the two must be one file.
    if is_own_root && (is_same_file(&absolute, &inside) || !inside.is_file()) {
        return absolute.is_file().then_some(absolute);
    }
    inside.is_file().then_some(inside)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    id(one).is_some_and(|one| id(other) == Some(one))
}

fn read(path: &Path) -> Option<Vec<String>> {
    if std::fs::metadata(path).ok()?.len() > SIZE_LIMIT {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // A control character in a source file must not reach the terminal.
    let clean = |line: &str| line.replace('\t', "    ").replace(|c: char| c.is_control(), "·");
    Some(text.lines().map(clean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one_and_missing_files_are_no_error() {
        let own = std::process::id() as i32;
        let path = std::env::temp_dir().join(format!("evtop-source-{own}.py"));
        std::fs::write(&path, "first\n\tsecond \x1b[31m\n").expect("a temporary file");
        let file = path.to_str().expect("a path in UTF-8");
        let mut source = SourceFiles::new(own);
        assert_eq!(source.line(file, 1).as_deref(), Some("first"));
        assert_eq!(source.line(file, 2).as_deref(), Some("    second ·[31m"));
        assert_eq!(source.line(file, 0), None);
        assert_eq!(source.line(file, 3), None);
        assert_eq!(source.line("<frozen importlib._bootstrap>", 1), None);
        assert_eq!(source.line("/no/such/file.py", 1), None);
        std::fs::remove_file(&path).expect("the temporary file");
    }
}
