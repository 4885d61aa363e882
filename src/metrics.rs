//! Every metric: name, type, labels and help text.

use crate::observation::Observation;

/// The two texts that a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

/// The whole exposition of one observation.
pub fn encode(observation: &Observation, format: Format) -> String {
    let _ = (observation, format);
    String::new()
}
