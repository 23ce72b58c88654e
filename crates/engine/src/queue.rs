//! Who comes next: clients in turn by what they have had, within a client first come, first served.
//!
//! A client's turn is decided by tokens computed for it (Virtual Token Counter, Sheng et al. 2024), so many short
//! requests and few long ones weigh the same. Who comes back after a pause starts level with those who stayed. While
//! others wait, nobody gets more than an equal share of the places; alone, a client may have them all.

use std::collections::{BTreeMap, VecDeque};

use crate::sequence::Job;

/// A generated token weighs as much as so many prompt tokens.
const ANSWER_WEIGHT: u64 = 2;
/// Clients that neither wait nor run are forgotten beyond this number.
const MAX_KNOWN: usize = 4096;

#[derive(Default)]
pub(crate) struct Queue {
    clients: BTreeMap<String, Client>,
    num_arrived: u64,
}

#[derive(Default)]
struct Client {
    waiting: VecDeque<Waiting>,
    /// Tokens computed for it, weighed.
    served: u64,
    /// Places it holds.
    running: usize,
}

/// A job that isn't running yet.
pub(crate) struct Waiting {
    pub(crate) job: Job,
    /// Pages that were read from disk for it.
    pub(crate) num_loaded: usize,
    arrival: u64,
    /// It was looked at in this round and had better wait.
    is_held: bool,
}

