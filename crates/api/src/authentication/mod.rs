//! The authentication group: who a caller is.

use apimachinery::Kind;

pub mod selfsubjectreview;
pub mod tokenrequest;
pub mod tokenreview;

pub use selfsubjectreview::{SelfSubjectReview, SelfSubjectReviewStatus};
pub use tokenrequest::{BoundObjectReference, TokenRequest, TokenRequestSpec, TokenRequestStatus};
pub use tokenreview::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![selfsubjectreview::kind(), tokenreview::kind()]
}
