//! Measured comparisons
