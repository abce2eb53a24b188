//! `relay top`: a relay's streams, cores and losses in a terminal, live, from its API.
//!
//! It is a client like any other: it knows a relay by its address and its token, runs on whatever
//! machine its user sits at, and imports nothing of the node. A thread of its own asks; the screen
//! never waits for an answer.
//!
//! ```text
//!   client    one question to the API
//!   figures   two answers made into rates
//!   table     figures made into lines of a given width
//!   screen    the terminal: raw while we have it, as it was afterwards
//! ```

mod client;
mod figures;
mod screen;
mod table;

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

pub use crate::config::Top;
use client::Client;
use figures::{Answer, Figures};
use screen::{Key, Screen};
use table::{Order, Table};

/// How often keys are looked for.
const KEYS_EVERY: Duration = Duration::from_millis(100);

/// Between the two questions of `--once`.
const ONCE_APART: Duration = Duration::from_secs(1);

/// Runs until its user ends it.
///
/// # Errors
///
/// One sentence: the relay cannot be asked, or there is no terminal.
pub fn run(options: &Top) -> Result<(), String> {
    let client = Client::new(options)?;
    if options.once {
        return once(&client);
    }
    if !std::io::stdout().is_terminal() {
        return Err("relay top needs a terminal; --once prints one table anywhere.".to_owned());
    }
    // What cannot be asked at all is told before the screen is taken.
    let first = client.ask()?;
    let (sender, answers) = channel();
    let interval = options.interval;
    std::thread::Builder::new()
        .name("relay-top".to_owned())
        .spawn(move || keep_asking(&client, interval, &sender))
        .map_err(|error| format!("No thread can be started: {error}."))?;
    let mut screen = Screen::take().map_err(|error| format!("The terminal fails: {error}."))?;
    let shown = show(&mut screen, first, &answers);
    drop(screen);
    shown.map_err(|error| format!("The terminal fails: {error}."))
}

/// Two questions, one table, for pipes and scripts.
fn once(client: &Client) -> Result<(), String> {
    let first = client.ask()?;
    std::thread::sleep(ONCE_APART);
    let mut figures = Figures::new(first);
    figures.take(client.ask()?);
    let table = Table::default();
    let text: String =
        table.plain(&figures).iter().map(|line| format!("{}\n", line.trim_end())).collect();
    let mut out = std::io::stdout();
    // A reader that ends early has read what it wanted.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

fn keep_asking(client: &Client, interval: Duration, sender: &Sender<Result<Answer, String>>) {
    loop {
        std::thread::sleep(interval);
        // Nobody listens: the screen is gone.
        if sender.send(client.ask()).is_err() {
            return;
        }
    }
}

fn show(
    screen: &mut Screen,
    first: Answer,
    answers: &Receiver<Result<Answer, String>>,
) -> std::io::Result<()> {
    let mut figures = Figures::new(first);
    let mut table = Table::default();
    let mut drawn = false;
    loop {
        while let Ok(answer) = answers.try_recv() {
            drawn = false;
            match answer {
                Ok(_) if table.paused => {}
                Ok(answer) => {
                    figures.take(answer);
                    table.trouble = None;
                }
                Err(why) => table.trouble = Some(why),
            }
        }
        if !drawn {
            let (width, height) = screen.size()?;
            screen.draw(&table.lines(&figures, width, height))?;
            drawn = true;
        }
        let Some(key) = screen.key(KEYS_EVERY)? else { continue };
        drawn = false;
        match key {
            Key::Quit => return Ok(()),
            Key::Resized => {}
            Key::Letter(' ') => table.paused = !table.paused,
            Key::Letter('r') => table.upside_down = !table.upside_down,
            Key::Letter(letter) => {
                if let Some(order) = Order::of(letter) {
                    table.order = order;
                }
            }
            Key::Rows(rows) => table.scroll(rows, figures.streams().len()),
            Key::Pages(pages) => {
                let (_, height) = screen.size()?;
                let page = isize::try_from(height / 2).unwrap_or(isize::MAX);
                table.scroll(page.saturating_mul(pages), figures.streams().len());
            }
        }
    }
}
