//! Reads the ONNX container: a protocol buffer of nodes, weights and metadata.
//!
//! Only the fields that inference needs are read; the rest is skipped by its wire type. Every length is checked
//! against the bytes that are left, so a truncated or made-up file is an error that says where. Integers become
//! f32: in the graphs that run here they are shapes, axes and indices, far below 2²⁴. External data is refused.

use std::collections::HashMap;

/// Why a file is no model; the caller adds the path.
pub type Problem = String;

/// A graph as it stands in the file.
#[derive(Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub weights: HashMap<String, Weight>,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub metadata: HashMap<String, String>,
}

#[derive(Debug, Default, Clone)]
pub struct Node {
    pub op: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: HashMap<String, Attribute>,
}

#[derive(Debug, Default, Clone)]
pub struct Attribute {
    pub float: f32,
    pub int: i64,
    pub text: String,
    pub ints: Vec<i64>,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Weight {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Node {
    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes.get(name).map_or(default, |attribute| attribute.int)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes.get(name).map_or(default, |attribute| attribute.float)
    }

    pub fn ints(&self, name: &str) -> &[i64] {
        self.attributes.get(name).map_or(&[], |attribute| &attribute.ints)
    }

    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", |attribute| &attribute.text)
    }
}

/// Reads a `ModelProto`.
pub fn parse(bytes: &[u8]) -> Result<Graph, Problem> {
    let mut graph = Graph::default();
    let mut seen = false;
    for field in Fields(bytes) {
        match field? {
            (7, Value::Bytes(body)) => {
                seen = true;
                read_graph(body, &mut graph)?;
            }
            (14, Value::Bytes(body)) => {
                let (mut key, mut value) = (String::new(), String::new());
                for field in Fields(body) {
                    match field? {
                        (1, Value::Bytes(body)) => key = text(body)?,
                        (2, Value::Bytes(body)) => value = text(body)?,
                        _ => {}
                    }
                }
                graph.metadata.insert(key, value);
            }
            _ => {}
        }
    }
    match seen && !graph.nodes.is_empty() {
        true => Ok(graph),
        false => Err("it holds no ONNX graph".into()),
    }
}

fn read_graph(bytes: &[u8], graph: &mut Graph) -> Result<(), Problem> {
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(body)) => graph.nodes.push(read_node(body)?),
            (5, Value::Bytes(body)) => {
                let (name, weight) = read_tensor(body)?;
                graph.weights.insert(name, weight);
            }
            (11, Value::Bytes(body)) => graph.inputs.push(read_name(body)?),
            (12, Value::Bytes(body)) => graph.outputs.push(read_name(body)?),
            _ => {}
        }
    }
    // Files of older versions list the weights among the inputs.
    graph.inputs.retain(|name| !graph.weights.contains_key(name));
    Ok(())
}

fn read_name(bytes: &[u8]) -> Result<String, Problem> {
    for field in Fields(bytes) {
        if let (1, Value::Bytes(body)) = field? {
            return text(body);
        }
    }
    Err("an input or output has no name".into())
}

fn read_node(bytes: &[u8]) -> Result<Node, Problem> {
    let mut node = Node::default();
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(body)) => node.inputs.push(text(body)?),
            (2, Value::Bytes(body)) => node.outputs.push(text(body)?),
            (4, Value::Bytes(body)) => node.op = text(body)?,
            (5, Value::Bytes(body)) => {
                let (name, attribute) = read_attribute(body)?;
                node.attributes.insert(name, attribute);
            }
            _ => {}
        }
    }
    if node.outputs.is_empty() {
        return Err(format!("a node `{}` has no output", node.op));
    }
    Ok(node)
}

fn read_attribute(bytes: &[u8]) -> Result<(String, Attribute), Problem> {
    let (mut name, mut attribute) = (String::new(), Attribute::default());
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(body)) => name = text(body)?,
            (2, Value::Fixed32(bits)) => attribute.float = f32::from_bits(bits),
            (3, Value::Varint(value)) => attribute.int = value as i64,
            (4, Value::Bytes(body)) => attribute.text = String::from_utf8_lossy(body).into_owned(),
            (8, Value::Varint(value)) => attribute.ints.push(value as i64),
            (8, Value::Bytes(body)) => attribute.ints.extend(packed(body)?),
            _ => {}
        }
    }
    Ok((name, attribute))
}

