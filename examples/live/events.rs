//! The page's updates, as server-sent events: the whole view, twice a second and after each control.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

const INTERVAL: Duration = Duration::from_millis(500);

/// Who looks. A page that does not keep up misses updates; each is complete.
#[derive(Default)]
pub(crate) struct Viewers {
    viewers: Mutex<Vec<mpsc::Sender<Bytes>>>,
    wake: Notify,
}

impl Viewers {
    pub(crate) fn join(&self) -> Events {
        let (sender, receiver) = mpsc::channel(2);
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        self.wake.notify_one();
        Events(receiver)
    }

    /// Does not wait for the next update's time.
    pub(crate) fn update(&self) {
        self.wake.notify_one();
    }

    /// Updates the viewers, for as long as it is polled.
    pub(crate) async fn keep_updated<V: Serialize>(&self, view: impl Fn() -> V) {
        loop {
            let viewers = std::mem::take(&mut *self.viewers.lock().unwrap_or_else(PoisonError::into_inner));
            let mut staying: Vec<_> = viewers.into_iter().filter(|viewer| !viewer.is_closed()).collect();
            if !staying.is_empty() {
                let json = serde_json::to_string(&view()).expect("names are strings, and floats are rates");
                let event = Bytes::from(format!("data: {json}\n\n"));
                for viewer in &staying {
                    // One that is full has an update to read already.
                    _ = viewer.try_send(event.clone());
                }
                self.viewers.lock().unwrap_or_else(PoisonError::into_inner).append(&mut staying);
            }
            _ = tokio::time::timeout(INTERVAL, self.wake.notified()).await;
        }
    }
}

/// A response's body that never ends.
pub(crate) struct Events(mpsc::Receiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
