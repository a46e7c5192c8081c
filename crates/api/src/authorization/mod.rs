//! The authorization group: what a caller may do.

use apimachinery::Kind;

pub mod localsubjectaccessreview;
pub mod selfsubjectaccessreview;
pub mod selfsubjectrulesreview;
pub mod subjectaccessreview;

pub use localsubjectaccessreview::LocalSubjectAccessReview;
pub use selfsubjectaccessreview::{SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
pub use selfsubjectrulesreview::{
    NonResourceRule, ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
pub use subjectaccessreview::{
    FieldSelectorAttributes, LabelSelectorAttributes, NonResourceAttributes, ResourceAttributes, SubjectAccessReview,
    SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![
        localsubjectaccessreview::kind(),
        selfsubjectaccessreview::kind(),
        selfsubjectrulesreview::kind(),
        subjectaccessreview::kind(),
    ]
}
