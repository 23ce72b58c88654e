//! Nodes to steps: names become slots, and what belongs to a convolution is folded into it.

use std::collections::{HashMap, HashSet};

use hearth_kernels::convolution::{Activation, DepthFilter, Filter, Window};

use super::ops::{Binary, Op, Unary};
use super::{Network, Tensor};
use crate::onnx::{Graph, Node, Problem, Weight};

#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) op: Op,
    /// Slot, and whether this is its last reader.
    pub(super) inputs: Vec<(usize, bool)>,
    pub(super) output: usize,
}

pub(super) fn plan(graph: Graph) -> Result<Network, Problem> {
    let [input] = graph.inputs.as_slice() else {
        return Err(format!("it has {} inputs instead of one", graph.inputs.len()));
    };
    let output = graph.outputs.first().ok_or("it has no output")?;
    let planner = Planner::new(&graph)?;
    let mut builder = Builder::default();
    let input_slot = builder.define(input);
    let mut done = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if done.contains(&index) || node.op == "Identity" || node.op == "Constant" {
            continue;
        }
        let fused = planner.fuse(index)?;
        done.extend(fused.covers);
        let mut slots = Vec::new();
        for name in &fused.inputs {
            let weight = planner.weight(name);
            slots.push(builder.slot(name, weight, &node.op)?);
        }
        let slot = builder.define(&fused.output);
        builder.steps.push(Step {
            name: fused.output.clone(),
            op: fused.op,
            inputs: slots.into_iter().map(|slot| (slot, false)).collect(),
            output: slot,
        });
    }
    let output_slot = builder.slot(planner.resolve(output), None, "the output")?;
    builder.mark_last_readers(output_slot);
    Ok(Network {
        steps: builder.steps,
        constants: builder.constants,
        input: input_slot,
        output: output_slot,
        metadata: graph.metadata,
    })
}

#[derive(Default)]
struct Builder {
    slots: HashMap<String, usize>,
    constants: Vec<Option<Tensor>>,
    steps: Vec<Step>,
}

impl Builder {
    fn define(&mut self, name: &str) -> usize {
        self.constants.push(None);
        self.slots.insert(name.into(), self.constants.len() - 1);
        self.constants.len() - 1
    }

    fn slot(&mut self, name: &str, weight: Option<&Weight>, reader: &str) -> Result<usize, Problem> {
        if let Some(&slot) = self.slots.get(name) {
            return Ok(slot);
        }
        let weight =
            weight.ok_or_else(|| format!("`{reader}` reads `{name}`, which nothing before it makes"))?;
        let slot = self.define(name);
        self.constants[slot] = Some(Tensor::plain(weight.shape.clone(), weight.values.clone()));
        Ok(slot)
    }

    fn mark_last_readers(&mut self, output: usize) {
        let mut read = HashSet::from([output]);
        for step in self.steps.iter_mut().rev() {
            for (slot, is_last) in step.inputs.iter_mut().rev() {
                *is_last = read.insert(*slot);
            }
        }
    }
}

/// A node, and those after it that it takes with it.
struct Fused {
    op: Op,
    inputs: Vec<String>,
    output: String,
    covers: Vec<usize>,
}

