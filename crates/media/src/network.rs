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
            true => Ok(output.to_plain()),
            false => Err(Error::NotANumber { node: node() }),
        }
    }
}



