//! The servers of one model: which is asked next, which is left alone, and who finds out that it is back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::{Error, Result};

/// A server that failed isn't asked for so long, unless all have failed.
const REST: Duration = Duration::from_secs(10);

/// Between two looks at every server.
const LOOK: Duration = Duration::from_secs(5);

/// For a connection, and for a whole look; answers may take as long as they need.
const MAX_CONNECT: Duration = Duration::from_secs(5);

/// A server takes so many times its even share of what is under way, then the next in a prompt's order is asked:
/// consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018).
const MAX_LOAD: f64 = 1.25;

/// So few requests are no load to be shared.
const FREE_LOAD: usize = 4;

/// Where a model's servers are.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    /// What the servers call it.
    model: String,
    servers: Vec<Arc<Server>>,
    key: Option<String>,
    agent: ureq::Agent,
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: String,
    failed: Mutex<Option<Instant>>,
    // Nothing else is published through it, so the weakest ordering will do.
    under_way: AtomicUsize,
}

/// How a server of a gateway is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ServerState {
    url: String,
    /// Whether it answered when it was last asked or looked at.
    up: bool,
    under_way: usize,
}

/// A request under way at a server; its end makes room for another.
#[derive(Debug)]
pub(super) struct Busy(Arc<Server>);

impl Busy {
    fn new(server: &Arc<Server>) -> Self {
        server.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// A model by the name its servers know, and their addresses; `key` is what they ask for.
    pub fn new(name: &str, urls: &[String], key: Option<String>) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(MAX_CONNECT))
            // As many connections stay open as requests come at once.
            .max_idle_connections_per_host(64);
        let server = |url: &String| {
            let url = url.trim_end_matches('/').trim_end_matches("/v1").into();
            Arc::new(Server { url, failed: Mutex::default(), under_way: AtomicUsize::new(0) })
        };
        Self {
            name: name.into(),
            model: name.into(),
            servers: urls.iter().map(server).collect(),
            key,
            agent: config.build().into(),
        }
    }

    /// The same under another name than its servers have for it.
    pub fn known_as(mut self, model: &str) -> Self {
        self.model = model.into();
        self
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    pub(crate) fn states(&self) -> Vec<ServerState> {
        let now = Instant::now();
        let state = |server: &Arc<Server>| ServerState {
            url: server.url.clone(),
            up: !server.is_resting(now),
            under_way: server.under_way.load(Ordering::Relaxed),
        };
        self.servers.iter().map(state).collect()
    }

    /// The servers in the order in which this prompt asks them; busy ones come behind, those that failed lately last.
    pub(super) fn order(&self, prefix: &str, now: Instant) -> Vec<&Arc<Server>> {
        let up = self.servers.iter().filter(|server| !server.is_resting(now));
        let loads: Vec<usize> = up.map(|server| server.under_way.load(Ordering::Relaxed)).collect();
        let even = (loads.iter().sum::<usize>() + 1) as f64 / loads.len().max(1) as f64;
        let most = ((MAX_LOAD * even).ceil() as usize).max(FREE_LOAD);
        let mut servers: Vec<&Arc<Server>> = self.servers.iter().collect();
        servers.sort_by_cached_key(|server| {
            let is_busy = server.under_way.load(Ordering::Relaxed) >= most;
            (server.is_resting(now), is_busy, std::cmp::Reverse(hash(prefix, &server.url)))
        });
        servers
    }

    /// Asks one server after the other until one answers.
    pub(super) fn send(
        &self,
        path: &str,
        prefix: &str,
        body: &str,
    ) -> Result<(ureq::http::Response<ureq::Body>, Busy)> {
        let mut last = Error::Upstream { url: self.name.clone(), reason: "it has no servers".into() };
        for server in self.order(prefix, Instant::now()) {
            let mut request =
                self.agent.post(format!("{}{path}", server.url)).header("content-type", "application/json");
            if path == "/v1/messages" {
                request = request.header("anthropic-version", "2023-06-01");
            }
            if let Some(key) = &self.key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let busy = Busy::new(server);
            let reason = match request.send(body) {
                // These say that the server isn't there for us, not what it thinks of the request.
                Ok(response) if ![502, 503, 504].contains(&response.status().as_u16()) => {
                    server.set_failed(None);
                    return Ok((response, busy));
                }
                Ok(response) => format!("it answers {}", response.status()),
                Err(error) => error.to_string(),
            };
            server.set_failed(Some(Instant::now()));
            last = Error::Upstream { url: server.url.clone(), reason };
        }
        Err(last)
    }

    /// Looks at every server until nobody has this model any more: one that is gone is left out before a request has
    /// to find out, and one that is back is asked at once.
    pub(crate) fn watch(self: &Arc<Self>) {
        let upstream = Arc::downgrade(self);
        std::thread::spawn(move || {
            while let Some(upstream) = upstream.upgrade() {
                upstream.look();
                drop(upstream);
                let until = Instant::now() + LOOK;
                while let Some(left) =
                    until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
                {
                    std::thread::park_timeout(left);
                }
            }
        });
    }

    /// Every OpenAI-compatible server has a list of models; whatever it says, it is there.
    fn look(&self) {
        for server in &self.servers {
            let mut request = self.agent.get(format!("{}/v1/models", server.url));
            if let Some(key) = &self.key {
                request = request.header("authorization", format!("Bearer {key}"));
            }
            let asked = request.config().timeout_global(Some(MAX_CONNECT)).build().call();
            let is_up = asked.is_ok_and(|response| response.status().as_u16() < 500);
            server.set_failed((!is_up).then(Instant::now));
        }
    }
}

