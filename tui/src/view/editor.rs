//! Opening a line in the user's editor.

use super::source::locate;
use std::path::Path;
use std::process::Command;

/// The command that opens a line; `Err` is a sentence for the user.
pub fn editor_command(
    pid: i32,
    file: &str,
    line: u32,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Command, String> {
    let path = locate(pid, file).ok_or_else(|| format!("{file} cannot be read from here"))?;
    let chosen =
        ["VISUAL", "EDITOR"].iter().find_map(|name| variable(name).filter(|text| !text.trim().is_empty()));
    let chosen = chosen.unwrap_or_else(|| "vi".to_owned());
    let mut words = chosen.split_whitespace();
    let program = words.next().ok_or("EDITOR is empty")?;
    let mut command = Command::new(program);
    command.args(words).args(arguments(program, &path.to_string_lossy(), line));
    Ok(command)
}

/// Editors disagree on how to say a line.
fn arguments(program: &str, path: &str, line: u32) -> Vec<String> {
    let name = Path::new(program).file_name().map(|name| name.to_string_lossy().into_owned());
    match name.as_deref() {
        Some("code" | "codium" | "cursor" | "code-insiders") => {
            vec!["--wait".to_owned(), "--goto".to_owned(), format!("{path}:{line}")]
        }
        Some("subl" | "hx" | "helix" | "zed") => vec![format!("{path}:{line}")],
        Some("pycharm" | "idea" | "charm") => vec!["--line".to_owned(), line.to_string(), path.to_owned()],
        _ => vec![format!("+{line}"), path.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_editor_is_told_the_line_its_own_way() {
        assert_eq!(arguments("/usr/bin/nvim", "/a.py", 7), ["+7", "/a.py"]);
        assert_eq!(arguments("code", "/a.py", 7), ["--wait", "--goto", "/a.py:7"]);
        assert_eq!(arguments("hx", "/a.py", 7), ["/a.py:7"]);
    }

    #[test]
    fn the_users_choice_keeps_its_own_arguments() {
        let own = std::process::id() as i32;
        let file = std::env::current_exe().expect("the test itself");
        let file = file.to_str().expect("a path in UTF-8");
        let variable = |name: &str| (name == "EDITOR").then(|| "emacs -nw".to_owned());
        let command = editor_command(own, file, 3, variable).expect("a command");
        assert_eq!(command.get_program(), "emacs");
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(arguments, ["-nw", "+3", file]);
        assert!(editor_command(own, "/no/such.py", 3, variable).is_err());
    }
}
