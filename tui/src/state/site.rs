//! Stalls added up by the call that caused them.

use super::stall::{Class, Stall};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::HashMap;

/// All stalls of one class at one line.
#[derive(Debug, Clone)]
pub struct Site {
    /// The class.
    pub class: Class,
    /// File.
    pub file: String,
    /// Line.
    pub line: u32,
    /// Function.
    pub function: String,
    /// The latest of them.
    pub last: Stall,
    /// How many.
    pub count: u64,
    /// Their time added up.
    pub total_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Wall clock of the first, milliseconds since 1970.
    pub first_seen_ms: u64,
    /// Wall clock of the latest.
    pub last_seen_ms: u64,
    durations_us: Histogram<u64>,
}

impl Site {
    /// A quantile of the durations, to three digits.
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        // The histogram names the end of a bin, which no stall need have reached.
        (self.durations_us.value_at_quantile(quantile) as f64 / 1000.0).min(self.max_ms)
    }
}

impl Serialize for Site {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut site = serializer.serialize_struct("Site", 12)?;
        site.serialize_field("class", &self.class)?;
        site.serialize_field("file", &self.file)?;
        site.serialize_field("line", &self.line)?;
        site.serialize_field("function", &self.function)?;
        site.serialize_field("count", &self.count)?;
        site.serialize_field("total_ms", &self.total_ms)?;
        site.serialize_field("max_ms", &self.max_ms)?;
        site.serialize_field("p50_ms", &self.quantile_ms(0.5))?;
        site.serialize_field("p99_ms", &self.quantile_ms(0.99))?;
        site.serialize_field("first_seen_ms", &self.first_seen_ms)?;
        site.serialize_field("last_seen_ms", &self.last_seen_ms)?;
        site.serialize_field("advice", self.class.advice())?;
        site.end()
    }
}

/// Call sites by class, file and line.
#[derive(Debug, Default)]
pub struct Sites {
    sites: HashMap<(Class, String, u32), Site>,
}

/// Longest duration a histogram holds: an hour.
const HIGHEST_US: u64 = 3_600_000_000;

impl Sites {
    /// Adds one stall.
    pub fn add(&mut self, stall: &Stall) {
        let key = (stall.class, stall.file.clone(), stall.line);
        let site = self.sites.entry(key).or_insert_with(|| Site {
            class: stall.class,
            file: stall.file.clone(),
            line: stall.line,
            function: stall.function.clone(),
            last: stall.clone(),
            count: 0,
            total_ms: 0.0,
            max_ms: 0.0,
            first_seen_ms: stall.started_at_ms,
            last_seen_ms: stall.started_at_ms,
            durations_us: Histogram::new_with_bounds(1, HIGHEST_US, 3)
                .expect("the bounds are constant and valid"),
        });
        site.count += 1;
        site.total_ms += stall.duration_ms;
        site.max_ms = site.max_ms.max(stall.duration_ms);
        site.last_seen_ms = stall.started_at_ms;
        site.durations_us.saturating_record((stall.duration_ms * 1000.0) as u64);
        site.last = stall.clone();
    }

    /// The sites, the one that cost most time first.
    pub fn by_total(&self) -> Vec<&Site> {
        let mut sites: Vec<&Site> = self.sites.values().collect();
        sites.sort_by(|a, b| b.total_ms.total_cmp(&a.total_ms));
        sites
    }

    /// Number of sites.
    pub fn len(&self) -> usize {
        self.sites.len()
    }

    /// Nothing has stalled yet.
    pub fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }
}