struct Planner<'a> {
    graph: &'a Graph,
    /// What an `Identity`'s output really is.
    aliases: HashMap<&'a str, &'a str>,
    readers: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph) -> Result<Self, Problem> {
        let mut planner = Self { graph, aliases: HashMap::new(), readers: HashMap::new() };
        for (index, node) in graph.nodes.iter().enumerate() {
            for input in &node.inputs {
                let name = planner.resolve(input);
                if node.op == "Identity" {
                    planner.aliases.insert(&node.outputs[0], name);
                } else {
                    planner.readers.entry(name).or_default().push(index);
                }
            }
        }
        match graph.nodes.iter().find(|node| node.op == "Constant") {
            Some(node) => {
                Err(format!("`{}` is a Constant node; weights are read as initialisers", node.outputs[0]))
            }
            None => Ok(planner),
        }
    }

    /// The name behind `Identity` nodes. Chains are short: a name is entered already resolved.
    fn resolve(&self, name: &'a str) -> &'a str {
        self.aliases.get(name).copied().unwrap_or(name)
    }

    fn weight(&self, name: &str) -> Option<&'a Weight> {
        self.graph.weights.get(name)
    }

    fn inputs(&self, node: &'a Node) -> Vec<&'a str> {
        node.inputs.iter().map(|name| self.resolve(name)).collect()
    }

    /// The one reader of `name`, if it is `op`.
    fn next(&self, name: &str, op: &str) -> Option<(usize, &'a Node)> {
        match self.readers.get(name)?.as_slice() {
            &[index] if self.graph.nodes[index].op == op && !self.is_output(name) => {
                Some((index, &self.graph.nodes[index]))
            }
            _ => None,
        }
    }

    fn is_output(&self, name: &str) -> bool {
        self.graph.outputs.iter().any(|output| self.resolve(output) == name)
    }

    /// The weight beside `name` at a node of two inputs.
    fn beside(&self, node: &'a Node, name: &str) -> Option<&'a Weight> {
        let inputs = self.inputs(node);
        let other = inputs.iter().find(|input| **input != name)?;
        self.weight(other).filter(|_| inputs.len() == 2)
    }

    fn fuse(&self, index: usize) -> Result<Fused, Problem> {
        let node = &self.graph.nodes[index];
        let inputs = self.inputs(node);
        match node.op.as_str() {
            "Conv" | "ConvTranspose" => self.convolution(index),
            "MatMul" => Ok(self.classifier(index).unwrap_or_else(|| Fused {
                op: Op::MatMul,
                inputs: inputs.iter().map(|&name| name.into()).collect(),
                output: node.outputs[0].clone(),
                covers: vec![index],
            })),
            _ => Ok(Fused {
                op: simple(node, &inputs, self)?,
                inputs: values_of(node, &inputs).iter().map(|&name| name.into()).collect(),
                output: node.outputs[0].clone(),
                covers: vec![index],
            }),
        }
    }

    /// A convolution with its bias, batch norm and activation.
    fn convolution(&self, index: usize) -> Result<Fused, Problem> {
        let node = &self.graph.nodes[index];
        let inputs = self.inputs(node);
        let what = |reason: &str| format!("`{}` ({}): {reason}", node.outputs[0], node.op);
        let weight = inputs
            .get(1)
            .and_then(|name| self.weight(name))
            .ok_or_else(|| what("its weights aren't in the file"))?;
        let &[first, second, height, width] = weight.shape.as_slice() else {
            return Err(what("its weights don't have four dimensions"));
        };
        let is_up = node.op == "ConvTranspose";
        let count = if is_up { second } else { first };
        let mut values = weight.values.clone();
        let mut bias = match inputs.get(2) {
            Some(name) => self.weight(name).ok_or_else(|| what("its bias isn't in the file"))?.values.clone(),
            None => vec![0.0; count],
        };
        if bias.len() != count || weight.values.is_empty() {
            return Err(what("its bias or weights have another size"));
        }
        let (mut covers, mut output) = (vec![index], node.outputs[0].as_str());
        loop {
            if let Some((next, add)) = self.next(output, "Add")
                && let Some(more) = self.beside(add, output).filter(|more| is_per_channel(more, count))
            {
                for (channel, bias) in bias.iter_mut().enumerate() {
                    *bias += more.values[channel % more.values.len()];
                }
                covers.push(next);
                output = &add.outputs[0];
            } else if let Some((next, norm)) = self.next(output, "BatchNormalization")
                && !is_up
            {
                self.fold(norm, &mut values, &mut bias)
                    .ok_or_else(|| what("its batch norm has another size"))?;
                covers.push(next);
                output = &norm.outputs[0];
            } else {
                break;
            }
        }
        let (activation, more, output) = self.activation(output);
        covers.extend(more);
        let window = window(node, [height, width]).map_err(|reason| what(&reason))?;
        let groups = node.int("group", 1);
        let op = if is_up {
            if groups != 1
                || window.stride != window.size
                || window.before != [0; 2]
                || window.after != [0; 2]
            {
                return Err(what("only windows that tile the output are run"));
            }
            Op::Upsample { filter: tiles(&values, &bias, first, window), size: window.size, activation }
        } else if groups == 1 {
            Op::Convolve { filter: Filter::new(&values, &bias, second, window), activation }
        } else if groups as usize == first && second == 1 {
            Op::ConvolveEach { filter: DepthFilter::new(&values, &bias, window), activation }
        } else {
            return Err(what(&format!("{groups} groups over {first} outputs aren't run")));
        };
        Ok(Fused { op, inputs: vec![inputs[0].into()], output: output.into(), covers })
    }

    /// y = scale (x - mean) / √(variance + ε) + shift, as factors of the weights before it.
    fn fold(&self, norm: &'a Node, values: &mut [f32], bias: &mut [f32]) -> Option<()> {
        let inputs = self.inputs(norm);
        let part = |at: usize| {
            let weight = self.weight(inputs.get(at)?)?;
            Some(&weight.values).filter(|values| values.len() == bias.len())
        };
        let (scale, shift, mean, variance) = (part(1)?, part(2)?, part(3)?, part(4)?);
        let epsilon = norm.float("epsilon", 1e-5);
        let each = values.len() / bias.len();
        let (scale, shift, mean, variance) = (scale.clone(), shift.clone(), mean.clone(), variance.clone());
        for channel in 0..bias.len() {
            let factor = scale[channel] / (variance[channel] + epsilon).sqrt();
            values[channel * each..(channel + 1) * each].iter_mut().for_each(|value| *value *= factor);
            bias[channel] = (bias[channel] - mean[channel]) * factor + shift[channel];
        }
        Some(())
    }

    fn activation(&self, name: &'a str) -> (Activation, Vec<usize>, &'a str) {
        if let Some((index, node)) = self.next(name, "Relu") {
            return (Activation::Relu, vec![index], &node.outputs[0]);
        }
        if let Some((covers, output)) = self.silu(name) {
            return (Activation::Silu, covers, output);
        }
        match self.gelu(name) {
            Some((covers, output)) => (Activation::Gelu, covers, output),
            None => (Activation::None, Vec::new(), name),
        }
    }

    /// The two readers of `name`, the first of them `op`.
    fn fork(&self, name: &str, op: &str) -> Option<[usize; 2]> {
        let &[a, b] = self.readers.get(name)?.as_slice() else { return None };
        let [a, b] = if self.graph.nodes[a].op == op { [a, b] } else { [b, a] };
        (self.graph.nodes[a].op == op && self.graph.nodes[b].op == "Mul" && !self.is_output(name))
            .then_some([a, b])
    }

    /// `x · sigmoid(x)`.
    fn silu(&self, name: &'a str) -> Option<(Vec<usize>, &'a str)> {
        let [sigmoid, product] = self.fork(name, "Sigmoid")?;
        let (index, node) = self.next(&self.graph.nodes[sigmoid].outputs[0], "Mul")?;
        (index == product).then(|| (vec![sigmoid, product], node.outputs[0].as_str()))
    }

    /// `x · (erf(x / √2) + 1) · 0.5`.
    fn gelu(&self, name: &'a str) -> Option<(Vec<usize>, &'a str)> {
        let is = |node: &'a Node, name: &str, expected: f32| {
            let weight = self.beside(node, name)?;
            (weight.values.len() == 1 && (weight.values[0] - expected).abs() < 1e-5).then_some(())
        };
        let [root, product] = self.fork(name, "Div")?;
        is(&self.graph.nodes[root], name, std::f32::consts::SQRT_2)?;
        let (erf, node) = self.next(&self.graph.nodes[root].outputs[0], "Erf")?;
        let (one, plus) = self.next(&node.outputs[0], "Add")?;
        is(plus, &node.outputs[0], 1.0)?;
        let (times, node) = self.next(&plus.outputs[0], "Mul")?;
        let (half, last) = self.next(&node.outputs[0], "Mul")?;
        is(last, &node.outputs[0], 0.5)?;
        (times == product).then(|| (vec![root, erf, one, times, half], last.outputs[0].as_str()))
    }

    /// A product with weights, a bias and a softmax over the last dimension at the graph's end.
    fn classifier(&self, index: usize) -> Option<Fused> {
        let node = &self.graph.nodes[index];
        let inputs = self.inputs(node);
        let weight = self.weight(inputs.get(1)?)?;
        let &[channels, classes] = weight.shape.as_slice() else { return None };
        let (add, sum) = self.next(&node.outputs[0], "Add")?;
        let bias = self.beside(sum, &node.outputs[0]).filter(|bias| bias.values.len() == classes)?;
        let (end, softmax) = self.next(&sum.outputs[0], "Softmax")?;
        if !self.is_output(&softmax.outputs[0]) || ![-1, 2].contains(&softmax.int("axis", 1)) || classes == 0
        {
            return None;
        }
        let mut rows = vec![0.0; weight.values.len()];
        for (at, &value) in weight.values.iter().enumerate() {
            rows[at % classes * channels + at / classes] = value;
        }
        let filter = Filter::new(&rows, &bias.values, channels, Window::POINT);
        Some(Fused {
            op: Op::Classify { filter },
            inputs: vec![inputs[0].into()],
            output: softmax.outputs[0].clone(),
            covers: vec![index, add, end],
        })
    }
}

