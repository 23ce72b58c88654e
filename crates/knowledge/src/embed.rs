//! What the knowledge base asks of an embedder. The models themselves live elsewhere.

/// Texts → vectors of one length. Queries and passages may be embedded differently (E5 puts a prefix before each).
pub trait Embedder: Send + Sync {
    /// Names model and weights: vectors are reused only under an equal name.
    fn name(&self) -> &str;

    /// The length of every vector.
    fn dim(&self) -> usize;

    fn embed_queries(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;

    /// How many tokens the model sees for this text, for the size of chunks.
    fn count_tokens(&self, text: &str) -> usize;
}

impl std::fmt::Debug for dyn Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedder({}, {})", self.name(), self.dim())
    }
}
