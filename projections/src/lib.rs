//! The read models of Marvin: pure folds from events to the documents that people see.
//!
//! A projection says which documents an event touches, how a document begins, how an event changes it, and by which facts it
//! may be filtered. Storing, sealing, checkpoints, rebuilds and caching are the server's and know no projection by name.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod document;
mod fold;
mod lane;
mod plan;
mod projection;

pub use document::{Document, Field, FieldKind, Key, RawDocument};
pub use fold::{Fold, fold_of};
pub use lane::Lane;
pub use plan::{Plan, Skips, Touch};
pub use projection::{FoldError, Projection};

use std::sync::Arc;

macro_rules! projections {
    ($($file:ident::$projection:ident,)*) => {
        $(pub mod $file;)*

        /// Every projection, in the order in which people see them.
        pub fn all() -> Vec<Arc<dyn Fold>> {
            vec![$(fold_of::<$file::$projection>()),*]
        }
    };
}

// The one registration of a projection: its file, and what stands there.
projections! {
    agents::Agents,
    tasks::Tasks,
    steps::Steps,
    users::Users,
    inbox::Inbox,
    schedules::Schedules,
}
