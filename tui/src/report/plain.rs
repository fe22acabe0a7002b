//! Names of another process on a terminal: whoever chose them may have put a command for it there.

use std::fmt::{Display, Formatter, Result, Write};

/// Shows text with control characters, line ends and changes of direction escaped: `\u{1b}`, `\n`.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(pub &'a str);

fn is_command(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Display for Plain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if !self.0.contains(is_command) {
            return f.pad(self.0);
        }
        for c in self.0.chars() {
            if is_command(c) { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Plain;

    #[test]
    fn no_command_for_the_terminal_gets_through() {
        let shown = Plain("\u{1b}]0;title\u{7}a\nb\r\u{9b}31m\u{202e}ä日").to_string();
        assert_eq!(shown, "\\u{1b}]0;title\\u{7}a\\nb\\r\\u{9b}31m\\u{202e}ä日");
        assert_eq!(format!("{:<6}|", Plain("plain")), "plain |");
    }
}