impl Client {
    fn is_active(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

fn name(job: &Job) -> &str {
    job.request.client.as_deref().unwrap_or_default()
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.values().all(|client| client.waiting.is_empty())
    }

    pub(crate) fn push(&mut self, job: Job) {
        let least = self.clients.values().filter(|client| client.is_active()).map(|c| c.served).min();
        if self.clients.len() > MAX_KNOWN {
            self.clients.retain(|_, client| client.is_active());
        }
        let client = self.clients.entry(name(&job).into()).or_default();
        if !client.is_active() {
            client.served = client.served.max(least.unwrap_or(0));
        }
        self.num_arrived += 1;
        client.waiting.push_back(Waiting { job, num_loaded: 0, arrival: self.num_arrived, is_held: false });
    }

    /// Begins a round: every job may be looked at again.
    pub(crate) fn begin_round(&mut self) {
        for waiting in self.clients.values_mut().flat_map(|client| &mut client.waiting) {
            waiting.is_held = false;
        }
    }

    /// Takes the job whose turn it is, of those not held in this round.
    pub(crate) fn pick(&mut self, max_batch: usize) -> Option<Waiting> {
        let num_active = self.clients.values().filter(|client| client.is_active()).count();
        let share = (max_batch / num_active.max(1)).max(1);
        let next = |client: &Client| client.waiting.iter().position(|waiting| !waiting.is_held);
        let open = self.clients.values_mut().filter_map(|client| next(client).map(|at| (client, at)));
        let (client, at) = open.min_by_key(|(client, at)| {
            (client.running >= share, client.served, client.waiting[*at].arrival)
        })?;
        client.waiting.remove(at)
    }

    /// Gives a job back that can't run yet; the rest of this round goes without it.
    pub(crate) fn hold(&mut self, waiting: Waiting) {
        let client = self.clients.entry(name(&waiting.job).into()).or_default();
        let at = client.waiting.partition_point(|other| other.arrival < waiting.arrival);
        client.waiting.insert(at, Waiting { is_held: true, ..waiting });
    }

    /// A client got or gave back a place.
    pub(crate) fn occupy(&mut self, client: &str) {
        self.clients.entry(client.into()).or_default().running += 1;
    }

    pub(crate) fn vacate(&mut self, client: &str) {
        if let Some(client) = self.clients.get_mut(client) {
            client.running = client.running.saturating_sub(1);
        }
    }

    /// Counts what was computed for a client.
    pub(crate) fn charge(&mut self, client: &str, prompt_tokens: usize, answer_tokens: usize) {
        if let Some(client) = self.clients.get_mut(client) {
            client.served += prompt_tokens as u64 + ANSWER_WEIGHT * answer_tokens as u64;
        }
    }

    /// Keeps the jobs that `keep` says.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Job) -> bool) {
        for client in self.clients.values_mut() {
            client.waiting.retain_mut(|waiting| keep(&mut waiting.job));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Request;

    fn job(client: &str, prompt_tokens: usize, max_tokens: usize) -> Job {
        let request = Request {
            client: Some(client.into()),
            ..Request::greedy(vec![1; prompt_tokens], max_tokens, Vec::new())
        };
        Job { request, adapted: None, matcher: None, outputs: Vec::new() }
    }

    /// Serves one job at a time, whole, and says whose it was.
    fn serve(queue: &mut Queue) -> Option<String> {
        queue.begin_round();
        let waiting = queue.pick(1)?;
        let client = name(&waiting.job).to_string();
        queue.occupy(&client);
        queue.charge(&client, waiting.job.request.prompt.len(), waiting.job.request.max_tokens);
        queue.vacate(&client);
        Some(client)
    }

    #[test]
    fn clients_get_equal_amounts_whatever_they_ask_for() {
        let mut queue = Queue::default();
        for _ in 0..400 {
            queue.push(job("flood", 10, 5));
        }
        for _ in 0..40 {
            queue.push(job("long", 100, 50));
        }
        for _ in 0..200 {
            queue.push(job("short", 5, 5));
        }
        let mut amounts = BTreeMap::<String, usize>::new();
        for _ in 0..200 {
            let client = serve(&mut queue).unwrap();
            *amounts.entry(client.clone()).or_default() += match client.as_str() {
                "flood" => 20,
                "long" => 200,
                _ => 15,
            };
        }
        let (least, most) = (amounts.values().min().unwrap(), amounts.values().max().unwrap());
        assert!(amounts.len() == 3 && most - least <= 200, "{amounts:?}");
    }

    #[test]
    fn a_flood_starves_nobody_and_a_pause_saves_nothing_up() {
        let mut queue = Queue::default();
        queue.push(job("early", 10, 10));
        assert_eq!(serve(&mut queue).as_deref(), Some("early"));
        for _ in 0..100 {
            queue.push(job("flood", 10, 10));
        }
        for _ in 0..50 {
            serve(&mut queue);
        }
        for _ in 0..20 {
            queue.push(job("early", 10, 10));
        }
        let order: Vec<String> = (0..20).filter_map(|_| serve(&mut queue)).collect();
        let early = order.iter().filter(|client| *client == "early").count();
        assert!((9..=11).contains(&early), "level from the first turn on: {order:?}");
    }

    #[test]
    fn a_client_is_served_in_order_and_what_is_held_keeps_its_place() {
        let mut queue = Queue::default();
        for len in 1..=4 {
            queue.push(job("one", len, 1));
        }
        queue.begin_round();
        let first = queue.pick(8).unwrap();
        queue.hold(first);
        let second = queue.pick(8).unwrap();
        assert_eq!(second.job.request.prompt.len(), 2, "a held job lets others pass");
        queue.hold(second);
        let mut order = Vec::new();
        queue.begin_round();
        while let Some(waiting) = queue.pick(8) {
            order.push(waiting.job.request.prompt.len());
        }
        assert_eq!(order, [1, 2, 3, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn while_others_wait_nobody_has_more_than_a_share_of_the_places() {
        let mut queue = Queue::default();
        for _ in 0..8 {
            queue.push(job("greedy", 1, 1));
        }
        let take = |queue: &mut Queue| {
            let waiting = queue.pick(4)?;
            let client = name(&waiting.job).to_string();
            queue.occupy(&client);
            Some(client)
        };
        for _ in 0..4 {
            assert_eq!(take(&mut queue).as_deref(), Some("greedy"), "alone it may have all places");
        }
        // However much the other one was served before.
        queue.push(job("other", 1, 1));
        queue.charge("other", 1_000_000, 0);
        queue.vacate("greedy");
        assert_eq!(take(&mut queue).as_deref(), Some("other"), "greedy holds three of four places");
        queue.vacate("greedy");
        queue.vacate("greedy");
        assert_eq!(take(&mut queue).as_deref(), Some("greedy"), "nobody else waits");
    }
}
