//! Values as short text.

use crate::state::{Frame, NodeId, Snapshot, Trust, Wait};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The mark of a label; the status line explains it on every screen.
pub fn mark(trust: Trust) -> char {
    match trust {
        Trust::Exact => '=',
        Trust::Sampled => '≈',
        Trust::Inferred => '~',
    }
}

/// The label in words.
pub fn label(trust: Trust) -> &'static str {
    match trust {
        Trust::Exact => "exact",
        Trust::Sampled => "sampled",
        Trust::Inferred => "inferred",
    }
}

/// A span of time in at most six columns: `0.4ms`, `123ms`, `1.25s`, `12m05s`, `3h07m`.
pub fn span(ms: f64) -> String {
    let whole = ms.max(0.0) as u64;
    match ms {
        ms if ms < 9.95 => format!("{:.1}ms", ms.max(0.0)),
        ms if ms < 999.5 => format!("{ms:.0}ms"),
        ms if ms < 9_995.0 => format!("{:.2}s", ms / 1e3),
        ms if ms < 59_950.0 => format!("{:.1}s", ms / 1e3),
        ms if ms < 3_600_000.0 => format!("{}m{:02}s", whole / 60_000, whole / 1000 % 60),
        ms if ms < 86_400_000.0 => format!("{}h{:02}m", whole / 3_600_000, whole / 60_000 % 60),
        _ => format!("{}d{:02}h", whole / 86_400_000, whole / 3_600_000 % 24),
    }
}

/// Bytes in MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// A clock time of the day in UTC, from milliseconds since 1970.
pub fn clock(ms: u64) -> String {
    let seconds = ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The last two parts of a path: enough to recognise it in a column.
pub fn short_file(file: &str) -> &str {
    let mut slashes = file.rmatch_indices('/');
    match (slashes.next(), slashes.next()) {
        (Some(_), Some((at, _))) => &file[at + 1..],
        _ => file,
    }
}

/// `file:line` in short.
pub fn place(frame: &Frame) -> String {
    format!("{}:{}", short_file(&frame.file), frame.line)
}

/// A wait with its label: `=recv tcp 127.0.0.1:5432`.
pub fn wait(wait: &Wait) -> String {
    let mut text = format!("{}{}", mark(wait.trust), wait.text);
    if let Some(fd) = wait.fd {
        text.push_str(&format!(" fd {fd}"));
    }
    if let Some(target) = &wait.target {
        text.push(' ');
        text.push_str(target);
    }
    text
}

/// The name of a green thread or task, or its address if it is unknown.
pub fn node_name(snapshot: &Snapshot, id: NodeId) -> String {
    if let Some(task) = snapshot.tasks.iter().find(|task| task.id == id) {
        return task.name.clone();
    }
    let green = snapshot.green_threads.iter().find(|green| green.id == id);
    green.map_or_else(|| id.to_string(), |green| green.name.to_string())
}

/// Cuts a text to a width in columns, with an ellipsis where something is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut used = 0;
    let mut out = String::new();
    for character in text.chars() {
        let columns = character.width().unwrap_or(0);
        if used + columns + 1 > width {
            break;
        }
        used += columns;
        out.push(character);
    }
    if width > 0 {
        out.push('…');
    }
    out
}

/// Cuts a text to a width in columns at its beginning.
pub fn cut_start(text: &str, width: usize) -> String {
    if text.width() <= width || width == 0 {
        return cut(text, width);
    }
    let mut used = 1;
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        used += character.width().unwrap_or(0);
        if used > width {
            break;
        }
        from = at;
    }
    format!("…{}", &text[from..])
}

/// Breaks a text into lines of at most `width` columns, at spaces where there are any.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        while line.width() > width.max(1) {
            let head = prefix(&line, width.max(1));
            let rest = line.split_off(head);
            lines.push(std::mem::replace(&mut line, rest));
        }
    }
    lines.push(line);
    lines
}

/// Length in bytes of the longest prefix within a width; at least one character.
fn prefix(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > width && at > 0 {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_stay_within_six_columns() {
        let cases = [
            (0.42, "0.4ms"),
            (123.4, "123ms"),
            (1250.0, "1.25s"),
            (12_340.0, "12.3s"),
            (725_000.0, "12m05s"),
            (11_220_000.0, "3h07m"),
            (180_000_000.0, "2d02h"),
        ];
        for (ms, text) in cases {
            assert_eq!(span(ms), text);
            assert!(text.len() <= 6);
        }
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_bytes() {
        assert_eq!(cut("日本語テキスト", 7), "日本語…");
        assert_eq!(cut("short", 7), "short");
        assert_eq!(cut("anything", 0), "");
        assert_eq!(cut_start("app/main.py:42", 10), "…ain.py:42");
        assert_eq!(cut_start("main.py:42", 10), "main.py:42");
    }

    #[test]
    fn long_words_are_broken_rather_than_lost() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
    }
}
