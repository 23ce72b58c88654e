//! BPE and Unigram tokenizers, conversations, chat templates.
