//! Optimisers, schedules, the training loop.
