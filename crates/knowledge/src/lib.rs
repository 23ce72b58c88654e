//! Documents to chunks to indexes to cited answers.
