//! The admission group: what webhooks are asked.

pub mod admissionreview;

pub use admissionreview::{AdmissionRequest, AdmissionResponse, AdmissionReview};
