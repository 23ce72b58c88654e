//! How many requests a key may still send now: a bucket for each key, filled by the clock.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Error, Result};

#[derive(Debug, Default)]
pub(crate) struct Rates {
    buckets: Mutex<BTreeMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    filled: Instant,
}

impl Rates {
    /// Takes one request of a key, or says when there will be one.
    pub(crate) fn take(&self, key: &str, per_minute: u32, now: Instant) -> Result<()> {
        let most = f64::from(per_minute);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(key.into()).or_insert(Bucket { left: most, filled: now });
        let elapsed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.left = (bucket.left + elapsed * most / 60.0).min(most);
        bucket.filled = now;
        if bucket.left < 1.0 {
            // A key that may send nothing at all is told to wait for a day.
            let seconds = if per_minute == 0 { 86_400.0 } else { (1.0 - bucket.left) * 60.0 / most };
            return Err(Error::TooManyRequests {
                per_minute,
                retry_after_s: (seconds - 1e-6).ceil().max(1.0) as u64,
            });
        }
        bucket.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_with_time() {
        let (rates, start) = (Rates::default(), Instant::now());
        let take = |after_s: u64| match rates.take("k", 2, start + Duration::from_secs(after_s)) {
            Ok(()) => 0,
            Err(Error::TooManyRequests { retry_after_s, .. }) => retry_after_s,
            Err(error) => panic!("{error}"),
        };
        assert_eq!([take(0), take(0), take(0), take(10), take(30), take(31)], [0, 0, 30, 20, 0, 29]);
        assert!(rates.take("other", 2, start).is_ok());
        assert!(rates.take("none", 0, start).is_err());
    }
}
