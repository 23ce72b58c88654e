//! Metrics, confidence intervals, comparison reports.
