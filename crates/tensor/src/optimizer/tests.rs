//! Clipping, convergence, refusals and resumption.

use super::*;

const CONFIG: AdamWConfig = AdamWConfig {
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.0,
    decay_vectors: true,
    max_gradient_norm: Some(1.0),
};

fn param(id: Option<u32>, data: &[f32]) -> Param {
    let id = id.map(ParamId);
    Param { data: Arc::new(data.to_vec()), rows: 1, cols: data.len(), id }
}

fn gradients(of: &[(u32, &[f32])]) -> Gradients {
    let mut gradients = Gradients::new();
    for (id, gradient) in of {
        gradients.add(ParamId(*id), gradient.to_vec());
    }
    gradients
}

#[test]
fn the_norm_is_over_all_parameters_and_clips_to_the_limit() {
    let mut params = [param(Some(0), &[0.0]), param(Some(1), &[0.0, 0.0])];
    let report = AdamW::new(CONFIG)
        .step(&Pool::new(2), &mut params, &gradients(&[(0, &[2.0]), (1, &[4.0, 4.0])]), 0.1)
        .unwrap();
    assert_eq!(report, StepReport { gradient_norm: 6.0, gradient_scale: 1.0 / 6.0, num_updated: 2 });
    let report =
        AdamW::new(CONFIG).step(&Pool::new(2), &mut params, &gradients(&[(0, &[0.5])]), 0.1).unwrap();
    assert_eq!(report, StepReport { gradient_norm: 0.5, gradient_scale: 1.0, num_updated: 1 });
}

#[test]
fn a_quadratic_is_minimised_and_frozen_parameters_stay() {
    let mut params = [param(Some(3), &[4.0, -2.0]), param(None, &[7.0])];
    let mut optimizer = AdamW::new(CONFIG);
    for _ in 0..400 {
        let gradient: Vec<f32> = params[0].data.iter().map(|w| 2.0 * (w - 1.0)).collect();
        optimizer.step(&Pool::new(2), &mut params, &gradients(&[(3, &gradient)]), 0.05).unwrap();
    }
    assert!(params[0].data.iter().all(|w| (w - 1.0).abs() < 1e-2), "{:?}", params[0].data);
    assert_eq!(*params[1].data, [7.0]);
    assert_eq!(optimizer.num_steps(), 400);
}

#[test]
fn bad_steps_name_the_parameter_and_change_nothing() {
    let nan = f32::NAN;
    let cases: [(Gradients, &str); 4] = [
        (gradients(&[(0, &[1.0]), (1, &[0.0, nan])]), "the gradient of parameter `1` is `NaN` at `1`"),
        (gradients(&[(0, &[f32::INFINITY])]), "the gradient of parameter `0` is `inf` at `0`"),
        (gradients(&[(0, &[1.0]), (9, &[1.0])]), "parameter `9`, which is not among"),
        (gradients(&[(1, &[1.0])]), "parameter `1` has `2` values, its gradient or moments have `1`"),
    ];
    for (gradient, message) in cases {
        let mut params = [param(Some(0), &[5.0]), param(Some(1), &[6.0, 6.0])];
        let mut optimizer = AdamW::new(CONFIG);
        let error = optimizer.step(&Pool::new(2), &mut params, &gradient, 0.1).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
        assert_eq!((params[0].data[0], optimizer.num_steps()), (5.0, 0));
    }
    let mut twice = [param(Some(0), &[5.0]), param(Some(0), &[5.0])];
    let error = AdamW::new(CONFIG).step(&Pool::new(2), &mut twice, &Gradients::new(), 0.1).unwrap_err();
    assert_eq!(error, OptimizerError::GivenTwice { param: ParamId(0) });
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_to_the_bit() {
    let steps = |optimizer: &mut AdamW, params: &mut [Param; 1], range: std::ops::Range<u32>| {
        for step in range {
            let gradient = [(step as f32).sin(), (step as f32).cos()];
            optimizer.step(&Pool::new(2), params.iter_mut(), &gradients(&[(0, &gradient)]), 0.01).unwrap();
        }
    };
    let (mut whole, mut in_parts) = ([param(Some(0), &[1.0, 2.0])], [param(Some(0), &[1.0, 2.0])]);
    let mut optimizer = AdamW::new(CONFIG);
    steps(&mut optimizer, &mut whole, 0..9);
    let mut first = AdamW::new(CONFIG);
    steps(&mut first, &mut in_parts, 0..4);
    let saved: Vec<_> = first.moments().map(|(id, moments)| (id, moments.clone())).collect();
    let mut second = AdamW::resume(CONFIG, first.num_steps(), saved);
    steps(&mut second, &mut in_parts, 4..9);
    assert_eq!(whole[0].data, in_parts[0].data);
    assert_eq!(optimizer, second);
}