impl Server {
    fn is_resting(&self, now: Instant) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|failed| now.saturating_duration_since(failed) < REST)
    }

    fn set_failed(&self, failed: Option<Instant>) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

/// FNV-1a of both texts, mixed at the end so that neighbouring addresses differ in all bits.
fn hash(prefix: &str, url: &str) -> u64 {
    let bytes = prefix.bytes().chain([0]).chain(url.bytes());
    let sum = bytes
        .fold(0xCBF2_9CE4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mixed = (sum ^ (sum >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        let urls: Vec<String> = (0..4).map(|i| format!("http://127.0.0.1:{}", 9000 + i)).collect();
        Upstream::new("m", &urls, None)
    }

    #[test]
    fn a_server_that_goes_moves_only_its_own_prompts() {
        let (all, now) = (upstream(), Instant::now());
        let first = |i: usize| all.order(&format!("prompt {i}"), now)[0].url.clone();
        let before: Vec<String> = (0..1000).map(first).collect();
        for server in &all.servers {
            let share = before.iter().filter(|url| **url == server.url).count();
            assert!((150..350).contains(&share), "{share} of 1000 at {}", server.url);
        }
        all.servers[1].set_failed(Some(now));
        for (i, before) in before.iter().enumerate() {
            let after = first(i);
            assert_ne!(after, all.servers[1].url);
            assert!(after == *before || *before == all.servers[1].url, "prompt {i} moved without need");
        }
        let later = now + REST;
        assert_eq!(all.order("prompt 7", later)[0].url, before[7], "it is asked again later");
    }

    #[test]
    fn one_prompt_for_all_is_shared_when_its_server_is_busy() {
        let (all, now) = (upstream(), Instant::now());
        let mut under_way = Vec::new();
        let favourite = all.order("the same", now)[0].url.clone();
        for _ in 0..100 {
            under_way.push(Busy::new(all.order("the same", now)[0]));
        }
        let loads: Vec<usize> = all.states().iter().map(|state| state.under_way).collect();
        assert_eq!(loads.iter().sum::<usize>(), 100);
        assert!(loads.iter().all(|load| *load <= 33), "none has more than 1.25 times its share: {loads:?}");
        let of_favourite = all.states().into_iter().find(|state| state.url == favourite).unwrap().under_way;
        assert_eq!(loads.iter().max(), Some(&of_favourite));
        drop(under_way);
        assert_eq!(all.order("the same", now)[0].url, favourite, "what is over is no load");
    }
}
