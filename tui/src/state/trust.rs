//! How sure a value is.

use serde::Serialize;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// Read from the process or the kernel, and consistent when it was checked again.
    Exact,
    /// True at the instants it was looked at; what lies between is unknown.
    Sampled,
    /// Concluded from other values.
    Inferred,
}

/// A value with its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Labelled<T> {
    /// The value.
    pub value: T,
    /// How sure it is.
    pub trust: Trust,
}

impl<T> Labelled<T> {
    /// Read and checked.
    pub fn exact(value: T) -> Self {
        Self { value, trust: Trust::Exact }
    }

    /// True at instants.
    pub fn sampled(value: T) -> Self {
        Self { value, trust: Trust::Sampled }
    }

    /// Concluded.
    pub fn inferred(value: T) -> Self {
        Self { value, trust: Trust::Inferred }
    }
}
