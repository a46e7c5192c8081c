//! Slow start: many equal calls in batches that double while all succeed.

use std::future::Future;

use apimachinery::Status;
use futures::future::join_all;

/// Makes `count` calls, one first, then twice as many each time; stops after a batch with a failure.
///
/// What would fail a hundred times (a quota, an admission rule) fails once. Answers with how many calls succeeded and
/// the first error.
pub async fn slow_start<F, Fut>(count: usize, mut call: F) -> (usize, Option<Status>)
where
    F: FnMut(usize) -> Fut,
    Fut: Future<Output = Result<(), Status>>,
{
    let (mut next, mut succeeded, mut size) = (0, 0, 1);
    while next < count {
        let batch = size.min(count - next);
        let results = join_all((next..next + batch).map(&mut call)).await;
        next += batch;
        let mut failure = None;
        for result in results {
            match result {
                Ok(()) => succeeded += 1,
                Err(status) => failure = failure.or(Some(status)),
            }
        }
        if failure.is_some() {
            return (succeeded, failure);
        }
        size *= 2;
    }
    (succeeded, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_stops_the_next_batch() {
        for (count, fails_from, called, succeeded) in [(10, 100, 10, 10), (10, 0, 1, 0), (10, 2, 3, 2), (0, 0, 0, 0)] {
            let mut calls = 0;
            let (done, error) = slow_start(count, |i| {
                calls += 1;
                async move { if i >= fails_from { Err(Status::internal("no")) } else { Ok(()) } }
            })
            .await;
            assert_eq!((calls, done, error.is_some()), (called, succeeded, succeeded < count), "{count} {fails_from}");
        }
    }
}
