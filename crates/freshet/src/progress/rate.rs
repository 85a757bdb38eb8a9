//! How fast a counter grows: a moving average that forgets within some seconds.

use std::time::Instant;

/// Seconds after which a change of pace counts for about two thirds.
const WINDOW_S: f64 = 4.0;

/// A counter's pace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    last: Option<(Instant, u64)>,
    per_second: Option<f64>,
}

impl Rate {
    /// Takes note of the counter at `now` and returns its pace. A counter that went back begins anew, and one that
    /// stands at 0 has not begun.
    pub fn update(&mut self, now: Instant, count: u64) -> f64 {
        let Some((before, from)) = self.last.filter(|(_, from)| *from <= count && count > 0) else {
            *self = Self { last: Some((now, count)), per_second: None };
            return 0.0;
        };
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        if seconds > 0.0 {
            let pace = (count - from) as f64 / seconds;
            let weight = 1.0 - (-seconds / WINDOW_S).exp();
            self.per_second = Some(self.per_second.map_or(pace, |old| old + weight * (pace - old)));
            self.last = Some((now, count));
        }
        self.per_second.unwrap_or(0.0)
    }

    /// Milliseconds that `remaining` will take at this pace, if it is known.
    pub fn remaining_ms(&self, remaining: u64) -> Option<u64> {
        let pace = self.per_second.filter(|pace| *pace >= 0.5)?;
        Some((remaining as f64 / pace * 1000.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_steady_pace_is_told_and_a_change_is_followed() {
        let begin = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.update(begin, 100), 0.0);
        assert_eq!(rate.remaining_ms(1), None);
        assert_eq!(rate.update(begin + Duration::from_secs(1), 200) as u64, 100);
        assert_eq!(rate.remaining_ms(50), Some(500));
        let mut pace = 0.0;
        for s in 2..30 {
            pace = rate.update(begin + Duration::from_secs(s), 200);
        }
        assert!(pace < 1.0, "{pace}");
        assert_eq!(rate.update(begin + Duration::from_secs(31), 5), 0.0);
    }
}
