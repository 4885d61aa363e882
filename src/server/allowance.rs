//! How often something may be done: at once, and again after a while.

use std::time::{Duration, Instant};

/// Up to `burst` times at once, each of which is given back after `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time after which once more is allowed; above zero.
    pub interval: Duration,
    /// How often it is allowed at once; at least 1.
    pub burst: u32,
}

/// What is left of a rate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowance {
    /// When all that was spent is given back; `None` if nothing was spent.
    whole_at: Option<Instant>,
}

impl Allowance {
    /// Spends one, or says how long to wait for one.
    pub fn spend(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let whole_at = self.whole_at.map_or(now, |at| at.max(now)) + rate.interval;
        let too_much = whole_at.saturating_duration_since(now + rate.interval * rate.burst);
        if too_much > Duration::ZERO {
            return Err(too_much);
        }
        self.whole_at = Some(whole_at);
        Ok(())
    }

    /// Takes the spending of one back.
    pub fn give_back(&mut self, rate: Rate) {
        self.whole_at = self.whole_at.and_then(|at| at.checked_sub(rate.interval));
    }

    /// When nothing of it will be spent any more; `None` if nothing is.
    pub fn whole_at(&self) -> Option<Instant> {
        self.whole_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        interval: Duration::from_secs(2),
        burst: 3,
    };

    #[test]
    fn a_burst_is_allowed_and_then_one_after_each_interval() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        for _ in 0..3 {
            allowance.spend(RATE, start).unwrap();
        }
        let wait = allowance.spend(RATE, start).unwrap_err();
        assert_eq!(wait, RATE.interval);
        // Whoever is refused does not wait longer for it.
        let half = start + RATE.interval / 2;
        assert_eq!(allowance.spend(RATE, half).unwrap_err(), RATE.interval / 2);
        allowance.spend(RATE, start + RATE.interval).unwrap();
        allowance.spend(RATE, start + RATE.interval).unwrap_err();
        let later = start + RATE.interval * 100;
        for _ in 0..3 {
            allowance.spend(RATE, later).unwrap();
        }
        allowance.spend(RATE, later).unwrap_err();
    }

    #[test]
    fn what_is_given_back_may_be_spent_again() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        for _ in 0..100 {
            allowance.spend(RATE, start).unwrap();
            allowance.give_back(RATE);
        }
    }
}
