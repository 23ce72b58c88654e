//! Which examples make up which step: shuffled by the seed, every example once in each epoch.

use hearth_tokenizer::Example;

/// Example indices of each step. A step takes examples while they fit into `batch_tokens`; an example that is
/// longer by itself makes a step of its own. Nothing is dropped.
pub(crate) fn plan(examples: &[Example], batch_tokens: usize, steps: usize, seed: u64) -> Vec<Vec<usize>> {
    let mut plan = Vec::with_capacity(steps);
    let mut epochs = 0..;
    while plan.len() < steps {
        plan.extend(epoch(examples, batch_tokens, seed, epochs.next().unwrap_or_default()));
    }
    plan.truncate(steps);
    plan
}

/// Steps in which every example is seen `epochs` times.
pub fn num_steps(examples: &[Example], batch_tokens: usize, epochs: u64, seed: u64) -> usize {
    (0..epochs).map(|number| epoch(examples, batch_tokens, seed, number).len()).sum()
}

fn epoch(examples: &[Example], batch_tokens: usize, seed: u64, number: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    shuffle(&mut order, seed ^ u64::wrapping_mul(number + 1, 0x9E37_79B9_7F4A_7C15));
    fill(examples, &order, batch_tokens)
}

/// Consecutive examples of `order`, as many as fit.
pub(crate) fn fill(examples: &[Example], order: &[usize], batch_tokens: usize) -> Vec<Vec<usize>> {
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = usize::MAX;
    for &index in order {
        let len = examples[index].ids.len();
        if tokens.saturating_add(len) > batch_tokens {
            batches.push(Vec::new());
            tokens = 0;
        }
        batches.last_mut().expect("the first example opens a batch").push(index);
        tokens += len;
    }
    batches
}

/// Fisher–Yates with `SplitMix64`.
pub(crate) fn shuffle(order: &mut [usize], mut state: u64) {
    for i in (1..order.len()).rev() {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        order.swap(i, ((z ^ (z >> 31)) % (i as u64 + 1)) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lens: &[usize]) -> Vec<Example> {
        lens.iter().map(|&len| Example { ids: vec![0; len], mask: vec![true; len], stops: vec![] }).collect()
    }

    #[test]
    fn an_epoch_holds_every_example_once_and_batches_fit() {
        let examples = examples(&[3, 9, 4, 1, 20, 5, 5]);
        let order: Vec<usize> = (0..7).collect();
        let batches = fill(&examples, &order, 10);
        let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, order);
        for batch in &batches {
            let tokens: usize = batch.iter().map(|&i| examples[i].ids.len()).sum();
            assert!(tokens <= 10 || batch.len() == 1, "{batch:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_epochs_differ() {
        let examples = examples(&[5; 40]);
        let plan_a = plan(&examples, 10, 60, 1);
        assert_eq!(plan_a, plan(&examples, 10, 60, 1));
        assert_ne!(plan_a, plan(&examples, 10, 60, 2));
        assert_ne!(plan_a[..20], plan_a[20..40]);
        assert_eq!(plan_a.len(), 60);
        assert_eq!(num_steps(&examples, 10, 3, 1), 60);
    }
}
