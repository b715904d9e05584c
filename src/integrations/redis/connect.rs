use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::pin::Pin;
use core::time::Duration;

use ::redis::{Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion};

use super::agreement::Agreement;
use super::command::millis;
use super::error::{FleetError, StoreError};
use super::fleet::Fleet;
use super::member::Rules;
use super::name::is_prefix;
use super::record::sanitized;
use super::status::StoreEvent;
use crate::ConfigError;
use crate::error::Value;

/// Keys are kept for so long after the last node has looked at them.
const KEY_TTL: u64 = 3_600_000;

/// A fleet to be: settings, and an address. `.await` it.
///
/// ```
/// use failfast::redis::{Agreement, Fleet};
/// use std::time::Duration;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
///
/// let fleet = Fleet::connect("redis://127.0.0.1:1")
///     .agreement(Agreement::Quorum(3))
///     .share(25.0)
///     .poll(Duration::from_secs(2))
///     .prefix("shop")
///     .await?;
/// assert!(!fleet.store().is_up()); // nothing listens there: each breaker goes on by itself
/// # Ok::<(), failfast::redis::FleetError>(())
/// # }).unwrap();
/// ```
#[must_use = "it does nothing until it is awaited"]
pub struct Connect {
    url: String,
    credentials: Option<(String, String)>,
    agreement: Agreement,
    share: f64,
    prefix: String,
    node: Option<String>,
    poll: Duration,
    timeout: Duration,
    jitter: f64,
    leases: u32,
    lease_ttl: Duration,
    max_open: Duration,
    on_store: Option<Listener>,
    #[cfg(feature = "redis-tls")]
    certificates: Certificates,
}

pub(super) type Listener = Arc<dyn Fn(&StoreEvent) + Send + Sync>;

#[cfg(feature = "redis-tls")]
#[derive(Default)]
struct Certificates {
    root: Option<alloc::vec::Vec<u8>>,
    client: Option<(alloc::vec::Vec<u8>, alloc::vec::Vec<u8>)>,
}

/// Checked settings.
pub(super) struct Settings {
    pub(super) client: Client,
    pub(super) rules: Rules,
    pub(super) prefix: String,
    pub(super) node: Box<str>,
    pub(super) seed: u64,
    pub(super) timeout: Duration,
    pub(super) leases: u32,
    pub(super) key_ttl: u64,
    pub(super) on_store: Option<Listener>,
}

