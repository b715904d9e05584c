//! The example's server, in this process, over breakers that the test moves.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use failfast::registry::Handle;
use failfast::{BoxPolicy, Config, Consecutive, CountWindow, DefaultClock, Registry, Rule, State};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::seen::Seen;
use crate::server::{self, Live};
use crate::view::Breakers;

/// How long an open breaker waits.
pub(crate) const WAIT: Duration = Duration::from_secs(2);

pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    breakers: Arc<Breakers>,
    serving: JoinHandle<()>,
}

impl Site {
    /// With a breaker for each key, which opens after two failures in a row and closes after one probe.
    pub(crate) async fn start(keys: &[&str], writable: bool) -> Self {
        let rules: Vec<Rule> = vec![Consecutive::new(2).into(), CountWindow::over(10).min_calls(4).failures(4).into()];
        let builder = Registry::builder().default_policy(rules).observer(|_| Seen::new());
        let config = Config::new().open_for(WAIT).probes(1);
        let breakers = Arc::new(builder.default_config(config).build().unwrap());
        keys.iter().for_each(|key| drop(breakers.get(key)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, serving: serve(listener, &breakers, writable), breakers }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn breaker(&self, key: &str) -> Handle<BoxPolicy, DefaultClock, Seen> {
        self.breakers.get(key)
    }

    pub(crate) fn state(&self, key: &str) -> State {
        self.breaker(key).state()
    }

    /// Ends the server, and every connection with it.
    pub(crate) async fn stop(&mut self) {
        self.serving.abort();
        _ = (&mut self.serving).await;
    }

    /// Where it was before.
    pub(crate) async fn restart(&mut self, writable: bool) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving = serve(listener, &self.breakers, writable);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn serve(listener: TcpListener, breakers: &Arc<Breakers>, writable: bool) -> JoinHandle<()> {
    let live = Live::new(breakers.clone(), writable);
    tokio::spawn(async move { server::serve(listener, live).await.unwrap() })
}