/// One value for each channel of a picture, or one for all.
fn is_per_channel(weight: &Weight, channels: usize) -> bool {
    let is_column = matches!(weight.shape.as_slice(), &[1, count, 1, 1] if count == channels);
    is_column || weight.values.len() == 1
}

/// The filter that makes all values of a tile at once, outputs in the order `[KH, KW, N]`.
fn tiles(values: &[f32], bias: &[f32], channels: usize, window: Window) -> Filter {
    let taps = window.size[0] * window.size[1];
    let count = bias.len();
    let mut rows = vec![0.0; values.len()];
    for (at, &value) in values.iter().enumerate() {
        let (channel, output, tap) = (at / (count * taps), at / taps % count, at % taps);
        rows[(tap * count + output) * channels + channel] = value;
    }
    Filter::new(&rows, &bias.repeat(taps), channels, Window::POINT)
}

fn pair(values: &[i64], default: usize) -> Result<[usize; 2], Problem> {
    match values {
        [] => Ok([default; 2]),
        &[a, b] if a >= 0 && b >= 0 && a < 1 << 16 && b < 1 << 16 => Ok([a as usize, b as usize]),
        other => Err(format!("{other:?} isn't a pair of sizes")),
    }
}

fn window(node: &Node, size: [usize; 2]) -> Result<Window, Problem> {
    let stride = pair(node.ints("strides"), 1)?;
    if pair(node.ints("dilations"), 1)? != [1, 1] || node.int("ceil_mode", 0) != 0 {
        return Err("dilated windows and `ceil_mode` aren't run".into());
    }
    if stride.contains(&0) || size.contains(&0) {
        return Err("a window or its stride has no size".into());
    }
    let (before, after) = match (node.text("auto_pad"), node.ints("pads")) {
        ("" | "NOTSET", []) | ("VALID", _) => ([0; 2], [0; 2]),
        ("" | "NOTSET", &[top, left, bottom, right]) => (pair(&[top, left], 0)?, pair(&[bottom, right], 0)?),
        ("SAME_UPPER", _) if stride == [1, 1] => {
            let all = size.map(|size| size - 1);
            (all.map(|all| all / 2), all.map(|all| all - all / 2))
        }
        (auto, pads) => return Err(format!("padding `{auto}` {pads:?} isn't run")),
    };
    Ok(Window { size, stride, before, after })
}