fn read_tensor(bytes: &[u8]) -> Result<(String, Weight), Problem> {
    const FLOAT: u64 = 1;
    const INT32: u64 = 6;
    const INT64: u64 = 7;
    let (mut name, mut kind) = (String::new(), 0);
    let (mut weight, mut raw) = (Weight::default(), None);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Varint(value)) => weight.shape.push(value as usize),
            (1, Value::Bytes(body)) => weight.shape.extend(packed(body)?.map(|value| value as usize)),
            (2, Value::Varint(value)) => kind = value,
            (4, Value::Bytes(body)) => weight.values.extend(floats(body)),
            (4, Value::Fixed32(bits)) => weight.values.push(f32::from_bits(bits)),
            (5 | 7, Value::Bytes(body)) => weight.values.extend(packed(body)?.map(|value| value as f32)),
            (5 | 7, Value::Varint(value)) => weight.values.push(value as i64 as f32),
            (8, Value::Bytes(body)) => name = text(body)?,
            (9, Value::Bytes(body)) => raw = Some(body),
            (13, _) => return Err("its weights lie in another file".into()),
            _ => {}
        }
    }
    match (raw, kind) {
        (_, kind) if ![FLOAT, INT32, INT64].contains(&kind) => {
            return Err(format!("weight `{name}` is of data type {kind}; f32, int32 and int64 are read"));
        }
        (Some(raw), FLOAT) => weight.values = floats(raw).collect(),
        (Some(raw), INT32) => {
            weight.values = raw.as_chunks().0.iter().map(|&chunk| i32::from_le_bytes(chunk) as f32).collect();
        }
        (Some(raw), _) => {
            weight.values = raw.as_chunks().0.iter().map(|&chunk| i64::from_le_bytes(chunk) as f32).collect();
        }
        (None, _) => {}
    }
    let expected = weight.shape.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    if expected != Some(weight.values.len()) {
        let (shape, got) = (&weight.shape, weight.values.len());
        return Err(format!("weight `{name}` has shape {shape:?}, but {got} values"));
    }
    if !weight.values.iter().all(|value| value.is_finite()) {
        return Err(format!("weight `{name}` holds a value that is no finite number"));
    }
    Ok((name, weight))
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk))
}

fn text(bytes: &[u8]) -> Result<String, Problem> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name in it isn't UTF-8".into())
}

fn packed(mut bytes: &[u8]) -> Result<impl Iterator<Item = i64>, Problem> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        values.push(varint(&mut bytes)? as i64);
    }
    Ok(values.into_iter())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Problem> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(cut)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("it isn't a protocol buffer".into())
}

fn cut() -> Problem {
    "it is truncated, or no protocol buffer".into()
}

fn take<'a>(bytes: &mut &'a [u8], count: u64) -> Result<&'a [u8], Problem> {
    let (taken, rest) = bytes.split_at_checked(count as usize).ok_or_else(cut)?;
    *bytes = rest;
    Ok(taken)
}

enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
    Other,
}

/// The fields of a message, in order; ends after the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Result<(u64, Value<'a>), Problem> {
        let key = varint(&mut self.0)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.0)?),
            1 => {
                take(&mut self.0, 8)?;
                Value::Other
            }
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            5 => {
                let bytes = take(&mut self.0, 4)?;
                Value::Fixed32(bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u32::from(byte)))
            }
            _ => return Err("it isn't a protocol buffer".into()),
        };
        Ok((key >> 3, value))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn number(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn field(tag: u64, body: &[u8]) -> Vec<u8> {
        [number(tag << 3 | 2), number(body.len() as u64), body.to_vec()].concat()
    }

    /// A graph `y = op(x, w)` as a file.
    pub(crate) fn file(op: &str, shape: &[u64], values: &[f32], key: (&str, &str)) -> Vec<u8> {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims: Vec<u8> = shape.iter().flat_map(|&size| [vec![1 << 3], number(size)].concat()).collect();
        let weight = [dims, vec![2 << 3, 1], field(8, b"w"), field(9, &raw)].concat();
        let node = [field(1, b"x"), field(1, b"w"), field(2, b"y"), field(4, op.as_bytes())].concat();
        let ends = [field(11, &field(1, b"x")), field(12, &field(1, b"y"))].concat();
        let graph = [field(1, &node), field(5, &weight), ends].concat();
        let data = [field(1, key.0.as_bytes()), field(2, key.1.as_bytes())].concat();
        [field(7, &graph), field(14, &data)].concat()
    }

    #[test]
    fn what_was_written_is_read() {
        let graph = parse(&file("Add", &[2, 1], &[1.5, -2.0], ("character", "a\nb"))).unwrap();
        assert_eq!((graph.inputs, graph.outputs), (vec!["x".to_owned()], vec!["y".to_owned()]));
        assert_eq!(graph.weights["w"], Weight { shape: vec![2, 1], values: vec![1.5, -2.0] });
        assert_eq!(graph.nodes[0].op, "Add");
        assert_eq!(graph.metadata["character"], "a\nb");
    }

    #[test]
    fn a_file_cut_anywhere_or_with_any_byte_changed_never_panics() {
        let whole = file("Conv", &[3, 2], &[0.5; 6], ("k", "v"));
        for end in 0..whole.len() - 20 {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                // Whether it is still a model doesn't matter here.
                let _ = parse(&bytes);
            }
        }
    }

    #[test]
    fn shapes_and_values_that_disagree_are_refused() {
        for (shape, values, expected) in [
            (vec![2, 2], vec![1.0], "has shape [2, 2], but 1 values"),
            (vec![u64::MAX, 3], vec![1.0], "but 1 values"),
            (vec![1], vec![f32::NAN], "no finite number"),
        ] {
            let problem = parse(&file("Add", &shape, &values, ("", ""))).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
        assert!(parse(b"").unwrap_err().contains("no ONNX graph"));
        assert!(parse(b"plain text, no model").is_err());
    }
}
