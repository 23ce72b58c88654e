//! What the knowledge base asks of an embedder and of a reranker. The models themselves live elsewhere.

/// Texts → vectors of one length. Queries and passages may be embedded differently (E5 puts a prefix before each).
pub trait Embedder: Send + Sync {
    /// Names model and weights: vectors are reused only under an equal name.
    fn name(&self) -> &str;

    /// What it can be opened by again: the name or path its user gave.
    fn source(&self) -> &str {
        self.name()
    }

    /// The length of every vector.
    fn dim(&self) -> usize;

    fn embed_queries(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;

    fn embed_passages(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;

    /// How many tokens the model sees for this text, for the size of chunks.
    fn count_tokens(&self, text: &str) -> usize;
}

/// Scores passages for a query with more care than an index can: slow, so only for the best of them.
pub trait Reranker: Send + Sync {
    fn name(&self) -> &str;

    /// A score for each passage, the higher the better; only differences count.
    fn score(&self, query: &str, passages: &[&str]) -> Result<Vec<f32>, String>;
}

impl std::fmt::Debug for dyn Reranker + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reranker({})", self.name())
    }
}

impl std::fmt::Debug for dyn Embedder + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embedder({}, {})", self.name(), self.dim())
    }
}
