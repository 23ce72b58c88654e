//! A graph of an ONNX file, made ready to run: steps in order, each with the values it frees.
//!
//! Convolutions take their bias, the folded batch norm and the activation with them, and a classifier that ends in a
//! softmax over thousands of classes gives the best class and its probability instead of all of them. An operator
//! that isn't known is refused by name when the file is opened. Modules: [`tensor`] holds values, `plan` makes steps of
//! nodes, `ops` computes them.

mod ops;
mod plan;
pub mod tensor;

use std::collections::HashMap;

use hearth_kernels::pool::Pool;

pub use tensor::Tensor;

use crate::onnx::{self, Problem};
use crate::{Error, Result};

/// A network with one input and one output.
#[derive(Debug)]
pub struct Network {
    steps: Vec<plan::Step>,
    /// Weights that operators read as values, by slot.
    constants: Vec<Option<Tensor>>,
    input: usize,
    output: usize,
    pub metadata: HashMap<String, String>,
}

impl Network {
    /// Reads an ONNX file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        plan::plan(onnx::parse(bytes)?)
    }

    pub fn run(&self, pool: &Pool, input: Tensor) -> Result<Tensor> {
        let mut slots = self.constants.clone();
        slots[self.input] = Some(input);
        for step in &self.steps {
            let inputs: Option<Vec<Tensor>> = step
                .inputs
                .iter()
                // What nobody reads after this step is handed over, so that it can be written in place.
                .map(|&(slot, is_last)| if is_last { slots[slot].take() } else { slots[slot].clone() })
                .collect();
            let failed = |reason| Error::Node { node: step.name.clone(), op: step.op.to_string(), reason };
            let inputs = inputs.ok_or_else(|| failed("an input isn't there".into()))?;
            slots[step.output] = Some(step.op.run(pool, inputs).map_err(failed)?);
        }
        let output = slots[self.output].take();
        let node = || self.steps.last().map_or_else(String::new, |step| step.name.clone());
        let output = output.ok_or_else(|| Error::NotANumber { node: node() })?;
        match output.values.iter().all(|value| value.is_finite()) {
            true => Ok(output.into_plain()),
            false => Err(Error::NotANumber { node: node() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tests::file;

    fn network(op: &str, shape: &[u64], values: &[f32]) -> Result<Network, Problem> {
        Network::parse(&file(op, shape, values, ("", "")))
    }

    fn run(op: &str, shape: &[u64], values: &[f32], x: Tensor) -> Result<Tensor> {
        network(op, shape, values).unwrap().run(&Pool::new(1), x)
    }

    #[test]
    fn a_weight_for_each_channel_meets_pictures_channels_last() {
        let x = Tensor::pictures([1, 1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let y = run("Mul", &[1, 2, 1, 1], &[10.0, 100.0], x).unwrap();
        // In the order of the shape: the first channel's places, then the second's.
        assert_eq!((y.shape, &*y.values), (vec![1, 2, 1, 2], &vec![10.0, 30.0, 200.0, 400.0]));
    }

    #[test]
    fn a_convolution_of_one_place_is_a_product() {
        let x = Tensor::pictures([1, 1, 1, 2], vec![1.0, 2.0]);
        let y = run("Conv", &[2, 2, 1, 1], &[1.0, 10.0, 100.0, 1000.0], x).unwrap();
        assert_eq!(*y.values, [21.0, 2100.0]);
    }

    #[test]
    fn values_that_are_no_numbers_are_an_error_that_names_the_place() {
        for (op, x, w) in [("Pow", -1.0, 0.5), ("Div", 1.0, 0.0), ("Mul", f32::NAN, 1.0)] {
            let error = run(op, &[1], &[w], Tensor::plain(vec![1], vec![x])).unwrap_err();
            assert!(matches!(&error, Error::NotANumber { node } if node == "y"), "{error}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_name() {
        for (op, expected) in [("Loop", "operator `Loop` isn't known"), ("ConvTranspose", "four dimensions")]
        {
            let problem = network(op, &[1], &[1.0]).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors_and_no_panics() {
        let x = || Tensor::pictures([1, 2, 2, 3], vec![1.0; 12]);
        let cases: [(&str, &[u64], Tensor); 7] = [
            ("Conv", &[1, 2, 1, 1], x()),
            ("Conv", &[1, 3, 5, 5], x()),
            ("Conv", &[1, 3, 1, 1], Tensor::plain(vec![3], vec![1.0; 3])),
            ("Conv", &[1, 3, 1, 1], Tensor::pictures([1, 0, 2, 3], Vec::new())),
            ("Add", &[1, 2, 1, 1], x()),
            ("MatMul", &[2, 2], Tensor::plain(vec![1, 3], vec![1.0; 3])),
            ("Reshape", &[2], x()),
        ];
        for (op, shape, x) in cases {
            let values = vec![7.0; shape.iter().product::<u64>() as usize];
            let error = run(op, shape, &values, x).unwrap_err();
            assert!(matches!(error, Error::Node { .. }), "{op}: {error}");
        }
    }
}