/// The inputs that are values when the graph runs; those that only configure the node are read here.
fn values_of<'a>(node: &Node, inputs: &[&'a str]) -> Vec<&'a str> {
    match node.op.as_str() {
        "Resize" => inputs[..1].to_vec(),
        _ => inputs.to_vec(),
    }
}

fn simple(node: &Node, inputs: &[&str], planner: &Planner<'_>) -> Result<Op, Problem> {
    let binary = |binary| match inputs.len() {
        2 => Ok(Op::Binary(binary)),
        count => Err(format!("`{}` has {count} inputs instead of 2", node.op)),
    };
    let pool = || window(node, pair(node.ints("kernel_shape"), 1)?);
    Ok(match node.op.as_str() {
        "Add" => binary(Binary::Add)?,
        "Sub" => binary(Binary::Sub)?,
        "Mul" => binary(Binary::Mul)?,
        "Div" => binary(Binary::Div)?,
        "Pow" => binary(Binary::Pow)?,
        "Relu" => Op::Unary(Unary::Relu),
        "Sigmoid" => Op::Unary(Unary::Sigmoid),
        "Sqrt" => Op::Unary(Unary::Sqrt),
        "HardSigmoid" => {
            Op::Unary(Unary::HardSigmoid { slope: node.float("alpha", 0.2), shift: node.float("beta", 0.5) })
        }
        "MaxPool" => Op::MaxPool(pool()?),
        "AveragePool" => match pool()? {
            window if window.before == [0; 2] && window.after == [0; 2] => Op::AveragePool(window),
            _ => return Err("`AveragePool` with padding isn't run".into()),
        },
        "GlobalAveragePool" => Op::Mean { axes: vec![2, 3], keep: true },
        "ReduceMean" => Op::Mean { axes: node.ints("axes").to_vec(), keep: node.int("keepdims", 1) != 0 },
        "Concat" => Op::Concat { axis: node.int("axis", 0) },
        "Transpose" => Op::Transpose { order: node.ints("perm").to_vec() },
        "Squeeze" => Op::Squeeze { axes: node.ints("axes").to_vec() },
        "Unsqueeze" => Op::Unsqueeze { axes: node.ints("axes").to_vec() },
        "Slice" => Op::Slice,
        "Reshape" => Op::Reshape,
        "Shape" => Op::Shape,
        "Softmax" => Op::Softmax { axis: node.int("axis", 1) },
        "Resize" => {
            let scales =
                inputs.get(2).and_then(|name| planner.weight(name)).map(|weight| weight.values.as_slice());
            let modes =
                (node.text("mode"), node.text("coordinate_transformation_mode"), node.text("nearest_mode"));
            match (scales, modes) {
                (Some(&[1.0, 1.0, down, across]), ("nearest", "asymmetric", "floor"))
                    if down.fract() == 0.0
                        && across.fract() == 0.0
                        && down.min(across) >= 1.0
                        && down.max(across) <= 64.0 =>
                {
                    Op::Repeat { times: [down as usize, across as usize] }
                }
                (scales, modes) => return Err(format!("`Resize` by {scales:?}, {modes:?} isn't run")),
            }
        }
        other => return Err(format!("operator `{other}` isn't known")),
    })
}
