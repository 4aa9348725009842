//! Bytes of bodies that all requests together may hold: reserved as they come, given back when the request is answered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Error;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use hyper::body::{Frame, SizeHint};
use prometheus::IntGauge;

/// As many bytes as may be are held already.
#[derive(Debug, thiserror::Error)]
#[error("the bodies of other requests take all the room there is")]
pub(super) struct NoRoom;

/// What all requests share.
#[derive(Debug)]
pub(super) struct Bodies {
    max: usize,
    held: AtomicUsize,
    shown: IntGauge,
}

impl Bodies {
    pub(super) fn new(max: usize, shown: IntGauge) -> Self {
        Self { max, held: AtomicUsize::new(0), shown }
    }

    fn reserve(&self, bytes: usize) -> Result<(), NoRoom> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.max);
        self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).map_err(|_| NoRoom)?;
        self.shown.add(i64::try_from(bytes).unwrap_or(i64::MAX));
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.shown.sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// The share of one request, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Bodies>,
    /// Bytes reserved; never fewer than those that have come.
    reserved: AtomicUsize,
    come: AtomicUsize,
}

impl Share {
    /// The request with a body that reserves its bytes, and its share. A length that is told is reserved at once, up to
    /// that of the largest body: a longer one is refused by whoever reads it.
    pub(super) fn of(
        bodies: &Arc<Bodies>,
        request: Request,
        largest: usize,
    ) -> Result<(Request, Arc<Self>), NoRoom> {
        let told = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX).min(largest);
        bodies.reserve(told)?;
        let (reserved, come) = (AtomicUsize::new(told), AtomicUsize::new(0));
        let share = Arc::new(Self { of: Arc::clone(bodies), reserved, come });
        let counted = |inner| Body::new(Counted { inner, share: Arc::clone(&share) });
        Ok((request.map(counted), share))
    }

    /// So many more bytes have come.
    fn came(&self, bytes: usize) -> Result<(), NoRoom> {
        let come = self.come.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let missing = come.saturating_sub(self.reserved.load(Ordering::SeqCst));
        if missing > 0 {
            self.of.reserve(missing)?;
            self.reserved.fetch_add(missing, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.give_back(*self.reserved.get_mut());
    }
}

/// A body whose bytes are counted as they come.
struct Counted {
    inner: Body,
    share: Arc<Share>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.share.came(data.len())
        {
            return Poll::Ready(Some(Err(Error::new(error))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(max: usize) -> Arc<Bodies> {
        Arc::new(Bodies::new(max, IntGauge::new("held", "held").unwrap()))
    }

    fn request(body: Body) -> Request {
        Request::new(body)
    }

    #[test]
    fn a_length_that_is_told_is_reserved_at_once_and_given_back() {
        let bodies = bodies(100);
        let (_first, share) = Share::of(&bodies, request(Body::from(vec![0; 60])), 80).unwrap();
        assert!(Share::of(&bodies, request(Body::from(vec![0; 60])), 80).is_err());
        assert_eq!(bodies.shown.get(), 60, "what is refused holds nothing");
        // No more than the largest: who reads it refuses the rest.
        assert!(Share::of(&bodies, request(Body::from(vec![0; 1000])), 40).is_ok());
        drop((_first, share));
        assert_eq!((bodies.held.load(Ordering::SeqCst), bodies.shown.get()), (0, 0));
    }

    #[test]
    fn bytes_whose_number_is_not_told_are_reserved_as_they_come() {
        let bodies = bodies(100);
        let (_request, share) = Share::of(&bodies, request(Body::empty()), 80).unwrap();
        share.came(70).unwrap();
        share.came(30).unwrap();
        assert!(share.came(1).is_err());
        assert_eq!(bodies.held.load(Ordering::SeqCst), 100);
        drop((_request, share));
        assert_eq!(bodies.held.load(Ordering::SeqCst), 0);
        // Those of a length that was told are not counted twice.
        let (_request, share) = Share::of(&bodies, request(Body::from(vec![0; 50])), 80).unwrap();
        share.came(50).unwrap();
        assert_eq!(bodies.held.load(Ordering::SeqCst), 50);
    }
}