impl Connect {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            credentials: None,
            agreement: Agreement::default(),
            share: 20.0,
            prefix: "failfast".into(),
            node: None,
            poll: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            jitter: 20.0,
            leases: 1,
            lease_ttl: Duration::from_secs(10),
            max_open: Duration::from_secs(3600),
            on_store: None,
            #[cfg(feature = "redis-tls")]
            certificates: Certificates::default(),
        }
    }

    /// The user of the server's access control list, and the password. Instead of those in the address, where they would
    /// have to be percent-encoded.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// When the fleet opens. Default [`Agreement::Quorum(2)`](Agreement::Quorum).
    pub fn agreement(mut self, agreement: Agreement) -> Self {
        self.agreement = agreement;
        self
    }

    /// For a quorum: the share of the live nodes, in percent from 0 to 100, that must be open too. Default 20: two nodes are
    /// enough in a fleet of ten, and a zone's bad network does not open a large one.
    pub fn share(mut self, percent: f64) -> Self {
        self.share = percent;
        self
    }

    /// What keys and channels begin with: 1 to 50 letters, digits and `:._-`. Default `failfast`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// What this node is called towards operators. Default its process's number. A random number is added, so it need not
    /// be unique. Of what is longer than 100 bytes the rest is cut off.
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = Some(name.into());
        self
    }

    /// How often to look at the store for each breaker, in case that news were lost: from 100 ms to 10 minutes, spread by a
    /// fifth. Default 5 s. It is what a quiet fleet costs the server.
    pub fn poll(mut self, poll: Duration) -> Self {
        self.poll = poll;
        self
    }

    /// After how long without an answer the store counts as unreachable: from 10 ms to 60 s. Default 1 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Over how much of the wait the nodes' own deadlines are spread, in percent from 0 to 100, so that they do not probe
    /// in step when the store is gone. Default 20. While it is there, it costs nothing.
    pub fn jitter(mut self, percent: f64) -> Self {
        self.jitter = percent;
        self
    }

    /// How many nodes may probe at the same time: from 1 (the default) to 1000. The fleet's budget is this number times the
    /// breaker's `probes`.
    pub fn leases(mut self, leases: u32) -> Self {
        self.leases = leases;
        self
    }

    /// After how long without a sign of life a probing node loses its lease: from 100 ms to 5 minutes. Default 10 s.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// The longest wait that is shared: from 1 s to 24 h. Default 1 h. A longer one is cut, and one in the store that is longer is
    /// refused. All nodes should have the same.
    pub fn max_open(mut self, max: Duration) -> Self {
        self.max_open = max;
        self
    }

    /// Is told when the store is lost and when it is back, on the fleet's task: it must not block, and a panic in it is
    /// caught.
    ///
    /// ```
    /// use failfast::redis::Fleet;
    ///
    /// let connect = Fleet::connect("redis://127.0.0.1").on_store(|event| eprintln!("store {event}"));
    /// ```
    pub fn on_store(mut self, listener: impl Fn(&StoreEvent) + Send + Sync + 'static) -> Self {
        self.on_store = Some(Arc::new(listener));
        self
    }

    /// The authority that the server's certificate must come from, in PEM, instead of the system's ones.
    #[cfg(feature = "redis-tls")]
    pub fn root_certificate(mut self, pem: impl Into<alloc::vec::Vec<u8>>) -> Self {
        self.certificates.root = Some(pem.into());
        self
    }

    /// The certificate and the key by which the server knows this client, both in PEM.
    #[cfg(feature = "redis-tls")]
    pub fn client_certificate(
        mut self,
        certificate: impl Into<alloc::vec::Vec<u8>>,
        key: impl Into<alloc::vec::Vec<u8>>,
    ) -> Self {
        self.certificates.client = Some((certificate.into(), key.into()));
        self
    }

    fn settings(self) -> Result<Settings, FleetError> {
        let terms = self.agreement.terms(self.share)?;
        let ms = Duration::from_millis;
        time("poll", self.poll, ms(100), ms(600_000), "must be from 100 ms to 10 minutes")?;
        time("timeout", self.timeout, ms(10), ms(60_000), "must be from 10 ms to 60 s")?;
        time("lease_ttl", self.lease_ttl, ms(100), ms(300_000), "must be from 100 ms to 5 minutes")?;
        time("max_open", self.max_open, ms(1_000), ms(86_400_000), "must be from 1 s to 24 h")?;
        if !(self.jitter >= 0.0 && self.jitter <= 100.0) {
            return Err(ConfigError::new("jitter", Value::Percent(self.jitter), "must be from 0 % to 100 %").into());
        }
        if self.leases == 0 || self.leases > 1000 {
            return Err(ConfigError::new("leases", Value::Count(self.leases.into()), "must be from 1 to 1000").into());
        }
        if !is_prefix(&self.prefix) {
            let legal = "must be 1 to 50 letters, digits and :._-";
            return Err(ConfigError::new("prefix", Value::Count(self.prefix.len() as u64), legal).into());
        }
        let seed = random();
        let label = self.node.clone().unwrap_or_else(|| alloc::format!("{}", std::process::id()));
        let mut label = sanitized(&label).into_string();
        while label.len() > 100 {
            label.pop();
        }
        let rules = Rules {
            agreement: terms,
            poll: millis(self.poll),
            jitter: self.jitter.round() as u64,
            lease_ttl: millis(self.lease_ttl),
            longest_wait: millis(self.max_open),
        };
        Ok(Settings {
            rules,
            node: alloc::format!("{label}-{seed:016x}").into(),
            seed,
            timeout: self.timeout,
            leases: self.leases,
            key_ttl: KEY_TTL.max(rules.poll * 10),
            on_store: self.on_store.clone(),
            prefix: self.prefix.clone(),
            client: self.client().map_err(|error| FleetError::Url(StoreError::of(&error)))?,
        })
    }

    fn client(self) -> ::redis::RedisResult<Client> {
        let info: ConnectionInfo = self.url.as_str().into_connection_info()?;
        let mut redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        if let Some((user, password)) = &self.credentials {
            redis = redis.set_username(user).set_password(password);
        }
        let info = info.set_redis_settings(redis);
        #[cfg(feature = "redis-tls")]
        {
            use ::redis::{ClientTlsConfig, TlsCertificates};
            // rustls wants one for the process; one that the application has chosen stays.
            _ = ::rustls::crypto::ring::default_provider().install_default();
            let Certificates { root: root_cert, client } = self.certificates;
            let client_tls = client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
            let is_tls = matches!(info.addr(), ::redis::ConnectionAddr::TcpTls { .. });
            if is_tls && (root_cert.is_some() || client_tls.is_some()) {
                return Client::build_with_tls(info, TlsCertificates { client_tls, root_cert });
            }
        }
        Client::open(info)
    }
}

impl IntoFuture for Connect {
    type Output = Result<Fleet, FleetError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { Fleet::start(self.settings()?).await })
    }
}

/// Without the address, which may hold a password.
impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connect")
            .field("agreement", &self.agreement)
            .field("prefix", &self.prefix)
            .field("poll", &self.poll)
            .field("timeout", &self.timeout)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

fn time(
    field: &'static str,
    value: Duration,
    least: Duration,
    most: Duration,
    legal: &'static str,
) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ConfigError::new(field, Value::Time(value), legal)) }
}

/// A number that differs between processes.
fn random() -> u64 {
    use core::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}
