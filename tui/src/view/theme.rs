//! Colours: what the terminal can show, and which tone means what.

use ratatui::style::{Color, Modifier, Style};

/// How many colours the terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourDepth {
    /// None: `NO_COLOR` is set, or the terminal is dumb.
    None,
    /// The sixteen of ANSI.
    Sixteen,
    /// The palette of 256.
    Indexed,
    /// 24 bits.
    True,
}

impl ColourDepth {
    /// Decides from the environment, by <https://no-color.org> and the terminal's own claims.
    pub fn detect(variable: impl Fn(&str) -> Option<String>) -> Self {
        if variable("NO_COLOR").is_some_and(|value| !value.is_empty()) {
            return Self::None;
        }
        let term = variable("TERM").unwrap_or_default();
        if term.is_empty() || term == "dumb" || term.ends_with("-mono") {
            return Self::None;
        }
        let claim = variable("COLORTERM").unwrap_or_default();
        if claim == "truecolor" || claim == "24bit" || term.ends_with("-direct") {
            return Self::True;
        }
        if term.contains("256color") { Self::Indexed } else { Self::Sixteen }
    }
}

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Ordinary.
    #[default]
    Plain,
    /// Of less interest.
    Dim,
    /// A heading.
    Heading,
    /// Fine.
    Good,
    /// Worth a look.
    Notice,
    /// Worth a change.
    Warning,
    /// Blocks now, or lost.
    Danger,
    /// A name to recognise.
    Accent,
    /// The row the cursor is on.
    Selected,
    /// Title and tab in front.
    Bar,
}

/// Tones as styles of one colour depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// What the terminal shows.
    pub depth: ColourDepth,
}

impl Theme {
    /// The style of a tone.
    pub fn style(self, tone: Tone) -> Style {
        let style = Style::default();
        let colour = |style: Style| self.colour(tone).map_or(style, |colour| style.fg(colour));
        match tone {
            Tone::Plain => style,
            Tone::Dim if self.depth == ColourDepth::None => style.add_modifier(Modifier::DIM),
            Tone::Heading => colour(style).add_modifier(Modifier::BOLD),
            Tone::Danger | Tone::Warning => colour(style).add_modifier(Modifier::BOLD),
            Tone::Selected | Tone::Bar => self.bar(tone),
            _ => colour(style),
        }
    }

    fn bar(self, tone: Tone) -> Style {
        let pair = match (self.depth, tone) {
            (ColourDepth::None | ColourDepth::Sixteen, _) => {
                return Style::default().add_modifier(Modifier::REVERSED);
            }
            (ColourDepth::Indexed, Tone::Bar) => (Color::Indexed(231), Color::Indexed(24)),
            (ColourDepth::Indexed, _) => (Color::Indexed(231), Color::Indexed(238)),
            (ColourDepth::True, Tone::Bar) => (Color::Rgb(240, 246, 252), Color::Rgb(22, 78, 115)),
            (ColourDepth::True, _) => (Color::Rgb(240, 246, 252), Color::Rgb(52, 60, 74)),
        };
        let style = Style::default().fg(pair.0).bg(pair.1);
        if tone == Tone::Bar { style.add_modifier(Modifier::BOLD) } else { style }
    }

    fn colour(self, tone: Tone) -> Option<Color> {
        let (sixteen, indexed, rgb) = match tone {
            Tone::Dim => (Color::DarkGray, 245, (139, 148, 158)),
            Tone::Heading => (Color::Cyan, 80, (121, 192, 255)),
            Tone::Good => (Color::Green, 114, (126, 231, 135)),
            Tone::Notice => (Color::Blue, 111, (165, 180, 252)),
            Tone::Warning => (Color::Yellow, 221, (240, 200, 90)),
            Tone::Danger => (Color::Red, 203, (255, 123, 114)),
            Tone::Accent => (Color::Magenta, 183, (210, 168, 255)),
            Tone::Plain | Tone::Selected | Tone::Bar => return None,
        };
        match self.depth {
            ColourDepth::None => None,
            ColourDepth::Sixteen => Some(sixteen),
            ColourDepth::Indexed => Some(Color::Indexed(indexed)),
            ColourDepth::True => Some(Color::Rgb(rgb.0, rgb.1, rgb.2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(pairs: &[(&str, &str)]) -> ColourDepth {
        ColourDepth::detect(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_decides_the_depth() {
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]), ColourDepth::True);
        assert_eq!(detect(&[("TERM", "xterm-256color")]), ColourDepth::Indexed);
        assert_eq!(detect(&[("TERM", "linux")]), ColourDepth::Sixteen);
        assert_eq!(detect(&[("TERM", "dumb")]), ColourDepth::None);
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("NO_COLOR", "1")]), ColourDepth::None);
        assert_eq!(detect(&[("TERM", "xterm-256color"), ("NO_COLOR", "")]), ColourDepth::Indexed);
    }

    #[test]
    fn without_colours_no_tone_sets_one() {
        let theme = Theme { depth: ColourDepth::None };
        for tone in [Tone::Good, Tone::Danger, Tone::Selected, Tone::Bar, Tone::Dim, Tone::Accent] {
            let style = theme.style(tone);
            assert_eq!((style.fg, style.bg), (None, None), "{tone:?}");
        }
    }
}
