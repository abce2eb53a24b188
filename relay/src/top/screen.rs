//! The terminal: another screen and raw keys while we have it, as it was afterwards, also when we
//! end by a panic.

use std::io::{self, Write};
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode, size,
};
use crossterm::{execute, queue};

use super::table::{Kind, Line};

/// Ours until it is dropped.
pub(super) struct Screen(io::Stdout);

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    /// The screen has another size.
    Resized,
    Letter(char),
    /// Down by so many rows.
    Rows(isize),
    /// Down by so many halves of a screen.
    Pages(isize),
}

impl Screen {
    pub(super) fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        let mut screen = Self(io::stdout());
        execute!(screen.0, EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    /// Width and height.
    pub(super) fn size(&self) -> io::Result<(usize, usize)> {
        let (width, height) = size()?;
        Ok((usize::from(width.max(1)), usize::from(height.max(1))))
    }

    /// Draws the whole screen in one go.
    pub(super) fn draw(&mut self, lines: &[Line]) -> io::Result<()> {
        let out = &mut self.0;
        for (row, line) in (0..).zip(lines) {
            queue!(out, MoveTo(0, row), Clear(ClearType::UntilNewLine))?;
            match line.kind {
                Kind::Plain => {}
                Kind::Heading => queue!(out, SetAttribute(Attribute::Reverse))?,
                Kind::Trouble => queue!(out, SetAttribute(Attribute::Bold))?,
                Kind::Soft => queue!(out, SetAttribute(Attribute::Dim))?,
            }
            queue!(out, Print(&line.text), SetAttribute(Attribute::Reset))?;
        }
        out.flush()
    }

    /// What the user does next, if anything within this time.
    pub(super) fn key(&mut self, within: Duration) -> io::Result<Option<Key>> {
        if !event::poll(within)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => meaning(key),
            Event::Resize(..) => Some(Key::Resized),
            _ => None,
        })
    }
}

fn meaning(key: KeyEvent) -> Option<Key> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(key.code, KeyCode::Char('c' | 'd')).then_some(Key::Quit);
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('j') | KeyCode::Down => Key::Rows(1),
        KeyCode::Char('k') | KeyCode::Up => Key::Rows(-1),
        KeyCode::PageDown => Key::Pages(1),
        KeyCode::PageUp => Key::Pages(-1),
        KeyCode::Home => Key::Rows(isize::MIN),
        KeyCode::End => Key::Rows(isize::MAX),
        KeyCode::Char(letter) => Key::Letter(letter),
        _ => return None,
    })
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone there is nothing to give back.
        let _ = execute!(self.0, Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_last_line_says() {
        fn check(code: KeyCode, modifiers: KeyModifiers, expected: Option<Key>) {
            assert_eq!(meaning(KeyEvent::new(code, modifiers)), expected, "{code:?}");
        }
        let none = KeyModifiers::NONE;
        check(KeyCode::Char('q'), none, Some(Key::Quit));
        check(KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Key::Quit));
        check(KeyCode::Char('p'), KeyModifiers::CONTROL, None);
        check(KeyCode::Char('p'), none, Some(Key::Letter('p')));
        check(KeyCode::Down, none, Some(Key::Rows(1)));
        check(KeyCode::PageUp, none, Some(Key::Pages(-1)));
        check(KeyCode::F(1), none, None);
    }
}
