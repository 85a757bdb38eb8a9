//! What the demo prints: a line for each step, and one line below it that is redrawn while something runs.
//!
//! Without a terminal the moving line is printed as a line of its own, every two seconds.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(150);
const REPRINT: Duration = Duration::from_secs(2);

/// The terminal, or the file, that the demo is printed to.
pub struct Screen {
    began: Instant,
    is_terminal: bool,
    drawn: Option<Instant>,
    line: String,
}

impl Screen {
    /// The clock starts.
    pub fn new() -> Self {
        let is_terminal = stdout().is_terminal();
        Self { began: Instant::now(), is_terminal, drawn: None, line: String::new() }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The first line.
    pub fn title(&self, text: &str) {
        println!("\n{}\n", self.bold(text));
    }

    /// Something has been done.
    pub fn step(&mut self, name: &str, text: &str) {
        self.clear();
        println!("{:>6}  {} {text}", seconds(self.elapsed()), self.bold(&format!("{name:<8}")));
    }

    /// Something takes a moment; replaced by the next step.
    pub fn begin(&mut self, name: &str, text: &str) {
        if self.is_terminal {
            self.clear();
            self.show(&format!("{:>6}  {name:<8} {text} ...", seconds(self.elapsed())));
        }
    }

    /// The moving line; drawn when it is due.
    pub fn draw(&mut self, text: &str) {
        let pause = if self.is_terminal { REDRAW } else { REPRINT };
        if self.drawn.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        self.drawn = Some(Instant::now());
        let text = format!("{:>6}  {:8} {text}", seconds(self.elapsed()), "");
        if self.is_terminal {
            self.clear();
            self.show(&text);
        } else {
            println!("{text}");
        }
    }

    /// What another program printed.
    pub fn quote(&mut self, text: &str) {
        self.clear();
        for line in text.lines() {
            println!("{:>6}  {line}", "");
        }
    }

    /// The moving line stays as it was drawn last.
    pub fn settle(&mut self) {
        if self.is_terminal && !self.line.is_empty() {
            println!();
        }
        self.line.clear();
        self.drawn = None;
    }

    fn show(&mut self, text: &str) {
        text.clone_into(&mut self.line);
        print!("{text}");
        let _ = stdout().flush();
    }

    fn clear(&mut self) {
        if self.is_terminal && !self.line.is_empty() {
            print!("\r\x1b[2K");
            self.line.clear();
        }
    }

    fn bold(&self, text: &str) -> String {
        if self.is_terminal { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A number with commas.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds with one decimal.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let counted = [0, 999, 1_000, 12_345, 1_234_567].map(count);
        assert_eq!(counted, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
